//! Stats of listings, counted behind the calls.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use control_plane::payments::outcomes;
use crochet_shared::id::uuid_v7;
use crochet_shared::internal::{Outcome, Settle};
use crochet_shared::outcome::SellerFailure;
use sqlx::PgPool;
use uuid::Uuid;

use super::stage::{Request, Stage, delivery, failure, unsent};

impl Stage {
    /// Calls delivered, failures, and the latency that 95 % kept within.
    async fn stats(&self) -> (i64, i64, Option<i32>) {
        sqlx::query_as(
            "select calls_30d, failures_30d, p95_latency_ms_30d from listing_stats where listing_id = $1",
        )
        .bind(self.listing.0)
        .fetch_one(self.pool())
        .await
        .unwrap()
    }

    /// Counts until the stats are as wanted. Transactions of other tests on the same server may be
    /// open, and are waited for.
    async fn counted(&self, wanted: (i64, i64)) -> Option<i32> {
        let end = Instant::now() + Duration::from_mins(1);
        loop {
            outcomes::fold(&self.app).await.unwrap();
            let (calls, failures, p95) = self.stats().await;
            if (calls, failures) == wanted {
                return p95;
            }
            assert!(
                Instant::now() < end,
                "{:?} is not {wanted:?}",
                self.stats().await
            );
            tokio::task::yield_now().await;
        }
    }

    /// A delivered call that took so many milliseconds.
    async fn delivered_in(&self, milliseconds: u32) {
        let request = self.paid().await;
        let (grant, owner) = self.claimed(&request).await;
        let mut item: Settle = delivery(&grant, owner, b"{}");
        if let Outcome::Delivered(delivery) = &mut item.outcome {
            delivery.latency_ms = milliseconds;
        }
        self.settle(item).await;
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn each_ended_call_counts_once_however_often_it_is_looked_at(pool: PgPool) {
    let stage = Stage::new(pool).await;
    assert_eq!(stage.counted((0, 0)).await, None);
    let request = stage.paid().await;
    for failed in [SellerFailure::Status, SellerFailure::Timeout] {
        let (grant, owner) = stage.claimed(&request).await;
        stage.settle(failure(&grant, owner, failed)).await;
    }
    let (grant, owner) = stage.claimed(&request).await;
    stage.settle(unsent(&grant, owner)).await;
    stage.delivered().await;
    stage.counted((1, 3)).await;
    for _ in 0..3 {
        outcomes::fold(&stage.app).await.unwrap();
    }
    assert_eq!(stage.stats().await.0, 1);
    stage.delivered().await;
    stage.counted((2, 3)).await;
}

#[sqlx::test(migrations = "./migrations")]
async fn what_commits_late_is_counted_when_it_does(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let late = stage.paid().await;
    let mut open = stage.pool().begin().await.unwrap();
    sqlx::query(
        "insert into transfer (party_id, id, request_id, kind, debit_account, credit_account,
            amount_micros, counterparty_id, listing_id)
        values ($1, $2, $3, 'seller_credit', 'clearing', 'seller', 1, $4, $5)",
    )
    .bind(stage.seller.0)
    .bind(uuid_v7(crochet_shared::clock::now()))
    .bind(late.id)
    .bind(stage.buyer.0)
    .bind(stage.listing.0)
    .execute(&mut *open)
    .await
    .unwrap();
    stage.delivered().await;
    for _ in 0..5 {
        outcomes::fold(&stage.app).await.unwrap();
    }
    assert!(stage.stats().await.0 <= 1);
    open.commit().await.unwrap();
    stage.counted((2, 0)).await;
}

/// The oldest open transaction ends after a turn has noted how far transactions have ended, and before it reads.
#[sqlx::test(migrations = "./migrations")]
async fn what_commits_while_calls_are_being_counted_is_counted_once(pool: PgPool) {
    use control_plane::payments::store::outcomes as store;

    let stage = Stage::new(pool).await;
    stage.counted((0, 0)).await;
    let late = stage.paid().await;
    let mut open = stage.pool().begin().await.unwrap();
    sqlx::query(
        "insert into transfer (party_id, id, request_id, kind, debit_account, credit_account,
            amount_micros, counterparty_id, listing_id)
        values ($1, $2, $3, 'seller_credit', 'clearing', 'seller', 1, $4, $5)",
    )
    .bind(stage.seller.0)
    .bind(uuid_v7(crochet_shared::clock::now()))
    .bind(late.id)
    .bind(stage.buyer.0)
    .bind(stage.listing.0)
    .execute(&mut *open)
    .await
    .unwrap();
    let mut turn = stage.pool().begin().await.unwrap();
    let fold = store::begin(&mut turn).await.unwrap().unwrap();
    open.commit().await.unwrap();
    let ended = store::ended(&mut turn, &fold).await.unwrap();
    let early: i64 = ended.calls.iter().sum();
    store::finish(&mut turn, &fold).await.unwrap();
    turn.commit().await.unwrap();
    stage.counted((1 - early, 0)).await;
    for _ in 0..3 {
        outcomes::fold(&stage.app).await.unwrap();
    }
    assert_eq!(
        stage.stats().await.0,
        1 - early,
        "a turn that has read it has counted it"
    );
}

