//! `refund-due`: listed, booked once, and seen by the buyer.

use control_plane::ledger::entry::RequestState;
use control_plane::operator::refund_due::{Mark, list, mark};
use control_plane::operator::{Change, Exit, Outcome};
use control_plane::payments::model::SURPLUS_WORTH_MICROS as WORTH;
use control_plane::payments::store::waiting;
use crochet_shared::id::{RequestId, uuid_v7};
use futures_util::future::join_all;
use serde_json::json;
use sqlx::PgPool;

use super::{hash, kept, rehearsed};
use crate::payments::history::{data, key, unlimited};
use crate::payments::stage::{self, PRICE, Request, SETTLEMENT, Stage};

async fn marked(stage: &Stage, request: &Request, number: u8, change: Change) -> Outcome {
    let wanted = Mark {
        request: request.request_id(),
        tx: hash(number),
        change,
    };
    mark(&stage.app.db, &wanted).await.unwrap()
}

/// A payment whose time is over.
async fn due(stage: &Stage) -> Request {
    let request = stage.paid().await;
    stage.age(&request, 90_000.0).await;
    let lapsed = control_plane::payments::lapse::lapse(&stage.app, &[request.id]).await;
    assert_eq!(lapsed.unwrap().len(), 1);
    assert_eq!(stage.state(&request).await, RequestState::RefundDue);
    request
}

#[sqlx::test(migrations = "./migrations")]
async fn a_refund_is_listed_then_booked_and_then_owed_no_more(pool: PgPool) {
    let stage = unlimited(pool).await;
    let request = due(&stage).await;
    let listed = list(&stage.app.db).await.unwrap().json;
    assert_eq!(listed["total_micros"], PRICE);
    let row = &listed["refunds"][0];
    assert_eq!(row["request_id"], request.request_id().to_string());
    assert_eq!(row["buyer_id"], json!(stage.buyer));
    assert_eq!(
        (&row["amount_micros"], &row["refund_to"], &row["reason"]),
        (&json!(PRICE), &json!("wallet"), &json!("time_over"))
    );

    let outcome = marked(&stage, &request, 1, kept()).await;
    assert_eq!(
        (outcome.exit, &outcome.json["changed"]),
        (Exit::Done, &json!(true))
    );
    assert_eq!(stage.state(&request).await, RequestState::Refunded);
    let kinds = [
        ("gateway_payment", PRICE),
        ("refund_due", PRICE),
        ("refund_paid", PRICE),
    ];
    assert_eq!(
        stage.transfers(&request).await,
        kinds.map(|(kind, amount)| (kind.to_owned(), amount))
    );
    stage.assert_audit_empty().await;
    assert_eq!(
        list(&stage.app.db).await.unwrap().json["refunds"],
        json!([])
    );

    let buyer = key(&stage, stage.buyer).await;
    let payment = data(
        &stage,
        &buyer,
        &format!("/relay-requests/{}", request.relay_request_id),
    )
    .await;
    assert_eq!(payment["status"], "refunded");
    let id = request.request_id();
    let history = data(&stage, &buyer, &format!("/gateway-requests/{id}")).await;
    assert_eq!(history["status"], "refunded");
    let rows = data(
        &stage,
        &buyer,
        &format!("/ledger?request_id={id}&type=adjustment"),
    )
    .await;
    assert_eq!(rows[0]["description"], "Refund paid");
    assert_eq!(
        (&rows[0]["account"], &rows[0]["direction"]),
        (&json!("refund"), &json!("debit"))
    );
    let summary = data(&stage, &buyer, "/ledger/summary?role=buyer").await;
    assert_eq!(summary["payable_micros"], 0);
}

#[sqlx::test(migrations = "./migrations")]
async fn the_same_transaction_again_changes_nothing_and_another_is_refused(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let request = due(&stage).await;
    marked(&stage, &request, 1, kept()).await;
    let again = marked(&stage, &request, 1, kept()).await;
    assert_eq!(
        (again.exit, &again.json["changed"]),
        (Exit::Done, &json!(false))
    );
    let other = marked(&stage, &request, 2, kept()).await;
    assert_eq!(other.exit, Exit::Refused);
    assert!(other.text.contains(hash(1).as_str()), "{}", other.text);
    assert_eq!(stage.transfers(&request).await.len(), 3);
    stage.assert_audit_empty().await;
}

#[sqlx::test(migrations = "./migrations")]
async fn a_rehearsal_books_nothing(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let request = due(&stage).await;
    let outcome = marked(&stage, &request, 1, rehearsed()).await;
    assert_eq!(
        (outcome.exit, &outcome.json["dry_run"]),
        (Exit::Done, &json!(true))
    );
    assert!(
        outcome.text.contains("would be refunded"),
        "{}",
        outcome.text
    );
    assert_eq!(stage.state(&request).await, RequestState::RefundDue);
    assert_eq!(stage.transfers(&request).await.len(), 2);
    assert_eq!(marked(&stage, &request, 2, kept()).await.exit, Exit::Done);
}

