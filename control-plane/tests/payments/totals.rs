//! Sums by hour: whatever is counted already, a summary says what the ledger holds.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use control_plane::ledger::audit::{self, Walk};
use control_plane::ledger::totals;
use crochet_shared::clock;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::history::{data, key, unlimited};
use super::stage::Stage;

/// Nothing is counted, as if the ledger were older than its sums.
const NOTHING_COUNTED: &str = "update ledger_fold set horizon = '0', since = '2000-01-01', mark = '0', mark_at = '2000-01-01'";
/// Corrections of the seller's credits, one each 7 minutes back from now, with ids of their times.
const HISTORY: &str = "
    insert into transfer (party_id, id, request_id, kind, debit_account, credit_account, amount_micros,
        counterparty_id, listing_id, corrects, created_at)
    select t.party_id, overlay(least_id_at(at)::text placing substr(gen_random_uuid()::text, 25) from 25)::uuid,
        t.request_id, 'correction', 'clearing', 'seller', n, t.counterparty_id, t.listing_id, t.id, at
    from transfer t
    cross join generate_series(1, 60) n
    cross join lateral (select now() - n * interval '7 minutes' as at) times
    where t.kind = 'seller_credit'";

/// What `pg_restore --clean` does: the same rows, in a table of the same name, by other transactions.
const RESTORED: &str = "
    alter table transfer rename to dumped;
    create table transfer (like dumped including all);
    insert into transfer select * from dumped;
    drop table dumped";
/// The home of before, which a restore over the same database did not change.
const OLD_HOME: &str = "
    update ledger_fold set since = now(), home = (select system_identifier from pg_control_system()) || '/'
        || (select oid from pg_database where datname = current_database())";
const NEW_HOME: &str = include_str!("../../migrations/0024_ledger_home.sql");

async fn fold(stage: &Stage) {
    totals::fold(&stage.app.db).await.unwrap();
}

