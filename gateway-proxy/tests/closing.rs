//! The ends of a payment: attempts used up, time over, never to be redelivered, paid otherwise than quoted.

use std::time::Duration;

use demo_agent::{Answer, Quote};
use serde_json::{Value, json};

use crate::harness::{Market, Reply, hex, ok, refused, trials, until};
use crate::states::uuid_of;

trials!(
    five_failures_make_a_refund_due,
    a_refund_due_is_visible_to_both_sides,
    a_payment_not_redeemed_in_time_becomes_refund_due,
    never_redelivered_after_a_timeout,
    never_redelivered_after_a_broken_answer,
    never_redelivered_may_be_retried_after_a_complete_failure,
    never_redelivered_may_be_retried_while_nothing_was_sent,
    a_success_paid_to_somebody_else_is_refund_due,
    a_success_of_too_little_or_in_another_token_is_refund_due,
    an_overpaid_deposit_is_good,
    an_underpaid_deposit_is_refunded_by_the_provider,
    a_second_deposit_changes_nothing,
    a_recorded_success_is_never_taken_back,
    a_webhook_sent_often_and_out_of_order_counts_once,
    a_forged_webhook_is_refused_and_changes_nothing,
    a_true_webhook_is_only_a_hint,
);

fn attempts(answer: &Answer) -> (Value, Value) {
    (
        answer.at("/data/attempts"),
        answer.at("/data/attempts_remaining"),
    )
}

/// Whatever is asked now, the payment is closed.
async fn assert_closed(market: &Market, call: &demo_agent::PaidCall, quote: &Quote, calls: usize) {
    for api in &market.door.apis {
        let answer = market
            .once_as(&market.buyer.through(api), call, quote)
            .await;
        assert_eq!(
            refused(&answer, 409, "RELAY_REQUEST_CLOSED")["recovery"]["next_action"],
            "await_refund"
        );
    }
    market.assert_refund_due(quote, calls).await;
    // The same call without the payment's id is a new purchase.
    let fresh = market.buyer.quote(call).await.unwrap();
    assert_ne!(fresh.relay_request_id, quote.relay_request_id);
}

async fn five_failures_make_a_refund_due() {
    let market = Market::open().await;
    market.service.usually(Reply::status(500, "{}"));
    let call = market.call();
    let quote = market.paid(&call).await;
    for attempt in 1..=4 {
        let answer = market.redeem(&call, &quote).await;
        refused(&answer, 502, "SELLER_ERROR");
        assert_eq!(attempts(&answer), (json!(attempt), json!(5 - attempt)));
    }
    let last = market.redeem(&call, &quote).await;
    let error = refused(&last, 502, "SELLER_ERROR");
    assert_eq!(
        (attempts(&last), &error["recovery"]["next_action"]),
        ((json!(5), json!(0)), &json!("await_refund")),
        "{last}"
    );
    assert_eq!(
        (
            &error["recovery"]["preserve"],
            &error["recovery"]["discard"]
        ),
        (&json!([]), &json!(["X-Crochet-Relay-Request-Id"])),
        "nothing is left to retry with: {last}"
    );
    assert_closed(&market, &call, &quote, 5).await;
}

async fn a_refund_due_is_visible_to_both_sides() {
    let market = Market::with(json!({ "endpoint": { "redelivery": "never" } })).await;
    market.service.then(Reply::hang_up());
    let call = market.call();
    let (quote, answer) = market.buy(&call).await;
    refused(&answer, 502, "SELLER_INVALID_RESPONSE");
    market.assert_refund_due(&quote, 1).await;
    let state = market.relay_request(&quote).await;
    assert_eq!(
        (&state["status"], &state["response_available"]),
        (&json!("refund_due"), &json!(false)),
        "{state}"
    );
    let ledger = market.buyer.ledger(&quote.request_id).await.unwrap();
    let adjustment = ledger
        .iter()
        .find(|entry| entry["type"] == "adjustment")
        .unwrap();
    assert_eq!(
        (
            &adjustment["account"],
            &adjustment["direction"],
            &adjustment["amount_cents"]
        ),
        (&json!("refund"), &json!("credit"), &json!(100)),
        "{adjustment}"
    );
    for agent in [&market.buyer, &market.seller] {
        let row = agent.gateway_request(&quote.request_id).await.unwrap();
        assert_eq!(
            (&row["status"], &row["billable"]),
            (&json!("refund_due"), &json!(false)),
            "{row}"
        );
    }
}

