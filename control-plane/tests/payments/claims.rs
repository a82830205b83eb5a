//! CLAIMS: each answer of the contract's table, and each guard alone.

use std::sync::Arc;
use std::time::Duration;

use control_plane::app::App;
use control_plane::db::Db;
use control_plane::payments::{claim, settle};
use crochet_shared::id::{ListingId, uuid_v7};
use crochet_shared::internal::{Claim, ClaimAnswer, Redelivery, SettleAnswer};
use crochet_shared::money::{FeeRate, Micros};
use crochet_shared::outcome::SellerFailure;
use sqlx::{ConnectOptions as _, PgPool};

use super::stage::{PRICE, Stage, config, delivery, failure};
use control_plane::ledger::entry::RequestState;

#[sqlx::test(migrations = "./migrations")]
async fn a_paid_request_is_granted_once_with_the_terms_of_its_quote(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let request = stage.paid().await;
    let (grant, _) = stage.claimed(&request).await;
    assert_eq!(grant.request_id, request.request_id());
    assert_eq!((grant.epoch, grant.attempt, grant.max_attempts), (1, 1, 5));
    assert_eq!(
        (grant.gross, grant.fee_rate),
        (Micros(PRICE), FeeRate(49_000))
    );
    assert_eq!((grant.timeout_ms, grant.lease_ms), (30_000, 60_000));
    assert_eq!(grant.redelivery, Redelivery::SameRequestId);
    let again = stage.claim(&stage.item(&request)).await;
    assert!(
        matches!(again, ClaimAnswer::InProgress { request_id: Some(id), .. } if id == request.request_id())
    );
    stage.assert_audit_empty().await;
}

#[sqlx::test(migrations = "./migrations")]
async fn the_same_owner_asking_again_holds_the_same_claim(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let request = stage.paid().await;
    let item = stage.item(&request);
    let first = stage.claim(&item).await;
    assert!(matches!(first, ClaimAnswer::Claimed(_)));
    assert_eq!(stage.claim(&item).await, first);
    // Not once its lease is over: then it must not forward any more.
    stage.age(&request, 61.0).await;
    assert!(matches!(
        stage.claim(&item).await,
        ClaimAnswer::InProgress { .. }
    ));
}

#[sqlx::test(migrations = "./migrations")]
async fn strangers_and_unknown_ids_are_told_nothing(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let request = stage.paid().await;
    let mut item = stage.item(&request);
    item.buyer = stage.seller;
    assert_eq!(stage.claim(&item).await, ClaimAnswer::Unknown);
    let mut item = stage.item(&request);
    item.relay_request_id = "0xnone".into();
    assert_eq!(stage.claim(&item).await, ClaimAnswer::Unknown);
    assert_eq!(stage.state(&request).await, RequestState::Paid);
}

#[sqlx::test(migrations = "./migrations")]
async fn another_body_or_listing_is_a_mismatch_and_consumes_nothing(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let request = stage.paid().await;
    let mut other_body = stage.item(&request);
    other_body.body_sha256[0] ^= 1;
    let mut other_listing = stage.item(&request);
    other_listing.listing = Some(ListingId(uuid_v7(crochet_shared::clock::now())));
    let mut no_listing = stage.item(&request);
    no_listing.listing = None;
    for item in [other_body, other_listing, no_listing] {
        assert_eq!(stage.claim(&item).await, ClaimAnswer::Mismatch);
    }
    assert_eq!(stage.state(&request).await, RequestState::Paid);
    // Whatever its state: the binding comes first.
    let delivered = stage.delivered().await;
    let mut item = stage.item(&delivered);
    item.body_sha256[0] ^= 1;
    assert_eq!(stage.claim(&item).await, ClaimAnswer::Mismatch);
}

