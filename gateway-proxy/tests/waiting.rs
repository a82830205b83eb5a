//! Payments that are not there yet, too late, or good but not to be served now (contract §5, lower half of the table).

use serde_json::{Value, json};

use crate::harness::{Gate, Market, Reply, ok, pending, refused, text, trials, until};
use crate::states::uuid_of;

trials!(
    a_payment_that_waits_for_its_deposit_is_pending,
    a_payment_under_way_is_pending_until_it_succeeds,
    a_success_without_its_details_is_pending,
    a_payment_the_provider_failed_gets_a_fresh_one,
    a_payment_past_its_time_without_a_deposit_is_expired,
    an_expired_payment_that_is_paid_after_all_is_good,
    a_paid_call_waits_while_the_listing_is_suspended,
    a_paid_call_waits_while_the_listing_is_free,
    a_paid_call_waits_while_the_seller_is_paused,
    a_paid_call_waits_while_the_seller_is_at_her_limit,
    relay_requests_wait_for_news,
);

/// Moves a quote's end into the past, beyond the provider's own.
async fn let_expire(market: &Market, request_id: &str) {
    let id = uuid_of(request_id);
    market.door.sql(format!("update gateway_request set expires_at = now() - interval '121 seconds' where id = '{id}'")).await;
    market
        .door
        .sql(format!(
            "update deadline set due_at = now() - interval '1 second' where request_id = '{id}'"
        ))
        .await;
}

/// The call is refused while `closed` holds and delivered on its first attempt after `opened`.
async fn waits(closed: Value, opened: Value, through_endpoint: bool, unpaid_code: &str) {
    let market = Market::open().await;
    let call = market.call();
    let quote = market.evidenced(&call).await;
    let change = |fields: Value| async {
        if through_endpoint {
            market.put_endpoint(fields).await;
        } else {
            market.patch(fields).await;
        }
    };
    change(closed).await;
    market.gateway_says(unpaid_code).await;
    let answer = market.once(&call, &quote).await;
    let error = refused(&answer, 503, "SELLER_UNAVAILABLE");
    assert_eq!(error["recovery"]["next_action"], "wait_and_retry");
    assert!(
        answer.header("retry-after").is_some(),
        "{:?}",
        answer.headers
    );
    market.assert_still_paid(&quote, 0).await;
    assert_eq!(
        market.relay_request(&quote).await["attempts"],
        0,
        "no attempt is used"
    );
    change(opened).await;
    market.gateway_says("PAYMENT_REQUIRED").await;
    ok(&market.redeem(&call, &quote).await);
    assert_eq!(
        market
            .service
            .called_for(&quote.request_id)
            .await
            .header("x-crochet-attempt"),
        "1"
    );
    market.assert_settled(&quote, 1).await;
}

async fn a_payment_that_waits_for_its_deposit_is_pending() {
    let market = Market::open().await;
    let call = market.call();
    let quote = market.buyer.quote(&call).await.unwrap();
    for _ in 0..3 {
        let answer = market.once(&call, &quote).await;
        let data = pending(&answer);
        assert_eq!(
            (&data["relay_request_id"], &data["request_id"]),
            (&json!(quote.relay_request_id), &json!(quote.request_id)),
            "{answer}"
        );
        assert_eq!(
            answer.header("x-crochet-request-id"),
            Some(quote.request_id.as_str())
        );
    }
    assert_eq!(market.relay_request(&quote).await["status"], "quoted");
    assert_eq!(
        market
            .buyer
            .gateway_request(&quote.request_id)
            .await
            .unwrap()["status"],
        "payment_required"
    );
    market.assert_unpaid(&quote).await;
}

async fn a_payment_under_way_is_pending_until_it_succeeds() {
    let market = Market::open().await;
    for outcome in ["stuck", "delayed"] {
        let call = market.call();
        let quote = market.buyer.quote(&call).await.unwrap();
        let scenario =
            |outcome: &str| json!({ "requestId": quote.relay_request_id, "outcome": outcome });
        market
            .door
            .sandbox
            .scenario(&scenario(outcome))
            .await
            .unwrap();
        market
            .door
            .sandbox
            .deposit(&[&quote.relay_request_id])
            .await
            .unwrap();
        market.reaches(&quote, "pending").await;
        pending(&market.once(&call, &quote).await);
        assert_eq!(
            market
                .buyer
                .gateway_request(&quote.request_id)
                .await
                .unwrap()["status"],
            "payment_pending"
        );
        market.assert_unpaid(&quote).await;
        if outcome == "stuck" {
            market
                .door
                .sandbox
                .scenario(&scenario("success"))
                .await
                .unwrap();
        }
        ok(&market.redeem(&call, &quote).await);
        market.assert_settled(&quote, 1).await;
    }
}