#[sqlx::test(migrations = "./migrations")]
async fn only_what_is_due_is_refunded(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let (quoted, paid) = (stage.quoted().await, stage.paid().await);
    let (claimed, delivered) = (stage.paid().await, stage.delivered().await);
    stage.claimed(&claimed).await;
    for request in [&quoted, &paid, &claimed, &delivered] {
        let before = (stage.state(request).await, stage.transfers(request).await);
        let outcome = marked(&stage, request, 1, kept()).await;
        assert_eq!(outcome.exit, Exit::Refused, "{}", outcome.text);
        assert_eq!(
            (stage.state(request).await, stage.transfers(request).await),
            before
        );
    }
    let nobody = Mark {
        request: RequestId(uuid_v7(crochet_shared::clock::now())),
        tx: hash(1),
        change: kept(),
    };
    assert_eq!(
        mark(&stage.app.db, &nobody).await.unwrap().exit,
        Exit::NotFound
    );
    stage.assert_audit_empty().await;
}

#[sqlx::test(migrations = "./migrations")]
async fn many_marks_at_once_book_one_refund(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let request = due(&stage).await;
    // Half of them with one transaction, half with another: one of the two sent the money.
    let marks = (0..8).map(|number| marked(&stage, &request, number % 2, kept()));
    let outcomes = join_all(marks).await;
    let booked = outcomes
        .iter()
        .filter(|outcome| outcome.json["changed"] == true);
    assert_eq!(booked.count(), 1);
    let refused = outcomes
        .iter()
        .filter(|outcome| outcome.exit == Exit::Refused);
    assert_eq!(refused.count(), 4);
    assert_eq!(stage.transfers(&request).await.len(), 3);
    stage.assert_audit_empty().await;
}

#[sqlx::test(migrations = "./migrations")]
async fn one_transaction_pays_several_refunds_of_one_buyer_and_none_of_another(pool: PgPool) {
    let mut stage = Stage::new(pool).await;
    let (first, second) = (due(&stage).await, due(&stage).await);
    stage.buyer = stage::profile(&stage.app).await;
    let strangers = due(&stage).await;
    for request in [&first, &second] {
        assert_eq!(marked(&stage, request, 1, kept()).await.exit, Exit::Done);
    }
    let outcome = marked(&stage, &strangers, 1, kept()).await;
    assert_eq!(outcome.exit, Exit::Refused, "{}", outcome.text);
    assert_eq!(stage.state(&strangers).await, RequestState::RefundDue);
    stage.assert_audit_empty().await;
}

#[sqlx::test(migrations = "./migrations")]
async fn what_the_provider_sent_back_itself_is_not_sent_again(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let request = due(&stage).await;
    let now = crochet_shared::clock::now();
    let paid = control_plane::ledger::post::refund_paid(
        stage.pool(),
        &request.relay_request_id,
        now,
        uuid_v7(now),
    );
    assert!(paid.await.unwrap());
    let outcome = marked(&stage, &request, 1, kept()).await;
    assert_eq!(outcome.exit, Exit::Refused);
    assert!(outcome.text.contains("provider itself"), "{}", outcome.text);
    stage.assert_audit_empty().await;
}

#[sqlx::test(migrations = "./migrations")]
async fn what_arrived_in_another_token_is_due_as_it_arrived(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let request = stage.quoted().await;
    let state = stage.evidence(&request, false, None).await;
    assert_eq!(state, Some(RequestState::RefundDue));
    let listed = list(&stage.app.db).await.unwrap();
    let row = &listed.json["refunds"][0];
    assert_eq!(
        (&row["amount_micros"], &row["arrived"]["amount"]),
        (&json!(0), &json!("1000000"))
    );
    assert!(!listed.text.contains(SETTLEMENT), "{}", listed.text);
    assert_eq!(marked(&stage, &request, 1, kept()).await.exit, Exit::Done);
    assert_eq!(stage.state(&request).await, RequestState::Refunded);
    assert!(stage.transfers(&request).await.is_empty());
    assert_eq!(
        marked(&stage, &request, 2, kept()).await.exit,
        Exit::Refused
    );
    stage.assert_audit_empty().await;
}

/// A call that was paid with seven micro-dollars too many.
async fn overpaid(stage: &Stage) -> Request {
    let request = stage.quoted().await;
    stage.evidence(&request, true, Some(PRICE + 7)).await;
    request
}

