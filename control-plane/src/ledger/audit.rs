//! The invariants between payments and ledger. Each is a query that must return no row.
//!
//! Run by `control-plane audit` over everything, and by a background job over what was quoted in
//! the last two days (a payment lives shorter than that by default), which sets a gauge for each. Of the
//! sums by hour the job looks at each hour once ([`Walk`]).

use chrono::TimeDelta;
use crochet_shared::clock;
use sqlx::{FromRow, PgPool};
use uuid::Uuid;

use crate::db::Db;
use crate::metrics::names;

mod hours;

pub use hours::Walk;

/// The invariant that the background job looks at by the hour.
const HOURS: &str = "hours_agree_with_ledger";
/// How far back the background job looks.
const OBSERVED: TimeDelta = TimeDelta::hours(48);
/// Most rows told of one invariant.
const ROWS_MAX: i64 = 100;

/// An invariant.
#[derive(Clone, Copy, Debug)]
pub struct Invariant {
    /// Its name, in logs and metrics.
    pub name: &'static str,
    /// What it says.
    pub says: &'static str,
    /// Gives a row for each violation. `$1` is the least id of the requests to look at, `$2` the
    /// most rows.
    sql: &'static str,
}

/// A violation.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct Violation {
    /// Which request, transfer or payment.
    pub what: String,
    /// What was found.
    pub found: String,
}

