//! Between a gateway and the control plane something delays and loses what passes. A lost reply is
//! "unknown", never "failed": it is read again, nobody is called twice, nothing is charged twice.

use std::time::Duration;

use crochet_dev::Role;
use serde_json::json;

use crate::harness::{
    Between, Gate, Market, Mischief, Reply, World, ok, pending, refused, trials, until,
};
use crate::states::uuid_of;

trials!(
    a_lost_reply_is_read_again_and_nobody_is_called_twice,
    a_settlement_that_is_not_durable_in_time_is_finished_later,
    a_claim_whose_reply_comes_too_late_is_not_forwarded,
    a_lease_without_its_margin_is_not_begun,
    a_lost_quote_is_found_again,
    an_answer_at_the_last_moment_of_a_lease_counts,
);

/// A stack whose first gateway reaches the control plane through something a test commands.
async fn world(name: &str) -> (World, Between) {
    let mut world = World::own(name, |options| {
        options.set("LEASE_GRACE_SECONDS", "30").unwrap()
    })
    .await;
    let between = Between::start(&world.door.at.internal).await;
    world.stack.put_between(&between.url());
    world.stack.restart(Role::Gateway(0)).await.unwrap();
    (world, between)
}

async fn a_lost_reply_is_read_again_and_nobody_is_called_twice() {
    let (world, between) = world("lost_replies").await;
    let market = Market::within(&world.door, json!({})).await;
    for path in ["/claims", "/settlements", "/check", "/keys", "/routes"] {
        for mischief in [Mischief::LoseReply, Mischief::LoseRequest] {
            let call = market.call();
            // Only `check` has something to do when the evidence is still missing.
            let quote = if path == "/check" {
                market.paid(&call).await
            } else {
                market.evidenced(&call).await
            };
            between.plan(path, mischief.clone(), 1);
            let answer = market.redeem(&call, &quote).await;
            let answer = if answer.status == 503 {
                // Refusing is allowed where nothing was begun; charging or calling twice never is.
                let code = if path == "/check" {
                    "PAYMENT_PROVIDER_UNAVAILABLE"
                } else {
                    "SERVICE_UNAVAILABLE"
                };
                refused(&answer, 503, code);
                market.redeem(&call, &quote).await
            } else {
                answer
            };
            ok(&answer);
            market.assert_settled(&quote, 1).await;
            assert!(
                between.left(path) == 0 || !["/claims", "/settlements"].contains(&path),
                "{path}: {mischief:?} never happened"
            );
            between.make_peace();
        }
    }
    world.close().await;
}

async fn a_settlement_that_is_not_durable_in_time_is_finished_later() {
    let (world, between) = world("late_settlement").await;
    let market = Market::within(&world.door, json!({})).await;
    let call = market.call();
    let quote = market.evidenced(&call).await;
    between.plan("/settlements", Mischief::LoseRequest, usize::MAX);
    let answer = market.once(&call, &quote).await;
    let error = refused(&answer, 503, "SERVICE_UNAVAILABLE");
    assert_eq!(error["recovery"]["next_action"], "retry_same_request");
    // The gateway keeps the answer; until it is durable the request is being forwarded.
    refused(
        &market.once(&call, &quote).await,
        409,
        "GATEWAY_REQUEST_IN_PROGRESS",
    );
    let elsewhere = market.buyer.through(&world.door.apis[1]);
    refused(
        &market.once_as(&elsewhere, &call, &quote).await,
        409,
        "GATEWAY_REQUEST_IN_PROGRESS",
    );
    let (_, seller) = market.ledgers(&quote.request_id).await;
    assert_eq!(seller, []);
    between.make_peace();
    let answer = market.redeem(&call, &quote).await;
    ok(&answer);
    assert_eq!(answer.header("idempotent-replayed"), Some("true"));
    market.assert_settled(&quote, 1).await;
    // The same when the settlement arrives and only its reply is lost, again and again.
    let call = market.call();
    let quote = market.evidenced(&call).await;
    between.plan("/settlements", Mischief::LoseReply, usize::MAX);
    let answer = market.once(&call, &quote).await;
    assert!(
        answer.status == 200 || answer.code().as_deref() == Some("SERVICE_UNAVAILABLE"),
        "{answer}"
    );
    between.make_peace();
    ok(&market.redeem(&call, &quote).await);
    market.assert_settled(&quote, 1).await;
    // A failed call's release is kept in the same way.
    market.service.then(Reply::status(500, "{}"));
    let call = market.call();
    let quote = market.evidenced(&call).await;
    between.plan("/settlements", Mischief::LoseRequest, 2);
    let answer = market.once(&call, &quote).await;
    refused(&answer, 502, "SELLER_ERROR");
    assert_eq!(answer.at("/data/attempts"), 1);
    between.make_peace();
    ok(&market.redeem(&call, &quote).await);
    market.assert_settled(&quote, 2).await;
    world.close().await;
}