#[sqlx::test(migrations = "./migrations")]
async fn two_replicas_count_each_call_once(pool: PgPool) {
    let stage = Stage::new(pool).await;
    for _ in 0..5 {
        stage.delivered().await;
    }
    let folds = (0..8).map(|_| outcomes::fold(&stage.app));
    for fold in futures_util::future::join_all(folds).await {
        fold.unwrap();
    }
    stage.counted((5, 0)).await;
}

#[sqlx::test(migrations = "./migrations")]
async fn the_95th_of_a_hundred_latencies_is_told_within_a_twentieth(pool: PgPool) {
    let stage = Stage::new(pool).await;
    for milliseconds in (1..=19).map(|n| n * 10).chain([5_000]) {
        stage.delivered_in(milliseconds).await;
    }
    let p95 = stage.counted((20, 0)).await.unwrap();
    assert!((190..=200).contains(&p95), "{p95}");
}

#[sqlx::test(migrations = "./migrations")]
async fn a_day_is_forgotten_after_thirty(pool: PgPool) {
    let stage = Stage::new(pool).await;
    stage.delivered().await;
    stage.counted((1, 0)).await;
    stage.run("update call_tally set day = day - 29").await;
    stage.delivered().await;
    stage.counted((2, 0)).await;
    stage
        .run("update call_tally set day = day - 1 where day < current_date")
        .await;
    stage.counted((1, 0)).await;
    let days: i64 = sqlx::query_scalar("select count(distinct day) from call_tally")
        .fetch_one(stage.pool())
        .await
        .unwrap();
    assert_eq!(days, 1);
}

impl Stage {
    /// A payment of which one attempt failed, so many days ago.
    async fn failed_before(&self, days: i32) -> Request {
        let request = self.paid().await;
        let (grant, owner) = self.claimed(&request).await;
        self.settle(failure(&grant, owner, SellerFailure::Status))
            .await;
        sqlx::query(
            "update attempt set ended_at = now() - make_interval(days => $2) where request_id = $1",
        )
        .bind(request.id)
        .bind(days)
        .execute(self.pool())
        .await
        .unwrap();
        request
    }

    /// Whose attempts are kept.
    async fn journal(&self) -> BTreeSet<Uuid> {
        let kept: Vec<Uuid> = sqlx::query_scalar("select request_id from attempt")
            .fetch_all(self.pool())
            .await
            .unwrap();
        kept.into_iter().collect()
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn an_attempt_is_kept_for_half_a_year_until_it_is_counted_and_while_a_refund_is_owed(
    pool: PgPool,
) {
    let stage = Stage::new(pool).await;
    let young = stage.failed_before(179).await;
    let old = stage.failed_before(181).await;
    let owed = stage.failed_before(181).await;
    sqlx::query("update gateway_request set state = 'refund_due', closed_at = now() where id = $1")
        .bind(owed.id)
        .execute(stage.pool())
        .await
        .unwrap();
    let all = BTreeSet::from([young.id, old.id, owed.id]);
    for cursors in [
        "update call_fold set since = '-infinity'; update fold_cursor set position = now()",
        "update call_fold set since = now(); update fold_cursor set position = now() - interval '1 year'",
    ] {
        stage.run(cursors).await;
        outcomes::delete_old(&stage.app).await.unwrap();
        assert_eq!(stage.journal().await, all, "after {cursors}");
    }
    stage
        .run("update call_fold set since = now(); update fold_cursor set position = now()")
        .await;
    outcomes::delete_old(&stage.app).await.unwrap();
    assert_eq!(stage.journal().await, BTreeSet::from([young.id, owed.id]));
}
