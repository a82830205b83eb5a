//! What waits for a person: deposits that stay undecided, and what buyers are owed back.

use sqlx::PgPool;

/// Refunds that are due, also of what was paid beyond the price of delivered calls.
#[derive(Debug)]
pub struct RefundsDue {
    /// How many.
    pub count: i64,
    /// What is owed.
    pub micros: i64,
    /// How long the first of them waits; 0 when there is none.
    pub oldest_seconds: f64,
    /// How many surpluses are not among them, because they are worth less than sending them costs.
    pub dust_count: i64,
    /// What is owed of these.
    pub dust_micros: i64,
}

/// What is owed back: gauges for operators. A surplus is dust when all that its buyer is owed is less than `worth`.
pub async fn refunds_due(pool: &PgPool, worth: i64) -> Result<RefundsDue, sqlx::Error> {
    sqlx::query_as!(
        RefundsDue,
        r#"with due as (
            select id, buyer_id, closed_at as since, false as is_surplus from gateway_request
            where state = 'refund_due'
                and closed_reason in ('paid_otherwise_than_quoted', 'never_redelivered', 'attempts_used', 'time_over')
            union all
            select r.id, r.buyer_id, r.delivered_at, true from transfer s join gateway_request r on r.id = s.request_id
            where s.kind = 'surplus' and r.state = 'delivered' and not exists (
                select from transfer p where p.request_id = r.id and p.kind = 'refund_paid')
        ), owed as (
            select d.since, o.micros, d.is_surplus and sum(o.micros) over (partition by d.buyer_id) < $1::int8 as is_dust,
                -- Surpluses wait since they were worth sending, not since the first grain of dust.
                not d.is_surplus or sum(o.micros) over (partition by d.buyer_id order by d.since, d.id) >= $1::int8 as is_worth_it
            from due d
            cross join lateral (
                select sum(t.amount_micros) as micros from transfer t
                where t.request_id = d.id and t.kind in ('refund_due', 'surplus')
            ) o
        )
        select count(*) filter (where not is_dust) as "count!",
            coalesce(sum(micros) filter (where not is_dust), 0)::int8 as "micros!",
            coalesce(extract(epoch from now() - min(since) filter (where is_worth_it)), 0)::float8 as "oldest_seconds!",
            count(*) filter (where is_dust) as "dust_count!",
            coalesce(sum(micros) filter (where is_dust), 0)::int8 as "dust_micros!"
        from owed"#,
        worth,
    )
    .fetch_one(pool)
    .await
}

/// How long the oldest deposit is known that the provider has neither filled nor sent back; 0 when there is none.
pub async fn oldest_deposit(pool: &PgPool) -> Result<f64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select coalesce(extract(epoch from now() - min(r.deposit_seen_at)), 0)::float8 as "seconds!"
        from deadline d join gateway_request r on r.id = d.request_id where r.state = 'quoted'"#
    )
    .fetch_one(pool)
    .await
}
