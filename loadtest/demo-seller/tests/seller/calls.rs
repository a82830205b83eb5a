//! Who is let in, and what is counted.

use demo_seller::Config;
use serde_json::json;

use crate::harness::{LISTING, OTHER_SECRET, SECRET, Seller, request, signed};

#[tokio::test]
async fn a_signed_call_is_answered_with_its_input() {
    let seller = Seller::signed().await;
    let answer = seller
        .call("gw_req_1", &json!({"input": {"a": [1, "ü"]}}))
        .await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, Some("application/json"))
    );
    assert_eq!(answer.json(), json!({"ok": true, "echo": {"a": [1, "ü"]}}));
    let answer = seller.call("gw_req_2", &json!({"task": "run"})).await;
    assert_eq!(answer.json(), json!({"ok": true, "echo": "run"}));
    let answer = seller
        .call("gw_req_3", &json!([{"seller": {"status": 500}}]))
        .await;
    assert_eq!(answer.json(), json!({"ok": true, "echo": null}));
}

#[tokio::test]
async fn a_wrong_or_missing_signature_is_401() {
    let seller = Seller::signed().await;
    let good = signed("gw_req_1", 1, "{}", SECRET);
    let cases = [
        ("another secret", signed("gw_req_1", 1, "{}", OTHER_SECRET)),
        ("another body", good.replace("\r\n\r\n{}", "\r\n\r\n[]")),
        (
            "another id",
            good.replace("webhook-id: gw_req_1", "webhook-id: gw_req_2"),
        ),
        ("another listing", good.replace(LISTING, "unknown")),
        (
            "no listing",
            good.replace("X-Crochet-Listing-Id", "X-Other"),
        ),
        ("no signature", request("POST", "/call", "", "{}")),
    ];
    for (what, bad) in cases {
        let mut client = seller.connect().await;
        client.send(&bad).await;
        let answer = client.answer().await;
        assert_eq!(
            (answer.status, answer.json()),
            (401, json!({"error": "invalid signature"})),
            "{what}"
        );
        // The connection is still good, and so is a good call.
        client.send(&good).await;
        assert_eq!(client.answer().await.status, 200);
    }
    assert_eq!(
        seller.calls().await,
        json!({"calls": {"gw_req_1": 6}, "total": 6, "unsigned": 6})
    );
}

#[tokio::test]
async fn any_of_a_listings_secrets_will_do() {
    let seller = Seller::signed().await;
    seller.put_secrets(&[OTHER_SECRET, SECRET]).await;
    assert_eq!(seller.call("gw_req_1", &json!({})).await.status, 200);
    seller.put_secrets(&[OTHER_SECRET]).await;
    assert_eq!(seller.call("gw_req_1", &json!({})).await.status, 401);
    for bad in [
        r#"{"secrets":["nope"]}"#,
        r#"{"secrets":["whsec_!"]}"#,
        "{}",
    ] {
        assert_eq!(seller.ask("PUT", "/secrets/x", bad).await.status, 400);
    }
}

#[tokio::test]
async fn without_signatures_every_call_is_let_in() {
    let seller = Seller::start(Config {
        unsigned: true,
        ..Config::default()
    })
    .await;
    assert_eq!(
        seller.ask("POST", "/anything/else?x=1", "{}").await.status,
        200
    );
    assert_eq!(
        seller.calls().await,
        json!({"calls": {}, "total": 1, "unsigned": 0})
    );
}

#[tokio::test]
async fn calls_and_attempts_are_counted_by_request() {
    let seller = Seller::signed().await;
    let mut client = seller.connect().await;
    for attempt in [1, 2, 7] {
        client
            .send(&signed("gw_req_a", attempt, "{}", SECRET))
            .await;
        assert_eq!(client.answer().await.status, 200);
    }
    seller.call("gw_req_b", &json!({})).await;
    assert_eq!(
        seller.calls().await,
        json!({"calls": {"gw_req_a": 3, "gw_req_b": 1}, "total": 4, "unsigned": 0})
    );
    let one = seller.ask("GET", "/calls/gw_req_a", "").await.json();
    assert_eq!(one, json!({"count": 3, "attempts": ["1", "2", "7"]}));
    let none = seller.ask("GET", "/calls/gw_req_c", "").await.json();
    assert_eq!(none, json!({"count": 0, "attempts": []}));
    seller.ask("DELETE", "/calls", "").await;
    assert_eq!(
        seller.calls().await,
        json!({"calls": {}, "total": 0, "unsigned": 0})
    );
    assert_eq!(seller.call("gw_req_a", &json!({})).await.status, 200);
    assert_eq!(
        seller.ask("GET", "/healthz", "").await.json(),
        json!({"status": "ok"})
    );
    assert_eq!(seller.ask("GET", "/other", "").await.status, 404);
    assert_eq!(seller.ask("DELETE", "/other", "").await.status, 405);
}