async fn a_payment_not_redeemed_in_time_becomes_refund_due() {
    let market = Market::open().await;
    let call = market.call();
    let quote = market.evidenced(&call).await;
    let id = uuid_of(&quote.request_id);
    market.door.sql(format!("update gateway_request set redeem_until = now() - interval '1 second' where id = '{id}'")).await;
    market
        .door
        .sql(format!(
            "update deadline set due_at = now() - interval '1 second' where request_id = '{id}'"
        ))
        .await;
    market.reaches(&quote, "refund_due").await;
    assert_closed(&market, &call, &quote, 0).await;
}

/// One attempt that may have reached the seller ends it all.
async fn ends_with(reply: Reply, status: u16, code: &str) {
    let market = Market::with(json!({ "endpoint": { "redelivery": "never", "timeout_ms": 1000, "max_response_bytes": 100 } })).await;
    market.service.then(reply);
    let call = market.call();
    let (quote, answer) = market.buy(&call).await;
    let error = refused(&answer, status, code);
    assert_eq!(
        (attempts(&answer), &error["recovery"]["next_action"]),
        ((json!(1), json!(0)), &json!("await_refund")),
        "{answer}"
    );
    assert_closed(&market, &call, &quote, 1).await;
}

async fn never_redelivered_after_a_timeout() {
    ends_with(Reply::silence(), 504, "SELLER_TIMEOUT").await;
}

async fn never_redelivered_after_a_broken_answer() {
    ends_with(Reply::hang_up(), 502, "SELLER_INVALID_RESPONSE").await;
    ends_with(
        Reply::json(&"1".repeat(101)),
        502,
        "SELLER_RESPONSE_TOO_LARGE",
    )
    .await;
}

async fn never_redelivered_may_be_retried_after_a_complete_failure() {
    let market = Market::with(json!({ "endpoint": { "redelivery": "never" } })).await;
    market
        .service
        .then(Reply::status(503, "{}"))
        .then(Reply::status(302, ""));
    let call = market.call();
    let quote = market.paid(&call).await;
    for attempt in 1..=2 {
        let answer = market.redeem(&call, &quote).await;
        refused(&answer, 502, "SELLER_ERROR");
        assert_eq!(attempts(&answer), (json!(attempt), json!(5 - attempt)));
    }
    ok(&market.redeem(&call, &quote).await);
    market.assert_settled(&quote, 3).await;
}

async fn never_redelivered_may_be_retried_while_nothing_was_sent() {
    let door = crate::harness::shared().await;
    let port = crate::harness::free_port().await;
    let fields = json!({ "endpoint": { "redelivery": "never" } });
    let market = Market::selling_at(
        &door,
        crate::harness::Service::start().await,
        &format!("http://127.0.0.1:{port}/"),
        fields,
    )
    .await;
    let call = market.call();
    let (quote, answer) = market.buy(&call).await;
    refused(&answer, 502, "SELLER_UNREACHABLE");
    assert_eq!(attempts(&answer), (json!(0), json!(5)));
    let service = crate::harness::Service::start_at(port).await;
    ok(&market.redeem(&call, &quote).await);
    assert_eq!(service.total(), 1);
}

