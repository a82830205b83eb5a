//! Everything that is kept of one request.

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use uuid::Uuid;

use crate::ledger::entry::{Account, Kind, RequestState};
use crate::payments::model::ANSWER_SECONDS;

/// How an operator names a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::operator) enum Name {
    /// By our id.
    Ours(Uuid),
    /// By the provider's.
    Relay(String),
}

/// The request's own row, its quote and its evidence.
#[derive(Debug)]
pub(in crate::operator) struct Head {
    pub(in crate::operator) id: Uuid,
    pub(in crate::operator) relay_request_id: String,
    pub(in crate::operator) listing_id: Uuid,
    pub(in crate::operator) listing_name: String,
    pub(in crate::operator) buyer_id: Uuid,
    pub(in crate::operator) buyer_name: String,
    pub(in crate::operator) seller_id: Uuid,
    pub(in crate::operator) seller_name: String,
    pub(in crate::operator) state: RequestState,
    pub(in crate::operator) price_micros: i64,
    pub(in crate::operator) fee_rate_ppm: i32,
    pub(in crate::operator) origin_currency: String,
    pub(in crate::operator) idempotency_key: Option<String>,
    pub(in crate::operator) body_sha256: Vec<u8>,
    pub(in crate::operator) request_bytes: i32,
    pub(in crate::operator) created_at: DateTime<Utc>,
    pub(in crate::operator) expires_at: DateTime<Utc>,
    pub(in crate::operator) provider_status: Option<String>,
    pub(in crate::operator) deposit_seen_at: Option<DateTime<Utc>>,
    pub(in crate::operator) redeem_until: Option<DateTime<Utc>>,
    pub(in crate::operator) attempts: i32,
    pub(in crate::operator) epoch: i32,
    pub(in crate::operator) owner: Option<Vec<u8>>,
    pub(in crate::operator) lease_until: Option<DateTime<Utc>>,
    pub(in crate::operator) timeout_ms: Option<i32>,
    pub(in crate::operator) seller_status: Option<i32>,
    pub(in crate::operator) seller_latency_ms: Option<i32>,
    pub(in crate::operator) latency_ms: Option<i32>,
    pub(in crate::operator) response_bytes: Option<i32>,
    pub(in crate::operator) response_sha256: Option<Vec<u8>>,
    pub(in crate::operator) delivered_at: Option<DateTime<Utc>>,
    pub(in crate::operator) answer_until: Option<DateTime<Utc>>,
    pub(in crate::operator) answer_chunks: i64,
    pub(in crate::operator) closed_reason: Option<String>,
    pub(in crate::operator) closed_at: Option<DateTime<Utc>>,
    pub(in crate::operator) deposit_address: Option<String>,
    pub(in crate::operator) refund_to: String,
    pub(in crate::operator) evidence_at: Option<DateTime<Utc>>,
    pub(in crate::operator) evidence_matches: Option<bool>,
    pub(in crate::operator) evidence_amount: Option<String>,
    pub(in crate::operator) evidence_token: Option<String>,
    pub(in crate::operator) evidence_chain_id: Option<i64>,
    pub(in crate::operator) evidence_recipient: Option<String>,
    pub(in crate::operator) in_tx_hashes: Vec<String>,
    pub(in crate::operator) out_tx_hashes: Vec<String>,
    pub(in crate::operator) refund_tx: Option<String>,
    pub(in crate::operator) refund_noted_at: Option<DateTime<Utc>>,
}

/// A claim that did not deliver.
#[derive(Debug)]
pub(in crate::operator) struct Attempt {
    pub(in crate::operator) epoch: i32,
    pub(in crate::operator) owner: Vec<u8>,
    pub(in crate::operator) attempts: i32,
    pub(in crate::operator) refund_due: bool,
    pub(in crate::operator) outcome: String,
    pub(in crate::operator) seller_status: Option<i32>,
    pub(in crate::operator) seller_latency_ms: Option<i32>,
    pub(in crate::operator) lease_until: Option<DateTime<Utc>>,
    pub(in crate::operator) timeout_ms: Option<i32>,
    pub(in crate::operator) ended_at: DateTime<Utc>,
}

