//! CHECK and the webhook, against the provider's sandbox.

use std::sync::Arc;

use control_plane::ledger::entry::RequestState;
use control_plane::payments::relay::Record;
use control_plane::payments::store::waiting;
use control_plane::payments::{evidence, quote};
use crochet_shared::internal::{Check, CheckAnswer, CreateQuote, QuoteCreated};
use serde_json::{Value, json};
use sqlx::PgPool;

use super::stage::{PRICE, Request, Stage};

pub(crate) async fn quoted(stage: &Stage) -> Request {
    let mut identity = stage.identity();
    identity.body_sha256 = crochet_shared::id::random();
    let ask = CreateQuote::New {
        identity: identity.clone(),
        request_bytes: 14,
    };
    match quote::create(&stage.app, ask).await.unwrap() {
        QuoteCreated::New(quote) => Request {
            id: quote.request_id.0,
            relay_request_id: quote.relay_request_id,
            identity,
        },
        other => panic!("{other:?}"),
    }
}

pub(super) async fn check(stage: &Stage, request: &Request) -> CheckAnswer {
    let wanted = Check {
        relay_request_id: request.relay_request_id.clone(),
        buyer: stage.buyer,
    };
    evidence::check(&stage.app, &wanted).await.unwrap()
}

async fn calls(stage: &Stage) -> u64 {
    let seen: Value = reqwest::get(format!("{}/sandbox/requests", stage.sandbox))
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    seen["calls"]["requests"].as_u64().unwrap()
}

/// As if the last look at the provider were long ago.
async fn forget(stage: &Stage) {
    stage.run("update gateway_request set checked_at = null; update provider_cursor set next_at = now()").await;
}

#[sqlx::test(migrations = "./migrations")]
async fn a_deposit_becomes_evidence_and_is_claimable(pool: PgPool) {
    let stage = Stage::with_sandbox(pool, &[]).await;
    let request = quoted(&stage).await;
    assert!(matches!(
        check(&stage, &request).await,
        CheckAnswer::Pending { .. }
    ));
    stage.deposit(&request.relay_request_id).await;
    // Within 2 s the row answers.
    assert!(matches!(
        check(&stage, &request).await,
        CheckAnswer::Pending { .. }
    ));
    forget(&stage).await;
    assert_eq!(check(&stage, &request).await, CheckAnswer::Paid);
    assert_eq!(
        stage.transfers(&request).await,
        [("gateway_payment".into(), PRICE)]
    );
    stage.claimed(&request).await;
    stage.assert_audit_empty().await;
}

#[sqlx::test(migrations = "./migrations")]
async fn a_hundred_questions_at_once_are_few_calls(pool: PgPool) {
    let stage = Stage::with_sandbox(
        pool,
        &[
            "--rate-limit-quotes-per-second=1000",
            "--rate-limit-provider-quotes-per-second=1000",
            "--rate-limit-open-quotes=1000",
        ],
    )
    .await;
    let mut requests = Vec::new();
    for _ in 0..20 {
        requests.push(quoted(&stage).await);
    }
    let before = calls(&stage).await;
    let tasks: Vec<_> = requests
        .iter()
        .flat_map(|request| std::iter::repeat_n(request, 5))
        .map(|request| {
            let wanted = Check {
                relay_request_id: request.relay_request_id.clone(),
                buyer: stage.buyer,
            };
            let app = Arc::clone(&stage.app);
            tokio::spawn(async move { evidence::check(&app, &wanted).await.unwrap() })
        })
        .collect();
    for task in tasks {
        assert!(matches!(task.await.unwrap(), CheckAnswer::Pending { .. }));
    }
    let used = calls(&stage).await - before;
    // Collected for up to 100 ms each, while the questions themselves take a moment to arrive.
    assert!(used <= 5, "{used} calls");
}

