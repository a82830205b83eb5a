//! The faults, each real: a process killed or stopped, a store gone, the books changed by SQL.
//!
//! Each is made, waited for until its alerts fire, and healed; then all must end.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use crochet_dev::Role;
use demo_agent::random_hex;
use futures_util::future::join_all;
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::stage::Stage;
use super::{Drill, certificate, unsaid};

/// How many calls are made at once where a queue or a pool is to be filled.
const CROWD: usize = 700;
const READERS: usize = 60;
/// The largest body a gateway reads, in bytes (contract §4): the stage's whole budget of them.
const LARGEST_BODY: usize = 8 * 1024 * 1024;

/// A way to break a stack.
#[derive(Clone, Copy)]
enum Kind {
    Stranger,
    EndingCertificate,
    BrokenCertificate,
    Books,
    UnknownSuccess,
    Mismatch,
    Undecided,
    LeftLying,
    Poison,
    Sealed,
    FailingSweeps,
    LockedMoments,
    LateHearing,
    Untold,
    MissingBody,
    WaitingConnections,
    Seller,
    Provider,
    Redis,
    Frozen,
    DeadBehind,
    DeadGateway,
}

/// The faults with their alerts, in the order they are made: cheap ones first, those that kill last.
const FAULTS: [(Kind, &str, &[&str]); 22] = [
    (
        Kind::Stranger,
        "stranger at the internal API",
        &["InternalUnauthorized"],
    ),
    (
        Kind::EndingCertificate,
        "certificate that ends",
        &["CertificateEndsSoon", "CertificateEnds"],
    ),
    (
        Kind::BrokenCertificate,
        "certificate renewed badly",
        &["CertificateRefused"],
    ),
    (Kind::Books, "books changed by SQL", &["BooksBroken"]),
    (
        Kind::UnknownSuccess,
        "success we do not know of",
        &["SuccessWithoutEvidence"],
    ),
    (
        Kind::Mismatch,
        "payment to somebody else",
        &["PaymentsMismatch"],
    ),
    (
        Kind::Undecided,
        "deposit that stays under way",
        &["DepositUndecided"],
    ),
    (
        Kind::LeftLying,
        "payment left lying",
        &["PaidUndelivered", "RefundsWaiting"],
    ),
    (Kind::Poison, "item the database refuses", &["PoisonItem"]),
    (
        Kind::Sealed,
        "endpoint under another key",
        &["EndpointsSealed"],
    ),
    (
        Kind::FailingSweeps,
        "sweeps that fail",
        &["DeadlinesOverdue", "BackgroundFailing"],
    ),
    (
        Kind::LockedMoments,
        "table locked for moments",
        &["OverheadHigh"],
    ),
    (
        Kind::LateHearing,
        "gateway that hears late",
        &["InvalidationSlow"],
    ),
    (
        Kind::Untold,
        "outbox that cannot be read",
        &["RecordsNotBelieved"],
    ),
    (
        Kind::MissingBody,
        "body that never comes",
        &["BodyBudgetLow"],
    ),
    (
        Kind::WaitingConnections,
        "every connection waits",
        &["PoolExhausted"],
    ),
    (
        Kind::Seller,
        "seller killed",
        &["SellersFailing", "BreakerStaysOpen"],
    ),
    (Kind::Provider, "provider killed", &["ProviderFailing"]),
    (Kind::Redis, "Redis killed", &["RedisDown", "OutboxStuck"]),
    (
        Kind::Frozen,
        "control plane frozen",
        &[
            "ControlPlaneUnreachable",
            "QueueFilling",
            "OutcomesUnknown",
            "CallsFailing",
            "SettlementsAbandoned",
        ],
    ),
    (
        Kind::DeadBehind,
        "control plane and Postgres killed",
        &["ControlPlaneDown", "PostgresDown"],
    ),
    (
        Kind::DeadGateway,
        "gateway killed again and again",
        &["GatewayDown", "Restarting"],
    ),
];

/// All of them, or those whose name contains `only`.
pub(super) async fn all(drill: &mut Drill, stage: &mut Stage, only: Option<&str>) -> Result<()> {
    for _ in 0..3 {
        stage.buy().await?;
    }
    println!("  Nothing is broken, and nothing fires");
    drill.stays_quiet().await?;
    for (kind, name, alerts) in &FAULTS {
        if only.is_some_and(|only| !name.contains(only)) {
            continue;
        }
        println!("  {name}");
        let fault = Fault {
            drill: &mut *drill,
            name,
            alerts,
            began: Instant::now(),
        };
        Box::pin(make(*kind, fault, stage))
            .await
            .with_context(|| format!("the fault {name:?}"))?;
        drill.wait_for_quiet(name).await?;
    }
    Ok(())
}

