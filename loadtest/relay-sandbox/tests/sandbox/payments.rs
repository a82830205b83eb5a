//! Deposits, the strict rules, the walk through the statuses, scenarios.

use relay_sandbox::Config;
use serde_json::{Value, json};

use crate::harness::{Hand, SETTLEMENT, SOL_INPUT, Sandbox, base_quote, sol_quote, with};

/// When the hand-moved clocks begin.
const START: u64 = 1_800_000_000_000;

async fn by_hand() -> (Sandbox, Hand) {
    let hand = Hand::at(START);
    let sandbox = Sandbox::start(Config {
        clock: hand.clock(),
        ..Config::default()
    })
    .await;
    (sandbox, hand)
}

#[tokio::test]
async fn a_deposit_walks_through_the_statuses_a_step_each() {
    let (sandbox, hand) = by_hand().await;
    let id = sandbox.quote(&sol_quote()).await;
    assert_eq!(sandbox.status(&id).await["status"], "waiting");
    let deposit = sandbox.deposit(&id).await;
    assert_eq!(
        deposit,
        json!({"requestId": id, "status": "depositing", "amount": "6800000", "verdict": "accepted"})
    );
    for status in ["pending", "submitted"] {
        hand.forward(20);
        let answer = sandbox.until(&id, status).await;
        assert_eq!(answer["inTxHashes"].as_array().unwrap().len(), 1);
        assert_eq!(answer["txHashes"], json!([]));
    }
    hand.forward(20);
    let answer = sandbox.until(&id, "success").await;
    assert_eq!(
        (&answer["updatedAt"], &answer["quoteCreatedAt"]),
        (&json!(START + 60), &json!(START))
    );
    assert_eq!(
        (&answer["originChainId"], &answer["destinationChainId"]),
        (&json!(792_703_809), &json!(8453))
    );
    assert_eq!(answer["txHashes"].as_array().unwrap().len(), 1);
    assert_eq!(answer["failReason"], Value::Null);
}

#[tokio::test]
async fn without_steps_a_deposit_is_a_success_at_once() {
    let sandbox = Sandbox::instant().await;
    let id = sandbox.quote(&sol_quote()).await;
    assert_eq!(sandbox.deposit(&id).await["status"], "success");
    assert_eq!(sandbox.status("0xnone").await, json!({"status": "unknown"}));
    assert_eq!(sandbox.get("/intents/status/v3").await.0, 400);
}

#[tokio::test]
async fn a_filled_row_is_evidence_of_recipient_chain_token_and_amount() {
    let sandbox = Sandbox::instant().await;
    let id = sandbox.quote(&sol_quote()).await;
    let row = sandbox.row(&id).await;
    assert_eq!(
        (&row["status"], &row["data"]["route"]["actual"]),
        (&json!("waiting"), &Value::Null)
    );
    sandbox.deposit(&id).await;
    let row = sandbox.row(&id).await;
    assert_eq!(
        (&row["status"], &row["recipient"]),
        (&json!("success"), &json!(SETTLEMENT))
    );
    let output = &row["data"]["route"]["actual"]["destination"]["outputCurrency"];
    assert_eq!(output["amount"], "1000000");
    assert_eq!(output["currency"]["chainId"], 8453);
    assert_eq!(
        output["currency"]["address"],
        "0x833589fcd6edb6e08f4c7c32d4f71b54bda02913"
    );
    assert_eq!(
        (
            &row["data"]["inTxs"][0]["chainId"],
            &row["data"]["outTxs"][0]["chainId"]
        ),
        (&json!(792_703_809), &json!(8453))
    );
    assert_eq!(row["depositAddress"]["type"], "strict");
    assert_eq!(
        row["depositAddress"]["depositTxHash"],
        row["data"]["inTxs"][0]["txHash"]
    );
}

