//! `reconcile`: a payment nobody asked about is found, recorded and told.

use chrono::TimeDelta;
use control_plane::ledger::entry::RequestState;
use control_plane::operator::reconcile::{Reconcile, with};
use control_plane::operator::{Change, Exit, Outcome};
use crochet_shared::clock;
use serde_json::json;
use sqlx::PgPool;

use super::{kept, rehearsed};
use crate::payments::evidence::quoted;
use crate::payments::stage::{PRICE, Request, Stage};

async fn reconciled(stage: &Stage, change: Change) -> Outcome {
    let since = clock::now() - TimeDelta::hours(1);
    with(&stage.app, &Reconcile { since, change })
        .await
        .unwrap()
}

/// A quote of the sandbox, paid, and never asked about.
async fn forgotten(stage: &Stage) -> Request {
    let request = quoted(stage).await;
    stage.deposit(&request.relay_request_id).await;
    request
}

#[sqlx::test(migrations = "./migrations")]
async fn a_payment_nobody_asked_about_is_recorded(pool: PgPool) {
    let stage = Stage::with_sandbox(pool, &[]).await;
    let (first, second) = (forgotten(&stage).await, forgotten(&stage).await);

    let rehearsal = reconciled(&stage, rehearsed()).await;
    assert_eq!(rehearsal.json["found"].as_array().unwrap().len(), 2);
    assert_eq!(stage.state(&first).await, RequestState::Quoted);

    let outcome = reconciled(&stage, kept()).await;
    assert_eq!(outcome.exit, Exit::Done, "{}", outcome.text);
    for request in [&first, &second] {
        assert_eq!(stage.state(request).await, RequestState::Paid);
        assert_eq!(
            stage.transfers(request).await,
            [("gateway_payment".to_owned(), PRICE)]
        );
        assert!(
            outcome.text.contains(&request.relay_request_id),
            "{}",
            outcome.text
        );
    }
    // What is in evidence is not found again, also where no sweep has noted it.
    stage.run("delete from provider_success").await;
    let again = reconciled(&stage, kept()).await;
    assert_eq!(
        (&again.json["read"], &again.json["found"]),
        (&json!(2), &json!([]))
    );
    stage
        .run("update provider_success set seen_at = seen_at - interval '2 minutes'")
        .await;
    stage.assert_audit_empty().await;
}

#[sqlx::test(migrations = "./migrations")]
async fn a_payment_that_is_not_as_quoted_needs_a_person(pool: PgPool) {
    let stage = Stage::with_sandbox(pool, &[]).await;
    let request = quoted(&stage).await;
    let less = json!({"requestId": request.relay_request_id, "outcome": "success", "details": {"amount": "5"}});
    stage.control("scenarios", less).await;
    stage.deposit(&request.relay_request_id).await;
    let outcome = reconciled(&stage, kept()).await;
    assert_eq!(outcome.exit, Exit::Attention, "{}", outcome.text);
    assert_eq!(outcome.json["found"][0]["after"], "refund_due");
    assert_eq!(stage.state(&request).await, RequestState::RefundDue);
    stage.assert_audit_empty().await;
}