async fn a_claim_whose_reply_comes_too_late_is_not_forwarded() {
    // The lease is the timeout and 30 s; the gateway forwards only while the timeout and 10 s remain of it,
    // counted from before it sent the claim. So a reply 21 s late must not be forwarded any more.
    const TOO_LATE: Duration = Duration::from_secs(21);
    let (world, between) = world("late_claim").await;
    let market = Market::within(&world.door, json!({ "endpoint": { "timeout_ms": 1000 } })).await;
    let call = market.call();
    let quote = market.evidenced(&call).await;
    let gate = Gate::shut();
    between.plan("/claims", Mischief::HoldReply(gate.clone()), usize::MAX);
    let asked = market.redeem_meanwhile(&call, &quote);
    until("the claim was sent", || async {
        (between.seen("/claims") > 0).then_some(())
    })
    .await;
    let id = uuid_of(&quote.request_id);
    until("the claim is committed", || async {
        (market
            .door
            .number(format!(
                "select count(*) from gateway_request where id = '{id}' and state = 'claimed'"
            ))
            .await
            == 1)
            .then_some(())
    })
    .await;
    // Time itself is what is tested here.
    tokio::time::sleep(TOO_LATE).await;
    gate.open();
    let answer = asked.await.unwrap();
    assert_ne!(answer.status, 200, "{answer}");
    assert_eq!(
        market.service.total(),
        0,
        "forwarded with too little of the lease left: {answer}"
    );
    between.make_peace();
    // Whatever became of that claim, it ends, at the latest with its lease.
    market.door.sql(format!("update gateway_request set lease_until = now() - interval '31 seconds' where id = '{id}' and state = 'claimed'")).await;
    market
        .door
        .sql(format!(
            "update deadline set due_at = now() where request_id = '{id}'"
        ))
        .await;
    ok(&market.redeem(&call, &quote).await);
    market.assert_settled(&quote, 1).await;
    world.close().await;
}

async fn a_lease_without_its_margin_is_not_begun() {
    // The longest call is one second, and ten more are kept for the settlement.
    const TOO_SHORT: u32 = 10_900;
    const SUFFICES: u32 = 16_000;
    let (world, between) = world("lease_margin").await;
    let market = Market::within(&world.door, json!({ "endpoint": { "timeout_ms": 1000 } })).await;
    let call = market.call();
    let quote = market.evidenced(&call).await;
    between.plan("/claims", Mischief::ShortenLeases(TOO_SHORT), 1);
    refused(
        &market.once(&call, &quote).await,
        503,
        "SERVICE_UNAVAILABLE",
    );
    market.assert_still_paid(&quote, 0).await;
    assert_eq!(
        market.relay_request(&quote).await["attempts"],
        0,
        "nothing was sent"
    );
    between.plan("/claims", Mischief::ShortenLeases(SUFFICES), 1);
    ok(&market.redeem(&call, &quote).await);
    let arrival = market.service.called_for(&quote.request_id).await;
    assert_eq!(arrival.header("x-crochet-attempt"), "1");
    market.assert_settled(&quote, 1).await;
    world.close().await;
}

async fn a_lost_quote_is_found_again() {
    let (world, between) = world("lost_quote").await;
    let market = Market::within(&world.door, json!({})).await;
    for (path, mischief) in [
        ("/quotes/create", Mischief::LoseReply),
        ("/quotes/create", Mischief::LoseRequest),
        ("/quotes", Mischief::LoseReply),
    ] {
        let call = market.call();
        let before = count_of_requests(&market).await;
        let asked = between.seen("/quotes/create");
        let twice = matches!(mischief, Mischief::LoseRequest);
        between.plan(path, mischief, 1);
        let first = market.buyer.call(&call, None).await.unwrap();
        assert!(
            first.status == 402 || first.code().as_deref() == Some("SERVICE_UNAVAILABLE"),
            "{first}"
        );
        let quote = market.buyer.quote(&call).await.unwrap();
        assert_eq!(
            count_of_requests(&market).await,
            before + 1,
            "one purchase, one quote"
        );
        // What was made is found. Asked for once more it would be refused where there are not enough for everybody.
        let asked = between.seen("/quotes/create") - asked;
        assert_eq!(asked, 1 + usize::from(twice), "{path}");
        market
            .door
            .sandbox
            .deposit(&[&quote.relay_request_id])
            .await
            .unwrap();
        ok(&market.redeem(&call, &quote).await);
        market.assert_settled(&quote, 1).await;
        between.make_peace();
    }
    let call = market.call();
    let quote = market.buyer.quote(&call).await.unwrap();
    pending(&market.once(&call, &quote).await);
    world.close().await;
}

async fn count_of_requests(market: &Market) -> usize {
    market
        .buyer
        .get("/gateway-requests?role=buyer&limit=100")
        .await
        .unwrap()
        .data(200)
        .unwrap()
        .as_array()
        .unwrap()
        .len()
}

async fn an_answer_at_the_last_moment_of_a_lease_counts() {
    // One second before the lease's end, and a second after it but before the sweep may act.
    let (world, _between) = world("last_moment").await;
    let market = Market::within(&world.door, json!({})).await;
    for remaining in ["1 second", "-1 second"] {
        let gate = Gate::shut();
        market
            .service
            .then(Reply::json("\"just in time\"").behind(&gate));
        let call = market.call();
        let quote = market.evidenced(&call).await;
        let asked = market.redeem_meanwhile(&call, &quote);
        market.service.called_for(&quote.request_id).await;
        let id = uuid_of(&quote.request_id);
        market.door.sql(format!("update gateway_request set lease_until = now() + interval '{remaining}' where id = '{id}'")).await;
        gate.open();
        ok(&asked.await.unwrap());
        market.assert_settled(&quote, 1).await;
    }
    world.close().await;
}