/// All of them.
pub const INVARIANTS: [Invariant; 13] = [
    Invariant {
        name: "payments_balance",
        says: "of each request, payments = credits + fees + refunds due + what is still in clearing, never below zero",
        sql: "
            select r.id::text as what, format('%s in clearing, state %s', s.clearing, r.state) as found
            from gateway_request r
            cross join lateral (
                select coalesce(sum(case
                    when t.credit_account = 'clearing' then t.amount_micros
                    when t.debit_account = 'clearing' then -t.amount_micros end), 0) as clearing
                from transfer t where t.request_id = r.id
            ) s
            where r.id >= $1 and (s.clearing < 0
                or s.clearing <> case when r.state in ('paid', 'claimed') then r.price_micros else 0 end)
            limit $2",
    },
    Invariant {
        name: "fee_rule",
        says: "every settlement divides the price by the rule of its quote",
        sql: "
            select r.id::text as what, format('credit %s, fee %s of %s', c.amount, f.amount, r.price_micros) as found
            from gateway_request r
            cross join lateral (select coalesce(sum(amount_micros), 0) as amount from transfer
                where request_id = r.id and kind = 'seller_credit') c
            cross join lateral (select coalesce(sum(amount_micros), 0) as amount from transfer
                where request_id = r.id and kind = 'marketplace_fee') f
            where r.id >= $1 and r.state = 'delivered'
                and (f.amount <> (r.price_micros * r.fee_rate_ppm + 500000) / 1000000
                    or c.amount <> r.price_micros - (r.price_micros * r.fee_rate_ppm + 500000) / 1000000)
            limit $2",
    },
    Invariant {
        name: "state_agrees_with_ledger",
        says: "each state has exactly the transfers that belong to it",
        sql: "
            select r.id::text as what, format('state %s with %s', r.state, k.kinds) as found
            from gateway_request r
            cross join lateral (
                select coalesce(array_agg(t.kind order by t.kind), '{}') as kinds
                from transfer t where t.request_id = r.id and t.kind not in ('surplus', 'correction')
                    -- A surplus of a delivered call is paid back without closing it again.
                    and not (r.state = 'delivered' and t.kind = 'refund_paid' and exists (
                        select from transfer s where s.request_id = r.id and s.kind = 'surplus'))
            ) k
            where r.id >= $1 and not case r.state
                when 'quoted' then k.kinds = '{}'
                when 'expired' then k.kinds = '{}'
                when 'failed' then k.kinds = '{}'
                when 'paid' then k.kinds = '{gateway_payment}'
                when 'claimed' then k.kinds = '{gateway_payment}'
                when 'delivered' then k.kinds in ('{gateway_payment,seller_credit,marketplace_fee}', '{gateway_payment,seller_credit}', '{gateway_payment,marketplace_fee}')
                when 'refund_due' then k.kinds in ('{gateway_payment,refund_due}', '{}')
                when 'refunded' then k.kinds in ('{gateway_payment,refund_due,refund_paid}', '{}')
            end
            limit $2",
    },
    Invariant {
        name: "evidence_covers_price",
        says: "nothing is paid, claimed or delivered without matching evidence of at least its price",
        sql: "
            select r.id::text as what, format('state %s, evidence %s of %s', r.state, e.amount, r.price_micros) as found
            from gateway_request r left join payment_evidence e on e.request_id = r.id
            where r.id >= $1 and r.state in ('paid', 'claimed', 'delivered')
                and (e.request_id is null or not e.matches or e.amount < r.price_micros)
            limit $2",
    },
    Invariant {
        name: "claims_end",
        says: "no claim stands two minutes after its lease",
        sql: "
            select r.id::text as what, format('lease ended %s', r.lease_until) as found
            from gateway_request r
            where r.id >= $1 and r.state = 'claimed' and r.lease_until < now() - interval '2 minutes'
            limit $2",
    },
    Invariant {
        name: "answers_are_stored",
        says: "a delivered answer is stored for 24 hours",
        sql: "
            select r.id::text as what, format('delivered %s', r.delivered_at) as found
            from gateway_request r
            where r.id >= $1 and r.state = 'delivered' and r.delivered_at > now() - interval '24 hours'
                and not exists (select from stored_answer a where a.day = r.answer_day and a.request_id = r.id)
            limit $2",
    },
    Invariant {
        name: "no_orphan_transfer",
        says: "every transfer belongs to a request, and to its buyer, seller and listing",
        sql: "
            select t.id::text as what, format('%s of request %s', t.kind, t.request_id) as found
            from transfer t left join gateway_request r on r.id = t.request_id
            where t.request_id >= $1 and (r.id is null or t.listing_id <> r.listing_id
                or not case
                    when t.kind in ('seller_credit', 'marketplace_fee')
                        then t.party_id = r.seller_id and t.counterparty_id = r.buyer_id
                    when t.kind = 'correction' then t.party_id in (r.buyer_id, r.seller_id)
                    else t.party_id = r.buyer_id and t.counterparty_id = r.seller_id end)
            limit $2",
    },
    Invariant {
        name: "successes_are_in_evidence",
        says: "every success the provider told of more than 1 minute ago is in evidence",
        sql: "
            select p.relay_request_id as what, format('seen %s', p.seen_at) as found
            from provider_success p
            left join gateway_request r on r.relay_request_id = p.relay_request_id
            left join payment_evidence e on e.request_id = r.id
            where not p.evidenced and p.seen_at < now() - interval '1 minute'
                and e.request_id is null and $1::uuid is not null
            limit $2",
    },
    Invariant {
        name: "closed_accounts_are_empty",
        says: "a closed request holds nothing in clearing, and refunds payable exactly what is owed",
        sql: "
            select r.id::text as what, format('%s: clearing %s, refunds payable %s', r.state, s.clearing, s.payable) as found
            from gateway_request r
            cross join lateral (
                select
                    coalesce(sum(case when t.credit_account = 'clearing' then t.amount_micros
                        when t.debit_account = 'clearing' then -t.amount_micros end), 0) as clearing,
                    coalesce(sum(case when t.credit_account = 'refunds_payable' then t.amount_micros
                        when t.debit_account = 'refunds_payable' then -t.amount_micros end), 0) as payable,
                    coalesce(sum(t.amount_micros) filter (where t.kind in ('surplus', 'refund_due')), 0) as owed,
                    coalesce(bool_or(t.kind = 'refund_paid'), false) as is_paid
                from transfer t where t.request_id = r.id
            ) s
            where r.id >= $1 and r.state in ('delivered', 'refund_due', 'refunded', 'expired', 'failed')
                and (s.clearing <> 0 or s.payable <> case when r.state = 'refunded' or (r.state = 'delivered' and s.is_paid) then 0 else s.owed end)
            limit $2",
    },
    Invariant {
        name: "open_requests_are_watched",
        says: "every open request has a deadline, and no closed one",
        sql: "
            select r.id::text as what, format('state %s, due %s', r.state, d.due_at) as found
            from gateway_request r left join deadline d on d.request_id = r.id
            where r.id >= $1 and (r.state in ('quoted', 'paid', 'claimed')) <> (d.request_id is not null)
            limit $2",
    },
    Invariant {
        name: "claims_are_watched",
        says: "every claim is looked at when its lease is over, or at a deadline before",
        sql: "
            select r.id::text as what, format('lease until %s, deadline %s', r.lease_until, d.due_at) as found
            from gateway_request r left join deadline d on d.request_id = r.id
            where r.id >= $1 and r.state = 'claimed'
                and r.id not in (select unnest(l.request_ids) from lease l)
                and (d.due_at is null or d.due_at > r.lease_until + interval '10 minutes')
            limit $2",
    },
    Invariant {
        name: HOURS,
        says: "the sums by hour are those of the transfers that are counted into them",
        sql: "
            with since as materialized (
                select case when $1 = '00000000-0000-0000-0000-000000000000'::uuid then '-infinity' else date_trunc('hour',
                    to_timestamp(('x' || left(replace($1::text, '-', ''), 12))::bit(48)::bigint / 1000.0), 'UTC')
                end as hour
            )
            select format('%s, %s', party_id, hour) as what,
                format('%s of %s transfers, %s counted', kind, coalesce(l.entries, 0), coalesce(h.entries, 0)) as found
            from (
                select t.party_id, date_trunc('hour', t.created_at, 'UTC') as hour, t.kind, t.debit_account,
                    t.credit_account, count(*) as entries, sum(t.amount_micros) as amount
                from transfer t cross join ledger_fold f
                where t.created_at >= (select s.hour from since s)
                    and (((f.horizon::text::int8 - t.xmin::text::int8) & 4294967295) between 1 and 2147483647
                        or t.created_at <= f.since - interval '120 seconds')
                group by 1, 2, 3, 4, 5
            ) l
            full join (select * from ledger_hour where hour >= (select s.hour from since s)) h
                using (party_id, hour, kind, debit_account, credit_account)
            where (l.entries is distinct from h.entries or l.amount is distinct from h.amount_micros)
                -- After a restore all is counted anew, and until then nothing is said of it.
                and exists (select from ledger_fold f where f.home = ledger_home())
            limit $2",
    },
    Invariant {
        name: "payouts_within_credits",
        says: "no seller was paid out more than her account was credited",
        sql: "
            select s.seller_id::text as what, format('paid %s of %s', s.paid, s.credited) as found
            from (
                select p.seller_id, sum(p.amount_micros) as paid, (
                    select coalesce(sum(case when t.credit_account = 'seller' then t.amount_micros else -t.amount_micros end), 0)
                    from transfer t where t.party_id = p.seller_id
                        and (t.credit_account = 'seller') <> (t.debit_account = 'seller')
                ) as credited
                from payout p where not exists (select from payout_reversal v where v.payout_id = p.id)
                group by p.seller_id having bool_or(p.id >= $1)
            ) s
            where s.paid > s.credited
            limit $2",
    },
];

