//! Counts and ages.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;
use uuid::Uuid;

/// The requests in a state.
#[derive(Debug, Serialize)]
pub(in crate::operator) struct InState {
    /// Its name.
    pub(in crate::operator) state: String,
    /// How many.
    pub(in crate::operator) count: i64,
    /// Their prices together.
    pub(in crate::operator) price_micros: i64,
}

/// The requests by state, all of them or those quoted since a time; states without one are told as well.
pub(in crate::operator) async fn states(
    pool: &PgPool,
    since: Option<DateTime<Utc>>,
) -> Result<Vec<InState>, sqlx::Error> {
    sqlx::query_as!(
        InState,
        r#"
        select s.state::text as "state!", coalesce(r.count, 0) as "count!",
            coalesce(r.price, 0)::int8 as "price_micros!"
        from unnest(enum_range(null::request_state)) with ordinality s (state, place)
        left join (
            select state, count(*) as count, sum(price_micros) as price from gateway_request
            where $1::timestamptz is null or id >= least_id_at($1) group by state
        ) r on r.state = s.state
        order by s.place
        "#,
        since,
    )
    .fetch_all(pool)
    .await
}

/// What waits.
#[derive(Debug)]
pub(in crate::operator) struct Waits {
    /// The database's time.
    pub(in crate::operator) now: DateTime<Utc>,
    /// Deadlines that nobody looked at in time.
    pub(in crate::operator) overdue: i64,
    /// Outbox rows.
    pub(in crate::operator) outbox: i64,
    /// Since when the oldest waits.
    pub(in crate::operator) outbox_oldest: Option<DateTime<Utc>>,
}

/// Reads what waits.
pub(in crate::operator) async fn waits(
    pool: &PgPool,
    overdue_seconds: f64,
) -> Result<Waits, sqlx::Error> {
    sqlx::query_as!(
        Waits,
        r#"
        select now() as "now!",
            (select count(*) from deadline where due_at < now() - make_interval(secs => $1))
                + (select count(*) from lease where due_at < now() - make_interval(secs => $1)) as "overdue!",
            (select count(*) from outbox) as "outbox!",
            (select min(created_at) from outbox) as outbox_oldest
        "#,
        overdue_seconds,
    )
    .fetch_one(pool)
    .await
}

/// A claim without a settlement.
#[derive(Debug)]
pub(in crate::operator) struct OpenClaim {
    /// Of which request.
    pub(in crate::operator) id: Uuid,
    /// Until when it is held.
    pub(in crate::operator) lease_until: DateTime<Utc>,
}

/// The claim whose lease ends, or ended, first.
pub(in crate::operator) async fn oldest_claim(
    pool: &PgPool,
) -> Result<Option<OpenClaim>, sqlx::Error> {
    sqlx::query_as!(
        OpenClaim,
        r#"
        select r.id, r.lease_until as "lease_until!" from deadline d
        join gateway_request r on r.id = d.request_id
        where r.state = 'claimed' order by r.lease_until limit 1
        "#,
    )
    .fetch_optional(pool)
    .await
}

/// How far the provider's records are read.
#[derive(Debug)]
pub(in crate::operator) struct Sweep {
    /// Which records.
    pub(in crate::operator) name: String,
    /// Up to when.
    pub(in crate::operator) position: DateTime<Utc>,
}

/// Reads how far.
pub(in crate::operator) async fn sweeps(pool: &PgPool) -> Result<Vec<Sweep>, sqlx::Error> {
    sqlx::query_as!(
        Sweep,
        "select name, position from provider_cursor order by name desc"
    )
    .fetch_all(pool)
    .await
}
