//! What background work reads: what is due, and how far the provider's records were read.

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use uuid::Uuid;

use crate::payments::model::State;

/// A request that must be looked at.
#[derive(Debug)]
pub struct Due {
    /// Ours.
    pub id: Uuid,
    /// The provider's id.
    pub relay_request_id: String,
    /// Its state.
    pub state: State,
}

/// Takes what is due, oldest first, and puts its next look off: so that another replica, or this
/// one after a crash, comes back to it, and a payment that hangs at the provider is asked about
/// less and less often (a tenth of its age, from 20 s to 10 min).
pub async fn take_due(pool: &PgPool, limit: i64) -> Result<Vec<Due>, sqlx::Error> {
    sqlx::query_as!(
        Due,
        r#"
        with due as materialized (
            select request_id from deadline where due_at <= now()
            order by due_at limit $1
            for update skip locked
        ), put_off as (
            update deadline d set due_at = now()
                + least(greatest((now() - r.created_at) / 10, interval '20 seconds'), interval '10 minutes')
            from due join gateway_request r on r.id = due.request_id
            where d.request_id = due.request_id
            returning r.id, r.relay_request_id, r.state
        )
        select id as "id!", relay_request_id as "relay_request_id!", state as "state!: State" from put_off
        "#,
        limit,
    )
    .fetch_all(pool)
    .await
}

/// Batches of claims whose leases are over.
#[derive(Debug)]
pub struct Leases {
    /// How many batches were looked at.
    pub batches: i64,
    /// Their claims that are still open after lease and grace.
    pub open: Vec<Uuid>,
}

/// Looks at claims whose leases are over, oldest first, and forgets the batches of which none is open. The
/// others are put off: so that another replica, or this one after a crash, comes back to them.
pub async fn take_leases(
    pool: &PgPool,
    limit: i64,
    grace_seconds: f64,
) -> Result<Leases, sqlx::Error> {
    sqlx::query_as!(
        Leases,
        r#"
        with due as materialized (
            select id, request_ids from lease where due_at <= now()
            order by due_at limit $1
            for update skip locked
        ), open as materialized (
            -- Claimed is enough: a lease may have been written by a process with a shorter grace.
            select d.id as lease_id, r.id as request_id,
                r.lease_until + make_interval(secs => $2) <= now() as is_over
            from due d cross join lateral unnest(d.request_ids) wanted (id)
            join gateway_request r on r.id = wanted.id
            where r.state = 'claimed'
        ), put_off as (
            -- Not all to the same moment: what fails together should not come back together.
            update lease l set due_at = now() + make_interval(secs => 20 + 10 * random())
            where l.id in (select lease_id from open)
        ), forgotten as (
            delete from lease l using due d where l.id = d.id and d.id not in (select lease_id from open)
        )
        select (select count(*) from due) as "batches!",
            coalesce((select array_agg(distinct request_id) from open where is_over), '{}') as "open!"
        "#,
        limit,
        grace_seconds,
    )
    .fetch_one(pool)
    .await
}

/// How many requests, and batches of claims, are past their due time by more than `seconds`: the sweeps'
/// own lag.
pub async fn overdue(pool: &PgPool, seconds: f64) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select (select count(*) from deadline where due_at < now() - make_interval(secs => $1))
            + (select count(*) from lease where due_at < now() - make_interval(secs => $1)) as "count!""#,
        seconds,
    )
    .fetch_one(pool)
    .await
}

/// How far a sweep has read.
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    /// What changed before was read.
    pub position: DateTime<Utc>,
    /// What changed before was read when all of it was there for certain; `None` before that was noted.
    pub settled: Option<DateTime<Utc>>,
}

/// Takes the turn of a sweep: where it begins, or `None` when it is not due anywhere.
pub async fn take_turn(
    pool: &PgPool,
    name: &str,
    every_seconds: f64,
) -> Result<Option<Reach>, sqlx::Error> {
    sqlx::query_as!(
        Reach,
        "insert into provider_cursor (name, position, next_at)
        values ($1, now() - interval '15 minutes', now() + make_interval(secs => $2))
        on conflict (name) do update set next_at = now() + make_interval(secs => $2)
            where provider_cursor.next_at <= now()
        returning position, settled",
        name,
        every_seconds,
    )
    .fetch_optional(pool)
    .await
}

/// Moves a sweep's cursor on; never back, and never ahead of the database's own clock: a replica whose clock
/// is fast must not carry it past what the others have yet to read. The next turn is in so many seconds.
pub async fn advance(
    pool: &PgPool,
    name: &str,
    reach: Reach,
    next_in_seconds: f64,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update provider_cursor set
            position = greatest(position, least($2, now())),
            settled = greatest(settled, least($3, now())),
            next_at = now() + make_interval(secs => $4)
        where name = $1",
        name,
        reach.position,
        reach.settled,
        next_in_seconds,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Open requests of one state.
#[derive(Debug)]
pub struct Open {
    /// The state.
    pub state: State,
    /// How many.
    pub count: i64,
    /// Their prices together.
    pub micros: i64,
    /// Seconds since the first of them was paid; 0 when none is.
    pub paid_seconds: f64,
}

/// What is open, by state: gauges for operators.
pub async fn open(pool: &PgPool) -> Result<Vec<Open>, sqlx::Error> {
    sqlx::query_as!(
        Open,
        r#"select r.state as "state: State", count(*) as "count!",
            coalesce(sum(r.price_micros), 0)::int8 as "micros!",
            coalesce(extract(epoch from now() - min(r.paid_at)), 0)::float8 as "paid_seconds!"
        from deadline d join gateway_request r on r.id = d.request_id group by r.state"#
    )
    .fetch_all(pool)
    .await
}

/// Notes of the provider's successes that their evidence is there, the oldest first: what is left is all
/// that the audit has to look at.
pub async fn note_evidenced(pool: &PgPool, limit: i64) -> Result<u64, sqlx::Error> {
    let noted = sqlx::query!(
        "update provider_success set evidenced = true where relay_request_id in (
            select p.relay_request_id from provider_success p
            join gateway_request r on r.relay_request_id = p.relay_request_id
            join payment_evidence e on e.request_id = r.id
            where not p.evidenced order by p.seen_at limit $1
            for update of p skip locked
        )",
        limit,
    )
    .execute(pool)
    .await?;
    Ok(noted.rows_affected())
}
