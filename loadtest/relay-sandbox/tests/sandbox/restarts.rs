//! What survives the process.

use std::{fs::OpenOptions, io::Write, path::Path};

use relay_sandbox::Config;
use serde_json::json;

use crate::harness::{SOL_INPUT, Sandbox, journal, sol_quote};

fn kept(path: &Path, step_ms: u64) -> Config {
    Config {
        step_ms,
        state: Some(path.to_owned()),
        ..Config::default()
    }
}

#[tokio::test]
async fn a_killed_sandbox_forgets_nothing() {
    let path = journal("forgets-nothing");
    let sandbox = Sandbox::start(kept(&path, 0)).await;
    let paid = sandbox.paid().await;
    sandbox.deposit(&paid).await;
    let over = sandbox.quote(&sol_quote()).await;
    sandbox.deposit_amount(&over, SOL_INPUT + 1).await;
    let planned = sandbox.quote(&sol_quote()).await;
    sandbox
        .control(
            "/sandbox/scenarios",
            &json!({"requestId": planned, "outcome": "failure"}),
        )
        .await;
    sandbox
        .control(
            "/sandbox/scenarios",
            &json!({"requestId": "*", "outcome": "refund"}),
        )
        .await;
    let (_, before) = sandbox.get("/requests/v3?sortBy=updatedAt").await;
    sandbox.kill().await;
    // Twice: once from what was appended, once from what was rewritten.
    for _ in 0..2 {
        let sandbox = Sandbox::start(kept(&path, 0)).await;
        assert_eq!(sandbox.get("/requests/v3?sortBy=updatedAt").await.1, before);
        assert_eq!(
            sandbox.get("/sandbox/requests").await.1["byStatus"]["success"],
            2
        );
        sandbox.kill().await;
    }
    let sandbox = Sandbox::start(kept(&path, 0)).await;
    assert_eq!(sandbox.deposit(&planned).await["status"], "failure");
    assert_eq!(sandbox.deposit(&paid).await["verdict"], "double_spend");
    let later = sandbox.quote(&sol_quote()).await;
    assert_eq!(sandbox.deposit(&later).await["status"], "refund");
}

#[tokio::test]
async fn a_payment_under_way_goes_on_after_a_restart() {
    let path = journal("goes-on");
    let sandbox = Sandbox::start(kept(&path, 3_600_000)).await;
    let id = sandbox.paid().await;
    assert_eq!(sandbox.status(&id).await["status"], "depositing");
    sandbox.kill().await;
    let hand = crate::harness::Hand::at(4_000_000_000_000);
    let sandbox = Sandbox::start(Config {
        clock: hand.clock(),
        ..kept(&path, 0)
    })
    .await;
    assert_eq!(
        sandbox.until(&id, "success").await["updatedAt"],
        4_000_000_000_000_u64
    );
}

#[tokio::test]
async fn a_line_cut_short_by_the_kill_is_dropped() {
    let path = journal("cut-short");
    let sandbox = Sandbox::start(kept(&path, 0)).await;
    let id = sandbox.paid().await;
    sandbox.kill().await;
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(br#"{"payment":[0,{"status":"fail"#).unwrap();
    let sandbox = Sandbox::start(kept(&path, 0)).await;
    assert_eq!(sandbox.status(&id).await["status"], "success");
    sandbox.paid().await;
    sandbox.kill().await;
    let sandbox = Sandbox::start(kept(&path, 0)).await;
    assert_eq!(sandbox.get("/sandbox/requests").await.1["total"], 2);
}

#[tokio::test]
async fn a_spoilt_journal_stops_the_start() {
    let path = journal("spoilt");
    std::fs::write(&path, "{\"later\":{}}\nnonsense\n{\"heard\":0}\n").unwrap();
    let failure = Sandbox::start(kept(&path, 0)).await.failure().await;
    assert!(failure.contains("line 2"), "{failure}");
    assert!(std::fs::read_to_string(&path).unwrap().contains("nonsense"));
}