#[sqlx::test(migrations = "./migrations")]
async fn a_payment_otherwise_than_quoted_is_a_refund_due(pool: PgPool) {
    let stage = Stage::with_sandbox(pool, &[]).await;
    for (details, transfers) in [
        (
            json!({"recipient": "0x0000000000000000000000000000000000000001"}),
            vec![],
        ),
        (json!({"chainId": 10}), vec![]),
        (
            json!({"currency": "0x0000000000000000000000000000000000000002"}),
            vec![],
        ),
        (
            json!({"amount": "999999"}),
            vec![
                ("gateway_payment".to_owned(), 999_999),
                ("refund_due".to_owned(), 999_999),
            ],
        ),
    ] {
        let request = quoted(&stage).await;
        stage.control("scenarios", json!({"requestId": request.relay_request_id, "outcome": "success", "details": details})).await;
        stage.deposit(&request.relay_request_id).await;
        assert_eq!(
            check(&stage, &request).await,
            CheckAnswer::Closed,
            "{details}"
        );
        assert_eq!(stage.state(&request).await, RequestState::RefundDue);
        assert_eq!(stage.transfers(&request).await, transfers);
        let matches: bool =
            sqlx::query_scalar("select matches from payment_evidence where request_id = $1")
                .bind(request.id)
                .fetch_one(stage.pool())
                .await
                .unwrap();
        assert!(!matches);
    }
    stage.assert_audit_empty().await;
}

#[sqlx::test(migrations = "./migrations")]
async fn more_than_the_price_is_paid_and_the_rest_is_owed_back(pool: PgPool) {
    let stage = Stage::with_sandbox(pool, &[]).await;
    let request = quoted(&stage).await;
    stage.control("scenarios", json!({"requestId": request.relay_request_id, "outcome": "success", "details": {"amount": "1000007"}})).await;
    stage.deposit(&request.relay_request_id).await;
    assert_eq!(check(&stage, &request).await, CheckAnswer::Paid);
    assert_eq!(
        stage.transfers(&request).await,
        [("gateway_payment".into(), PRICE), ("surplus".into(), 7)]
    );
    stage.assert_audit_empty().await;
}

#[sqlx::test(migrations = "./migrations")]
async fn a_success_without_its_details_is_not_yet_evidence(pool: PgPool) {
    let stage = Stage::with_sandbox(pool, &[]).await;
    let request = quoted(&stage).await;
    let scenario = |hide: bool| json!({"requestId": request.relay_request_id, "outcome": "success", "hide_details": hide});
    stage.control("scenarios", scenario(true)).await;
    stage.deposit(&request.relay_request_id).await;
    assert!(matches!(
        check(&stage, &request).await,
        CheckAnswer::Pending { .. }
    ));
    assert_eq!(stage.state(&request).await, RequestState::Quoted);
    stage.control("scenarios", scenario(false)).await;
    forget(&stage).await;
    assert_eq!(check(&stage, &request).await, CheckAnswer::Paid);
}

#[sqlx::test(migrations = "./migrations")]
async fn a_success_is_never_taken_back(pool: PgPool) {
    let stage = Stage::with_sandbox(pool, &[]).await;
    let request = quoted(&stage).await;
    stage.deposit(&request.relay_request_id).await;
    assert_eq!(check(&stage, &request).await, CheckAnswer::Paid);
    for outcome in ["failure", "refund"] {
        stage
            .control(
                "scenarios",
                json!({"requestId": request.relay_request_id, "outcome": outcome}),
            )
            .await;
        forget(&stage).await;
        assert_eq!(check(&stage, &request).await, CheckAnswer::Paid);
        // Also when a webhook makes us look.
        assert_eq!(
            evidence::ask(&stage.app, &request.relay_request_id).await,
            CheckAnswer::Paid
        );
        assert_eq!(stage.state(&request).await, RequestState::Paid);
    }
    stage.assert_audit_empty().await;
}