async fn a_success_without_its_details_is_pending() {
    let market = Market::open().await;
    let call = market.call();
    let quote = market.buyer.quote(&call).await.unwrap();
    let id = &quote.relay_request_id;
    market
        .door
        .sandbox
        .scenario(&json!({ "requestId": id, "hide_details": true }))
        .await
        .unwrap();
    market.door.sandbox.deposit(&[id]).await.unwrap();
    market
        .door
        .sandbox
        .wait_until_paid(id, demo_agent::Patience::default())
        .await
        .unwrap();
    pending(&market.once(&call, &quote).await);
    market.assert_unpaid(&quote).await;
    market
        .door
        .sandbox
        .scenario(&json!({ "requestId": id }))
        .await
        .unwrap();
    ok(&market.redeem(&call, &quote).await);
    market.assert_settled(&quote, 1).await;
}

async fn a_payment_the_provider_failed_gets_a_fresh_one() {
    for outcome in ["failure", "refund"] {
        let market = Market::open().await;
        let call = market.call();
        let quote = market.buyer.quote(&call).await.unwrap();
        market
            .door
            .sandbox
            .scenario(&json!({ "requestId": quote.relay_request_id, "outcome": outcome }))
            .await
            .unwrap();
        market
            .door
            .sandbox
            .deposit(&[&quote.relay_request_id])
            .await
            .unwrap();
        let answer = until("the payment has failed", || async {
            let answer = market.once(&call, &quote).await;
            (answer.status != 202).then_some(answer)
        })
        .await;
        let error = refused(&answer, 402, "PAYMENT_FAILED");
        assert_eq!(
            error["recovery"]["next_action"],
            "complete_payment_and_retry"
        );
        let fresh = answer.at("/data/payment");
        assert!(
            fresh["relay_request_id"] != json!(quote.relay_request_id)
                && fresh["request_id"] != json!(quote.request_id),
            "{answer}"
        );
        let row = market
            .buyer
            .gateway_request(&quote.request_id)
            .await
            .unwrap();
        assert_eq!(row["status"], "payment_failed", "{row}");
        assert_eq!(market.relay_request(&quote).await["status"], "failed");
        // Asked again, the failed one names the same fresh payment; paid, that one delivers.
        let again = market.once(&call, &quote).await;
        assert_eq!(
            again.at("/data/payment/relay_request_id"),
            fresh["relay_request_id"],
            "{again}"
        );
        let id = text(&fresh["relay_request_id"]).to_owned();
        market.door.sandbox.deposit(&[&id]).await.unwrap();
        let paid = demo_agent::Quote {
            relay_request_id: id,
            request_id: text(&fresh["request_id"]).to_owned(),
            reused: false,
            payment: fresh,
        };
        ok(&market.redeem(&call, &paid).await);
        market.assert_settled(&paid, 1).await;
        market.assert_unpaid(&quote).await;
    }
}

async fn a_payment_past_its_time_without_a_deposit_is_expired() {
    let market = Market::open().await;
    let call = market.call();
    let quote = market.buyer.quote(&call).await.unwrap();
    let_expire(&market, &quote.request_id).await;
    let answer = until("the quote has expired", || async {
        let answer = market.once(&call, &quote).await;
        (answer.status != 202).then_some(answer)
    })
    .await;
    let error = refused(&answer, 410, "RELAY_REQUEST_EXPIRED");
    assert_eq!(error["recovery"]["next_action"], "start_new_payment");
    market.reaches(&quote, "expired").await;
    assert_eq!(
        market
            .buyer
            .gateway_request(&quote.request_id)
            .await
            .unwrap()["status"],
        "expired"
    );
    refused(
        &market.once(&call, &quote).await,
        410,
        "RELAY_REQUEST_EXPIRED",
    );
    market.assert_unpaid(&quote).await;
}

async fn an_expired_payment_that_is_paid_after_all_is_good() {
    let market = Market::open().await;
    let call = market.call();
    let quote = market.buyer.quote(&call).await.unwrap();
    let_expire(&market, &quote.request_id).await;
    market.reaches(&quote, "expired").await;
    // The provider's own time is not over: it fills, and its success wins over our expiry.
    market
        .door
        .sandbox
        .deposit(&[&quote.relay_request_id])
        .await
        .unwrap();
    market.reaches(&quote, "paid").await;
    ok(&market.redeem(&call, &quote).await);
    market.assert_settled(&quote, 1).await;
}

async fn a_paid_call_waits_while_the_listing_is_suspended() {
    waits(
        json!({ "status": "suspended" }),
        json!({ "status": "active" }),
        false,
        "LISTING_NOT_ACTIVE",
    )
    .await;
}

