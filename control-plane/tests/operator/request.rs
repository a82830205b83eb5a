//! `request`: the story of a request, whatever became of it.

use control_plane::operator::refund_due::{Mark, mark};
use control_plane::operator::request::request;
use control_plane::operator::{Exit, Outcome};
use crochet_shared::clock;
use crochet_shared::id::{RequestId, uuid_v7};
use crochet_shared::outcome::SellerFailure;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::{hash, kept};
use crate::payments::stage::{self, Request, Stage, delivery, failure, unsent};

async fn told(stage: &Stage, name: &str) -> Outcome {
    request(&stage.app.db, name).await.unwrap()
}

async fn story(stage: &Stage, of: &Request) -> Outcome {
    let outcome = told(stage, &of.request_id().to_string()).await;
    assert_eq!(outcome.exit, Exit::Done);
    outcome
}

fn events(outcome: &Outcome) -> Vec<&str> {
    let timeline = outcome.json["timeline"].as_array().unwrap();
    timeline
        .iter()
        .map(|event| event["event"].as_str().unwrap())
        .collect()
}

#[sqlx::test(migrations = "./migrations")]
async fn a_call_that_failed_twice_and_then_succeeded_is_told_whole(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let request = stage.paid().await;
    for kind in [SellerFailure::Status, SellerFailure::Timeout] {
        let (grant, owner) = stage.claimed(&request).await;
        stage.settle(failure(&grant, owner, kind)).await;
    }
    let (grant, owner) = stage.claimed(&request).await;
    stage.settle(delivery(&grant, owner, b"{}")).await;

    let outcome = story(&stage, &request).await;
    assert_eq!(
        events(&outcome),
        [
            "quoted",
            "paid",
            "claimed",
            "failed",
            "claimed",
            "failed",
            "claimed",
            "delivered"
        ]
    );
    let text = &outcome.text;
    for part in [
        "delivered  $1",
        "epoch 1: the seller failed with 500 after 5 ms",
        "epoch 2: the seller did not answer in time",
        "attempts used: 2; the payment stays good",
        "epoch 3: the seller answered 200 in 5 ms, the call took 9 ms",
        "attempts used: 3",
        "answer of 2 bytes, SHA-256 44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
        "stored in 1 chunks until",
        "gateway_payment",
        "clearing -> seller",
        "$0.951",
        "clearing -> fees",
        &request.relay_request_id,
    ] {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
    assert_eq!(outcome.json["ledger"].as_array().unwrap().len(), 3);
    assert_eq!(outcome.json["answer"]["is_stored"], true);
    // In the order in which it happened.
    let times: Vec<&str> = outcome.json["timeline"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["at"].as_str().unwrap())
        .collect();
    assert!(times.is_sorted(), "{times:?}");
    // The same by the provider's name for it.
    let by_relay = told(&stage, &request.relay_request_id).await;
    assert_eq!(by_relay.json, outcome.json);
}

#[sqlx::test(migrations = "./migrations")]
async fn claims_that_ended_by_themselves_are_told(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let request = stage.paid().await;
    let (grant, owner) = stage.claimed(&request).await;
    stage.settle(unsent(&grant, owner)).await;
    stage.claimed(&request).await;
    stage.age(&request, 91.0).await;
    // The next claim finds the lease over, and is held still.
    stage.claimed(&request).await;
    let outcome = story(&stage, &request).await;
    assert_eq!(
        events(&outcome),
        [
            "quoted", "paid", "claimed", "failed", "claimed", "failed", "claimed"
        ]
    );
    for part in [
        "not reached; nothing was sent",
        "the lease ended without a settlement",
    ] {
        assert!(outcome.text.contains(part), "{}", outcome.text);
    }
    // And by the sweep.
    stage.age(&request, 91.0).await;
    control_plane::payments::lapse::lapse(&stage.app, &[request.id])
        .await
        .unwrap();
    let last = story(&stage, &request).await;
    assert_eq!(events(&last).len(), 8);
}

#[sqlx::test(migrations = "./migrations")]
async fn a_refund_is_told_from_its_reason_to_its_transaction(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let request = stage.quoted().await;
    stage.evidence(&request, false, Some(5)).await;
    let wanted = Mark {
        request: request.request_id(),
        tx: hash(1),
        change: kept(),
    };
    mark(&stage.app.db, &wanted).await.unwrap();
    let outcome = story(&stage, &request).await;
    assert_eq!(
        events(&outcome),
        ["quoted", "paid", "refund due", "refunded"]
    );
    for part in [
        "otherwise than quoted",
        "$0.000005: it was paid otherwise",
        hash(1).as_str(),
        "refund_paid",
    ] {
        assert!(
            outcome.text.contains(part),
            "{part:?} is missing in:\n{}",
            outcome.text
        );
    }
    assert_eq!(outcome.json["refund_tx"], json!(hash(1).as_str()));
}

#[sqlx::test(migrations = "./migrations")]
async fn a_surplus_is_told_from_its_payment_to_the_transaction_that_sent_it_back(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let request = stage.quoted().await;
    stage.evidence(&request, true, Some(stage::PRICE + 7)).await;
    let (grant, owner) = stage.claimed(&request).await;
    stage.settle(delivery(&grant, owner, b"{}")).await;
    let due = story(&stage, &request).await;
    assert_eq!(events(&due), ["quoted", "paid", "claimed", "delivered"]);
    let says = "$0.000007 of it beyond the price, due back when the call ends";
    assert!(due.text.contains(says), "{}", due.text);

    let wanted = Mark {
        request: request.request_id(),
        tx: hash(1),
        change: kept(),
    };
    mark(&stage.app.db, &wanted).await.unwrap();
    let sent = story(&stage, &request).await;
    assert_eq!(
        events(&sent),
        ["quoted", "paid", "claimed", "delivered", "refunded"]
    );
    let told = format!(
        "the surplus of $0.000007 by transaction {}",
        hash(1).as_str()
    );
    assert!(sent.text.contains(&told), "{}", sent.text);
    let last = &sent.json["timeline"][4];
    assert_eq!(last["told"], told);
    assert!(last["at"].is_string());
    assert_eq!(sent.json["refund_tx"], json!(hash(1).as_str()));
}

#[sqlx::test(migrations = "./migrations")]
async fn a_quote_nobody_paid_is_a_short_story(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let request = stage.quoted().await;
    let outcome = story(&stage, &request).await;
    assert_eq!(events(&outcome), ["quoted"]);
    assert_eq!(
        (&outcome.json["answer"], &outcome.json["ledger"]),
        (&Value::Null, &json!([]))
    );
    assert!(outcome.text.contains("ledger: no row"), "{}", outcome.text);
}

#[sqlx::test(migrations = "./migrations")]
async fn what_names_no_request_is_not_found(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let nobody = RequestId(uuid_v7(clock::now())).to_string();
    for name in [nobody.as_str(), "0xabc", "hello world", ""] {
        assert_eq!(told(&stage, name).await.exit, Exit::NotFound, "{name:?}");
    }
    // A price that fees do not divide evenly is told exactly.
    let odd = stage.quoted_at(stage::PRICE / 3).await;
    assert!(story(&stage, &odd).await.text.contains("$0.333333 in SOL"));
}