#[sqlx::test(migrations = "./migrations")]
async fn success_wins_over_failure_and_expiry_that_came_before_it(pool: PgPool) {
    let stage = Stage::with_sandbox(pool, &[]).await;
    for state in ["failed", "expired"] {
        let request = quoted(&stage).await;
        stage.deposit(&request.relay_request_id).await;
        sqlx::query("update gateway_request set state = $2::text::request_state, closed_reason = 'x', closed_at = now() where id = $1")
            .bind(request.id)
            .bind(state)
            .execute(stage.pool())
            .await
            .unwrap();
        sqlx::query("delete from deadline where request_id = $1")
            .bind(request.id)
            .execute(stage.pool())
            .await
            .unwrap();
        assert_eq!(check(&stage, &request).await, CheckAnswer::Paid, "{state}");
        stage.claimed(&request).await;
    }
    stage.assert_audit_empty().await;
}

#[sqlx::test(migrations = "./migrations")]
async fn a_quote_expires_only_past_its_margin_and_when_the_provider_knows_no_deposit(pool: PgPool) {
    let stage = Stage::with_sandbox(pool, &[]).await;
    let (bare, stuck) = (quoted(&stage).await, quoted(&stage).await);
    stage
        .control(
            "scenarios",
            json!({"requestId": stuck.relay_request_id, "outcome": "stuck"}),
        )
        .await;
    stage.deposit(&stuck.relay_request_id).await;
    for request in [&bare, &stuck] {
        stage.age(request, 1_000.0).await;
        assert!(matches!(
            check(&stage, request).await,
            CheckAnswer::Pending { .. }
        ));
        stage.age(request, 25.0).await;
    }
    assert_eq!(check(&stage, &bare).await, CheckAnswer::Expired);
    assert!(matches!(
        check(&stage, &stuck).await,
        CheckAnswer::Pending { .. }
    ));
    assert_eq!(stage.state(&bare).await, RequestState::Expired);
    assert_eq!(stage.state(&stuck).await, RequestState::Quoted);
    stage.assert_audit_empty().await;
}

#[sqlx::test(migrations = "./migrations")]
async fn a_provider_that_cannot_be_asked_decides_nothing(pool: PgPool) {
    let stage = Stage::with_sandbox(pool, &[]).await;
    let request = quoted(&stage).await;
    stage.age(&request, 1_100.0).await;
    for mode in ["error500", "garbage"] {
        stage
            .control(
                "faults",
                json!({"endpoint": "requests", "mode": mode, "count": 1}),
            )
            .await;
        assert!(
            matches!(
                check(&stage, &request).await,
                CheckAnswer::Unavailable { .. }
            ),
            "{mode}"
        );
        assert_eq!(stage.state(&request).await, RequestState::Quoted);
    }
    stage
        .control(
            "faults",
            json!({"endpoint": "requests", "mode": "rate_limit", "count": 1}),
        )
        .await;
    assert!(matches!(
        check(&stage, &request).await,
        CheckAnswer::Unavailable {
            retry_after_seconds: 1..
        }
    ));
}

#[sqlx::test(migrations = "./migrations")]
async fn a_failure_is_known_without_the_provider_and_an_expiry_is_not(pool: PgPool) {
    let stage = Stage::new(pool).await;
    for (state, failed) in [("failed", true), ("expired", false)] {
        let request = stage.quoted().await;
        sqlx::query("update gateway_request set state = $2::text::request_state where id = $1")
            .bind(request.id)
            .bind(state)
            .execute(stage.pool())
            .await
            .unwrap();
        let answer = check(&stage, &request).await;
        assert_eq!(answer == CheckAnswer::Failed, failed, "{state}: {answer:?}");
        assert_eq!(matches!(answer, CheckAnswer::Unavailable { .. }), !failed);
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn the_same_news_many_times_is_recorded_once(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let request = stage.quoted().await;
    let row = json!({"id": request.relay_request_id, "status": "success", "recipient": super::stage::SETTLEMENT,
        "updatedAt": "2026-08-01T12:00:00.000Z", "data": {"route": {"actual": {"destination": {"outputCurrency":
            {"currency": {"chainId": 8453, "address": crochet_shared::route::USDC_BASE}, "amount": "1000000"}}}}}});
    let record = Record::read(&row).unwrap();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (app, record) = (Arc::clone(&stage.app), record.clone());
            tokio::spawn(async move {
                evidence::apply(
                    &app,
                    std::slice::from_ref(&record.id),
                    std::slice::from_ref(&record),
                )
                .await
                .unwrap()
            })
        })
        .collect();
    for task in tasks {
        let answers = task.await.unwrap();
        assert_eq!(answers[&request.relay_request_id], CheckAnswer::Paid);
    }
    assert_eq!(
        stage.transfers(&request).await,
        [("gateway_payment".into(), PRICE)]
    );
    stage.assert_audit_empty().await;
}

