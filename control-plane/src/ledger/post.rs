//! Every statement that writes a transfer, and nothing else that does.
//!
//! Each is one statement: it locks the request, judges it by database time, moves its state, posts,
//! and keeps `deadline` true. Run twice it does nothing the second time.

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::entry::RequestState as State;

/// Evidence of a payment, as the provider recorded it.
#[derive(Clone, Debug)]
pub struct Evidence<'a> {
    /// The payment.
    pub relay_request_id: &'a str,
    /// The provider's word.
    pub provider_status: &'a str,
    /// Whether it is as quoted.
    pub matches: bool,
    /// Micro-dollars that reached us, when known.
    pub received: Option<i64>,
    /// Who received it.
    pub recipient: Option<&'a str>,
    /// On which chain.
    pub chain_id: i64,
    /// In which token.
    pub token: &'a str,
    /// Atomic units, as digits.
    pub amount: &'a str,
    /// The deposits.
    pub in_tx_hashes: &'a [String],
    /// The fill.
    pub out_tx_hashes: &'a [String],
    /// When the provider last changed its record.
    pub provider_updated_at: Option<DateTime<Utc>>,
}

/// Records a success: evidence, `gateway_payment`, and `paid`, or `refund_due` when it is not as
/// quoted. `None` when the request does not await evidence (any more), or is not ours.
///
/// `ids` name the up to three transfers.
pub async fn payment(
    pool: &PgPool,
    evidence: &Evidence<'_>,
    redeem_seconds: f64,
    ids: [Uuid; 3],
) -> Result<Option<State>, sqlx::Error> {
    let [payment_id, surplus_id, refund_id] = ids;
    sqlx::query_scalar!(
        r#"
        with held as materialized (
            select r.id, r.buyer_id, r.seller_id, r.listing_id, r.price_micros, q.identity
            from gateway_request r join quote q on q.request_id = r.id
            where r.relay_request_id = $1 and r.state in ('quoted', 'expired', 'failed')
            for update of r
        ), recorded as (
            insert into payment_evidence (request_id, recipient, chain_id, token, amount, matches,
                in_tx_hashes, out_tx_hashes, provider_updated_at)
            select id, $5, $6, $7, $8::text::numeric, $3, $9, $10, $11 from held
            returning request_id
        ), moved as (
            update gateway_request r set
                state = case when $3 then 'paid' else 'refund_due' end::request_state,
                provider_status = $2, checked_at = now(),
                deposit_seen_at = coalesce(r.deposit_seen_at, now()),
                paid_at = now(), redeem_until = now() + make_interval(secs => $12),
                closed_reason = case when $3 then null else 'paid_otherwise_than_quoted' end,
                closed_at = case when $3 then null else now() end
            from recorded e where r.id = e.request_id
            returning r.id, r.state, r.redeem_until
        ), posted as (
            insert into transfer (party_id, id, request_id, kind, debit_account, credit_account,
                amount_micros, counterparty_id, listing_id)
            select h.buyer_id, t.id, h.id, t.kind, t.debit, t.credit, t.amount, h.seller_id, h.listing_id
            from held h cross join lateral (values
                ($13::uuid, 'gateway_payment'::transfer_kind, 'provider'::ledger_account, 'clearing'::ledger_account,
                    case when $3 then h.price_micros else $4::int8 end),
                ($14::uuid, 'surplus', 'provider', 'refunds_payable',
                    case when $3 then $4::int8 - h.price_micros end),
                ($15::uuid, 'refund_due', 'clearing', 'refunds_payable',
                    case when $3 then null else $4::int8 end)
            ) t (id, kind, debit, credit, amount)
            where t.amount > 0
        ), watched as (
            insert into deadline (request_id, due_at)
            select id, redeem_until from moved where state = 'paid'
            on conflict (request_id) do update set due_at = excluded.due_at, unpaid_by = null
        ), unwatched as (
            delete from deadline d using moved m where d.request_id = m.id and m.state <> 'paid'
        ), told as (
            insert into outbox (quote_identity) select identity from held
        )
        select state as "state!: State" from moved
        "#,
        evidence.relay_request_id,
        evidence.provider_status,
        evidence.matches,
        evidence.received,
        evidence.recipient,
        evidence.chain_id,
        evidence.token,
        evidence.amount,
        evidence.in_tx_hashes,
        evidence.out_tx_hashes,
        evidence.provider_updated_at,
        redeem_seconds,
        payment_id,
        surplus_id,
        refund_id,
    )
    .fetch_optional(pool)
    .await
}

