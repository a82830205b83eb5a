//! How calls and reviews of a listing went.

use chrono::NaiveDate;
use crochet_shared::id::ListingId;
use sqlx::PgConnection;
use uuid::Uuid;

/// Days that the 30-day figures are of, today included.
const DAYS: i32 = 30;
/// Most rows of days gone by that are dropped at once.
const FORGOTTEN_MAX: i64 = 10_000;

/// Ended calls in columns: how many of a listing on a day ended in a bucket (`call_tally`).
#[derive(Debug, Default)]
pub struct Tallies {
    /// The listings.
    pub listings: Vec<Uuid>,
    /// The days, in UTC.
    pub days: Vec<NaiveDate>,
    /// -1 of failures, else the latency's bucket.
    pub buckets: Vec<i16>,
    /// How many.
    pub calls: Vec<i64>,
}

/// Adds ended calls to their listings' days, drops days gone by, and brings the 30-day figures of
/// the listings concerned up to date.
///
/// Asked twice it counts twice: the caller knows what is counted already.
pub async fn tally(
    tx: &mut PgConnection,
    ended: &Tallies,
    today: NaiveDate,
) -> Result<(), sqlx::Error> {
    if !ended.listings.is_empty() {
        sqlx::query!(
            "insert into call_tally (listing_id, day, bucket, calls)
             select * from unnest($1::uuid[], $2::date[], $3::int2[], $4::int8[]) order by 1, 2, 3
             on conflict (listing_id, day, bucket) do update set calls = call_tally.calls + excluded.calls",
            &ended.listings,
            &ended.days,
            &ended.buckets,
            &ended.calls,
        )
        .execute(&mut *tx)
        .await?;
    }
    let mut concerned = sqlx::query_scalar!(
        "delete from call_tally where (listing_id, day, bucket) in (
             select listing_id, day, bucket from call_tally where day <= $1::date - $2::int4 limit $3
         ) returning listing_id",
        today,
        DAYS,
        FORGOTTEN_MAX,
    )
    .fetch_all(&mut *tx)
    .await?;
    concerned.extend(&ended.listings);
    concerned.sort_unstable();
    concerned.dedup();
    if concerned.is_empty() {
        return Ok(());
    }
    refresh(tx, &concerned, today).await
}

/// Makes the 30-day figures of these listings anew from their days.
async fn refresh(
    tx: &mut PgConnection,
    listings: &[Uuid],
    today: NaiveDate,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "with counted as (
             select listing_id, bucket, sum(calls) as calls from call_tally
             where listing_id = any($1) and day > $2::date - $3::int4
             group by listing_id, bucket
         ), ranked as (
             select listing_id, bucket, calls,
                 sum(calls) filter (where bucket >= 0) over (partition by listing_id order by bucket) as within,
                 sum(calls) filter (where bucket >= 0) over (partition by listing_id) as delivered
             from counted
         ), figures as (
             select c.id, coalesce(max(r.delivered), 0) as delivered,
                 coalesce(sum(r.calls) filter (where r.bucket < 0), 0) as failed,
                 min(r.bucket) filter (where r.bucket >= 0 and r.within * 100 >= r.delivered * 95) as p95
             from unnest($1::uuid[]) as c (id) left join ranked r on r.listing_id = c.id
             group by c.id
         )
         update listing_stats s set
             calls_30d = f.delivered, failures_30d = f.failed,
             p95_latency_ms_30d = ceil(power(1.05, f.p95))::int4
         from figures f where s.listing_id = f.id",
        listings,
        today,
        DAYS,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Counts one more review of a listing, in the transaction that writes it.
///
/// `rating_hundredths` is the review's rating, 100 to 500: the mean of its three ratings, to two
/// decimals (contract §6). A listing that is not there is left alone.
pub async fn add_rating(
    tx: &mut PgConnection,
    listing: ListingId,
    rating_hundredths: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update listing_stats set rating_sum = rating_sum + $2, review_count = review_count + 1
         where listing_id = $1",
        listing.0,
        rating_hundredths,
    )
    .execute(tx)
    .await?;
    Ok(())
}
