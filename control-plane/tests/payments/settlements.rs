//! SETTLEMENTS and stored answers: durable once, by their owner only.

use bytes::Bytes;
use control_plane::ledger::entry::RequestState;
use control_plane::payments::{answers, settle};
use crochet_shared::id::{Owner, RequestId, uuid_v7};
use crochet_shared::internal::{
    ClaimAnswer, Outcome, ReadAnswer, Settle, SettleAnswer, StoredAnswer,
};
use crochet_shared::money::{FEE_RATE, Micros};
use crochet_shared::outcome::SellerFailure;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use sqlx::PgPool;

use super::stage::{PRICE, Stage, delivery, failure, unsent};

#[sqlx::test(migrations = "./migrations")]
async fn a_delivery_moves_state_ledger_and_answer_together_and_once(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let request = stage.paid().await;
    let (grant, owner) = stage.claimed(&request).await;
    for _ in 0..3 {
        let answer = stage.settle(delivery(&grant, owner, b"{\"a\":1}")).await;
        assert_eq!(answer, SettleAnswer::Delivered);
    }
    assert_eq!(stage.state(&request).await, RequestState::Delivered);
    assert_eq!(
        stage.transfers(&request).await,
        [
            ("gateway_payment".into(), PRICE),
            ("seller_credit".into(), 951_000),
            ("marketplace_fee".into(), 49_000)
        ]
    );
    let stored = read(&stage, request.request_id()).await;
    assert_eq!(
        stored,
        StoredAnswer::Stored(Bytes::from_static(b"{\"a\":1}"))
    );
    stage.assert_audit_empty().await;
}

#[sqlx::test(migrations = "./migrations")]
async fn only_the_claims_epoch_and_owner_settle_it(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let request = stage.paid().await;
    let (grant, owner) = stage.claimed(&request).await;
    let mut other_epoch = delivery(&grant, owner, b"x");
    other_epoch.epoch += 1;
    let other_owner = delivery(&grant, Owner::new(), b"x");
    let mut unknown = delivery(&grant, owner, b"x");
    unknown.request_id = RequestId(uuid_v7(crochet_shared::clock::now()));
    for item in [other_epoch, other_owner, unknown] {
        assert_eq!(stage.settle(item).await, SettleAnswer::NotOwner);
    }
    assert_eq!(stage.state(&request).await, RequestState::Claimed);
    assert_eq!(stage.transfers(&request).await.len(), 1);
    assert_eq!(
        stage.settle(delivery(&grant, owner, b"x")).await,
        SettleAnswer::Delivered
    );
}

#[sqlx::test(migrations = "./migrations")]
async fn a_failure_and_an_unsent_call_give_the_same_answer_when_asked_again(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let request = stage.paid().await;
    let (grant, owner) = stage.claimed(&request).await;
    let failed = failure(&grant, owner, SellerFailure::Timeout);
    let released = SettleAnswer::Released {
        attempts: 1,
        attempts_remaining: 4,
    };
    assert_eq!(stage.settle(failed.clone()).await, released);
    assert_eq!(stage.settle(failed.clone()).await, released);

    let (grant, owner) = stage.claimed(&request).await;
    assert_eq!((grant.epoch, grant.attempt), (2, 2));
    // Also while another claim stands.
    assert_eq!(stage.settle(failed).await, released);
    let nothing_sent = unsent(&grant, owner);
    let given_back = SettleAnswer::Released {
        attempts: 1,
        attempts_remaining: 4,
    };
    assert_eq!(stage.settle(nothing_sent.clone()).await, given_back);
    assert_eq!(stage.settle(nothing_sent).await, given_back);
    // An unreachable seller used no attempt, however it is told.
    let (grant, owner) = stage.claimed(&request).await;
    assert_eq!((grant.epoch, grant.attempt), (3, 2));
    assert_eq!(
        stage
            .settle(failure(&grant, owner, SellerFailure::Unreachable))
            .await,
        given_back
    );
    assert_eq!(stage.state(&request).await, RequestState::Paid);
    stage.assert_audit_empty().await;
}