/// A batch of settlements in columns, each request at most once.
#[derive(Debug, Default)]
pub struct Settlements {
    /// Place in the caller's list.
    pub places: Vec<i32>,
    /// The requests.
    pub ids: Vec<Uuid>,
    /// The claims' epochs.
    pub epochs: Vec<i32>,
    /// The claims' owners.
    pub owners: Vec<Vec<u8>>,
    /// `delivered`, `failed` or `unsent`.
    pub kinds: Vec<&'static str>,
    /// The journal's word for a failure.
    pub outcomes: Vec<&'static str>,
    /// Whether the seller answered completely.
    pub answered: Vec<bool>,
    /// What the seller answered.
    pub seller_statuses: Vec<Option<i32>>,
    /// How long she took.
    pub seller_latencies: Vec<Option<i32>>,
    /// How long the call took.
    pub latencies: Vec<Option<i32>>,
    /// Length of the stored answer.
    pub response_bytes: Vec<Option<i32>>,
    /// Its SHA-256.
    pub response_sha256: Vec<Option<Vec<u8>>>,
    /// Ids for `seller_credit` (or `refund_due`).
    pub first_ids: Vec<Uuid>,
    /// Ids for `marketplace_fee`.
    pub second_ids: Vec<Uuid>,
    /// Requests of the sealed chunks.
    pub chunk_ids: Vec<Uuid>,
    /// Numbers of the chunks.
    pub chunk_numbers: Vec<i16>,
    /// The chunks, sealed.
    pub chunks: Vec<Vec<u8>>,
}

/// How one settlement stands after the batch.
#[derive(Debug)]
pub struct Settled {
    /// Place in the caller's list.
    pub place: i32,
    /// The state it was moved to now; `None` when this epoch and owner did not hold the claim.
    pub next: Option<State>,
    /// Attempts used, when it was moved now.
    pub used: Option<i32>,
    /// The state it stands in when it was not moved now; `None` also when there is no such request.
    pub state: Option<State>,
    /// Whether epoch and owner are its newest, when it was not moved now.
    pub is_newest: Option<bool>,
    /// Attempts used after this same claim ended earlier.
    pub journal_attempts: Option<i32>,
    /// Whether it was the last.
    pub journal_refund_due: Option<bool>,
    /// How it ended.
    pub journal_outcome: Option<String>,
    /// Micro-dollars that became the seller's now.
    pub credit: Option<i64>,
    /// Micro-dollars that became the marketplace's now.
    pub fee: Option<i64>,
    /// Seconds since the payment's evidence, of a call delivered now.
    pub waited_seconds: Option<f64>,
}