/// A success whose facts are not the quoted ones, of which `received` micros reached us.
async fn paid_otherwise(details: Value, received: Option<i64>) {
    let market = Market::open().await;
    let call = market.call();
    let quote = market.buyer.quote(&call).await.unwrap();
    let id = &quote.relay_request_id;
    let sandbox = &market.door.sandbox;
    let scenario = json!({ "requestId": id, "details": details });
    sandbox.scenario(&scenario).await.unwrap();
    sandbox.deposit(&[id]).await.unwrap();
    market.reaches(&quote, "refund_due").await;
    for api in &market.door.apis {
        let buyer = market.buyer.through(api);
        let answer = market.once_as(&buyer, &call, &quote).await;
        let error = refused(&answer, 409, "RELAY_REQUEST_CLOSED");
        assert_eq!(error["recovery"]["next_action"], "await_refund");
    }
    assert_eq!(market.service.total(), 0);
    let (bought, sold) = market.ledgers(&quote.request_id).await;
    assert_eq!(sold, [], "the seller's ledger");
    // What never reached us moves nothing between accounts of ours; what did is owed back.
    let wanted: Vec<(String, i64)> = received
        .into_iter()
        .flat_map(|micros| ["adjustment", "gateway_payment"].map(|kind| (kind.to_owned(), micros)))
        .collect();
    assert_eq!(bought, wanted, "the buyer's ledger");
}

async fn a_success_paid_to_somebody_else_is_refund_due() {
    let somebody = "0x000000000000000000000000000000000000dEaD";
    paid_otherwise(json!({ "recipient": somebody }), None).await;
}

async fn a_success_of_too_little_or_in_another_token_is_refund_due() {
    let token = "0x000000000000000000000000000000000000dEaD";
    paid_otherwise(json!({ "amount": "999999" }), Some(999_999)).await;
    paid_otherwise(json!({ "currency": token }), None).await;
    paid_otherwise(json!({ "chainId": 10 }), None).await;
}