#[sqlx::test(migrations = "./migrations")]
async fn a_refund_that_the_provider_paid_after_it_was_due_closes_the_request(pool: PgPool) {
    let stage = Stage::with_sandbox(pool, &[]).await;
    let request = quoted(&stage).await;
    stage.control("scenarios", json!({"requestId": request.relay_request_id, "outcome": "success", "details": {"amount": "5"}})).await;
    stage.deposit(&request.relay_request_id).await;
    assert_eq!(check(&stage, &request).await, CheckAnswer::Closed);
    stage
        .control(
            "scenarios",
            json!({"requestId": request.relay_request_id, "outcome": "refund"}),
        )
        .await;
    assert_eq!(
        evidence::ask(&stage.app, &request.relay_request_id).await,
        CheckAnswer::Closed
    );
    assert_eq!(stage.state(&request).await, RequestState::Refunded);
    assert_eq!(
        stage.transfers(&request).await,
        [
            ("gateway_payment".into(), 5),
            ("refund_due".into(), 5),
            ("refund_paid".into(), 5)
        ]
    );
    stage.assert_audit_empty().await;
}

#[sqlx::test(migrations = "./migrations")]
async fn a_refund_of_a_second_deposit_is_evidence_of_the_first_that_was_filled(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let told = |request: &Request, status: &str, out: Value, refunds: Value| {
        let row = json!({"id": request.relay_request_id, "status": status, "recipient": super::stage::SETTLEMENT,
            "updatedAt": "2026-08-01T12:00:00.000Z", "data": {
                "failReason": if status == "refund" { "DOUBLE_SPEND" } else { "" },
                "inTxs": [{"txHash": "first"}, {"txHash": "second"}], "outTxs": out, "refunds": refunds,
                "route": {"actual": {"destination": {"outputCurrency":
                    {"currency": {"chainId": 8453, "address": crochet_shared::route::USDC_BASE}, "amount": "1000000"}}}}}});
        Record::read(&row).unwrap()
    };
    let apply = async |request: &Request, records: &[Record]| {
        let id = &request.relay_request_id;
        let answers = evidence::apply(&stage.app, std::slice::from_ref(id), records).await;
        answers.unwrap()[id]
    };
    let second = json!([{"reason": "DOUBLE_SPEND", "txHash": "back"}]);
    let all = json!([{"reason": "UNKNOWN", "txHash": "back"}, {"reason": "DOUBLE_SPEND", "txHash": "back too"}]);

    // Our first look comes after both.
    let filled = stage.quoted().await;
    let record = told(
        &filled,
        "refund",
        json!([{"txHash": "fill"}, {"txHash": "back"}]),
        second.clone(),
    );
    assert_eq!(apply(&filled, &[record]).await, CheckAnswer::Paid);
    assert_eq!(
        stage.transfers(&filled).await,
        [("gateway_payment".into(), PRICE)]
    );

    // The second came back before the first was filled, and then the first went back too.
    let refunded = stage.quoted().await;
    let record = told(
        &refunded,
        "refund",
        json!([{"txHash": "back"}]),
        second.clone(),
    );
    let answer = apply(&refunded, &[record]).await;
    assert!(matches!(answer, CheckAnswer::Pending { .. }), "{answer:?}");
    assert_eq!(stage.state(&refunded).await, RequestState::Quoted);
    let out = json!([{"txHash": "back"}, {"txHash": "back too"}]);
    let record = told(&refunded, "refund", out, all);
    assert_eq!(apply(&refunded, &[record]).await, CheckAnswer::Failed);
    assert_eq!(stage.transfers(&refunded).await, []);

    // Two rows of one payment: the one that says it was filled tells, wherever it stands.
    for filled_last in [false, true] {
        let request = stage.quoted().await;
        let mut records = [
            told(
                &request,
                "success",
                json!([{"txHash": "fill"}]),
                Value::Null,
            ),
            told(&request, "refund", json!([]), Value::Null),
        ];
        if filled_last {
            records.reverse();
        }
        assert_eq!(apply(&request, &records).await, CheckAnswer::Paid);
    }
    stage.assert_audit_empty().await;
}