/// Ends claims: state, stored answers, `seller_credit` and `marketplace_fee` or `refund_due`, the
/// attempt journal and `deadline`, in one statement.
///
/// The one condition is that the request is claimed under this epoch by this owner.
#[expect(clippy::too_many_lines, reason = "one statement, read as a whole")]
pub async fn settlements(
    pool: &PgPool,
    batch: &Settlements,
    day: NaiveDate,
    max_attempts: i32,
) -> Result<Vec<Settled>, sqlx::Error> {
    sqlx::query_as!(
        Settled,
        r#"
        with item as materialized (
            select * from unnest($1::int4[], $2::uuid[], $3::int4[], $4::bytea[], $5::text[], $6::text[],
                $7::bool[], $8::int4[], $9::int4[], $10::int4[], $11::int4[], $12::bytea[], $13::uuid[], $14::uuid[])
            as t (place, id, epoch, owner, kind, outcome, answered, seller_status, seller_latency,
                latency, bytes, sha256, first_id, second_id)
        ), seen as materialized (
            select i.*, r.buyer_id, r.seller_id, r.listing_id, r.price_micros, r.redeem_until,
                r.lease_until, r.timeout_ms, r.paid_at, r.state, r.epoch = i.epoch and r.owner = i.owner as is_newest,
                (r.price_micros * r.fee_rate_ppm + 500000) / 1000000 as fee,
                r.attempts - (i.kind = 'unsent')::int4 as used,
                case
                    when i.kind = 'delivered' then 'delivered'
                    when i.kind = 'unsent' then 'paid'
                    when not (i.answered or r.redeliver) then 'refund_due'
                    when r.attempts >= $19 or r.redeem_until <= now() then 'refund_due'
                    else 'paid'
                end::request_state as next,
                case
                    when not (i.answered or r.redeliver) then 'never_redelivered'
                    when r.attempts >= $19 then 'attempts_used'
                    else 'time_over'
                end as reason
            from item i join gateway_request r on r.id = i.id
            order by r.id
        ), held as (
            -- What was seen of a claim is so until its end: judged and ended at once, without a lock before.
            update gateway_request r set
                state = s.next,
                attempts = s.used,
                seller_status = coalesce(s.seller_status, r.seller_status),
                seller_latency_ms = coalesce(s.seller_latency, r.seller_latency_ms),
                latency_ms = coalesce(s.latency, r.latency_ms),
                response_bytes = s.bytes,
                response_sha256 = s.sha256,
                answer_day = case when s.next = 'delivered' then $18::date end,
                delivered_at = case when s.next = 'delivered' then now() end,
                closed_reason = case when s.next = 'refund_due' then s.reason end,
                closed_at = case when s.next in ('delivered', 'refund_due') then now() end
            from seen s
            where r.id = s.id and r.state = 'claimed' and r.epoch = s.epoch and r.owner = s.owner
            returning s.*
        ), posted as (
            insert into transfer (party_id, id, request_id, kind, debit_account, credit_account,
                amount_micros, counterparty_id, listing_id)
            select t.party, t.id, h.id, t.kind, 'clearing', t.credit, t.amount, t.counterparty, h.listing_id
            from held h cross join lateral (values
                (h.seller_id, h.first_id, 'seller_credit'::transfer_kind, 'seller'::ledger_account,
                    case when h.next = 'delivered' then h.price_micros - h.fee end, h.buyer_id),
                (h.seller_id, h.second_id, 'marketplace_fee', 'fees',
                    case when h.next = 'delivered' then h.fee end, h.buyer_id),
                (h.buyer_id, h.first_id, 'refund_due', 'refunds_payable',
                    case when h.next = 'refund_due' then h.price_micros end, h.seller_id)
            ) t (party, id, kind, credit, amount, counterparty)
            where t.amount > 0
        ), stored as (
            insert into stored_answer (day, request_id, chunk, sealed)
            select $18::date, c.id, c.chunk, c.sealed
            from unnest($15::uuid[], $16::int2[], $17::bytea[]) c (id, chunk, sealed)
            join held h on h.id = c.id and h.next = 'delivered'
        ), journaled as (
            insert into attempt (request_id, epoch, owner, attempts, refund_due, outcome, seller_status,
                seller_latency_ms, lease_until, timeout_ms)
            select id, epoch, owner, used, next = 'refund_due', outcome, seller_status, seller_latency,
                lease_until, timeout_ms
            from held where next <> 'delivered'
        ), unwatched as (
            delete from deadline d using held h
            where d.request_id = h.id and h.next in ('delivered', 'refund_due')
        ), watched as (
            insert into deadline (request_id, due_at)
            select id, redeem_until from held where next = 'paid'
            on conflict (request_id) do update set due_at = excluded.due_at, unpaid_by = null
        )
        select i.place as "place!", h.next as "next?: State", h.used as "used?",
            case when h.place is null then s.state end as "state?: State",
            case when h.place is null then s.is_newest end as "is_newest?",
            a.attempts as "journal_attempts?", a.refund_due as "journal_refund_due?", a.outcome as "journal_outcome?",
            case when h.next = 'delivered' then h.price_micros - h.fee end as "credit?",
            case when h.next = 'delivered' then h.fee end as "fee?",
            case when h.next = 'delivered' then extract(epoch from now() - h.paid_at)::float8 end as "waited_seconds?"
        from item i
        left join seen s on s.place = i.place
        left join held h on h.place = i.place
        -- Only what was not moved now is looked up: nothing equals null.
        left join attempt a on a.request_id = case when h.place is null then i.id end and a.epoch = i.epoch and a.owner = i.owner
        "#,
        &batch.places,
        &batch.ids,
        &batch.epochs,
        &batch.owners,
        &batch.kinds as _,
        &batch.outcomes as _,
        &batch.answered,
        &batch.seller_statuses as _,
        &batch.seller_latencies as _,
        &batch.latencies as _,
        &batch.response_bytes as _,
        &batch.response_sha256 as _,
        &batch.first_ids,
        &batch.second_ids,
        &batch.chunk_ids,
        &batch.chunk_numbers,
        &batch.chunks,
        day,
        max_attempts,
    )
    .fetch_all(pool)
    .await
}

