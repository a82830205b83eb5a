//! Folding finished calls into sums, and asking what is folded and what is not yet.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

/// Takes the fold's turn for this transaction: how far it has read. `None` when another replica has it.
pub(in crate::reviews) async fn take_turn(
    tx: &mut PgConnection,
) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    sqlx::query_scalar!(
        "select position from fold_cursor where name = 'calls' for update skip locked"
    )
    .fetch_optional(tx)
    .await
}

/// Until when everything that will ever be written is visible to the next statement: `margin` ago,
/// and before the oldest transaction that may still write a row with its own start as the row's time.
///
/// A transaction that has written nothing for a minute is a reader (a dump, an audit): none of ours
/// that writes takes as long.
pub(in crate::reviews) async fn settled_until(
    tx: &mut PgConnection,
    margin_seconds: f64,
) -> Result<DateTime<Utc>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select least(
            clock_timestamp() - make_interval(secs => $1),
            (select min(xact_start) from pg_stat_activity
             where datname = current_database() and pid <> pg_backend_pid() and xact_start is not null
                and (backend_xid is not null or xact_start > clock_timestamp() - interval '1 minute'))
        ) as "until!""#,
        margin_seconds,
    )
    .fetch_one(tx)
    .await
}

/// Counts every call that was delivered, or first failed by its seller, from `since` until before
/// `until`, and moves the cursor there. Sellers concerned are due for a new score, though not within
/// `rest_seconds` of their last. Gives back how many calls there were.
pub(in crate::reviews) async fn fold(
    tx: &mut PgConnection,
    since: DateTime<Utc>,
    until: DateTime<Utc>,
    failures: &[&str],
    period_days: i32,
    rest_seconds: f64,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        with delivered as (
            -- Credit and fee of a call are written together: one of them, or both.
            select request_id, party_id as seller_id, counterparty_id as buyer_id, listing_id,
                min(created_at) as at
            from transfer
            where created_at >= $1 and created_at < $2 and kind in ('seller_credit', 'marketplace_fee')
            group by 1, 2, 3, 4
        ), failed as (
            select r.seller_id, r.buyer_id, a.ended_at as at
            from attempt a join gateway_request r on r.id = a.request_id
            where a.ended_at >= $1 and a.ended_at < $2 and a.outcome = any($3)
                and not exists (select 1 from attempt earlier
                    where earlier.request_id = a.request_id and earlier.epoch < a.epoch
                        and earlier.outcome = any($3))
        ), event as materialized (
            select seller_id, buyer_id, at, true as ok from delivered
            union all
            select seller_id, buyer_id, at, false from failed
        ), bought as (
            insert into purchase (listing_id, buyer_id, last_delivered_at)
            select listing_id, buyer_id, max(at) from delivered group by 1, 2 order by 1, 2
            on conflict (listing_id, buyer_id) do update
                set last_delivered_at = greatest(purchase.last_delivered_at, excluded.last_delivered_at)
        ), fresh as (
            select e.seller_id, count(distinct e.buyer_id) as buyers
            from event e
            where e.ok and not exists (select 1 from score_calls s
                where s.seller_id = e.seller_id and s.buyer_id = e.buyer_id and s.delivered > 0)
            group by 1
        ), counted as (
            insert into score_calls (seller_id, buyer_id, period, delivered, failed)
            select seller_id, buyer_id, floor(extract(epoch from at) / (86400 * $4::int4))::int4,
                count(*) filter (where ok), count(*) filter (where not ok)
            from event group by 1, 2, 3 order by 1, 2, 3
            on conflict (seller_id, buyer_id, period) do update set
                delivered = score_calls.delivered + excluded.delivered,
                failed = score_calls.failed + excluded.failed
        ), summed as (
            select e.seller_id, count(*) filter (where ok) as delivered, count(*) filter (where not ok) as failed,
                coalesce(max(f.buyers), 0) as buyers, min(at) as first_at, max(at) as last_at,
                min(at) filter (where ok) as first_ok_at, max(at) filter (where ok) as last_ok_at
            from event e left join fresh f on f.seller_id = e.seller_id
            group by 1 order by 1
        ), known as (
            insert into reputation as r (profile_id, calls_delivered, calls_failed, distinct_buyers,
                first_call_at, last_call_at, first_delivered_at, last_delivered_at)
            select * from summed
            on conflict (profile_id) do update set
                calls_delivered = r.calls_delivered + excluded.calls_delivered,
                calls_failed = r.calls_failed + excluded.calls_failed,
                distinct_buyers = r.distinct_buyers + excluded.distinct_buyers,
                first_call_at = least(r.first_call_at, excluded.first_call_at),
                last_call_at = greatest(r.last_call_at, excluded.last_call_at),
                first_delivered_at = least(r.first_delivered_at, excluded.first_delivered_at),
                last_delivered_at = greatest(r.last_delivered_at, excluded.last_delivered_at),
                is_behind = true,
                due_at = least(r.due_at, greatest(now(), coalesce(r.computed_at + make_interval(secs => $5), now())))
        ), moved as (
            update fold_cursor set position = $2 where name = 'calls'
        )
        select count(*) as "count!" from event
        "#,
        since,
        until,
        failures as _,
        period_days,
        rest_seconds,
    )
    .fetch_one(tx)
    .await
}

/// Whether a call of this listing was delivered to this buyer within the last `window_seconds`: as
/// folded, or since then, from the seller's own transfers.
pub(in crate::reviews) async fn has_purchase(
    db: impl PgExecutor<'_>,
    listing: Uuid,
    seller: Uuid,
    buyer: Uuid,
    window_seconds: f64,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        with edge as materialized (
            select position, now() - make_interval(secs => $4) as since from fold_cursor where name = 'calls'
        )
        select exists (
            select 1 from purchase
            where listing_id = $1 and buyer_id = $3 and last_delivered_at >= (select since from edge)
        ) or exists (
            -- Ids are made within seconds of the row's time: ten minutes allow for any clock.
            select 1 from transfer
            where party_id = $2 and id >= (select least_id_at(position - interval '10 minutes') from edge)
                and counterparty_id = $3 and listing_id = $1 and kind in ('seller_credit', 'marketplace_fee')
                and created_at >= (select greatest(position, since) from edge)
        ) as "has!"
        "#,
        listing,
        seller,
        buyer,
        window_seconds,
    )
    .fetch_one(db)
    .await
}

/// How far behind the present the fold is, in seconds.
pub(in crate::reviews) async fn lag(db: impl PgExecutor<'_>) -> Result<f64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select extract(epoch from now() - position)::float8 as "lag!" from fold_cursor where name = 'calls'"#
    )
    .fetch_one(db)
    .await
}