/// Counts until so many are counted: what anybody has open in this server is waited for.
async fn fold_until(stage: &Stage, wanted: i64) {
    let end = Instant::now() + Duration::from_mins(1);
    while counted(stage).await < wanted {
        assert!(Instant::now() < end, "{} of {wanted}", counted(stage).await);
        fold(stage).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(counted(stage).await, wanted);
}

async fn counted(stage: &Stage) -> i64 {
    sqlx::query_scalar("select coalesce(sum(entries), 0)::int8 from ledger_hour")
        .fetch_one(stage.pool())
        .await
        .unwrap()
}

/// What the ledger itself adds up to, as a summary shows it.
async fn plain(stage: &Stage, from: Option<DateTime<Utc>>, to: Option<DateTime<Utc>>) -> Value {
    let rows: Vec<(String, i64, i64)> = sqlx::query_as(
        "select kind::text, count(*), sum(amount_micros)::int8 from transfer
        where party_id = $1 and ($2::timestamptz is null or created_at >= $2)
            and ($3::timestamptz is null or created_at < $3)
        group by transfer.kind order by transfer.kind",
    )
    .bind(stage.seller.0)
    .bind(from)
    .bind(to)
    .fetch_all(stage.pool())
    .await
    .unwrap();
    let rows = rows.into_iter().map(|(_, count, sum)| json!([count, sum]));
    Value::Array(rows.collect())
}

/// A summary says for many times what the ledger adds up to.
async fn assert_agrees(stage: &Stage, seller: &str) {
    let now = clock::now();
    let back = |minutes: i64| Some(now - TimeDelta::minutes(minutes));
    let spans = [
        (None, None),
        (back(200), None),
        (None, back(100)),
        (back(301), back(61)),
        (back(45), back(20)),
        (back(25), back(22)),
        (back(3), None),
        (back(600), back(500)),
    ];
    for (from, to) in spans {
        let mut path = String::from("/ledger/summary?role=seller");
        for (name, time) in [("from", from), ("to", to)] {
            if let Some(time) = time {
                path.extend(["&", name, "=", &clock::rfc3339(time)]);
            }
        }
        let millis = |time: Option<DateTime<Utc>>| {
            time.map(|time| DateTime::from_timestamp_millis(time.timestamp_millis()).unwrap())
        };
        let shown = data(stage, seller, &path).await;
        let sums = shown["by_type"].as_array().unwrap().iter();
        let sums = sums.map(|sum| json!([sum["count"], sum["amount_micros"]]));
        assert_eq!(
            Value::Array(sums.collect()),
            plain(stage, millis(from), millis(to)).await,
            "{path}"
        );
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn a_summary_is_the_same_before_and_after_what_it_sums_is_counted(pool: PgPool) {
    let stage = unlimited(pool).await;
    stage.delivered().await;
    stage.run(NOTHING_COUNTED).await;
    stage.run(HISTORY).await;
    let seller = key(&stage, stage.seller).await;
    assert_agrees(&stage, &seller).await;
    // The credit and the fee, the payment, and the corrections.
    fold_until(&stage, 63).await;
    assert_agrees(&stage, &seller).await;
    fold(&stage).await;
    assert_eq!(counted(&stage).await, 63, "each is counted once");

    stage.delivered().await;
    assert_eq!(counted(&stage).await, 63);
    assert_agrees(&stage, &seller).await;
    fold_until(&stage, 66).await;
    assert_agrees(&stage, &seller).await;
    let wrong: Vec<_> = stage.audit().await;
    let wrong = wrong
        .iter()
        .filter(|(name, _)| *name == "hours_agree_with_ledger");
    assert_eq!(wrong.count(), 0);
    stage
        .run("update ledger_hour set amount_micros = amount_micros + 1 where entries > 1")
        .await;
    let wrong: Vec<_> = stage.audit().await;
    assert!(
        wrong
            .iter()
            .any(|(name, _)| *name == "hours_agree_with_ledger")
    );
}

#[sqlx::test(migrations = "./migrations")]
async fn a_transfer_of_a_transaction_that_ends_late_is_counted_once(pool: PgPool) {
    let stage = unlimited(pool).await;
    let seller = key(&stage, stage.seller).await;
    let early = stage.delivered().await;
    let mut late = stage.pool().begin().await.unwrap();
    sqlx::query(
        "insert into transfer (party_id, id, request_id, kind, debit_account, credit_account, amount_micros,
            counterparty_id, listing_id, corrects)
        select party_id, least_id_at(now()), request_id, 'correction', 'fees', 'seller', 5, counterparty_id,
            listing_id, id from transfer where request_id = $1 and kind = 'seller_credit'",
    )
    .bind(early.id)
    .execute(&mut *late)
    .await
    .unwrap();
    stage.delivered().await;
    fold_until(&stage, 3).await;
    fold(&stage).await;
    assert_eq!(counted(&stage).await, 3, "what came after it waits for it");
    assert_agrees(&stage, &seller).await;
    late.commit().await.unwrap();
    assert_agrees(&stage, &seller).await;
    let folds = (0..4).map(|_| totals::fold(&stage.app.db));
    for done in futures_util::future::join_all(folds).await {
        done.unwrap();
    }
    fold_until(&stage, 7).await;
    assert_agrees(&stage, &seller).await;
}

#[sqlx::test(migrations = "./migrations")]
async fn a_ledger_in_a_restored_database_is_counted_anew(pool: PgPool) {
    let stage = unlimited(pool).await;
    let seller = key(&stage, stage.seller).await;
    stage.delivered().await;
    fold_until(&stage, 3).await;
    // What a dump of another server would bring: its numbers of transactions are far ahead.
    stage.run("update ledger_fold set home = 'elsewhere', horizon = '4000000000', mark = '4000000000'").await;
    stage.delivered().await;
    fold_until(&stage, 6).await;
    assert_agrees(&stage, &seller).await;
    stage.delivered().await;
    fold_until(&stage, 9).await;
    assert_agrees(&stage, &seller).await;
    stage.assert_audit_empty().await;
}

#[sqlx::test(migrations = "./migrations")]
async fn a_ledger_restored_over_itself_is_counted_anew(pool: PgPool) {
    let stage = unlimited(pool).await;
    let seller = key(&stage, stage.seller).await;
    stage.delivered().await;
    fold_until(&stage, 3).await;
    stage.run(RESTORED).await;
    stage.delivered().await;
    fold_until(&stage, 6).await;
    assert_agrees(&stage, &seller).await;
    stage.delivered().await;
    fold_until(&stage, 9).await;
    assert_agrees(&stage, &seller).await;
    stage.assert_audit_empty().await;
}

#[sqlx::test(migrations = "./migrations")]
async fn what_was_counted_finds_its_new_home_unless_it_was_restored_before(pool: PgPool) {
    let stage = unlimited(pool).await;
    stage.delivered().await;
    stage.run(NOTHING_COUNTED).await;
    stage.run(HISTORY).await;
    fold_until(&stage, 63).await;
    for (is_restored, is_at_home) in [(false, true), (true, false)] {
        if is_restored {
            stage.run(RESTORED).await;
        }
        stage.run(OLD_HOME).await;
        stage.run(NEW_HOME).await;
        let found: bool = sqlx::query_scalar("select home = ledger_home() from ledger_fold")
            .fetch_one(stage.pool())
            .await
            .unwrap();
        assert_eq!(found, is_at_home);
    }
    fold_until(&stage, 63).await;
    let wrong = stage.audit().await;
    let of_hours = |(name, _): &(&str, _)| *name == "hours_agree_with_ledger";
    assert!(!wrong.iter().any(of_hours), "{wrong:?}");
}

#[sqlx::test(migrations = "./migrations")]
async fn what_is_posted_after_the_clock_went_back_is_in_the_sums_from_the_next_count_on(
    pool: PgPool,
) {
    let stage = unlimited(pool).await;
    let seller = key(&stage, stage.seller).await;
    stage.delivered().await;
    fold_until(&stage, 3).await;
    // As after a step of ten minutes: whatever was counted before was later than now.
    stage
        .run("update ledger_fold set since = now() + interval '10 minutes', mark_at = now() + interval '10 minutes'")
        .await;
    stage.delivered().await;
    fold_until(&stage, 6).await;
    assert_agrees(&stage, &seller).await;
    stage.delivered().await;
    assert_agrees(&stage, &seller).await;
    stage.assert_audit_empty().await;
}

/// What the background job finds wrong of the hours that are over.
async fn wrong(stage: &Stage, walk: &Walk) -> usize {
    walk.go_on(&stage.app.db).await.unwrap().len()
}

/// As if all that is counted were counted long enough ago that every hour before `since` is over.
async fn close(stage: &Stage, since: &'static str) {
    sqlx::query("update ledger_fold set since = $1::text::timestamptz")
        .bind(since)
        .execute(stage.pool())
        .await
        .unwrap();
}

#[sqlx::test(migrations = "./migrations")]
async fn each_hour_is_compared_with_its_transfers_once_when_it_is_over(pool: PgPool) {
    let stage = unlimited(pool).await;
    stage.delivered().await;
    let walk = Walk::default();
    // A credit of 07:30, as a transfer and not in its sum.
    stage
        .run(
            "insert into transfer (party_id, id, request_id, kind, debit_account, credit_account, amount_micros,
                counterparty_id, listing_id, corrects, created_at)
            select party_id, gen_random_uuid(), request_id, 'correction', 'fees', 'seller', 5, counterparty_id,
                listing_id, id, '2001-01-02 07:30Z' from transfer where kind = 'seller_credit'",
        )
        .await;
    close(&stage, "2001-01-02 07:59Z").await;
    for _ in 0..10 {
        assert_eq!(wrong(&stage, &walk).await, 0, "the hour is not over");
    }
    close(&stage, "2001-01-02 08:02Z").await;
    for _ in 0..2 {
        assert_eq!(
            wrong(&stage, &walk).await,
            1,
            "what is wrong stays told until it is right"
        );
    }
    stage
        .run(
            "insert into ledger_hour select party_id, date_trunc('hour', created_at, 'UTC'), kind, debit_account,
                credit_account, 1, amount_micros from transfer where created_at < '2002-01-01'",
        )
        .await;
    assert_eq!(wrong(&stage, &walk).await, 0);
    // Not read again: what changes an hour that was good is for the audit of everything.
    stage
        .run("update ledger_hour set entries = 2 where hour < '2002-01-01'")
        .await;
    assert_eq!(wrong(&stage, &walk).await, 0);
    assert_eq!(wrong(&stage, &Walk::default()).await, 0, "not in one look");
    let anew = Walk::default();
    let mut looks = 0;
    while wrong(&stage, &anew).await == 0 {
        looks += 1;
        assert!(looks < 10, "a new process never comes to it");
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn an_hour_that_could_not_be_read_is_told_and_read_again(pool: PgPool) {
    let stage = unlimited(pool).await;
    stage.delivered().await;
    close(&stage, "2001-01-02 08:02Z").await;
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let walk = Walk::default();
    let looked = async || {
        let _recorded = metrics::set_default_local_recorder(&recorder);
        audit::observe(&stage.app.db, &walk).await.is_ok()
    };
    let unfinished = || {
        let wanted = "crochet_invariant_unfinished{invariant=\"hours_agree_with_ledger\"} ";
        let text = recorder.handle().render();
        let line = text.lines().find_map(|line| line.strip_prefix(wanted));
        line.unwrap().to_owned()
    };
    assert!(looked().await);
    assert_eq!(unfinished(), "0");
    close(&stage, "2001-01-03 08:02Z").await;
    stage.run("alter table ledger_hour rename to away").await;
    assert!(!looked().await);
    assert_eq!(unfinished(), "1");
    stage.run("alter table away rename to ledger_hour").await;
    assert!(looked().await);
    assert_eq!(unfinished(), "0");
}