/// The rules by which time ends things.
#[derive(Clone, Copy, Debug)]
pub struct LapseRules {
    /// Attempts a payment has.
    pub max_attempts: i32,
    /// Seconds after a lease's end in which its settlement is still taken.
    pub grace_seconds: f64,
}

/// What became of a request whose time was over.
#[derive(Debug, PartialEq, Eq)]
pub struct Lapsed {
    /// The request.
    pub id: Uuid,
    /// `paid` again, or `refund_due`.
    pub next: State,
}

/// Ends what has run out among `ids`: claims past lease and grace go back to `paid` or, like
/// payments past their time or attempts, to `refund_due` with its transfer. What has not run out,
/// or is locked at this instant, is left alone and not named in the answer.
pub async fn lapsed(
    pool: &PgPool,
    ids: &[Uuid],
    transfer_ids: &[Uuid],
    rules: LapseRules,
) -> Result<Vec<Lapsed>, sqlx::Error> {
    sqlx::query_as!(
        Lapsed,
        r#"
        with wanted as materialized (
            select * from unnest($1::uuid[], $2::uuid[]) as t (id, transfer_id)
        ), held as materialized (
            select w.transfer_id, r.id, r.state as was, r.epoch, r.owner, r.attempts, r.buyer_id, r.seller_id,
                r.listing_id, r.price_micros, r.redeem_until, r.lease_until, r.timeout_ms,
                case when r.state = 'claimed' and r.redeliver and r.attempts < $3 and r.redeem_until > now()
                    then 'paid' else 'refund_due' end::request_state as next,
                case
                    when r.state = 'claimed' and not r.redeliver then 'never_redelivered'
                    when r.attempts >= $3 then 'attempts_used'
                    else 'time_over'
                end as reason
            from wanted w join gateway_request r on r.id = w.id
            where (r.state = 'paid' and (r.redeem_until <= now() or r.attempts >= $3))
                or (r.state = 'claimed' and r.lease_until + make_interval(secs => $4) <= now())
            order by r.id
            for update of r skip locked
        ), moved as (
            update gateway_request r set
                state = h.next,
                closed_reason = case when h.next = 'refund_due' then h.reason end,
                closed_at = case when h.next = 'refund_due' then now() end
            from held h where r.id = h.id
        ), posted as (
            insert into transfer (party_id, id, request_id, kind, debit_account, credit_account,
                amount_micros, counterparty_id, listing_id)
            select buyer_id, transfer_id, id, 'refund_due', 'clearing', 'refunds_payable',
                price_micros, seller_id, listing_id
            from held where next = 'refund_due'
        ), journaled as (
            insert into attempt (request_id, epoch, owner, attempts, refund_due, outcome, lease_until, timeout_ms)
            select id, epoch, owner, attempts, next = 'refund_due', 'lease_expired', lease_until, timeout_ms
            from held where was = 'claimed'
        ), unwatched as (
            delete from deadline d using held h where d.request_id = h.id and h.next = 'refund_due'
        ), watched as (
            insert into deadline (request_id, due_at)
            select id, redeem_until from held where next = 'paid'
            on conflict (request_id) do update set due_at = excluded.due_at, unpaid_by = null
        )
        select id as "id!", next as "next!: State" from held
        "#,
        ids,
        transfer_ids,
        rules.max_attempts,
        rules.grace_seconds,
    )
    .fetch_all(pool)
    .await
}

