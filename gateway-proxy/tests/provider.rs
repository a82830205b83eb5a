//! The payment provider down, slow, over its limit, or talking nonsense: nothing is consumed, nothing is lost.

use std::time::{Duration, Instant};

use demo_agent::Patience;
use serde_json::json;

use crate::harness::{Market, World, ok, refused, trials, until};
use crate::states::uuid_of;

trials!(
    without_the_provider_no_quote_is_made_and_evidenced_calls_go_on,
    without_the_provider_an_unproven_payment_waits,
    what_the_provider_refuses_is_told_by_its_reason,
    a_payment_nobody_asked_about_is_found,
);

/// The longest an agent waits for a refusal when the provider does not answer.
const REFUSED_WITHIN: Duration = Duration::from_secs(15);
const MODES: [&str; 4] = ["error500", "rate_limit", "garbage", "timeout"];

async fn without_the_provider_no_quote_is_made_and_evidenced_calls_go_on() {
    let world = World::own("provider_quotes", |options| options).await;
    let market = Market::within(&world.door, json!({})).await;
    for mode in MODES {
        let call = market.call();
        let quote = market.evidenced(&call).await;
        market
            .door
            .sandbox
            .fault(&json!({ "endpoint": "*", "mode": mode }))
            .await
            .unwrap();
        let begun = Instant::now();
        let unpaid = market.buyer.call(&market.call(), None).await.unwrap();
        assert!(
            begun.elapsed() < REFUSED_WITHIN,
            "{mode}: refused after {:?}",
            begun.elapsed()
        );
        let error = refused(&unpaid, 503, "PAYMENT_PROVIDER_UNAVAILABLE");
        assert_eq!(error["recovery"]["next_action"], "wait_and_retry", "{mode}");
        ok(&market.redeem(&call, &quote).await);
        market.assert_settled(&quote, 1).await;
        market
            .door
            .sandbox
            .fault(&json!({ "endpoint": "*", "mode": "off" }))
            .await
            .unwrap();
        market.gateway_says("PAYMENT_REQUIRED").await;
    }
    world.close().await;
}

async fn without_the_provider_an_unproven_payment_waits() {
    let world = World::own("provider_checks", |options| options).await;
    let market = Market::within(&world.door, json!({})).await;
    for mode in MODES {
        let call = market.call();
        let quote = market.buyer.quote(&call).await.unwrap();
        let id = &quote.relay_request_id;
        // The news of the deposit is lost, and then nobody can be asked.
        market
            .door
            .sandbox
            .scenario(&json!({ "requestId": id, "webhook_copies": 0 }))
            .await
            .unwrap();
        market
            .door
            .sandbox
            .fault(&json!({ "endpoint": "requests", "mode": mode }))
            .await
            .unwrap();
        market.door.sandbox.deposit(&[id]).await.unwrap();
        market
            .door
            .sandbox
            .wait_until_paid(id, Patience::default())
            .await
            .unwrap();
        let begun = Instant::now();
        let answer = market.once(&call, &quote).await;
        assert!(
            begun.elapsed() < REFUSED_WITHIN,
            "{mode}: refused after {:?}",
            begun.elapsed()
        );
        refused(&answer, 503, "PAYMENT_PROVIDER_UNAVAILABLE");
        market.assert_unpaid(&quote).await;
        market
            .door
            .sandbox
            .fault(&json!({ "endpoint": "requests", "mode": "off" }))
            .await
            .unwrap();
        let answer = until("the provider can be asked again", || async {
            let answer = market.redeem(&call, &quote).await;
            (answer.status != 503).then_some(answer)
        })
        .await;
        ok(&answer);
        market.assert_settled(&quote, 1).await;
    }
    world.close().await;
}

async fn what_the_provider_refuses_is_told_by_its_reason() {
    let world = World::own("provider_refusals", |options| options).await;
    let market = Market::within(&world.door, json!({})).await;
    for (reason, status, code) in [
        ("AMOUNT_TOO_LOW", 400, "PAYMENT_ROUTE_MINIMUM_NOT_MET"),
        ("SANCTIONED_WALLET_ADDRESS", 403, "ROUTE_RESTRICTED"),
        ("SANCTIONED_CURRENCY", 403, "ROUTE_RESTRICTED"),
        ("PRICE_FETCH_FAILED", 503, "PAYMENT_PROVIDER_UNAVAILABLE"),
        ("SERVICE_UNAVAILABLE", 503, "PAYMENT_PROVIDER_UNAVAILABLE"),
        ("REQUEST_TIMED_OUT", 503, "PAYMENT_PROVIDER_UNAVAILABLE"),
        ("UNKNOWN_ERROR", 503, "PAYMENT_PROVIDER_UNAVAILABLE"),
    ] {
        market
            .door
            .sandbox
            .fault(&json!({ "endpoint": "quote", "mode": "refuse", "errorCode": reason }))
            .await
            .unwrap();
        refused(
            &market.buyer.call(&market.call(), None).await.unwrap(),
            status,
            code,
        );
    }
    market
        .door
        .sandbox
        .fault(&json!({ "endpoint": "quote", "mode": "off" }))
        .await
        .unwrap();
    market.gateway_says("PAYMENT_REQUIRED").await;
    market.assert_untouched().await;
    world.close().await;
}

async fn a_payment_nobody_asked_about_is_found() {
    let market = Market::open().await;
    let call = market.call();
    let quote = market.buyer.quote(&call).await.unwrap();
    let id = &quote.relay_request_id;
    market
        .door
        .sandbox
        .scenario(&json!({ "requestId": id, "webhook_copies": 0 }))
        .await
        .unwrap();
    market.door.sandbox.deposit(&[id]).await.unwrap();
    market
        .door
        .sandbox
        .wait_until_paid(id, Patience::default())
        .await
        .unwrap();
    // Neither a webhook nor a retry: only the sweep of the provider's successes can tell.
    let row = uuid_of(&quote.request_id);
    until("the sweep finds the payment", || async {
        let found = market
            .door
            .number(format!(
                "select count(*) from gateway_request where id = '{row}' and state = 'paid'"
            ))
            .await;
        (found == 1).then_some(())
    })
    .await;
    market.assert_still_paid(&quote, 0).await;
    ok(&market.redeem(&call, &quote).await);
    market.assert_settled(&quote, 1).await;
}
