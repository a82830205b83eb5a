//! What a refusal tells to do next fits the request that was refused, and requests that are no HTTP
//! are refused in words.

use demo_agent::Answer;
use serde_json::{Value, json};

use crate::harness::{Market, Message, Reply, Wire, ok, refused, shared, trials};

trials!(
    a_broken_chunk_is_answered_on_both_ways,
    a_target_of_another_host_is_answered,
    a_header_that_was_not_sent_is_not_to_be_preserved,
    a_forged_webhook_is_not_told_of_wallets,
    never_calls_again_after_a_429_and_not_after_a_600,
);

fn envelope(message: &Message) -> Value {
    let json: Value = serde_json::from_slice(&message.body)
        .unwrap_or_else(|_| panic!("no envelope: {message:?}"));
    assert_eq!(message.count("x-request-id"), 1, "{message:?}");
    json
}

fn bad_field(message: &Message) -> String {
    assert_eq!(
        (message.status(), message.code().as_str()),
        (400, "VALIDATION_ERROR"),
        "{message:?}"
    );
    envelope(message)["error"]["details"]["fields"][0]["field"]
        .as_str()
        .unwrap()
        .to_owned()
}

async fn a_broken_chunk_is_answered_on_both_ways() {
    let market = Market::open().await;
    let bearer = format!("Bearer {}", market.buyer.key);
    let headers = [
        ("Authorization", bearer.as_str()),
        ("Content-Type", "application/json"),
        ("Transfer-Encoding", "chunked"),
    ];
    for path in [
        format!("/api/v1/gateway/{}", market.listing.id),
        "/api/v1/listings".to_owned(),
    ] {
        for broken in [
            "zz\r\n{}\r\n0\r\n\r\n",
            "2\r\n{}xx\r\n0\r\n\r\n",
            "-1\r\n\r\n",
        ] {
            let mut wire = Wire::to(market.api()).await;
            let answer = wire
                .ask(&format!("POST {path}"), &headers, broken.as_bytes())
                .await;
            assert_eq!(bad_field(&answer), "body", "{path} {broken:?}");
            assert!(
                wire.answer().await.is_none(),
                "nothing is read behind it: {path} {broken:?}"
            );
        }
        // A client that stops in the middle and still listens is told, too.
        let mut wire = Wire::to(market.api()).await;
        wire.send(&crate::harness::request(
            &format!("POST {path}"),
            &headers,
            b"5\r\n{\"a",
        ))
        .await;
        wire.finish().await;
        let answer = wire.answer().await.unwrap();
        assert_eq!(bad_field(&answer), "body", "{path}");
    }
    market.assert_untouched().await;
}

async fn a_target_of_another_host_is_answered() {
    let door = shared().await;
    for path in ["/api/v1/health", "/api/v1/gateway/x"] {
        let mut wire = Wire::to(&door.apis[0]).await;
        let answer = wire
            .ask(&format!("GET http://elsewhere.test{path}"), &[], b"")
            .await;
        assert_eq!(bad_field(&answer), "Host");
    }
    let mut wire = Wire::to(&door.apis[0]).await;
    let line = "GET http://crochet.test/api/v1/health";
    assert_eq!(wire.ask(line, &[], b"").await.status(), 200);
}

fn preserved(answer: &Answer) -> Vec<String> {
    let names = answer.at("/error/recovery/preserve");
    let names = names.as_array().unwrap().iter();
    names
        .map(|name| name.as_str().unwrap().to_owned())
        .collect()
}

async fn a_header_that_was_not_sent_is_not_to_be_preserved() {
    let market = Market::open().await;
    let call = market.call();
    let quote = market.evidenced(&call).await;
    market.put_endpoint(json!({ "status": "paused" })).await;
    market.gateway_says("SELLER_UNAVAILABLE").await;
    let first = market.buyer.call(&market.call(), None).await.unwrap();
    refused(&first, 503, "SELLER_UNAVAILABLE");
    assert_eq!(preserved(&first), ["body"]);
    let paid = market.redeem(&call, &quote).await;
    refused(&paid, 503, "SELLER_UNAVAILABLE");
    assert_eq!(preserved(&paid), ["X-Crochet-Relay-Request-Id", "body"]);
    let keyed = market
        .buyer
        .send(
            demo_agent::Method::POST,
            &format!("/gateway/{}", market.listing.id),
            &[("idempotency-key", "k")],
            Some("{}".into()),
        )
        .await
        .unwrap();
    refused(&keyed, 503, "SELLER_UNAVAILABLE");
    assert_eq!(preserved(&keyed), ["Idempotency-Key", "body"]);
    market.put_endpoint(json!({ "status": "active" })).await;
    market.gateway_says("PAYMENT_REQUIRED").await;
    ok(&market.redeem(&call, &quote).await);
    market.assert_settled(&quote, 1).await;
}

async fn a_forged_webhook_is_not_told_of_wallets() {
    let door = shared().await;
    let body = json!({ "event": "request.status.updated", "data": {} });
    let answer = door.apis[0]
        .post("/webhooks/relay", None, &body)
        .await
        .unwrap();
    assert_eq!(
        (answer.status, answer.code().as_deref()),
        (401, Some("INVALID_SIGNATURE"))
    );
    let error = answer.at("/error");
    let text = error.to_string().to_lowercase();
    assert!(
        !text.contains("wallet") && !text.contains("personal_sign") && text.contains("provider"),
        "{error}"
    );
    assert_eq!(error["recovery"]["preserve"], json!([]));
}

async fn never_calls_again_after_a_429_and_not_after_a_600() {
    let market = Market::with(json!({ "endpoint": { "redelivery": "never" } })).await;
    market.service.then(Reply::status(429, "{}"));
    let call = market.call();
    let (quote, answer) = market.buy(&call).await;
    refused(&answer, 502, "SELLER_ERROR");
    assert_eq!(answer.at("/data/attempts_remaining"), json!(4));
    ok(&market.redeem(&call, &quote).await);
    market.assert_settled(&quote, 2).await;

    market.service.then(Reply::status(600, "{}"));
    let call = market.call();
    let (quote, answer) = market.buy(&call).await;
    let error = refused(&answer, 502, "SELLER_INVALID_RESPONSE");
    assert_eq!(
        (
            answer.at("/data/seller_status_code"),
            answer.at("/data/attempts_remaining")
        ),
        (Value::Null, json!(0))
    );
    assert_eq!(error["recovery"]["next_action"], "await_refund");
    market.assert_refund_due(&quote, 1).await;
}