/// Records that the provider sent back what was due: `refund_due → refunded`, with all that
/// refunds payable still holds. The provider's record must be younger than our closing, so that an
/// earlier refund of another deposit is not taken for ours.
pub async fn refund_paid(
    pool: &PgPool,
    relay_request_id: &str,
    provider_updated_at: DateTime<Utc>,
    transfer_id: Uuid,
) -> Result<bool, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        with held as materialized (
            select r.id, r.buyer_id, r.seller_id, r.listing_id from gateway_request r
            where r.relay_request_id = $1 and r.state = 'refund_due' and r.closed_at < $2
            for update of r
        ), moved as (
            update gateway_request r set state = 'refunded', provider_status = 'refund', checked_at = now()
            from held h where r.id = h.id
            returning r.id
        ), posted as (
            insert into transfer (party_id, id, request_id, kind, debit_account, credit_account,
                amount_micros, counterparty_id, listing_id)
            select h.buyer_id, $3, h.id, 'refund_paid', 'refunds_payable', 'provider', owed.amount,
                h.seller_id, h.listing_id
            from held h cross join lateral (
                select sum(t.amount_micros)::int8 as amount from transfer t
                where t.request_id = h.id and t.kind in ('refund_due', 'surplus')
            ) owed
            where owed.amount > 0
        )
        select id from moved
        "#,
        relay_request_id,
        provider_updated_at,
        transfer_id,
    )
    .fetch_all(pool)
    .await?;
    Ok(!rows.is_empty())
}

/// Records that an operator sent back what was due, and by which transaction: `refund_due → refunded`,
/// with all that refunds payable holds; or, of a delivered call, the surplus that was paid for it, whose
/// request stays as it is. False, and nothing written, when nothing is due, or the transaction paid
/// somebody else.
///
/// The caller has locked the transaction's hash ([`super::payout::lock_transaction`]).
pub async fn refund_sent(
    tx: &mut PgConnection,
    request: Uuid,
    tx_hash: &str,
    transfer_id: Uuid,
) -> Result<bool, sqlx::Error> {
    // A delivered request's row does not change: what another has booked is seen only by a statement
    // that begins under the lock.
    sqlx::query!(
        "select 1 as one from gateway_request where id = $1 for no key update",
        request,
    )
    .fetch_optional(&mut *tx)
    .await?;
    let rows = sqlx::query!(
        r#"
        with held as materialized (
            select r.id, r.state, r.buyer_id, r.seller_id, r.listing_id from gateway_request r
            where r.id = $1
                and (r.state = 'refund_due' or (r.state = 'delivered'
                    and exists (select from transfer t where t.request_id = r.id and t.kind = 'surplus')
                    and not exists (select from transfer t where t.request_id = r.id and t.kind = 'refund_paid')))
                and not exists (select from payout p where p.tx_hash = $2
                    and not exists (select from payout_reversal v where v.payout_id = p.id))
                and not exists (select from refund_transaction t where t.tx_hash = $2 and t.buyer_id <> r.buyer_id)
            for update of r
        ), moved as (
            update gateway_request r set state = 'refunded' from held h
            where r.id = h.id and h.state = 'refund_due'
        ), noted as (
            insert into refund_transaction (request_id, buyer_id, tx_hash) select id, buyer_id, $2 from held
        ), posted as (
            insert into transfer (party_id, id, request_id, kind, debit_account, credit_account,
                amount_micros, counterparty_id, listing_id)
            select h.buyer_id, $3, h.id, 'refund_paid', 'refunds_payable', 'provider', owed.amount,
                h.seller_id, h.listing_id
            from held h cross join lateral (
                select sum(t.amount_micros)::int8 as amount from transfer t
                where t.request_id = h.id and t.kind in ('refund_due', 'surplus')
            ) owed
            where owed.amount > 0
        )
        select id from held
        "#,
        request,
        tx_hash,
        transfer_id,
    )
    .fetch_all(tx)
    .await?;
    Ok(!rows.is_empty())
}
