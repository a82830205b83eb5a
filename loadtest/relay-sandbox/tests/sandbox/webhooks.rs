//! Webhooks: signed, in order, again when refused, and as a scenario says.

use hmac::{Hmac, KeyInit, Mac};
use relay_sandbox::Config;
use serde_json::json;
use sha2::Sha256;

use crate::harness::{KEY, Receiver, Sandbox, journal, sol_quote};

fn told(receiver: &Receiver) -> Config {
    Config {
        step_ms: 1,
        webhook_url: Some(receiver.url.clone()),
        webhook_backoff_ms: 1,
        ..Config::default()
    }
}

#[tokio::test]
async fn each_status_is_told_in_order_and_signed() {
    let mut receiver = Receiver::start([]).await;
    let sandbox = Sandbox::start(told(&receiver)).await;
    let id = sandbox.paid().await;
    for status in ["depositing", "pending", "submitted", "success"] {
        let webhook = receiver.next().await;
        assert_eq!(webhook.status(), status);
        let timestamp = webhook.headers["x-signature-timestamp"].to_str().unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(KEY.as_bytes()).unwrap();
        mac.update(format!("{timestamp}.").as_bytes());
        mac.update(&webhook.raw);
        let sent = webhook.headers["x-signature-sha256"].to_str().unwrap();
        let bytes: Vec<u8> = (0..64)
            .step_by(2)
            .map(|at| u8::from_str_radix(&sent[at..at + 2], 16).unwrap())
            .collect();
        assert_eq!(sent, sent.to_lowercase());
        mac.verify_slice(&bytes).unwrap();
        assert_eq!(webhook.body["event"], "request.status.updated");
        assert!(webhook.body["timestamp"].is_u64());
        let data = &webhook.body["data"];
        assert_eq!(
            (&data["requestId"], &data["referrer"]),
            (&json!(id), &json!("crochet"))
        );
        assert_eq!(data["inTxHashes"].as_array().unwrap().len(), 1);
        assert!(data["depositAddress"]["address"].is_string() && data["updatedAt"].is_u64());
    }
}

#[tokio::test]
async fn without_steps_only_the_end_is_told() {
    let mut receiver = Receiver::start([]).await;
    let sandbox = Sandbox::start(Config {
        step_ms: 0,
        ..told(&receiver)
    })
    .await;
    sandbox.paid().await;
    let other = sandbox.quote(&sol_quote()).await;
    sandbox.deposit_amount(&other, 1).await;
    let mut statuses = receiver.statuses(2).await;
    statuses.sort();
    assert_eq!(statuses, ["refund", "success"]);
}

#[tokio::test]
async fn a_second_deposit_tells_of_a_refund_while_the_status_stays() {
    let mut receiver = Receiver::start([]).await;
    let sandbox = Sandbox::start(Config {
        step_ms: 0,
        ..told(&receiver)
    })
    .await;
    let id = sandbox.paid().await;
    sandbox.deposit(&id).await;
    assert_eq!(receiver.next().await.status(), "success");
    let webhook = receiver.next().await;
    let data = &webhook.body["data"];
    assert_eq!(
        (&data["status"], &data["failReason"], &data["requestId"]),
        (&json!("refund"), &json!("DOUBLE_SPEND"), &json!(id))
    );
    assert_eq!(sandbox.status(&id).await["status"], "success");
}

#[tokio::test]
async fn a_refused_webhook_comes_again() {
    let mut receiver = Receiver::start([500, 302, 404]).await;
    let sandbox = Sandbox::start(Config {
        step_ms: 0,
        ..told(&receiver)
    })
    .await;
    sandbox.paid().await;
    assert_eq!(receiver.statuses(4).await, ["success"; 4]);
    let counts = async || sandbox.get("/sandbox/requests").await.1["webhooks"].clone();
    while counts().await["accepted"] != 1 {}
    assert_eq!(
        counts().await,
        json!({"sent": 4, "accepted": 1, "refused": 3})
    );
}

#[tokio::test]
async fn after_ten_retries_it_gives_up() {
    // One fresh webhook comes after the eleven refusals: were there a twelfth try, it would be that.
    let mut receiver = Receiver::start([503; 11]).await;
    let sandbox = Sandbox::start(Config {
        step_ms: 0,
        webhook_backoff_ms: 0,
        ..told(&receiver)
    })
    .await;
    let lost = sandbox.paid().await;
    for _ in 0..11 {
        assert_eq!(
            receiver.next().await.body["data"]["requestId"],
            lost.as_str()
        );
    }
    let heard = sandbox.paid().await;
    assert_eq!(
        receiver.next().await.body["data"]["requestId"],
        heard.as_str()
    );
    let counts = async || sandbox.get("/sandbox/requests").await.1["webhooks"].clone();
    while counts().await["accepted"] != 1 {}
    assert_eq!(
        counts().await,
        json!({"sent": 12, "accepted": 1, "refused": 11})
    );
}

#[tokio::test]
async fn a_scenario_copies_shuffles_and_loses_webhooks() {
    let mut receiver = Receiver::start([]).await;
    let sandbox = Sandbox::start(told(&receiver)).await;
    let script = async |body| sandbox.control("/sandbox/scenarios", &body).await;
    script(json!({"requestId": "*", "webhook_copies": 2, "webhook_shuffle": true})).await;
    sandbox.paid().await;
    let reversed = [
        "success",
        "success",
        "submitted",
        "submitted",
        "pending",
        "pending",
        "depositing",
        "depositing",
    ];
    assert_eq!(receiver.statuses(8).await, reversed);
    script(json!({"requestId": "*", "webhook_copies": 0})).await;
    let lost = sandbox.paid().await;
    sandbox.until(&lost, "success").await;
    script(json!({"requestId": "*", "outcome": "stuck", "webhook_shuffle": true})).await;
    sandbox.paid().await;
    assert_eq!(receiver.statuses(2).await, ["pending", "depositing"]);
}

#[tokio::test]
async fn a_last_status_nobody_accepted_is_told_after_a_restart() {
    let path = journal("unheard");
    let mut deaf = Receiver::start([503; 100]).await;
    let config = |receiver: &Receiver| Config {
        step_ms: 0,
        webhook_backoff_ms: 3_600_000,
        state: Some(path.clone()),
        ..told(receiver)
    };
    let sandbox = Sandbox::start(config(&deaf)).await;
    let id = sandbox.paid().await;
    deaf.next().await;
    sandbox.kill().await;
    let mut receiver = Receiver::start([]).await;
    let sandbox = Sandbox::start(config(&receiver)).await;
    let webhook = receiver.next().await;
    assert_eq!(
        (webhook.status(), &webhook.body["data"]["requestId"]),
        ("success", &json!(id))
    );
    while !std::fs::read_to_string(&path)
        .unwrap()
        .contains(r#"{"heard":0}"#)
    {
        tokio::task::yield_now().await;
    }
    sandbox.kill().await;
    let sandbox = Sandbox::start(config(&receiver)).await;
    let other = sandbox.paid().await;
    assert_eq!(
        receiver.next().await.body["data"]["requestId"],
        other.as_str()
    );
}

#[tokio::test]
async fn only_plain_http_is_posted_to() {
    let sandbox = Sandbox::start(Config {
        webhook_url: Some("https://127.0.0.1/hook".parse().unwrap()),
        ..Config::default()
    })
    .await;
    assert!(sandbox.failure().await.contains("http://"));
}