#[sqlx::test(migrations = "./migrations")]
async fn a_delivered_request_is_never_claimed_again(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let request = stage.delivered().await;
    let answer = stage.claim(&stage.item(&request)).await;
    assert_eq!(
        answer,
        ClaimAnswer::Delivered {
            request_id: request.request_id()
        }
    );
    assert_eq!(stage.state(&request).await, RequestState::Delivered);
    stage.age(&request, 86_401.0).await;
    match stage.claim(&stage.item(&request)).await {
        ClaimAnswer::NoLongerStored(facts) => {
            assert_eq!((facts.gross, facts.seller_status), (Micros(PRICE), 200));
            assert_ne!(facts.response_sha256, [0; 32]);
        }
        other => panic!("{other:?}"),
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn nothing_without_evidence_is_claimed(pool: PgPool) {
    let stage = Stage::new(pool).await;
    for state in ["quoted", "expired", "failed"] {
        let request = stage.quoted().await;
        sqlx::query("update gateway_request set state = $2::text::request_state where id = $1")
            .bind(request.id)
            .bind(state)
            .execute(stage.pool())
            .await
            .unwrap();
        let answer = stage.claim(&stage.item(&request)).await;
        assert_eq!(
            answer,
            ClaimAnswer::Unevidenced {
                request_id: request.request_id()
            },
            "{state}"
        );
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn a_gateway_that_cannot_serve_leaves_the_payment_as_it_is(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let request = stage.paid().await;
    let mut item = stage.item(&request);
    item.serve = false;
    assert_eq!(
        stage.claim(&item).await,
        ClaimAnswer::Paid {
            request_id: request.request_id()
        }
    );
    assert_eq!(stage.state(&request).await, RequestState::Paid);
    stage.claimed(&request).await;
    assert!(matches!(
        stage.claim(&item).await,
        ClaimAnswer::InProgress { .. }
    ));
}

#[sqlx::test(migrations = "./migrations")]
async fn time_over_or_attempts_used_close_the_payment_with_a_refund_due(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let late = stage.paid().await;
    stage.age(&late, 86_401.0).await;
    let used = stage.paid().await;
    sqlx::query("update gateway_request set attempts = 5 where id = $1")
        .bind(used.id)
        .execute(stage.pool())
        .await
        .unwrap();
    for request in [&late, &used] {
        for _ in 0..2 {
            let answer = stage.claim(&stage.item(request)).await;
            assert_eq!(
                answer,
                ClaimAnswer::Closed {
                    request_id: request.request_id()
                }
            );
        }
        assert_eq!(
            stage.transfers(request).await,
            [
                ("gateway_payment".into(), PRICE),
                ("refund_due".into(), PRICE)
            ]
        );
    }
    stage.assert_audit_empty().await;
}

#[sqlx::test(migrations = "./migrations")]
async fn a_claim_whose_lease_and_grace_are_over_is_claimed_again_under_a_higher_epoch(
    pool: PgPool,
) {
    let stage = Stage::new(pool).await;
    let request = stage.paid().await;
    let (first, first_owner) = stage.claimed(&request).await;
    stage.age(&request, 61.0).await;
    // The grace still belongs to a settlement that is on its way.
    assert!(matches!(
        stage.claim(&stage.item(&request)).await,
        ClaimAnswer::InProgress { .. }
    ));
    stage.age(&request, 30.0).await;
    let (second, second_owner) = stage.claimed(&request).await;
    assert_eq!((second.epoch, second.attempt), (2, 2));
    assert_eq!(
        stage.settle(delivery(&first, first_owner, b"1")).await,
        SettleAnswer::NotOwner
    );
    assert_eq!(
        stage.settle(delivery(&second, second_owner, b"2")).await,
        SettleAnswer::Delivered
    );
    stage.assert_audit_empty().await;
}

#[sqlx::test(migrations = "./migrations")]
async fn a_claim_that_ran_out_is_not_repeated_where_the_endpoint_says_never(pool: PgPool) {
    let stage = Stage::new(pool).await;
    stage.run("update endpoint set redelivery = 'never'").await;
    let request = stage.paid().await;
    let (grant, _) = stage.claimed(&request).await;
    assert_eq!(grant.redelivery, Redelivery::Never);
    // The rule of the claim counts, not a later one.
    stage
        .run("update endpoint set redelivery = 'same_request_id'")
        .await;
    stage.age(&request, 91.0).await;
    let answer = stage.claim(&stage.item(&request)).await;
    assert_eq!(
        answer,
        ClaimAnswer::Closed {
            request_id: request.request_id()
        }
    );
    stage.assert_audit_empty().await;
}

#[sqlx::test(migrations = "./migrations")]
async fn a_row_that_is_locked_is_in_progress_and_waited_for_by_nobody(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let (locked, free) = (stage.paid().await, stage.paid().await);
    let mut other = stage.pool().begin().await.unwrap();
    sqlx::query("select from gateway_request where id = $1 for update")
        .bind(locked.id)
        .execute(&mut *other)
        .await
        .unwrap();
    let items = [stage.item(&locked), stage.item(&free)];
    let answers = claim::claim(&stage.app, &items).await.unwrap();
    assert!(matches!(answers[0], ClaimAnswer::InProgress { .. }));
    assert!(matches!(answers[1], ClaimAnswer::Claimed(_)));
}

#[sqlx::test(migrations = "./migrations")]
async fn in_a_full_batch_of_copies_one_is_granted(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let request = stage.paid().await;
    let mut items: Vec<Claim> = (0..64).map(|_| stage.item(&request)).collect();
    // Copies that cannot serve, or are not bound, do not take the place of one that can.
    items[0].serve = false;
    items[1].body_sha256 = [0; 32];
    items[2].buyer = stage.seller;
    let answers = claim::claim(&stage.app, &items).await.unwrap();
    assert!(
        matches!(answers[0], ClaimAnswer::InProgress { .. }),
        "a copy has claimed it"
    );
    assert_eq!(answers[1], ClaimAnswer::Mismatch);
    assert_eq!(answers[2], ClaimAnswer::Unknown);
    assert!(matches!(answers[3], ClaimAnswer::Claimed(_)));
    assert!(
        answers[4..]
            .iter()
            .all(|a| matches!(a, ClaimAnswer::InProgress { .. }))
    );
    let attempts: i32 = sqlx::query_scalar("select attempts from gateway_request where id = $1")
        .bind(request.id)
        .fetch_one(stage.pool())
        .await
        .unwrap();
    assert_eq!(attempts, 1);
}

/// The old claim is journaled once, and not even tried a second time: a sequence is not rolled back, so
/// what is counted would survive a batch that failed and was halved.
///
/// Two things see to that, and this holds what they do rather than either of them: the statement takes
/// each request once, and Postgres passes over a row that the same statement has updated.
#[sqlx::test(migrations = "./migrations")]
async fn a_claim_that_ran_out_is_taken_over_once_by_a_batch_of_copies(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let request = stage.paid().await;
    stage.claimed(&request).await;
    stage.age(&request, 91.0).await;
    stage
        .run(
            "create sequence journaled;
            create function count_journaled() returns trigger language plpgsql as
                $$ begin perform nextval('journaled'); return new; end $$;
            create trigger count_journaled before insert on attempt
                for each row execute function count_journaled()",
        )
        .await;
    let items: Vec<Claim> = (0..64).map(|_| stage.item(&request)).collect();
    let answers = claim::claim(&stage.app, &items).await.unwrap();
    let granted = answers
        .iter()
        .filter(|answer| matches!(answer, ClaimAnswer::Claimed(_)));
    assert_eq!(granted.count(), 1);
    let journaled: i64 =
        sqlx::query_scalar("select case when is_called then last_value else 0 end from journaled")
            .fetch_one(stage.pool())
            .await
            .unwrap();
    assert_eq!(journaled, 1);
}

#[sqlx::test(migrations = "./migrations")]
async fn a_full_batch_of_many_kinds_answers_each_in_its_place(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let mut items = Vec::new();
    let mut wanted = Vec::new();
    for n in 0..16 {
        let paid = stage.paid().await;
        items.push(stage.item(&paid));
        wanted.push("claimed");
        items.push(stage.item(&paid));
        wanted.push("in_progress");
        items.push(stage.item(&stage.quoted().await));
        wanted.push("unevidenced");
        let mut item = stage.item(&paid);
        if n % 2 == 0 {
            item.body_sha256 = [9; 32];
            wanted.push("mismatch");
        } else {
            item.relay_request_id = format!("0x{n}");
            wanted.push("unknown");
        }
        items.push(item);
    }
    let answers = claim::claim(&stage.app, &items).await.unwrap();
    let got: Vec<_> = answers
        .iter()
        .map(|answer| match answer {
            ClaimAnswer::Claimed(_) => "claimed",
            ClaimAnswer::InProgress { .. } => "in_progress",
            ClaimAnswer::Unevidenced { .. } => "unevidenced",
            ClaimAnswer::Mismatch => "mismatch",
            ClaimAnswer::Unknown => "unknown",
            _ => "other",
        })
        .collect();
    assert_eq!(got, wanted);
}

#[sqlx::test(migrations = "./migrations")]
async fn of_200_claims_at_once_in_many_batches_one_is_granted(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let request = stage.paid().await;
    let batches = (0..8).map(|_| {
        let items: Vec<Claim> = (0..25).map(|_| stage.item(&request)).collect();
        let app = std::sync::Arc::clone(&stage.app);
        tokio::spawn(async move { claim::claim(&app, &items).await.unwrap() })
    });
    let mut granted = 0;
    for batch in batches.collect::<Vec<_>>() {
        for answer in batch.await.unwrap() {
            granted += usize::from(matches!(answer, ClaimAnswer::Claimed(_)));
        }
    }
    assert_eq!(granted, 1);
}

#[sqlx::test(migrations = "./migrations")]
async fn a_poison_item_is_undecided_alone(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let mut items = Vec::new();
    for _ in 0..64 {
        items.push(stage.item(&stage.paid().await));
    }
    // No database takes a NUL in text.
    items[37].relay_request_id = "0x\0".into();
    let answers = claim::claim(&stage.app, &items).await.unwrap();
    for (place, answer) in answers.iter().enumerate() {
        if place == 37 {
            assert_eq!(*answer, ClaimAnswer::Undecided);
        } else {
            assert!(
                matches!(answer, ClaimAnswer::Claimed(_)),
                "{place}: {answer:?}"
            );
        }
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn each_failure_leaves_one_attempt_less_until_a_refund_is_due(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let request = stage.paid().await;
    for attempt in 1..=5 {
        let (grant, owner) = stage.claimed(&request).await;
        assert_eq!((grant.attempt, grant.epoch), (attempt, attempt));
        let answer = stage
            .settle(failure(&grant, owner, SellerFailure::Status))
            .await;
        let wanted = if attempt < 5 {
            SettleAnswer::Released {
                attempts: attempt,
                attempts_remaining: 5 - attempt,
            }
        } else {
            SettleAnswer::RefundDue { attempts: 5 }
        };
        assert_eq!(answer, wanted);
        stage.assert_audit_empty().await;
    }
    let answer = stage.claim(&stage.item(&request)).await;
    assert_eq!(
        answer,
        ClaimAnswer::Closed {
            request_id: request.request_id()
        }
    );
}

#[sqlx::test(migrations = "./migrations")]
async fn a_claim_is_watched_until_it_ends_whatever_grace_its_lease_was_noted_with(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let request = stage.paid().await;
    stage.claimed(&request).await;
    // As a process with no grace notes it: looked at before it is over by ours.
    stage.run("update lease set due_at = now()").await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let work = tokio::spawn(control_plane::payments::background(
        Arc::clone(&stage.app),
        stopped,
    ));
    let looked_at = async {
        let put_off = "select count(*) from lease where due_at > now()";
        while sqlx::query_scalar::<_, i64>(put_off)
            .fetch_one(stage.pool())
            .await
            .unwrap()
            != 1
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), looked_at)
        .await
        .unwrap();
    stop.send(true).unwrap();
    work.await.unwrap();
    stage.assert_audit_empty().await;
}

/// The plan by which the only connection of the pool for calls runs the statement that does this.
async fn plan(db: &Db, does: &str) -> String {
    let mut connection = db.calling().acquire().await.unwrap();
    let (name, parameters): (String, i32) = sqlx::query_as(
        "select name, cardinality(parameter_types) from pg_prepared_statements where statement like $1",
    )
    .bind(format!("%{does}%"))
    .fetch_one(&mut *connection)
    .await
    .unwrap();
    let nulls = vec!["null"; usize::try_from(parameters).unwrap()].join(", ");
    let explain = format!("explain (costs off) execute \"{name}\" ({nulls})");
    let lines: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(explain))
        .fetch_all(&mut *connection)
        .await
        .unwrap();
    lines.join("\n")
}

#[sqlx::test(migrations = "./migrations")]
async fn plans_made_in_an_empty_database_look_payments_up_by_key(pool: PgPool) {
    let url = pool.connect_options().to_url_lossy();
    let stage = Stage::new(pool).await;
    let db = Db::new(url.as_str(), 3).unwrap();
    let app = App::with_db(config("http://127.0.0.1:1", &[]), db.clone()).unwrap();
    let request = stage.paid().await;
    let item = stage.item(&request);
    let claimed = claim::claim(&app, std::slice::from_ref(&item))
        .await
        .unwrap();
    let [ClaimAnswer::Claimed(grant)] = claimed.as_slice() else {
        panic!("{claimed:?}");
    };
    let settled = settle::settle(&app, &[delivery(grant, item.owner, b"{}")]).await;
    assert_eq!(settled.unwrap(), [SettleAnswer::Delivered]);
    for does in ["insert into lease", "insert into stored_answer"] {
        let plan = plan(&db, does).await;
        assert!(plan.contains("on gateway_request"), "{plan}");
        assert!(!plan.contains("Seq Scan on gateway_request"), "{plan}");
    }
}