#[sqlx::test(migrations = "./migrations")]
async fn never_redelivered_means_a_refund_unless_the_seller_answered_completely(pool: PgPool) {
    let stage = Stage::new(pool).await;
    stage.run("update endpoint set redelivery = 'never'").await;
    for (kind, refund) in [
        (SellerFailure::Status, false),
        (SellerFailure::Timeout, true),
        (SellerFailure::Invalid, true),
        (SellerFailure::TooLarge, true),
    ] {
        let request = stage.paid().await;
        let (grant, owner) = stage.claimed(&request).await;
        let item = failure(&grant, owner, kind);
        let wanted = if refund {
            SettleAnswer::RefundDue { attempts: 1 }
        } else {
            SettleAnswer::Released {
                attempts: 1,
                attempts_remaining: 4,
            }
        };
        assert_eq!(stage.settle(item.clone()).await, wanted, "{kind:?}");
        assert_eq!(stage.settle(item).await, wanted, "{kind:?}");
    }
    let request = stage.paid().await;
    let (grant, owner) = stage.claimed(&request).await;
    let answer = stage.settle(unsent(&grant, owner)).await;
    assert_eq!(
        answer,
        SettleAnswer::Released {
            attempts: 0,
            attempts_remaining: 5
        }
    );
    stage.assert_audit_empty().await;
}

#[sqlx::test(migrations = "./migrations")]
async fn a_failure_after_the_payments_time_is_a_refund(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let request = stage.paid().await;
    let (grant, owner) = stage.claimed(&request).await;
    sqlx::query("update gateway_request set redeem_until = now() - interval '1 second'")
        .execute(stage.pool())
        .await
        .unwrap();
    let answer = stage
        .settle(failure(&grant, owner, SellerFailure::Status))
        .await;
    assert_eq!(answer, SettleAnswer::RefundDue { attempts: 1 });
    stage.assert_audit_empty().await;
}

#[sqlx::test(migrations = "./migrations")]
async fn a_settlement_in_the_grace_is_taken_and_after_the_sweep_it_is_not(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let in_grace = stage.paid().await;
    let (grant, owner) = stage.claimed(&in_grace).await;
    stage.age(&in_grace, 75.0).await;
    assert_eq!(
        stage.settle(delivery(&grant, owner, b"x")).await,
        SettleAnswer::Delivered
    );

    let swept = stage.paid().await;
    let (grant, owner) = stage.claimed(&swept).await;
    stage.age(&swept, 91.0).await;
    let lapsed = control_plane::payments::lapse::lapse(&stage.app, &[swept.id])
        .await
        .unwrap();
    assert_eq!(lapsed[0].next, RequestState::Paid);
    for item in [
        delivery(&grant, owner, b"x"),
        failure(&grant, owner, SellerFailure::Status),
    ] {
        assert_eq!(stage.settle(item).await, SettleAnswer::NotOwner);
    }
    stage.assert_audit_empty().await;
}

#[sqlx::test(migrations = "./migrations")]
async fn the_same_settlement_many_times_at_once_is_written_once(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let request = stage.paid().await;
    let (grant, owner) = stage.claimed(&request).await;
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let app = std::sync::Arc::clone(&stage.app);
            let item = delivery(&grant, owner, b"x");
            tokio::spawn(async move { settle::settle(&app, &[item.clone(), item]).await.unwrap() })
        })
        .collect();
    for task in tasks {
        assert_eq!(
            task.await.unwrap(),
            [SettleAnswer::Delivered, SettleAnswer::Delivered]
        );
    }
    assert_eq!(stage.transfers(&request).await.len(), 3);
}

