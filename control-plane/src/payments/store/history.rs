//! Requests as buyers and sellers see them.

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use uuid::Uuid;

use crate::payments::model::{ANSWER_SECONDS, State};

/// Whose requests: as buyer, as seller, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Role {
    /// Requests she pays.
    pub buyer: bool,
    /// Requests she serves.
    pub seller: bool,
}

/// Which requests of a profile.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Who asks.
    pub profile: Uuid,
    /// As what.
    pub role: Role,
    /// One request only.
    pub id: Option<Uuid>,
    /// In this state.
    pub state: Option<State>,
    /// With or without a deposit seen.
    pub deposit_seen: Option<bool>,
    /// With or without an attempt used.
    pub attempted: Option<bool>,
    /// Of this listing.
    pub listing: Option<Uuid>,
    /// Made at or after.
    pub from: Option<DateTime<Utc>>,
    /// Made before.
    pub to: Option<DateTime<Utc>>,
}

/// A request as it is shown.
#[derive(Debug)]
pub struct Row {
    /// Ours.
    pub id: Uuid,
    /// The provider's id.
    pub relay_request_id: String,
    /// Which listing.
    pub listing_id: Uuid,
    /// Its name now.
    pub listing_name: String,
    /// Who pays.
    pub buyer_id: Uuid,
    /// Who serves.
    pub seller_id: Uuid,
    /// Where it stands.
    pub state: State,
    /// When a deposit was first known.
    pub deposit_seen_at: Option<DateTime<Utc>>,
    /// The price.
    pub price_micros: i64,
    /// The fee rule.
    pub fee_rate_ppm: i32,
    /// Paid in.
    pub origin_currency: String,
    /// What the seller answered last.
    pub seller_status: Option<i32>,
    /// Attempts used.
    pub attempts: i32,
    /// How long the call took.
    pub latency_ms: Option<i32>,
    /// How long the seller took.
    pub seller_latency_ms: Option<i32>,
    /// Length of the body.
    pub request_bytes: i32,
    /// Length of the answer.
    pub response_bytes: Option<i32>,
    /// SHA-256 of the answer.
    pub response_sha256: Option<Vec<u8>>,
    /// When it was quoted.
    pub created_at: DateTime<Utc>,
    /// When it was delivered.
    pub delivered_at: Option<DateTime<Utc>>,
}

/// Reads a page of requests, newest first.
pub async fn list(
    pool: &PgPool,
    filter: &Filter,
    after: Option<Uuid>,
    limit: i64,
    offset: i64,
) -> Result<Vec<Row>, sqlx::Error> {
    sqlx::query_as!(
        Row,
        r#"
        select r.id, r.relay_request_id, r.listing_id, l.name as listing_name, r.buyer_id, r.seller_id,
            r.state as "state: State", r.deposit_seen_at, r.price_micros, r.fee_rate_ppm, r.origin_currency,
            r.seller_status, r.attempts, r.latency_ms, r.seller_latency_ms, r.request_bytes,
            r.response_bytes, r.response_sha256, r.created_at, r.delivered_at
        from gateway_request r join listing l on l.id = r.listing_id
        where (($2 and r.buyer_id = $1) or ($3 and r.seller_id = $1))
            and ($4::uuid is null or r.id = $4)
            and ($5::request_state is null or r.state = $5)
            and ($6::bool is null or (r.deposit_seen_at is not null) = $6)
            and ($7::bool is null or (r.attempts > 0) = $7)
            and ($8::uuid is null or r.listing_id = $8)
            and ($9::timestamptz is null or r.created_at >= $9)
            and ($10::timestamptz is null or r.created_at < $10)
            and ($11::uuid is null or r.id < $11)
        order by r.id desc limit $12 offset $13
        "#,
        filter.profile,
        filter.role.buyer,
        filter.role.seller,
        filter.id,
        filter.state as Option<State>,
        filter.deposit_seen,
        filter.attempted,
        filter.listing,
        filter.from,
        filter.to,
        after,
        limit,
        offset,
    )
    .fetch_all(pool)
    .await
}

/// Counts the requests, as far as `max`.
pub async fn count(pool: &PgPool, filter: &Filter, max: i64) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        select count(*) as "count!" from (
            select from gateway_request r
            where (($2 and r.buyer_id = $1) or ($3 and r.seller_id = $1))
                and ($4::uuid is null or r.id = $4)
                and ($5::request_state is null or r.state = $5)
                and ($6::bool is null or (r.deposit_seen_at is not null) = $6)
                and ($7::bool is null or (r.attempts > 0) = $7)
                and ($8::uuid is null or r.listing_id = $8)
                and ($9::timestamptz is null or r.created_at >= $9)
                and ($10::timestamptz is null or r.created_at < $10)
            limit $11
        ) counted
        "#,
        filter.profile,
        filter.role.buyer,
        filter.role.seller,
        filter.id,
        filter.state as Option<State>,
        filter.deposit_seen,
        filter.attempted,
        filter.listing,
        filter.from,
        filter.to,
        max,
    )
    .fetch_one(pool)
    .await
}

/// A payment as its buyer sees it.
#[derive(Debug)]
pub struct Payment {
    /// The provider's id.
    pub relay_request_id: String,
    /// Ours.
    pub id: Uuid,
    /// Which listing.
    pub listing_id: Uuid,
    /// Where it stands.
    pub state: State,
    /// When a deposit was first known.
    pub deposit_seen_at: Option<DateTime<Utc>>,
    /// The price.
    pub price_micros: i64,
    /// Attempts used.
    pub attempts: i32,
    /// Until when the deposit may be made.
    pub expires_at: DateTime<Utc>,
    /// Until when it may be redeemed.
    pub redeem_until: Option<DateTime<Utc>>,
    /// Until when its answer is stored.
    pub answer_until: Option<DateTime<Utc>>,
    /// Whether it still is.
    pub is_stored: bool,
}

/// Reads a buyer's payment.
pub async fn payment(
    pool: &PgPool,
    relay_request_id: &str,
    buyer: Uuid,
) -> Result<Option<Payment>, sqlx::Error> {
    sqlx::query_as!(
        Payment,
        r#"
        select relay_request_id, id, listing_id, state as "state: State", deposit_seen_at, price_micros,
            attempts, expires_at, redeem_until,
            delivered_at + make_interval(secs => $3) as answer_until,
            coalesce(delivered_at + make_interval(secs => $3) > now(), false) as "is_stored!"
        from gateway_request where relay_request_id = $1 and buyer_id = $2
        "#,
        relay_request_id,
        buyer,
        f64::from(ANSWER_SECONDS),
    )
    .fetch_optional(pool)
    .await
}