async fn an_overpaid_deposit_is_good() {
    let market = Market::open().await;
    let call = market.call();
    let quote = market.buyer.quote(&call).await.unwrap();
    let amount: u128 = quote.payment["requirements"]["amount"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    market
        .door
        .sandbox
        .deposit_amount(&quote.relay_request_id, &(amount * 2).to_string())
        .await
        .unwrap();
    let data = ok(&market.redeem(&call, &quote).await);
    assert_eq!(data["charged_amount"]["amount_micros"], 1_000_000);
    market.assert_settled(&quote, 1).await;
}

async fn an_underpaid_deposit_is_refunded_by_the_provider() {
    let market = Market::open().await;
    let call = market.call();
    let quote = market.buyer.quote(&call).await.unwrap();
    let amount: u128 = quote.payment["requirements"]["amount"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    market
        .door
        .sandbox
        .deposit_amount(&quote.relay_request_id, &(amount - 1).to_string())
        .await
        .unwrap();
    let answer = until("the underpaid payment is refused", || async {
        let answer = market.once(&call, &quote).await;
        (answer.status != 202).then_some(answer)
    })
    .await;
    refused(&answer, 402, "PAYMENT_FAILED");
    assert_ne!(
        answer.at("/data/payment/relay_request_id"),
        json!(quote.relay_request_id)
    );
    market.assert_unpaid(&quote).await;
}

async fn a_second_deposit_changes_nothing() {
    let market = Market::open().await;
    let call = market.call();
    let quote = market.evidenced(&call).await;
    market
        .door
        .sandbox
        .deposit(&[&quote.relay_request_id])
        .await
        .unwrap();
    let answer = market.redeem(&call, &quote).await;
    ok(&answer);
    market
        .door
        .sandbox
        .deposit(&[&quote.relay_request_id])
        .await
        .unwrap();
    let again = market.once(&call, &quote).await;
    assert_eq!((again.status, &again.body), (200, &answer.body));
    market.assert_settled(&quote, 1).await;
}

async fn a_recorded_success_is_never_taken_back() {
    for outcome in ["failure", "refund"] {
        let market = Market::open().await;
        let call = market.call();
        let quote = market.evidenced(&call).await;
        market
            .door
            .sandbox
            .scenario(&json!({ "requestId": quote.relay_request_id, "outcome": outcome }))
            .await
            .unwrap();
        market
            .door
            .sandbox
            .wait_for_status(
                &quote.relay_request_id,
                outcome,
                demo_agent::Patience::default(),
            )
            .await
            .unwrap();
        ok(&market.redeem(&call, &quote).await);
        market.assert_settled(&quote, 1).await;
    }
}

async fn a_webhook_sent_often_and_out_of_order_counts_once() {
    let market = Market::open().await;
    let call = market.call();
    let quote = market.buyer.quote(&call).await.unwrap();
    let id = &quote.relay_request_id;
    market
        .door
        .sandbox
        .scenario(&json!({ "requestId": id, "webhook_copies": 5, "webhook_shuffle": true }))
        .await
        .unwrap();
    market.door.sandbox.deposit(&[id]).await.unwrap();
    market.reaches(&quote, "paid").await;
    ok(&market.redeem(&call, &quote).await);
    market.assert_settled(&quote, 1).await;
    // Once more, all of it late: the sandbox tells of the second deposit as a refund of the same request.
    market.door.sandbox.deposit(&[id]).await.unwrap();
    assert_eq!(market.relay_request(&quote).await["status"], "delivered");
    market.assert_settled(&quote, 1).await;
}

/// A webhook with this status for the request, signed with `secret` at `timestamp`.
pub(crate) async fn webhook(
    market: &Market,
    quote: &Quote,
    secret: &str,
    timestamp: i64,
    sign: bool,
) -> Answer {
    let body = json!({ "event": "request.status.updated", "timestamp": timestamp, "data": {
        "status": "success", "inTxHashes": [], "txHashes": ["0xabc"], "updatedAt": timestamp, "originChainId": 792_703_809_u64, "destinationChainId": 8453,
        "depositAddress": null, "requestId": quote.relay_request_id, "referrer": "crochet", "details": null, "failReason": null, "refundFailReason": null,
    } })
    .to_string();
    let mut request = market
        .api()
        .http()
        .post(format!("{}/webhooks/relay", market.api().base_url()))
        .header("content-type", "application/json");
    if sign {
        request = request
            .header("x-signature-timestamp", timestamp.to_string())
            .header(
                "x-signature-sha256",
                signature(secret, &format!("{timestamp}.{body}")),
            );
    }
    Answer::of(request.body(body)).await.unwrap()
}

fn signature(secret: &str, text: &str) -> String {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    hex(&mac.finalize().into_bytes())
}

pub(crate) fn now_ms() -> i64 {
    crochet_shared::clock::now().timestamp_millis()
}

async fn a_forged_webhook_is_refused_and_changes_nothing() {
    let market = Market::open().await;
    let call = market.call();
    let quote = market.buyer.quote(&call).await.unwrap();
    let key = market.door.relay_api_key.clone();
    for (secret, sign) in [("not the key", true), (key.as_str(), false)] {
        let answer = webhook(&market, &quote, secret, now_ms(), sign).await;
        assert!((400..500).contains(&answer.status), "{answer}");
    }
    assert_eq!(market.relay_request(&quote).await["status"], "quoted");
    crate::harness::pending(&market.once(&call, &quote).await);
    market.assert_unpaid(&quote).await;
}

async fn a_true_webhook_is_only_a_hint() {
    let market = Market::open().await;
    let call = market.call();
    let quote = market.buyer.quote(&call).await.unwrap();
    // Signed as the provider signs, and untrue: the provider's record knows no deposit.
    for _ in 0..2 {
        let answer = webhook(&market, &quote, &market.door.relay_api_key, now_ms(), true).await;
        assert!((200..300).contains(&answer.status), "{answer}");
    }
    crate::harness::pending(&market.once(&call, &quote).await);
    market.assert_unpaid(&quote).await;
    tokio::time::timeout(Duration::from_secs(20), async {
        market
            .door
            .sandbox
            .deposit(&[&quote.relay_request_id])
            .await
            .unwrap();
        ok(&market.redeem(&call, &quote).await);
    })
    .await
    .unwrap();
    market.assert_settled(&quote, 1).await;
}