#[sqlx::test(migrations = "./migrations")]
async fn what_was_paid_beyond_a_price_is_sent_back_and_the_call_stays_delivered(pool: PgPool) {
    let stage = unlimited(pool).await;
    let request = overpaid(&stage).await;
    let early = marked(&stage, &request, 1, kept()).await;
    assert_eq!(
        early.exit,
        Exit::Refused,
        "it goes back with the rest if the call fails"
    );
    let listed = list(&stage.app.db).await.unwrap().json;
    assert_eq!(
        (&listed["refunds"], &listed["surplus_micros"]),
        (&json!([]), &json!(7))
    );

    let (grant, owner) = stage.claimed(&request).await;
    stage.settle(stage::delivery(&grant, owner, b"{}")).await;
    assert_eq!(stage.state(&request).await, RequestState::Delivered);
    let listed = list(&stage.app.db).await.unwrap().json;
    let row = &listed["refunds"][0];
    assert_eq!(
        (
            &row["amount_micros"],
            &row["reason"],
            &listed["surplus_micros"]
        ),
        (&json!(7), &json!("surplus"), &json!(0))
    );

    let outcomes = join_all((1..5).map(|number| marked(&stage, &request, number, kept()))).await;
    let booked = outcomes.iter().filter(|outcome| outcome.exit == Exit::Done);
    assert_eq!(booked.count(), 1);
    assert_eq!(stage.state(&request).await, RequestState::Delivered);
    let transfers = stage.transfers(&request).await;
    let paid: Vec<_> = transfers
        .iter()
        .filter(|(kind, _)| kind == "refund_paid")
        .collect();
    assert_eq!(paid, [&("refund_paid".to_owned(), 7)]);
    assert_eq!(
        list(&stage.app.db).await.unwrap().json["refunds"],
        json!([])
    );
    let buyer = key(&stage, stage.buyer).await;
    let summary = data(&stage, &buyer, "/ledger/summary?role=buyer").await;
    assert_eq!(summary["payable_micros"], 0);
    stage.assert_audit_empty().await;

    let exact = stage.delivered().await;
    assert_eq!(marked(&stage, &exact, 9, kept()).await.exit, Exit::Refused);
}

#[sqlx::test(migrations = "./migrations")]
async fn a_surplus_that_nobody_would_send_is_told_apart_and_is_owed_all_the_same(pool: PgPool) {
    let mut stage = unlimited(pool).await;
    let dust = delivered_overpaid(&stage, 7).await;
    assert_eq!(waits(&stage).await, (0, 0, 1, 7));
    let listed = list(&stage.app.db).await.unwrap();
    assert_eq!(
        (&listed.json["total_micros"], &listed.json["dust_micros"]),
        (&json!(7), &json!(7))
    );
    assert_eq!(listed.json["refunds"][0]["is_dust"], true);
    assert!(
        listed.text.contains("owed less than $0.01"),
        "{}",
        listed.text
    );
    stage.assert_audit_empty().await;

    // Of one buyer they add up.
    delivered_overpaid(&stage, WORTH - 7).await;
    assert_eq!(waits(&stage).await, (2, WORTH, 0, 0));
    assert_eq!(list(&stage.app.db).await.unwrap().json["dust_requests"], 0);

    // Of another they do not; her refund is due whatever its size.
    stage.buyer = stage::profile(&stage.app).await;
    delivered_overpaid(&stage, 1).await;
    assert_eq!(waits(&stage).await, (2, WORTH, 1, 1));
    let other = stage.quoted().await;
    stage.evidence(&other, false, Some(5)).await;
    assert_eq!(waits(&stage).await, (3, WORTH + 5, 1, 1));

    // It may be sent, as any.
    assert_eq!(marked(&stage, &dust, 1, kept()).await.exit, Exit::Done);
    assert_eq!(waits(&stage).await, (1, 5, 2, WORTH - 7 + 1));
    stage.assert_audit_empty().await;
}

/// What is due and worth sending, and what is not: how many and how much of each.
async fn waits(stage: &Stage) -> (i64, i64, i64, i64) {
    let due = waiting::refunds_due(stage.pool(), WORTH).await.unwrap();
    assert_eq!(due.oldest_seconds > 0.0, due.count > 0);
    (due.count, due.micros, due.dust_count, due.dust_micros)
}

/// A delivered call that was paid with so much more than its price.
async fn delivered_overpaid(stage: &Stage, surplus: i64) -> Request {
    let request = stage.quoted().await;
    stage.evidence(&request, true, Some(PRICE + surplus)).await;
    let (grant, owner) = stage.claimed(&request).await;
    stage.settle(stage::delivery(&grant, owner, b"{}")).await;
    request
}