async fn a_paid_call_waits_while_the_listing_is_free() {
    let market = Market::open().await;
    let call = market.call();
    let quote = market.evidenced(&call).await;
    market
        .patch(json!({ "pricing_model": "free", "pricing_amount": 0 }))
        .await;
    market.gateway_says("LISTING_NOT_PER_CALL").await;
    refused(&market.once(&call, &quote).await, 503, "SELLER_UNAVAILABLE");
    market.assert_still_paid(&quote, 0).await;
    let url = market.service.url();
    market.patch(json!({ "pricing_model": "per_call", "pricing_amount": 2, "private_endpoint_url": url })).await;
    market.gateway_says("PAYMENT_REQUIRED").await;
    ok(&market.redeem(&call, &quote).await);
    market.assert_settled(&quote, 1).await;
}

async fn a_paid_call_waits_while_the_seller_is_paused() {
    waits(
        json!({ "status": "paused" }),
        json!({ "status": "active" }),
        true,
        "SELLER_UNAVAILABLE",
    )
    .await;
}

async fn a_paid_call_waits_while_the_seller_is_at_her_limit() {
    let market = Market::with(json!({ "endpoint": { "max_concurrency": 1 } })).await;
    let gate = Gate::shut();
    market.service.then(Reply::json("1").behind(&gate));
    let (first, second) = (market.call(), market.call());
    let (paid_first, paid_second) = (
        market.evidenced(&first).await,
        market.evidenced(&second).await,
    );
    let held = market.redeem_meanwhile(&first, &paid_first);
    market.service.called_for(&paid_first.request_id).await;
    refused(
        &market.once(&second, &paid_second).await,
        503,
        "SELLER_UNAVAILABLE",
    );
    market.assert_still_paid(&paid_second, 0).await;
    // Nobody is asked to pay for what cannot be served.
    let unpaid = market.buyer.call(&market.call(), None).await.unwrap();
    let error = refused(&unpaid, 503, "SELLER_UNAVAILABLE");
    assert_eq!(error["recovery"]["next_action"], "wait_and_retry");
    gate.open();
    ok(&held.await.unwrap());
    let answer = until("the seller has room again", || async {
        let answer = market.once(&second, &paid_second).await;
        (answer.status != 503).then_some(answer)
    })
    .await;
    ok(&answer);
    market.assert_settled(&paid_first, 1).await;
    market.assert_settled(&paid_second, 1).await;
    assert_eq!(
        market
            .service
            .called_for(&paid_second.request_id)
            .await
            .header("x-crochet-attempt"),
        "1"
    );
}

async fn relay_requests_wait_for_news() {
    let market = Market::open().await;
    let call = market.call();
    let quote = market.buyer.quote(&call).await.unwrap();
    let path = format!("/relay-requests/{}?wait=20", quote.relay_request_id);
    let (buyer, begun) = (market.buyer.clone(), std::time::Instant::now());
    let waiting = tokio::spawn(async move { buyer.get(&path).await.unwrap().data(200).unwrap() });
    market
        .door
        .sandbox
        .deposit(&[&quote.relay_request_id])
        .await
        .unwrap();
    let found = waiting.await.unwrap();
    assert_ne!(found["status"], "quoted", "{found}");
    assert!(
        begun.elapsed() < std::time::Duration::from_secs(19),
        "it held until the time was over"
    );
    market.reaches(&quote, "paid").await;
    // A status that will not change by itself is told at once.
    let begun = std::time::Instant::now();
    let path = format!("/relay-requests/{}?wait=30", quote.relay_request_id);
    let found = market.buyer.get(&path).await.unwrap().data(200).unwrap();
    assert_eq!(found["status"], "paid");
    assert!(
        begun.elapsed() < std::time::Duration::from_secs(10),
        "a paid request is not waited for"
    );
    for key in [
        "relay_request_id",
        "request_id",
        "listing_id",
        "amount",
        "attempts",
        "expires_at",
        "redeem_until",
        "response_available",
        "response_available_until",
    ] {
        assert!(found.get(key).is_some(), "{key} is missing: {found}");
    }
    for wait in ["0", "31", "x", ""] {
        let answer = market
            .buyer
            .get(&format!(
                "/relay-requests/{}?wait={wait}",
                quote.relay_request_id
            ))
            .await
            .unwrap();
        assert_eq!(
            (answer.status, answer.code().as_deref()),
            (400, Some("VALIDATION_ERROR")),
            "wait={wait}: {answer}"
        );
    }
    ok(&market.redeem(&call, &quote).await);
    market.assert_settled(&quote, 1).await;
}