#[sqlx::test(migrations = "./migrations")]
async fn a_poison_item_in_a_full_batch_stands_alone(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let mut items = Vec::new();
    let mut requests = Vec::new();
    for _ in 0..64 {
        let request = stage.paid().await;
        let (grant, owner) = stage.claimed(&request).await;
        items.push(delivery(&grant, owner, b"x"));
        requests.push(request);
    }
    // A credit that stands already: the index of (request, kind) refuses a second one.
    let poisoned = &requests[40];
    sqlx::query(
        "insert into transfer (party_id, id, request_id, kind, debit_account, credit_account, amount_micros, counterparty_id, listing_id)
        values ($1, $2, $3, 'seller_credit', 'clearing', 'seller', 1, $4, $5)",
    )
    .bind(stage.seller.0)
    .bind(uuid_v7(crochet_shared::clock::now()))
    .bind(poisoned.id)
    .bind(stage.buyer.0)
    .bind(stage.listing.0)
    .execute(stage.pool())
    .await
    .unwrap();
    let answers = settle::settle(&stage.app, &items).await.unwrap();
    for (place, answer) in answers.iter().enumerate() {
        let wanted = if place == 40 {
            SettleAnswer::Undecided
        } else {
            SettleAnswer::Delivered
        };
        assert_eq!(*answer, wanted, "{place}");
    }
    assert_eq!(stage.state(poisoned).await, RequestState::Claimed);
}

#[sqlx::test(migrations = "./migrations")]
async fn a_batch_of_all_outcomes_answers_each_in_its_place(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let (mut items, mut wanted) = (Vec::new(), Vec::new());
    for n in 0..64 {
        let request = stage.paid().await;
        let (grant, owner) = stage.claimed(&request).await;
        match n % 4 {
            0 => {
                items.push(delivery(&grant, owner, b"x"));
                wanted.push(SettleAnswer::Delivered);
            }
            1 => {
                items.push(failure(&grant, owner, SellerFailure::Timeout));
                wanted.push(SettleAnswer::Released {
                    attempts: 1,
                    attempts_remaining: 4,
                });
            }
            2 => {
                items.push(unsent(&grant, owner));
                wanted.push(SettleAnswer::Released {
                    attempts: 0,
                    attempts_remaining: 5,
                });
            }
            _ => {
                items.push(delivery(&grant, Owner::new(), b"x"));
                wanted.push(SettleAnswer::NotOwner);
            }
        }
    }
    assert_eq!(settle::settle(&stage.app, &items).await.unwrap(), wanted);
    stage.assert_audit_empty().await;
}

