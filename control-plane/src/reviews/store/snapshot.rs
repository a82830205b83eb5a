//! Scores: whose is due, what it is computed from, and its snapshots.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use crate::reviews::model::{Calls, Components, Opinion};

/// Sums of an agent's evidence, as in `reputation`.
#[derive(Clone, Copy, Debug)]
pub(in crate::reviews) struct Due {
    pub(in crate::reviews) profile: Uuid,
    pub(in crate::reviews) served_days: i32,
    pub(in crate::reviews) idle_days: i32,
}

/// Takes agents whose score is due, the longest due first, for this transaction. Those another replica
/// has are skipped.
pub(in crate::reviews) async fn take_due(
    tx: &mut PgConnection,
    limit: i64,
) -> Result<Vec<Due>, sqlx::Error> {
    sqlx::query_as!(
        Due,
        r#"select profile_id as profile,
            coalesce(extract(epoch from last_delivered_at - first_delivered_at) / 86400, 0)::int4 as "served_days!",
            coalesce(extract(epoch from now() - last_delivered_at) / 86400, 0)::int4 as "idle_days!"
        from reputation where due_at <= now()
        order by due_at limit $1
        for update skip locked"#,
        limit,
    )
    .fetch_all(tx)
    .await
}

/// A seller's calls by buyer and period, the newest `rows` of them that are younger than `periods`.
pub(in crate::reviews) async fn calls(
    tx: &mut PgConnection,
    seller: Uuid,
    period_days: i32,
    periods: i32,
    rows: i64,
) -> Result<Vec<Calls>, sqlx::Error> {
    sqlx::query_as!(
        Calls,
        r#"
        with present as materialized (
            select floor(extract(epoch from now()) / (86400 * $2::int4))::int4 as period
        )
        select buyer_id as buyer, (select period from present) - period as "periods_ago!", delivered, failed
        from score_calls
        where seller_id = $1 and period > (select period from present) - $3::int4
        order by period desc, buyer_id limit $4
        "#,
        seller,
        period_days,
        periods,
        rows,
    )
    .fetch_all(tx)
    .await
}

/// The newest `rows` reviews of a seller's listings, with the reviewers' scores of now.
pub(in crate::reviews) async fn opinions(
    tx: &mut PgConnection,
    seller: Uuid,
    rows: i64,
) -> Result<Vec<Opinion>, sqlx::Error> {
    sqlx::query_as!(
        Opinion,
        r#"
        select r.reviewer_id as reviewer, p.score as reviewer_score,
            (extract(epoch from now() - r.created_at) / 86400)::int4 as "days_ago!",
            r.accuracy::int4 as "accuracy!", r.total::int4 as "total!"
        from review r join profile p on p.id = r.reviewer_id
        where r.seller_id = $1
        order by r.id desc limit $2
        "#,
        seller,
        rows,
    )
    .fetch_all(tx)
    .await
}