#[tokio::test]
async fn too_little_is_refunded() {
    let sandbox = Sandbox::instant().await;
    let id = sandbox.quote(&sol_quote()).await;
    let deposit = sandbox.deposit_amount(&id, SOL_INPUT - 1).await;
    assert_eq!(
        (&deposit["status"], &deposit["verdict"]),
        (&json!("refund"), &json!("underpaid"))
    );
    let row = sandbox.row(&id).await;
    assert_eq!(
        row["data"]["failReason"],
        "DEPOSITED_AMOUNT_TOO_LOW_TO_FILL"
    );
    assert_eq!(
        row["data"]["refunds"][0]["amount"],
        (SOL_INPUT - 1).to_string()
    );
    assert_eq!(
        (&row["data"]["route"]["actual"], &row["data"]["outTxs"]),
        (&Value::Null, &json!([]))
    );
}

#[tokio::test]
async fn too_much_fills_the_quoted_amount_and_returns_the_rest() {
    let sandbox = Sandbox::instant().await;
    let id = sandbox.quote(&sol_quote()).await;
    assert_eq!(
        sandbox.deposit_amount(&id, SOL_INPUT + 5).await["status"],
        "success"
    );
    let row = sandbox.row(&id).await;
    assert_eq!(
        row["data"]["route"]["actual"]["destination"]["outputCurrency"]["amount"],
        "1000000"
    );
    let refunds = row["data"]["refunds"].as_array().unwrap();
    assert_eq!(
        (refunds.len(), &refunds[0]["reason"], &refunds[0]["amount"]),
        (1, &json!("EXCESS"), &json!("5"))
    );
}