#[sqlx::test(migrations = "./migrations")]
async fn a_second_deposit_sent_back_without_a_list_decides_nothing_and_is_told_by_its_age(
    pool: PgPool,
) {
    let stage = Stage::new(pool).await;
    let told = |request: &Request, refunds: Value| {
        let row = json!({"id": request.relay_request_id, "status": "refund", "recipient": super::stage::SETTLEMENT,
            "updatedAt": "2026-08-01T12:00:00.000Z", "data": {
                "failReason": "DOUBLE_SPEND", "inTxs": [{"txHash": "first"}, {"txHash": "second"}],
                "outTxs": [{"txHash": "one"}, {"txHash": "other"}], "refunds": refunds,
                "route": {"actual": {"destination": {"outputCurrency":
                    {"currency": {"chainId": 8453, "address": crochet_shared::route::USDC_BASE}, "amount": "1000000"}}}}}});
        Record::read(&row).unwrap()
    };
    let apply = async |request: &Request, record: Record| {
        let id = &request.relay_request_id;
        let answers = evidence::apply(&stage.app, std::slice::from_ref(id), &[record]).await;
        answers.unwrap()[id]
    };
    let oldest = || waiting::oldest_deposit(stage.pool());
    let filled = stage.quoted().await;
    let refunded = stage.quoted().await;
    assert!(oldest().await.unwrap() < f64::EPSILON);
    for request in [&filled, &refunded] {
        // However long it stays so: nothing is delivered, and no second payment asked for.
        for _ in 0..3 {
            let answer = apply(request, told(request, Value::Null)).await;
            assert!(matches!(answer, CheckAnswer::Pending { .. }), "{answer:?}");
            assert_eq!(stage.state(request).await, RequestState::Quoted);
            assert_eq!(stage.transfers(request).await, []);
            stage.age(request, 100_000.0).await;
        }
    }
    stage
        .run("update gateway_request set deposit_seen_at = now() - interval '2 hours'")
        .await;
    assert!(oldest().await.unwrap() >= 7_200.0);
    let looked_at = "select count(*) from deadline where due_at is not null";
    let looked_at: i64 = sqlx::query_scalar(looked_at)
        .fetch_one(stage.pool())
        .await
        .unwrap();
    assert_eq!(looked_at, 2, "both are asked about again");

    // What the provider lists in the end decides, either way.
    let back = |hash: &str| json!({"reason": "DOUBLE_SPEND", "txHash": hash});
    let answer = apply(&filled, told(&filled, json!([back("other")]))).await;
    assert_eq!(answer, CheckAnswer::Paid);
    let all = json!([back("one"), back("other")]);
    let answer = apply(&refunded, told(&refunded, all)).await;
    assert_eq!(answer, CheckAnswer::Failed);
    assert!(oldest().await.unwrap() < f64::EPSILON);
    stage.assert_audit_empty().await;
}