impl Invariant {
    /// Looks for violations among requests from `least` on.
    pub async fn violations(
        &self,
        pool: &PgPool,
        least: Uuid,
    ) -> Result<Vec<Violation>, sqlx::Error> {
        sqlx::query_as(self.sql)
            .bind(least)
            .bind(ROWS_MAX)
            .fetch_all(pool)
            .await
    }
}

/// Every violation there is, with the name of its invariant.
pub async fn violations(pool: &PgPool) -> Result<Vec<(&'static str, Violation)>, sqlx::Error> {
    violations_from(pool, Uuid::nil()).await
}

async fn violations_from(
    pool: &PgPool,
    least: Uuid,
) -> Result<Vec<(&'static str, Violation)>, sqlx::Error> {
    let mut all = Vec::new();
    for invariant in &INVARIANTS {
        for violation in invariant.violations(pool, least).await? {
            all.push((invariant.name, violation));
        }
    }
    Ok(all)
}

/// The least id of a request of the last two days.
fn recent() -> Uuid {
    let since = clock::now()
        .checked_sub_signed(OBSERVED)
        .unwrap_or_default();
    let millis = u64::try_from(since.timestamp_millis()).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid()
}

/// The violations of the last two days.
pub async fn recent_violations(
    pool: &PgPool,
) -> Result<Vec<(&'static str, Violation)>, sqlx::Error> {
    violations_from(pool, recent()).await
}

/// Runs the invariants over the last two days and sets their gauges. One that cannot be looked at hides none of
/// the others, and its own gauge says so; the first failure is told at the end.
pub async fn observe(db: &Db, walk: &Walk) -> Result<(), sqlx::Error> {
    let least = recent();
    let mut failed = None;
    for invariant in &INVARIANTS {
        let looked = if invariant.name == HOURS {
            walk.go_on(db).await
        } else {
            invariant.violations(db.pool(), least).await
        };
        metrics::gauge!(names::UNFINISHED.name, "invariant" => invariant.name)
            .set(f64::from(u8::from(looked.is_err())));
        let found = match looked {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(
                    invariant = invariant.name,
                    %error,
                    "an invariant could not be looked at"
                );
                failed.get_or_insert(error);
                continue;
            }
        };
        let count = u32::try_from(found.len()).unwrap_or(u32::MAX);
        metrics::gauge!(names::VIOLATIONS.name, "invariant" => invariant.name)
            .set(f64::from(count));
        for violation in found.iter().take(3) {
            tracing::error!(
                invariant = invariant.name,
                what = violation.what,
                found = violation.found,
                "ALERT: an invariant is violated"
            );
        }
    }
    failed.map_or(Ok(()), Err)
}
