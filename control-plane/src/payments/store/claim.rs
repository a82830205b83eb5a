//! Claims, a batch in one statement.

use sqlx::PgPool;
use uuid::Uuid;

use crate::payments::model::{ANSWER_SECONDS, LEASE_MARGIN_MS, State};

/// A batch of claims in columns.
#[derive(Debug, Default)]
pub struct Claims {
    /// Place in the caller's list.
    pub places: Vec<i32>,
    /// The payments.
    pub relay_request_ids: Vec<String>,
    /// Who calls.
    pub buyers: Vec<Uuid>,
    /// Which listing.
    pub listings: Vec<Option<Uuid>>,
    /// With which body.
    pub bodies: Vec<Vec<u8>>,
    /// The HTTP calls.
    pub owners: Vec<Vec<u8>>,
    /// Whether the gateway could forward.
    pub serve: Vec<bool>,
}

/// A payment as it stood when the batch began, and whether it was claimed by it.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts of one row, each judged by the database"
)]
pub struct Seen {
    /// Place in the caller's list.
    pub place: i32,
    /// The request.
    pub id: Uuid,
    /// Whether it is this buyer's.
    pub is_buyers: bool,
    /// Whether listing and body are those of the quote.
    pub is_bound: bool,
    /// Whether the gateway could forward.
    pub serve: bool,
    /// Its state.
    pub state: State,
    /// Whether this very call held the claim, its lease running.
    pub is_owner: bool,
    /// Whether time or attempts are over, or a claim ran out that may not be repeated.
    pub is_over: bool,
    /// Whether a claim's lease and grace are over.
    pub is_abandoned: bool,
    /// Whether the answer is still stored.
    pub is_stored: bool,
    /// What was charged.
    pub price_micros: i64,
    /// The fee rule.
    pub fee_rate_ppm: i32,
    /// Newest epoch before.
    pub epoch: i32,
    /// Attempts used before.
    pub attempts: i32,
    /// The endpoint's timeout when last claimed.
    pub timeout_ms: Option<i32>,
    /// The endpoint's rule when last claimed.
    pub redeliver: bool,
    /// What the seller answered.
    pub seller_status: Option<i32>,
    /// SHA-256 of the answer.
    pub response_sha256: Option<Vec<u8>>,
    /// The epoch granted to this place now.
    pub granted_epoch: Option<i32>,
    /// The attempt granted now.
    pub granted_attempt: Option<i32>,
    /// The endpoint's timeout now.
    pub granted_timeout_ms: Option<i32>,
    /// The endpoint's rule now.
    pub granted_redeliver: Option<bool>,
}

/// Claims what can be claimed, and tells how all of them stand. Ids that are unknown have no row.
///
/// Rows are locked in id order; one that is locked already is skipped and so not granted. Each
/// request is claimed for one place of the batch at most. `held` carries the one condition.
///
/// What must be looked at when the lease is over stands in one row for all claims of equal length.
pub async fn claim(
    pool: &PgPool,
    batch: &Claims,
    max_attempts: i32,
    grace_seconds: f64,
) -> Result<Vec<Seen>, sqlx::Error> {
    sqlx::query_as!(
        Seen,
        r#"
        with item as materialized (
            select * from unnest($1::int4[], $2::text[], $3::uuid[], $4::uuid[], $5::bytea[], $6::bytea[], $7::bool[])
            as t (place, relay_request_id, buyer, listing, body, caller, serve)
        ), seen as materialized (
            select i.place, i.caller, i.serve, r.id, r.state, r.owner, r.lease_until, r.redeem_until, r.redeliver,
                r.timeout_ms, r.epoch, r.attempts, r.price_micros, r.fee_rate_ppm, r.seller_status,
                r.response_sha256, r.delivered_at,
                r.buyer_id = i.buyer as is_buyers,
                coalesce(r.listing_id = i.listing, false) and r.body_sha256 = i.body as is_bound,
                coalesce(r.lease_until + make_interval(secs => $9) <= now(), false) as is_abandoned
            from item i join gateway_request r on r.relay_request_id = i.relay_request_id
        ), wanted as materialized (
            select distinct on (id) id, place, caller from seen
            where is_buyers and is_bound and serve
            order by id, place
        ), held as materialized (
            select w.place, w.caller, r.id, r.state, r.epoch, r.owner, r.attempts,
                r.lease_until as was_until, r.timeout_ms as was_timeout_ms, e.timeout_ms, e.redelivery <> 'never' as redeliver
            from wanted w
            join gateway_request r on r.id = w.id
            join endpoint e on e.listing_id = r.listing_id
            where (r.state = 'paid'
                    or (r.state = 'claimed' and r.redeliver and r.lease_until + make_interval(secs => $9) <= now()))
                and r.redeem_until > now() and r.attempts < $8
            order by r.id
            for update of r skip locked
        ), claimed as (
            update gateway_request r set
                state = 'claimed', epoch = r.epoch + 1, owner = h.caller, attempts = r.attempts + 1,
                timeout_ms = h.timeout_ms, redeliver = h.redeliver,
                lease_until = clock_timestamp() + make_interval(secs => (h.timeout_ms + $10::int4) / 1000.0)
            from held h where r.id = h.id
            returning r.id, h.place, r.epoch, r.attempts, r.timeout_ms, r.redeliver, r.lease_until
        ), journaled as (
            insert into attempt (request_id, epoch, owner, attempts, refund_due, outcome, lease_until, timeout_ms)
            select id, epoch, owner, attempts, false, 'lease_expired', was_until, was_timeout_ms
            from held where state = 'claimed'
        ), watched as (
            insert into lease (due_at, request_ids)
            select max(lease_until) + make_interval(secs => $9), array_agg(id) from claimed group by timeout_ms
        )
        select s.place as "place!", s.id as "id!", s.is_buyers as "is_buyers!", s.is_bound as "is_bound!",
            s.serve as "serve!", s.state as "state!: State",
            coalesce(s.owner = s.caller and s.lease_until > now(), false) as "is_owner!",
            coalesce((s.state = 'paid' and (s.redeem_until <= now() or s.attempts >= $8))
                or (s.state = 'claimed' and s.is_abandoned
                    and (not s.redeliver or s.redeem_until <= now() or s.attempts >= $8)), false) as "is_over!",
            s.is_abandoned as "is_abandoned!",
            coalesce(s.delivered_at + make_interval(secs => $11) > now(), false) as "is_stored!",
            s.price_micros as "price_micros!", s.fee_rate_ppm as "fee_rate_ppm!", s.epoch as "epoch!",
            s.attempts as "attempts!", s.timeout_ms as "timeout_ms?", s.redeliver as "redeliver!",
            s.seller_status as "seller_status?", s.response_sha256 as "response_sha256?",
            c.epoch as "granted_epoch?", c.attempts as "granted_attempt?",
            c.timeout_ms as "granted_timeout_ms?", c.redeliver as "granted_redeliver?"
        from seen s left join claimed c on c.place = s.place
        "#,
        &batch.places,
        &batch.relay_request_ids,
        &batch.buyers,
        &batch.listings as _,
        &batch.bodies,
        &batch.owners,
        &batch.serve,
        max_attempts,
        grace_seconds,
        i32::try_from(LEASE_MARGIN_MS).unwrap_or(i32::MAX),
        f64::from(ANSWER_SECONDS),
    )
    .fetch_all(pool)
    .await
}