async fn make(kind: Kind, fault: Fault<'_>, stage: &mut Stage) -> Result<()> {
    match kind {
        Kind::Stranger => stranger(fault, stage).await,
        Kind::EndingCertificate => certificate::ending(fault, stage).await,
        Kind::BrokenCertificate => certificate::broken(fault, stage).await,
        Kind::Books => books(fault, stage).await,
        Kind::UnknownSuccess => unknown_success(fault, stage).await,
        Kind::Mismatch => mismatch(fault, stage).await,
        Kind::Undecided => unsaid::undecided(fault, stage).await,
        Kind::LeftLying => left_lying(fault, stage).await,
        Kind::Poison => poison(fault, stage).await,
        Kind::Sealed => sealed(fault, stage).await,
        Kind::FailingSweeps => failing_sweeps(fault, stage).await,
        Kind::LockedMoments => locked_moments(fault, stage).await,
        Kind::LateHearing => late_hearing(fault, stage).await,
        Kind::Untold => unsaid::untold(fault, stage).await,
        Kind::MissingBody => missing_body(fault, stage).await,
        Kind::WaitingConnections => waiting_connections(fault, stage).await,
        Kind::Seller => seller(fault, stage).await,
        Kind::Provider => provider(fault, stage).await,
        Kind::Redis => redis(fault, stage).await,
        Kind::Frozen => frozen(fault, stage).await,
        Kind::DeadBehind => dead_behind(fault, stage).await,
        Kind::DeadGateway => dead_gateway(fault, stage).await,
    }
}

/// A fault that was made and whose alerts are waited for.
pub(super) struct Fault<'a> {
    drill: &'a mut Drill,
    name: &'a str,
    alerts: &'a [&'a str],
    began: Instant,
}

impl Fault<'_> {
    pub(super) async fn fires(&mut self) -> Result<()> {
        self.fire(self.alerts).await
    }

    pub(super) async fn fire(&mut self, alerts: &[&str]) -> Result<()> {
        self.drill.wait_for(self.name, alerts, self.began).await
    }
}

async fn stranger(mut fault: Fault<'_>, stage: &mut Stage) -> Result<()> {
    let url = format!("{}/internal/v1/claims", stage.describe().internal);
    let http = stage.buyer.api().http();
    let answer = http.post(url).bearer_auth("not the secret").send().await?;
    ensure!(answer.status().as_u16() == 401, "{}", answer.status());
    fault.fires().await
}

async fn books(mut fault: Fault<'_>, stage: &mut Stage) -> Result<()> {
    stage
        .statements(
            "update gateway_request set price_micros = price_micros + 1 where state = 'delivered'",
        )
        .await?;
    fault.fires().await?;
    stage
        .statements(
            "update gateway_request set price_micros = price_micros - 1 where state = 'delivered'",
        )
        .await
}

async fn unknown_success(mut fault: Fault<'_>, stage: &mut Stage) -> Result<()> {
    stage
        .statements(
            "insert into provider_success (relay_request_id, provider_updated_at, seen_at)
            values ('0xdrill', now(), now() - interval '5 minutes')",
        )
        .await?;
    fault.fires().await?;
    stage
        .statements("delete from provider_success where relay_request_id = '0xdrill'")
        .await
}

async fn mismatch(mut fault: Fault<'_>, stage: &mut Stage) -> Result<()> {
    let unpaid = stage.quote().await?;
    let sandbox = stage.stack.sandbox();
    let elsewhere = "0x000000000000000000000000000000000000dEaD";
    sandbox
        .scenario(&json!({
            "requestId": unpaid.quote.relay_request_id,
            "details": { "recipient": elsewhere },
        }))
        .await?;
    sandbox.deposit(&[&unpaid.quote.relay_request_id]).await?;
    stage.wait_for_state(&unpaid.quote, "refund_due").await?;
    fault.fires().await
}

/// A payment nobody redeems, made older than it is; then its time is over, and the refund is due
/// longer than it is.
async fn left_lying(mut fault: Fault<'_>, stage: &mut Stage) -> Result<()> {
    let paid = stage.pay(false).await?;
    let set = "update gateway_request set paid_at = now() - interval '2 hours' where relay_request_id = $1";
    stage.change(set, &paid.quote).await?;
    fault.fire(&["PaidUndelivered"]).await?;
    let set = "update gateway_request set redeem_until = now() - interval '1 second' where relay_request_id = $1";
    stage.change(set, &paid.quote).await?;
    let set = "update deadline d set due_at = now() from gateway_request r where r.id = d.request_id and r.relay_request_id = $1";
    stage.change(set, &paid.quote).await?;
    stage.wait_for_state(&paid.quote, "refund_due").await?;
    let set = "update gateway_request set closed_at = now() - interval '2 days' where relay_request_id = $1";
    stage.change(set, &paid.quote).await?;
    fault.fire(&["RefundsWaiting"]).await?;
    let set = "update gateway_request set closed_at = now() where relay_request_id = $1";
    stage.change(set, &paid.quote).await
}

