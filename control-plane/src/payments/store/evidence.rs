//! What the provider said: reading what it was asked about, and writing what is not a success.

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use uuid::Uuid;

use crate::payments::model::{CHECK_SECONDS_MIN, EXPIRY_MARGIN_SECONDS, State};

/// A payment as a check finds it.
#[derive(Debug)]
pub struct Standing {
    /// Its state.
    pub state: State,
    /// Whether a deposit is known.
    pub deposit_seen: bool,
    /// Whether the provider was asked a moment ago.
    pub is_fresh: bool,
}

/// Reads a buyer's payment.
pub async fn standing(
    pool: &PgPool,
    relay_request_id: &str,
    buyer: Uuid,
) -> Result<Option<Standing>, sqlx::Error> {
    sqlx::query_as!(
        Standing,
        r#"
        select state as "state: State", deposit_seen_at is not null as "deposit_seen!",
            coalesce(checked_at > now() - make_interval(secs => $3), false) as "is_fresh!"
        from gateway_request where relay_request_id = $1 and buyer_id = $2
        "#,
        relay_request_id,
        buyer,
        f64::from(CHECK_SECONDS_MIN),
    )
    .fetch_optional(pool)
    .await
}

/// What a payment was quoted to deliver, and where it stands.
#[derive(Debug)]
pub struct Expected {
    /// The payment.
    pub relay_request_id: String,
    /// Its state.
    pub state: State,
    /// To whom.
    pub recipient: String,
    /// On which chain.
    pub chain_id: i64,
    /// In which token.
    pub token: String,
    /// How many atomic units.
    pub amount: i64,
}

/// Reads those of the payments that are ours.
pub async fn expected(pool: &PgPool, ids: &[String]) -> Result<Vec<Expected>, sqlx::Error> {
    sqlx::query_as!(
        Expected,
        r#"
        select r.relay_request_id, r.state as "state: State", q.recipient,
            q.destination_chain_id as chain_id, q.destination_token as token,
            q.destination_amount as amount
        from gateway_request r join quote q on q.request_id = r.id
        where r.relay_request_id = any($1)
        "#,
        ids,
    )
    .fetch_all(pool)
    .await
}

/// News that is not a success, in columns.
#[derive(Debug, Default)]
pub struct Notes {
    /// The payments.
    pub relay_request_ids: Vec<String>,
    /// The provider's words.
    pub statuses: Vec<Option<String>>,
    /// Whether a deposit is known.
    pub seen: Vec<bool>,
    /// Whether the provider failed or refunded it.
    pub failed: Vec<bool>,
    /// Why.
    pub reasons: Vec<Option<String>>,
}

/// A payment after its news was noted.
#[derive(Debug)]
pub struct Noted {
    /// The payment.
    pub relay_request_id: String,
    /// Its state now.
    pub state: State,
}

/// Notes news that is not a success: the deposit seen, `quoted | expired → failed`, and
/// `quoted → expired` where its time is over and no deposit is known. Never touches a payment with
/// evidence. One that is locked at this instant is left to who holds it.
pub async fn note(pool: &PgPool, notes: &Notes) -> Result<Vec<Noted>, sqlx::Error> {
    sqlx::query_as!(
        Noted,
        r#"
        with item as materialized (
            select * from unnest($1::text[], $2::text[], $3::bool[], $4::bool[], $5::text[])
            as t (relay_request_id, status, seen, failed, reason)
        ), held as materialized (
            select i.status, i.seen, i.reason, r.id, r.state, r.deposit_seen_at, q.identity,
                case
                    when i.failed then 'failed'
                    when r.state = 'quoted' and not i.seen and r.deposit_seen_at is null
                        and now() > r.expires_at + make_interval(secs => $6) then 'expired'
                    else r.state::text
                end::request_state as next
            from item i
            join gateway_request r on r.relay_request_id = i.relay_request_id
            join quote q on q.request_id = r.id
            where r.state in ('quoted', 'expired', 'failed')
            order by r.id
            for update of r skip locked
        ), moved as (
            update gateway_request r set
                state = h.next,
                provider_status = coalesce(h.status, r.provider_status),
                checked_at = now(),
                deposit_seen_at = case when h.seen then coalesce(r.deposit_seen_at, now()) else r.deposit_seen_at end,
                closed_reason = case
                    when h.next = h.state then r.closed_reason
                    when h.next = 'failed' then coalesce(h.reason, 'provider_' || coalesce(h.status, 'failure'))
                    else 'no_deposit' end,
                closed_at = case when h.next = h.state then r.closed_at else now() end
            from held h where r.id = h.id
            returning r.id, r.relay_request_id, r.state
        ), unwatched as (
            delete from deadline d using held h where d.request_id = h.id and h.next <> 'quoted'
        ), seen as (
            update deadline d set unpaid_by = null from held h
            where d.request_id = h.id and h.next = 'quoted' and h.seen and d.unpaid_by is not null
        ), told as (
            insert into outbox (quote_identity)
            select identity from held
            where next <> state or (seen and deposit_seen_at is null)
        )
        select relay_request_id as "relay_request_id!", state as "state!: State" from moved
        "#,
        &notes.relay_request_ids,
        &notes.statuses as _,
        &notes.seen,
        &notes.failed,
        &notes.reasons as _,
        f64::from(EXPIRY_MARGIN_SECONDS),
    )
    .fetch_all(pool)
    .await
}

/// Remembers successes the provider told of, so that the audit can find one without evidence.
pub async fn successes(
    pool: &PgPool,
    ids: &[String],
    updated_at: &[DateTime<Utc>],
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into provider_success (relay_request_id, provider_updated_at)
        select * from unnest($1::text[], $2::timestamptz[])
        on conflict (relay_request_id) do nothing",
        ids,
        updated_at,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Which of these successes were remembered before: their evidence is recorded.
pub async fn remembered(pool: &PgPool, ids: &[String]) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        "select s.relay_request_id from provider_success s
        join gateway_request r on r.relay_request_id = s.relay_request_id
        join payment_evidence e on e.request_id = r.id
        where s.relay_request_id = any($1)",
        ids,
    )
    .fetch_all(pool)
    .await
}

/// The state of a payment.
pub async fn state(pool: &PgPool, relay_request_id: &str) -> Result<Option<State>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select state as "state: State" from gateway_request where relay_request_id = $1"#,
        relay_request_id,
    )
    .fetch_optional(pool)
    .await
}
