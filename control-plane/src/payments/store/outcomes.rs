//! How calls ended, read once each.

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::{PgConnection, PgPool};

use crate::catalog::Tallies;

/// No transaction of ours is open longer than this; a row's time is that of its transaction's start.
const OPEN_SECONDS_MAX: f64 = 120.0;
/// Longest time the statement may take: it reads far when it has not run for long.
const PATIENCE: &str = "10min";

/// How far ended calls were counted.
pub struct Fold {
    /// Transactions before this are counted.
    counted: i64,
    /// Transactions before this have ended.
    ended: i64,
    /// No transaction that is not counted was given its number before this.
    since: Option<DateTime<Utc>>,
    /// Today, by the database's clock.
    pub today: NaiveDate,
}

/// Takes the turn of counting; `None` when another replica has it.
pub async fn begin(tx: &mut PgConnection) -> Result<Option<Fold>, sqlx::Error> {
    sqlx::query_scalar!("select set_config('statement_timeout', $1, true)", PATIENCE)
        .fetch_one(&mut *tx)
        .await?;
    // Of a row's writer only 32 bits are known: what is older than half their range is not told apart.
    sqlx::query_as!(
        Fold,
        r#"select
               greatest(horizon::text::int8, pg_snapshot_xmin(pg_current_snapshot())::text::int8 - 2147483648)
                   as "counted!",
               pg_snapshot_xmin(pg_current_snapshot())::text::int8 as "ended!",
               nullif(since, '-infinity') as since,
               (now() at time zone 'utc')::date as "today!"
           from call_fold for update skip locked"#,
    )
    .fetch_optional(tx)
    .await
}

/// Calls that ended in transactions not yet counted, by listing, day and bucket.
///
/// A delivered call has one `seller_credit`, a failed one stands in the attempt journal; both are
/// written once. The oldest transaction that was open when the turn began may have ended since: it is
/// counted the next time. What failed before anything was sent for another reason than the seller, and what
/// a gateway dropped, says nothing of the seller.
pub async fn ended(tx: &mut PgConnection, fold: &Fold) -> Result<Tallies, sqlx::Error> {
    let rows = sqlx::query!(
        r#"with fresh as (
               select t.request_id, (t.created_at at time zone 'utc')::date as day, true as delivered
               from transfer t
               where t.created_at > coalesce($3::timestamptz - make_interval(secs => $4), '-infinity')
                   and t.kind = 'seller_credit'
                   and (($2::int8 - t.xmin::text::int8) & 4294967295) > 0
                   and $2::int8 - (($2::int8 - t.xmin::text::int8) & 4294967295) >= $1
               union all
               select a.request_id, (a.ended_at at time zone 'utc')::date, false
               from attempt a
               where a.ended_at > coalesce($3::timestamptz - make_interval(secs => $4), '-infinity')
                   and a.outcome in ('status', 'unreachable', 'timeout', 'too_large', 'invalid')
                   and (($2::int8 - a.xmin::text::int8) & 4294967295) > 0
                   and $2::int8 - (($2::int8 - a.xmin::text::int8) & 4294967295) >= $1
           )
           select r.listing_id, f.day as "day!",
               case when f.delivered
                   then ceil(ln(greatest(coalesce(r.latency_ms, 1), 1)) / ln(1.05::float8)) else -1 end::int2
                   as "bucket!",
               count(*) as "calls!"
           from fresh f join gateway_request r on r.id = f.request_id
           group by 1, 2, 3"#,
        fold.counted,
        fold.ended,
        fold.since,
        OPEN_SECONDS_MAX,
    )
    .fetch_all(tx)
    .await?;
    let mut ended = Tallies::default();
    for row in rows {
        ended.listings.push(row.listing_id);
        ended.days.push(row.day);
        ended.buckets.push(row.bucket);
        ended.calls.push(row.calls);
    }
    Ok(ended)
}

/// Notes what is counted now.
///
/// Rows are found by their time, which is when their transaction began. While one transaction stays
/// open the horizon stands, and so must the time from which rows are looked for: it moves only when
/// the horizon has reached every number that had been given out at the time it moves to.
pub async fn finish(tx: &mut PgConnection, fold: &Fold) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update call_fold set
             horizon = ($1::int8)::text::xid8,
             since = case when mark::text::int8 <= $1 then mark_at else since end,
             mark_at = case when mark::text::int8 <= $1 then now() else mark_at end,
             mark = case when mark::text::int8 <= $1 then pg_snapshot_xmax(pg_current_snapshot()) else mark end",
        fold.ended,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Deletes so many attempts that are older than they are kept; gives how many there were.
pub async fn delete_old_attempts(pool: &PgPool, most: i32) -> Result<i32, sqlx::Error> {
    let deleted = sqlx::query_scalar!("select delete_old_attempts($1)", most)
        .fetch_one(pool)
        .await?;
    Ok(deleted.unwrap_or(0))
}