#[sqlx::test(migrations = "./migrations")]
async fn a_large_answer_is_stored_in_chunks_and_read_back_exactly(pool: PgPool) {
    let stage = Stage::new(pool).await;
    for bytes in [
        1,
        answers::CHUNK_BYTES_MAX,
        answers::CHUNK_BYTES_MAX + 1,
        3 * answers::CHUNK_BYTES_MAX + 17,
    ] {
        let request = stage.paid().await;
        let (grant, owner) = stage.claimed(&request).await;
        let envelope: Bytes = (0..bytes).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let mut item = delivery(&grant, owner, b"");
        if let Outcome::Delivered(delivery) = &mut item.outcome {
            delivery.envelope = envelope.clone();
        }
        assert_eq!(stage.settle(item).await, SettleAnswer::Delivered);
        assert_eq!(
            read(&stage, request.request_id()).await,
            StoredAnswer::Stored(envelope)
        );
        let in_clear: i64 = sqlx::query_scalar("select count(*) from stored_answer where request_id = $1 and position('\\x000102030405'::bytea in sealed) > 0")
            .bind(request.id)
            .fetch_one(stage.pool())
            .await
            .unwrap();
        assert_eq!(in_clear, 0);
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn answers_are_for_their_buyer_and_for_a_day(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let request = stage.delivered().await;
    let strangers = ReadAnswer {
        request_id: request.request_id(),
        buyer: stage.seller,
    };
    assert_eq!(
        answers::read(&stage.app, &strangers).await.unwrap(),
        StoredAnswer::Unknown
    );
    stage.age(&request, 86_401.0).await;
    let answer = read(&stage, request.request_id()).await;
    assert!(matches!(answer, StoredAnswer::NoLongerStored(facts) if facts.gross == Micros(PRICE)));
    // Nor is one that was moved to another request's place.
    let (one, two) = (stage.delivered().await, stage.delivered().await);
    sqlx::query("update stored_answer set sealed = (select sealed from stored_answer where request_id = $1) where request_id = $2")
        .bind(one.id)
        .bind(two.id)
        .execute(stage.pool())
        .await
        .unwrap();
    let moved = ReadAnswer {
        request_id: two.request_id(),
        buyer: stage.buyer,
    };
    answers::read(&stage.app, &moved).await.unwrap_err();
}

#[sqlx::test(migrations = "./migrations")]
async fn old_partitions_are_dropped_with_their_keys(pool: PgPool) {
    let stage = Stage::new(pool).await;
    stage.run(
        "select ensure_answer_partition(current_date - 5), ensure_answer_partition(current_date - 1);
        insert into answer_key values (current_date - 5, '')",
    )
    .await;
    answers::tend(&stage.app).await.unwrap();
    let days: Vec<String> = sqlx::query_scalar(
        "select inhrelid::regclass::text from pg_inherits where inhparent = 'stored_answer'::regclass order by 1",
    )
    .fetch_all(stage.pool())
    .await
    .unwrap();
    // Yesterday, today, tomorrow.
    assert_eq!(days.len(), 3, "{days:?}");
    let keys: i64 =
        sqlx::query_scalar("select count(*) from answer_key where day < current_date - 1")
            .fetch_one(stage.pool())
            .await
            .unwrap();
    assert_eq!(keys, 0);
}

#[sqlx::test(migrations = "./migrations")]
async fn every_price_divides_as_the_fee_rule_says(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let mut runner = TestRunner::deterministic();
    let prices = prop_oneof![
        1_i64..100,
        1_i64..=10_000_000_000,
        Just(10),
        Just(11),
        Just(10_000_000_000)
    ];
    for _ in 0..40 {
        let price = prices.new_tree(&mut runner).unwrap().current();
        let request = stage.quoted_at(price).await;
        stage.evidence(&request, true, Some(price)).await;
        let (grant, owner) = stage.claimed(&request).await;
        stage.settle(delivery(&grant, owner, b"x")).await;
        let split = FEE_RATE.split(Micros(price)).unwrap();
        let transfers = stage.transfers(&request).await;
        let amount = |kind: &str| {
            transfers
                .iter()
                .find(|(found, _)| found == kind)
                .map_or(0, |(_, amount)| *amount)
        };
        assert_eq!(amount("marketplace_fee"), split.fee.0, "{price}");
        assert_eq!(amount("seller_credit"), split.seller.0, "{price}");
        // A zero fee writes no row.
        assert!(transfers.iter().all(|(_, amount)| *amount > 0));
    }
    stage.assert_audit_empty().await;
}

#[sqlx::test(migrations = "./migrations")]
async fn two_settlements_of_one_claim_in_a_batch_keep_the_first(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let request = stage.paid().await;
    let (grant, owner) = stage.claimed(&request).await;
    let items: [Settle; 2] = [
        failure(&grant, owner, SellerFailure::Status),
        delivery(&grant, owner, b"x"),
    ];
    let answers = settle::settle(&stage.app, &items).await.unwrap();
    let released = SettleAnswer::Released {
        attempts: 1,
        attempts_remaining: 4,
    };
    assert_eq!(answers, [released, released]);
    assert!(matches!(
        stage.claim(&stage.item(&request)).await,
        ClaimAnswer::Claimed(_)
    ));
}

async fn read(stage: &Stage, request_id: RequestId) -> StoredAnswer {
    let wanted = ReadAnswer {
        request_id,
        buyer: stage.buyer,
    };
    answers::read(&stage.app, &wanted).await.unwrap()
}
