//! Refunds that are due or were sent.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use crate::ledger::entry::RequestState;
use crate::payments::model::SURPLUS_WORTH_MICROS;

/// A refund that is due: of a whole payment, or of what was paid beyond the price of a delivered call.
#[derive(Debug)]
pub(in crate::operator) struct Due {
    /// Of which request.
    pub(in crate::operator) id: Uuid,
    /// The provider's id of its payment.
    pub(in crate::operator) relay_request_id: String,
    /// To whom.
    pub(in crate::operator) buyer_id: Uuid,
    /// Her name.
    pub(in crate::operator) buyer_name: String,
    /// What refunds payable holds for it.
    pub(in crate::operator) amount_micros: i64,
    /// Whether it is a surplus of a buyer who is owed less than is worth sending.
    pub(in crate::operator) is_dust: bool,
    /// What she paid in.
    pub(in crate::operator) origin_currency: String,
    /// The wallet that she named for refunds.
    pub(in crate::operator) refund_to: String,
    /// Since when.
    pub(in crate::operator) closed_at: Option<DateTime<Utc>>,
    /// Why.
    pub(in crate::operator) closed_reason: Option<String>,
    /// What arrived, in atomic units.
    pub(in crate::operator) arrived_amount: Option<String>,
    /// Of which token.
    pub(in crate::operator) arrived_token: Option<String>,
    /// On which chain.
    pub(in crate::operator) arrived_chain_id: Option<i64>,
    /// Her deposits.
    pub(in crate::operator) in_tx_hashes: Vec<String>,
}

/// Every refund that is due, the oldest first. State has no index, for the sake of calls; so this
/// reads the table.
pub(in crate::operator) async fn due(db: impl PgExecutor<'_>) -> Result<Vec<Due>, sqlx::Error> {
    sqlx::query_as!(
        Due,
        r#"
        with due as (
            select id, closed_at as since, closed_reason as reason, false as is_surplus
            from gateway_request where state = 'refund_due'
            union all
            select r.id, r.delivered_at, 'surplus', true from transfer s join gateway_request r on r.id = s.request_id
            where s.kind = 'surplus' and r.state = 'delivered' and not exists (
                select from transfer p where p.request_id = r.id and p.kind = 'refund_paid')
        )
        select r.id, r.relay_request_id, r.buyer_id, b.display_name as buyer_name,
            coalesce(owed.amount, 0)::int8 as "amount_micros!",
            d.is_surplus and sum(owed.amount) over (partition by r.buyer_id) < $1::int8 as "is_dust!", r.origin_currency, q.refund_to,
            d.since as "closed_at?", d.reason as "closed_reason?", e.amount::text as "arrived_amount?",
            e.token as "arrived_token?", e.chain_id as "arrived_chain_id?",
            coalesce(e.in_tx_hashes, '{}') as "in_tx_hashes!"
        from due d
        join gateway_request r on r.id = d.id
        join quote q on q.request_id = r.id
        join profile b on b.id = r.buyer_id
        left join payment_evidence e on e.request_id = r.id
        left join lateral (
            select sum(t.amount_micros) as amount from transfer t
            where t.request_id = r.id and t.kind in ('refund_due', 'surplus')
        ) owed on true
        order by d.since, r.id
        "#,
        SURPLUS_WORTH_MICROS,
    )
    .fetch_all(db)
    .await
}

/// What is owed of every refund that is due, together.
pub(in crate::operator) async fn owed(db: impl PgExecutor<'_>) -> Result<i64, sqlx::Error> {
    let due = due(db).await?;
    Ok(due
        .iter()
        .fold(0, |sum: i64, due| sum.saturating_add(due.amount_micros)))
}

/// What was paid beyond the price of requests that are not at their end.
#[derive(Debug)]
pub(in crate::operator) struct Surplus {
    /// How many requests.
    pub(in crate::operator) requests: i64,
    /// How much.
    pub(in crate::operator) amount_micros: i64,
}

/// Sums what was paid beyond prices and is due at the end of its request: by itself when that is
/// delivered, with the rest when it is refunded.
pub(in crate::operator) async fn surplus(db: impl PgExecutor<'_>) -> Result<Surplus, sqlx::Error> {
    sqlx::query_as!(
        Surplus,
        r#"
        select count(*) as "requests!", coalesce(sum(t.amount_micros), 0)::int8 as "amount_micros!"
        from transfer t join gateway_request r on r.id = t.request_id
        where t.kind = 'surplus' and r.state not in ('delivered', 'refund_due', 'refunded')
        "#,
    )
    .fetch_one(db)
    .await
}

/// How a request's refund stands.
#[derive(Debug)]
pub(in crate::operator) struct Refund {
    /// Its state.
    pub(in crate::operator) state: RequestState,
    /// What is, or was, due; of a request that went on, what was paid beyond its price.
    pub(in crate::operator) amount_micros: i64,
    /// The transaction noted for it.
    pub(in crate::operator) tx_hash: Option<String>,
}

/// Reads how a request's refund stands.
pub(in crate::operator) async fn refund(
    db: impl PgExecutor<'_>,
    request: Uuid,
) -> Result<Option<Refund>, sqlx::Error> {
    sqlx::query_as!(
        Refund,
        r#"
        select r.state as "state: RequestState", x.tx_hash as "tx_hash?", coalesce((
            select sum(t.amount_micros) from transfer t
            where t.request_id = r.id and t.kind in ('refund_due', 'surplus')
        ), 0)::int8 as "amount_micros!"
        from gateway_request r left join refund_transaction x on x.request_id = r.id
        where r.id = $1
        "#,
        request,
    )
    .fetch_optional(db)
    .await
}

/// What else a transaction is noted for than this request.
pub(in crate::operator) async fn other_use(
    tx: &mut PgConnection,
    request: Uuid,
    tx_hash: &str,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        select what as "what!" from (
            select 'the payout of seller ' || seller_id as what from payout p where tx_hash = $2
                and not exists (select from payout_reversal v where v.payout_id = p.id)
            union all
            select 'the refund of buyer ' || buyer_id from refund_transaction
            where tx_hash = $2 and request_id <> $1
        ) uses limit 1
        "#,
        request,
        tx_hash,
    )
    .fetch_optional(tx)
    .await
}