/// Keeps a score as today's snapshot, with the evidence as it stands in this transaction, and shows it
/// on the profile. Due again after `every_seconds`; snapshots older than `keep_days` go.
pub(in crate::reviews) async fn keep(
    tx: &mut PgConnection,
    profile: Uuid,
    parts: &Components,
    score: i32,
    every_seconds: f64,
    keep_days: i32,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        with known as (
            update reputation set computed_at = now(), is_behind = false,
                due_at = now() + make_interval(secs => $8)
            where profile_id = $1
            returning calls_delivered, calls_failed, distinct_buyers, reviews, rating_total,
                first_call_at, last_call_at
        ), old as (
            delete from score_snapshot
            where profile_id = $1 and day < (now() at time zone 'UTC')::date - $9::int4
        ), shown as (
            update profile set score = $2 where id = $1 and score <> $2
        )
        insert into score_snapshot (profile_id, day, computed_at, score, reliability, accuracy, volume,
            longevity, reputation, calls_delivered, calls_failed, distinct_buyers, reviews, rating_total,
            first_call_at, last_call_at)
        select $1, (now() at time zone 'UTC')::date, now(), $2, $3, $4, $5, $6, $7, calls_delivered,
            calls_failed, distinct_buyers, reviews, rating_total, first_call_at, last_call_at
        from known
        on conflict (profile_id, day) do update set
            computed_at = excluded.computed_at, score = excluded.score,
            reliability = excluded.reliability, accuracy = excluded.accuracy,
            volume = excluded.volume, longevity = excluded.longevity, reputation = excluded.reputation,
            calls_delivered = excluded.calls_delivered, calls_failed = excluded.calls_failed,
            distinct_buyers = excluded.distinct_buyers, reviews = excluded.reviews,
            rating_total = excluded.rating_total, first_call_at = excluded.first_call_at,
            last_call_at = excluded.last_call_at
        "#,
        profile,
        score,
        parts.reliability,
        parts.accuracy,
        parts.volume,
        parts.longevity,
        parts.reputation,
        every_seconds,
        keep_days,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// An agent's newest snapshot, and whether there is evidence that is not in it.
#[derive(Debug)]
pub(in crate::reviews) struct Standing {
    pub(in crate::reviews) is_behind: bool,
    pub(in crate::reviews) snapshot: Option<Snapshot>,
}

/// A score as it was computed.
#[derive(Debug)]
pub(in crate::reviews) struct Snapshot {
    pub(in crate::reviews) computed_at: DateTime<Utc>,
    pub(in crate::reviews) score: i32,
    pub(in crate::reviews) components: Components,
    pub(in crate::reviews) calls_delivered: i64,
    pub(in crate::reviews) calls_failed: i64,
    pub(in crate::reviews) distinct_buyers: i64,
    pub(in crate::reviews) reviews: i64,
    pub(in crate::reviews) rating_total: i64,
    pub(in crate::reviews) first_call_at: Option<DateTime<Utc>>,
    pub(in crate::reviews) last_call_at: Option<DateTime<Utc>>,
}

/// How an agent's score stands; `None` when there is no such agent.
///
/// Evidence that is not folded yet is looked for as far as the fold lags behind by its usual seconds;
/// with a longer lag nobody can say, so every score is behind.
pub(in crate::reviews) async fn standing(
    db: impl PgExecutor<'_>,
    agent: Uuid,
    failures: &[&str],
    age_seconds_max: f64,
    lag_seconds_max: f64,
) -> Result<Option<Standing>, sqlx::Error> {
    let row = sqlx::query!(
        r#"
        with edge as materialized (
            select position, position < now() - make_interval(secs => $4) as is_late
            from fold_cursor where name = 'calls'
        )
        select
            coalesce(r.is_behind, false)
            or coalesce(s.computed_at < now() - make_interval(secs => $3), false)
            or (select is_late from edge)
            or exists (
                select 1 from transfer
                where party_id = p.id
                    and id >= (select least_id_at(position - interval '10 minutes') from edge)
                    and kind in ('seller_credit', 'marketplace_fee')
                    and created_at >= (select position from edge)
            )
            or exists (
                select 1 from attempt a join gateway_request g on g.id = a.request_id
                where a.ended_at >= (select position from edge) and not (select is_late from edge)
                    and a.outcome = any($2) and g.seller_id = p.id
            ) as "is_behind!",
            s.computed_at as "computed_at?", s.score as "score?", s.reliability as "reliability?",
            s.accuracy as "accuracy?", s.volume as "volume?", s.longevity as "longevity?",
            s.reputation as "reputation?", s.calls_delivered as "calls_delivered?",
            s.calls_failed as "calls_failed?", s.distinct_buyers as "distinct_buyers?",
            s.reviews as "reviews?", s.rating_total as "rating_total?", s.first_call_at, s.last_call_at
        from profile p
        left join reputation r on r.profile_id = p.id
        left join lateral (
            select * from score_snapshot where profile_id = p.id order by day desc limit 1
        ) s on true
        where p.id = $1 and p.account_type <> 'human'
        "#,
        agent,
        failures as _,
        age_seconds_max,
        lag_seconds_max,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| Standing {
        is_behind: row.is_behind,
        snapshot: row
            .computed_at
            .zip(row.score)
            .map(|(computed_at, score)| Snapshot {
                computed_at,
                score,
                components: Components {
                    reliability: row.reliability.unwrap_or_default(),
                    accuracy: row.accuracy.unwrap_or_default(),
                    volume: row.volume.unwrap_or_default(),
                    longevity: row.longevity.unwrap_or_default(),
                    reputation: row.reputation.unwrap_or_default(),
                },
                calls_delivered: row.calls_delivered.unwrap_or_default(),
                calls_failed: row.calls_failed.unwrap_or_default(),
                distinct_buyers: row.distinct_buyers.unwrap_or_default(),
                reviews: row.reviews.unwrap_or_default(),
                rating_total: row.rating_total.unwrap_or_default(),
                first_call_at: row.first_call_at,
                last_call_at: row.last_call_at,
            }),
    }))
}