/// A constraint that no claim can keep.
async fn poison(mut fault: Fault<'_>, stage: &mut Stage) -> Result<()> {
    let paid = stage.pay(false).await?;
    stage
        .statements(
            "alter table gateway_request add constraint drill check (state <> 'claimed') not valid",
        )
        .await?;
    let answer = stage
        .buyer
        .call(&paid.call, Some(&paid.quote.relay_request_id))
        .await?;
    ensure!(answer.status == 503, "{answer}");
    fault.fires().await?;
    stage
        .statements("alter table gateway_request drop constraint drill")
        .await?;
    stage.redeem(&paid).await
}

/// Endpoints whose URL does not open, told to gateways; then as they were, told again.
async fn sealed(mut fault: Fault<'_>, stage: &mut Stage) -> Result<()> {
    stage
        .statements(
            "begin;
            create table drill_sealed as select listing_id, url_sealed from endpoint;
            update endpoint set url_sealed = 'x';
            insert into outbox (listing_id) select listing_id from endpoint;
            commit",
        )
        .await?;
    fault.fires().await?;
    stage
        .statements(
            "begin;
            update endpoint e set url_sealed = d.url_sealed from drill_sealed d where d.listing_id = e.listing_id;
            insert into outbox (listing_id) select listing_id from endpoint;
            drop table drill_sealed;
            commit",
        )
        .await?;
    stage.wait_until_told().await
}

/// Deadlines that are over and cannot be written: the sweep fails each time it looks.
async fn failing_sweeps(mut fault: Fault<'_>, stage: &mut Stage) -> Result<()> {
    let paid = stage.pay(false).await?;
    stage
        .statements(
            "begin;
            update deadline set due_at = now() - interval '5 minutes';
            create trigger drill before update on deadline
                for each statement execute function transfer_is_append_only();
            commit",
        )
        .await?;
    fault.fires().await?;
    stage.statements("drop trigger drill on deadline").await?;
    stage.redeem(&paid).await
}

/// Each call meets a lock that is held for some hundred milliseconds.
async fn locked_moments(mut fault: Fault<'_>, stage: &mut Stage) -> Result<()> {
    const HELD: Duration = Duration::from_millis(400);
    let stage = &*stage;
    let traffic = async {
        loop {
            let paid = stage.pay(false).await?;
            let mut lock = stage.sql.begin().await?;
            sqlx::query("lock table gateway_request in access exclusive mode")
                .execute(&mut *lock)
                .await?;
            let release = async {
                tokio::time::sleep(HELD).await;
                lock.commit().await
            };
            let (redeemed, released) = tokio::join!(stage.redeem(&paid), release);
            redeemed?;
            released?;
        }
    };
    tokio::select! {
        fired = fault.fires() => fired,
        ended = traffic => ended,
    }
}

/// A gateway that stands still while a change is told.
async fn late_hearing(mut fault: Fault<'_>, stage: &mut Stage) -> Result<()> {
    const STILL: Duration = Duration::from_millis(1_500);
    stage.stack.signal(Role::Gateway(0), Signal::SIGSTOP)?;
    let changed = async {
        stage.change_something().await?;
        stage.wait_until_told().await
    }
    .await;
    tokio::time::sleep(STILL).await;
    stage.stack.signal(Role::Gateway(0), Signal::SIGCONT)?;
    changed?;
    fault.fires().await
}

/// A head that promises as much as the budget holds, and no body.
async fn missing_body(mut fault: Fault<'_>, stage: &mut Stage) -> Result<()> {
    let gateway = stage.describe().gateway;
    let address = gateway.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await?;
    let head = format!(
        "POST /api/v1/gateway/{} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nX-Crochet-Relay-Request-Id: 0x{}\r\n\
         Content-Length: {LARGEST_BODY}\r\n\r\n",
        stage.listing.id,
        stage.buyer.key,
        random_hex::<32>()?,
    );
    stream.write_all(head.as_bytes()).await?;
    // A body draws on the budget as it arrives: all of this one does but its end.
    stream.write_all(&vec![b' '; LARGEST_BODY - 1]).await?;
    fault.fires().await?;
    drop(stream);
    Ok(())
}