/// A row of the ledger.
#[derive(Debug)]
pub(in crate::operator) struct Transfer {
    pub(in crate::operator) id: Uuid,
    pub(in crate::operator) kind: Kind,
    pub(in crate::operator) debit_account: Account,
    pub(in crate::operator) credit_account: Account,
    pub(in crate::operator) amount_micros: i64,
    pub(in crate::operator) party_id: Uuid,
    pub(in crate::operator) created_at: DateTime<Utc>,
}

/// Reads the request.
pub(in crate::operator) async fn head(
    pool: &PgPool,
    name: &Name,
) -> Result<Option<Head>, sqlx::Error> {
    let (id, relay) = match name {
        Name::Ours(id) => (Some(*id), None),
        Name::Relay(id) => (None, Some(id.as_str())),
    };
    sqlx::query_as!(
        Head,
        r#"
        select r.id, r.relay_request_id, r.listing_id, l.name as listing_name,
            r.buyer_id, b.display_name as buyer_name, r.seller_id, s.display_name as seller_name,
            r.state as "state: RequestState", r.price_micros, r.fee_rate_ppm, r.origin_currency,
            r.idempotency_key, r.body_sha256, r.request_bytes, r.created_at, r.expires_at,
            r.provider_status, r.deposit_seen_at, r.redeem_until, r.attempts, r.epoch,
            r.owner, r.lease_until, r.timeout_ms, r.seller_status, r.seller_latency_ms, r.latency_ms,
            r.response_bytes, r.response_sha256, r.delivered_at,
            r.delivered_at + make_interval(secs => $3) as answer_until,
            (select count(*) from stored_answer a
                where a.day = r.answer_day and a.request_id = r.id) as "answer_chunks!",
            r.closed_reason, r.closed_at, q.deposit_address, q.refund_to,
            e.recorded_at as "evidence_at?", e.matches as "evidence_matches?",
            e.amount::text as evidence_amount, e.token as "evidence_token?",
            e.chain_id as "evidence_chain_id?", e.recipient as "evidence_recipient?",
            coalesce(e.in_tx_hashes, '{}') as "in_tx_hashes!",
            coalesce(e.out_tx_hashes, '{}') as "out_tx_hashes!", x.tx_hash as "refund_tx?",
            x.created_at as "refund_noted_at?"
        from gateway_request r
        join quote q on q.request_id = r.id
        join listing l on l.id = r.listing_id
        join profile b on b.id = r.buyer_id
        join profile s on s.id = r.seller_id
        left join payment_evidence e on e.request_id = r.id
        left join refund_transaction x on x.request_id = r.id
        where r.id = $1 or r.relay_request_id = $2
        "#,
        id,
        relay,
        f64::from(ANSWER_SECONDS),
    )
    .fetch_optional(pool)
    .await
}

/// Its claims that did not deliver, in order.
pub(in crate::operator) async fn attempts(
    pool: &PgPool,
    id: Uuid,
) -> Result<Vec<Attempt>, sqlx::Error> {
    sqlx::query_as!(
        Attempt,
        "select epoch, owner, attempts, refund_due, outcome, seller_status, seller_latency_ms,
            lease_until, timeout_ms, ended_at
         from attempt where request_id = $1 order by epoch",
        id,
    )
    .fetch_all(pool)
    .await
}

/// Its rows of the ledger, in order.
pub(in crate::operator) async fn transfers(
    pool: &PgPool,
    id: Uuid,
) -> Result<Vec<Transfer>, sqlx::Error> {
    sqlx::query_as!(
        Transfer,
        r#"select id, kind as "kind: Kind", debit_account as "debit_account: Account",
            credit_account as "credit_account: Account", amount_micros, party_id, created_at
         from transfer where request_id = $1 order by created_at, transfer.kind, id"#,
        id,
    )
    .fetch_all(pool)
    .await
}