#[tokio::test]
async fn a_second_deposit_is_refunded_and_the_success_stays() {
    let (sandbox, hand) = by_hand().await;
    sandbox
        .control(
            "/sandbox/scenarios",
            &json!({"requestId": "*", "step_ms": 0}),
        )
        .await;
    let id = sandbox.paid().await;
    hand.forward(7);
    let deposit = sandbox.deposit(&id).await;
    assert_eq!(
        (&deposit["status"], &deposit["verdict"]),
        (&json!("success"), &json!("double_spend"))
    );
    let row = sandbox.row(&id).await;
    assert_eq!(
        (&row["status"], &row["data"]["failReason"]),
        (&json!("success"), &Value::Null)
    );
    assert_eq!(row["data"]["refunds"][0]["reason"], "DOUBLE_SPEND");
    assert_eq!(row["data"]["inTxs"].as_array().unwrap().len(), 2);
    assert_eq!(
        row["protocol"]["settlement"]["destination"]["refunds"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(sandbox.status(&id).await["updatedAt"], START + 7);
}

#[tokio::test]
async fn a_second_deposit_after_a_refund_fills_nothing() {
    let sandbox = Sandbox::instant().await;
    let id = sandbox.quote(&sol_quote()).await;
    sandbox.deposit_amount(&id, 1).await;
    let deposit = sandbox.deposit(&id).await;
    assert_eq!(
        (&deposit["status"], &deposit["verdict"]),
        (&json!("refund"), &json!("double_spend"))
    );
}

#[tokio::test]
async fn a_late_deposit_is_refunded() {
    let (sandbox, hand) = by_hand().await;
    sandbox
        .control(
            "/sandbox/scenarios",
            &json!({"requestId": "*", "step_ms": 0}),
        )
        .await;
    let (in_time, late) = (
        sandbox.quote(&sol_quote()).await,
        sandbox.quote(&sol_quote()).await,
    );
    hand.forward(900_000);
    assert_eq!(sandbox.deposit(&in_time).await["status"], "success");
    hand.forward(1);
    assert_eq!(sandbox.deposit(&late).await["verdict"], "late");
    let answer = sandbox.status(&late).await;
    assert_eq!(
        (&answer["status"], &answer["failReason"]),
        (&json!("refund"), &json!("TTL_EXPIRED"))
    );
}

#[tokio::test]
async fn a_deposit_is_late_when_it_is_told_to_be() {
    let sandbox = Sandbox::instant().await;
    let id = sandbox.quote(&sol_quote()).await;
    let late = json!({"requestId": id, "late": true});
    sandbox.control("/sandbox/scenarios", &late).await;
    assert_eq!(sandbox.deposit(&id).await["verdict"], "late");
    let answer = sandbox.status(&id).await;
    assert_eq!(
        (&answer["status"], &answer["failReason"]),
        (&json!("refund"), &json!("TTL_EXPIRED"))
    );
}

#[tokio::test]
async fn what_cannot_be_refunded_fails() {
    let sandbox = Sandbox::start(Config {
        step_ms: 0,
        refund_minimum: 50_000,
        ..Config::default()
    })
    .await;
    let id = sandbox.quote(&sol_quote()).await;
    assert_eq!(sandbox.deposit_amount(&id, 100).await["status"], "failure");
    assert_eq!(
        sandbox.status(&id).await["refundFailReason"],
        "AMOUNT_TOO_LOW_TO_REFUND"
    );
    let open = json!({"useDepositAddress": null, "strict": null, "refundTo": null});
    let id = sandbox.quote(&with(sol_quote(), &open)).await;
    sandbox
        .control(
            "/sandbox/scenarios",
            &json!({"requestId": id, "outcome": "refund"}),
        )
        .await;
    assert_eq!(sandbox.deposit(&id).await["status"], "failure");
    assert_eq!(sandbox.row(&id).await["data"]["refunds"], json!([]));
}

#[tokio::test]
async fn an_open_address_fills_any_amount_at_the_quotes_rate() {
    let sandbox = Sandbox::instant().await;
    let open = json!({"strict": null, "tradeType": "EXACT_INPUT", "amount": "1020000"});
    let id = sandbox
        .quote(&with(
            base_quote("0x833589fcd6edb6e08f4c7c32d4f71b54bda02913"),
            &open,
        ))
        .await;
    assert_eq!(
        sandbox.deposit_amount(&id, 520_000).await["status"],
        "success"
    );
    let row = sandbox.row(&id).await;
    assert_eq!(
        row["data"]["route"]["actual"]["destination"]["outputCurrency"]["amount"],
        "500000"
    );
}

#[tokio::test]
async fn thousands_are_paid_in_one_call_or_none_of_them() {
    let sandbox = Sandbox::instant().await;
    let mut ids = Vec::new();
    for _ in 0..2000 {
        ids.push(sandbox.quote(&sol_quote()).await);
    }
    let mut wrong = ids.clone();
    wrong.push(format!("0x{}", "0".repeat(64)));
    assert_eq!(
        sandbox
            .post("/sandbox/deposits", &json!({"requestIds": wrong}))
            .await
            .0,
        404
    );
    assert_eq!(
        sandbox.get("/sandbox/requests?limit=1").await.1["byStatus"]["waiting"],
        2000
    );
    let answer = sandbox
        .control("/sandbox/deposits", &json!({"requestIds": ids}))
        .await;
    assert_eq!(answer["deposited"], 2000);
    let (_, seen) = sandbox.get("/sandbox/requests?limit=1").await;
    assert_eq!(
        (&seen["byStatus"]["success"], &seen["calls"]["quote"]),
        (&json!(2000), &json!(2000))
    );
    assert_eq!(seen["requests"].as_array().unwrap().len(), 1);
    assert_eq!(sandbox.post("/sandbox/deposits", &json!({})).await.0, 400);
}

#[tokio::test]
async fn scenarios_choose_the_end() {
    let sandbox = Sandbox::instant().await;
    for (outcome, status, reason) in [
        ("success", "success", Value::Null),
        ("failure", "failure", json!("TRANSACTION_REVERTED")),
        ("refund", "refund", json!("UNKNOWN")),
        ("stuck", "pending", Value::Null),
        ("delayed", "delayed", Value::Null),
    ] {
        let id = sandbox.quote(&sol_quote()).await;
        sandbox
            .control(
                "/sandbox/scenarios",
                &json!({"requestId": id, "outcome": outcome}),
            )
            .await;
        assert_eq!(sandbox.deposit(&id).await["status"], status, "{outcome}");
        assert_eq!(sandbox.status(&id).await["failReason"], reason);
    }
    let unknown = json!({"requestId": "0x1", "outcome": "stuck"});
    assert_eq!(sandbox.post("/sandbox/scenarios", &unknown).await.0, 404);
    let nonsense = json!({"requestId": "*", "outcome": "perhaps"});
    assert_eq!(sandbox.post("/sandbox/scenarios", &nonsense).await.0, 400);
}

#[tokio::test]
async fn a_delayed_payment_succeeds_ten_steps_and_a_second_later() {
    let (sandbox, hand) = by_hand().await;
    sandbox
        .control(
            "/sandbox/scenarios",
            &json!({"requestId": "*", "outcome": "delayed", "step_ms": 0}),
        )
        .await;
    let id = sandbox.paid().await;
    assert_eq!(sandbox.status(&id).await["status"], "delayed");
    hand.forward(999);
    assert_eq!(sandbox.status(&id).await["status"], "delayed");
    hand.forward(1);
    assert_eq!(
        sandbox.until(&id, "success").await["updatedAt"],
        START + 1000
    );
}

#[tokio::test]
async fn a_scenario_for_all_applies_to_later_quotes_only() {
    let sandbox = Sandbox::instant().await;
    let before = sandbox.quote(&sol_quote()).await;
    sandbox
        .control(
            "/sandbox/scenarios",
            &json!({"requestId": "*", "outcome": "failure"}),
        )
        .await;
    let after = sandbox.quote(&sol_quote()).await;
    assert_eq!(sandbox.deposit(&before).await["status"], "success");
    assert_eq!(sandbox.deposit(&after).await["status"], "failure");
}

#[tokio::test]
async fn a_scenario_changes_what_was_already_paid() {
    let sandbox = Sandbox::instant().await;
    let script = async |id: &str, outcome: &str| {
        let body = json!({"requestId": id, "outcome": outcome});
        sandbox.control("/sandbox/scenarios", &body).await["status"].clone()
    };
    let id = sandbox.quote(&sol_quote()).await;
    script(&id, "stuck").await;
    sandbox.deposit(&id).await;
    assert_eq!(script(&id, "success").await, "success");
    assert_eq!(script(&id, "failure").await, "failure");
    assert_eq!(script(&id, "refund").await, "refund");
    assert_eq!(script(&id, "success").await, "success");
    assert_eq!(sandbox.status(&id).await["failReason"], Value::Null);
}

#[tokio::test]
async fn a_fill_can_hide_or_show_other_details() {
    let sandbox = Sandbox::instant().await;
    let id = sandbox.paid().await;
    sandbox
        .control(
            "/sandbox/scenarios",
            &json!({"requestId": id, "hide_details": true}),
        )
        .await;
    let row = sandbox.row(&id).await;
    assert_eq!(
        (&row["status"], &row["data"]["route"]["actual"]),
        (&json!("success"), &Value::Null)
    );
    let details = json!({"recipient": "0x9", "amount": "3", "currency": "0x8", "chainId": 10});
    sandbox
        .control(
            "/sandbox/scenarios",
            &json!({"requestId": id, "details": details}),
        )
        .await;
    let row = sandbox.row(&id).await;
    let output = &row["data"]["route"]["actual"]["destination"]["outputCurrency"];
    assert_eq!(
        (&row["recipient"], &output["amount"]),
        (&json!("0x9"), &json!("3"))
    );
    assert_eq!(
        (
            &output["currency"]["address"],
            &output["currency"]["chainId"]
        ),
        (&json!("0x8"), &json!(10))
    );
}

#[tokio::test]
async fn it_tells_how_often_it_was_asked() {
    let sandbox = Sandbox::instant().await;
    let id = sandbox.paid().await;
    sandbox.status(&id).await;
    sandbox.status(&id).await;
    sandbox.row(&id).await;
    let (_, seen) = sandbox
        .get(&format!("/sandbox/requests?requestId={id}"))
        .await;
    assert_eq!(
        seen["calls"],
        json!({"quote": 1, "status": 2, "requests": 1})
    );
    assert_eq!(seen["requests"][0]["statusCalls"], 2);
    assert_eq!(seen["requests"][0]["row"]["status"], "success");
    assert_eq!(
        sandbox.get("/healthz").await,
        (200, json!({"status": "ok"}))
    );
    assert_eq!(sandbox.get("/nowhere").await.0, 404);
}