/// A lock on what every request reads, and more readers than there are connections.
async fn waiting_connections(mut fault: Fault<'_>, stage: &mut Stage) -> Result<()> {
    let mut lock = stage.sql.begin().await?;
    sqlx::query("lock table profile in access exclusive mode")
        .execute(&mut *lock)
        .await?;
    let reader = stage.buyer.through(&stage.direct);
    let readers = async {
        loop {
            // Each is refused or served late; neither matters here.
            let _ = join_all((0..READERS).map(|_| reader.get("/me"))).await;
        }
    };
    let fired = tokio::select! {
        fired = fault.fires() => fired,
        () = readers => Ok(()),
    };
    lock.rollback().await?;
    fired
}

async fn seller(mut fault: Fault<'_>, stage: &mut Stage) -> Result<()> {
    let paid = stage.pay(false).await?;
    stage.stack.kill(Role::DemoSeller)?;
    let calls = async {
        loop {
            let id = Some(paid.quote.relay_request_id.as_str());
            if let Err(error) = stage.buyer.call(&paid.call, id).await {
                break Err(error);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        fired = fault.fires() => fired?,
        ended = calls => ended?,
    }
    stage.start_again(Role::DemoSeller).await?;
    stage.redeem(&paid).await
}

async fn provider(mut fault: Fault<'_>, stage: &mut Stage) -> Result<()> {
    stage.stack.kill(Role::Relay)?;
    fault.fires().await?;
    stage.start_again(Role::Relay).await
}

async fn redis(mut fault: Fault<'_>, stage: &mut Stage) -> Result<()> {
    stage.stack.kill(Role::Redis)?;
    stage.change_something().await?;
    fault.fires().await?;
    stage.start_again(Role::Redis).await
}

/// A control plane that stops between a claim and its settlement, and a crowd that claims meanwhile.
async fn frozen(mut fault: Fault<'_>, stage: &mut Stage) -> Result<()> {
    let paid = stage.pay(true).await?;
    let (buyer, call, id) = (
        stage.buyer.clone(),
        paid.call.clone(),
        paid.quote.relay_request_id.clone(),
    );
    let under_way = tokio::spawn(async move { buyer.call(&call, Some(&id)).await });
    let seller = stage.stack.demo_seller();
    let deadline = crochet_dev::Deadline::new("the seller to be called", Duration::from_secs(20));
    while seller.count(&paid.quote.request_id).await? == 0 {
        deadline.tick().await?;
    }
    stage.stack.signal(Role::ControlPlane, Signal::SIGSTOP)?;
    fault.began = Instant::now();
    let crowd = async {
        let calls = (0..CROWD).map(|_| async {
            let unknown = format!("0x{}", random_hex::<32>().unwrap_or_default());
            // It is refused, which is what is wanted.
            let _ = stage.buyer.call(&paid.call, Some(&unknown)).await;
        });
        join_all(calls).await;
        std::future::pending::<()>().await;
    };
    let fired = tokio::select! {
        fired = fault.fires() => fired,
        () = crowd => Ok(()),
    };
    stage.stack.signal(Role::ControlPlane, Signal::SIGCONT)?;
    fired?;
    // Told that nothing is known of its end, or broken off by the freeze.
    let _ = under_way.await;
    stage.redeem(&paid).await
}

async fn dead_behind(mut fault: Fault<'_>, stage: &mut Stage) -> Result<()> {
    stage.stack.kill(Role::Postgres)?;
    fault.fire(&["PostgresDown"]).await?;
    stage.start_again(Role::Postgres).await?;
    fault.began = Instant::now();
    stage.stack.kill(Role::ControlPlane)?;
    fault.fire(&["ControlPlaneDown"]).await?;
    stage.start_again(Role::ControlPlane).await
}

async fn dead_gateway(mut fault: Fault<'_>, stage: &mut Stage) -> Result<()> {
    const SCRAPED: Duration = Duration::from_millis(1_500);
    stage.stack.kill(Role::Gateway(0))?;
    fault.fire(&["GatewayDown"]).await?;
    stage.start_again(Role::Gateway(0)).await?;
    fault.began = Instant::now();
    let restarts = async {
        loop {
            tokio::time::sleep(SCRAPED).await;
            stage.stack.kill(Role::Gateway(0))?;
            stage.stack.start_again(Role::Gateway(0)).await?;
        }
    };
    tokio::select! {
        fired = fault.fire(&["Restarting"]) => fired?,
        ended = restarts => return ended,
    }
    if stage.stack.crashed().is_some() {
        stage.start_again(Role::Gateway(0)).await?;
    }
    stage.stack.wait_until_ready(Role::Gateway(0)).await
}
