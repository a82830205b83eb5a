//! The sweeps, against the provider's sandbox.

use std::sync::Arc;
use std::time::Duration;

use control_plane::ledger::entry::RequestState;
use crochet_shared::clock;
use crochet_shared::internal::CheckAnswer;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::evidence::{check, quoted};
use super::stage::{RELAY_KEY, Request, Stage};

/// Background work, until it is told to stop.
struct Work {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Work {
    fn begin(stage: &Stage) -> Self {
        let (stop, stopped) = watch::channel(false);
        let work = control_plane::payments::background(Arc::clone(&stage.app), stopped);
        Self {
            stop,
            task: tokio::spawn(work),
        }
    }

    async fn end(self) {
        self.stop.send(true).unwrap();
        self.task.await.unwrap();
    }
}

/// Waits until the request stands so.
async fn becomes(stage: &Stage, request: &Request, wanted: RequestState) {
    let done = async {
        while stage.state(request).await != wanted {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let done = tokio::time::timeout(Duration::from_mins(1), done).await;
    assert!(done.is_ok(), "not {wanted:?} in time");
}

/// A payment that nobody will ask about: its quote is far from its end.
async fn forgotten(stage: &Stage) -> Request {
    let request = quoted(stage).await;
    stage.deposit(&request.relay_request_id).await;
    request
}

/// Payments of the same provider account that are not ours, of a second of their own.
async fn others(stage: &Stage, count: usize) {
    let client = reqwest::Client::new();
    let quote = async |_| {
        let asked = json!({
            "user": "So11111111111111111111111111111111111111112", "recipient": "0x1111111111111111111111111111111111111111",
            "originChainId": 792_703_809, "originCurrency": "11111111111111111111111111111111",
            "destinationChainId": 8453, "destinationCurrency": crochet_shared::route::USDC_BASE,
            "amount": "1000000", "tradeType": "EXACT_OUTPUT", "useDepositAddress": true, "strict": true,
            "refundTo": "So11111111111111111111111111111111111111112", "ttl": 900, "referrer": "another",
        });
        let url = format!("{}/quote/v2", stage.sandbox);
        let call = client.post(url).header("x-api-key", RELAY_KEY).json(&asked);
        let answer: Value = call.send().await.unwrap().json().await.unwrap();
        let id = answer["steps"][0]["requestId"].as_str();
        id.unwrap_or_else(|| panic!("{answer}")).to_owned()
    };
    let quotes = futures_util::stream::iter(0..count).map(quote).buffered(8);
    let ids: Vec<String> = quotes.collect().await;
    let second = clock::now().timestamp();
    stage
        .control("deposits", json!({ "requestIds": ids }))
        .await;
    while clock::now().timestamp() <= second {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn background_work_finds_payments_nobody_asked_about_and_ends_what_is_over(pool: PgPool) {
    let stage = Stage::with_sandbox(pool, &["--relay-sweep-seconds=1"]).await;
    let (forgotten, bare) = (quoted(&stage).await, quoted(&stage).await);
    let (redeemable, claimed) = (quoted(&stage).await, quoted(&stage).await);
    for request in [&redeemable, &claimed] {
        stage.deposit(&request.relay_request_id).await;
        assert_eq!(check(&stage, request).await, CheckAnswer::Paid);
    }
    stage.claimed(&claimed).await;
    stage.deposit(&forgotten.relay_request_id).await;
    stage.age(&bare, 1_025.0).await;
    stage.age(&redeemable, 86_401.0).await;
    stage.age(&claimed, 91.0).await;
    let work = Work::begin(&stage);
    let wanted = [
        (&forgotten, RequestState::Paid),
        (&bare, RequestState::Expired),
        (&redeemable, RequestState::RefundDue),
        (&claimed, RequestState::Paid),
    ];
    let done = async {
        for (request, state) in wanted {
            while stage.state(request).await != state {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        let count = async |what: &'static str| -> i64 {
            let counted = sqlx::query_scalar(what).fetch_one(stage.pool());
            counted.await.unwrap()
        };
        while count("select count(*) from provider_success").await < 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // What is in evidence is not looked at by every audit again.
        while count("select count(*) from provider_success where not evidenced").await > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), done)
        .await
        .unwrap();
    work.end().await;
    stage
        .run("update provider_success set seen_at = seen_at - interval '2 minutes'")
        .await;
    stage.assert_audit_empty().await;
}

#[sqlx::test(migrations = "./migrations")]
async fn a_payment_is_found_behind_more_changes_than_a_turn_reads(pool: PgPool) {
    // Three calls a second to spare, of fifty rows each.
    let limits = [
        "--relay-sweep-seconds=1",
        "--rate-limit-provider-requests-per-second=4",
    ];
    let stage = Stage::with_sandbox(pool, &limits).await;
    for _ in 0..4 {
        others(&stage, 300).await;
    }
    let last = forgotten(&stage).await;
    let work = Work::begin(&stage);
    becomes(&stage, &last, RequestState::Paid).await;
    work.end().await;
}

#[sqlx::test(migrations = "./migrations")]
async fn a_payment_that_the_provider_told_late_is_found(pool: PgPool) {
    let stage = Stage::with_sandbox(pool, &["--relay-sweep-seconds=1"]).await;
    let noted = forgotten(&stage).await;
    let cursor = "insert into provider_cursor (name, position, settled, next_at)
        values ('success', now() + interval '50 seconds', now() - interval '10 seconds', now())
        on conflict (name) do update set position = excluded.position, settled = excluded.settled, next_at = now()";
    // What changed later was read before.
    stage.run(cursor).await;
    let work = Work::begin(&stage);
    becomes(&stage, &noted, RequestState::Paid).await;
    work.end().await;

    // As the version before left it, which read its last minute each time.
    stage.run(cursor).await;
    stage.run("update provider_cursor set settled = null").await;
    let unnoted = forgotten(&stage).await;
    let work = Work::begin(&stage);
    becomes(&stage, &unnoted, RequestState::Paid).await;
    work.end().await;
}
