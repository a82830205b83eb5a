//! Sums of a party's ledger, by hour.
//!
//! Settlements write nothing for it. What they post is counted here soon after, each transfer exactly
//! once: it belongs to the transaction that wrote it, and a run counts those of the transactions that
//! ended since the last run. A sum adds hours, and reads transfers only of what is not counted yet and of
//! the hours that its time begins and ends in: however long a ledger is, that is little of it.
//!
//! Numbers of transactions mean something in one table only. In one that was restored from a dump, also over the
//! database that the dump is of, all is counted anew (`ledger_home`), and so it is when the database's clock went
//! back: what is posted then bears times at which nobody looks any more. A clock that goes back while nothing is
//! counted, and has caught up again when the next run comes, is not seen here, nor is a dump of which the data alone
//! is put into tables that stand: nothing that is cheap to look at is another then. The audit compares the hours with
//! the transfers ([`super::audit`]), and `select count_ledger_anew()` mends what it finds.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgPool;
use uuid::Uuid;

use super::entry::{Account, Kind};
use crate::db::{Db, work};

/// No transaction of ours is open longer than this; a transfer's time is that of its transaction's start.
pub(super) const OPEN_SECONDS_MAX: f64 = 120.0;
/// How far the clock that made a transfer's id may be from the database's.
const CLOCKS_APART: TimeDelta = TimeDelta::minutes(15);
/// Longest time the count may take: it reads far when it has not run for long.
const PATIENCE: &str = "10min";

/// Sums of one kind between the same accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Total {
    /// Why money moved.
    pub kind: Kind,
    /// From where.
    pub debit_account: Account,
    /// Where to.
    pub credit_account: Account,
    /// How often.
    pub count: i64,
    /// How much, in micro-dollars.
    pub amount_micros: i64,
}

/// Which of a party's transfers are summed.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Whose.
    pub party: Uuid,
    /// Of which kinds.
    pub kinds: &'a [Kind],
    /// From this time on.
    pub from: Option<DateTime<Utc>>,
    /// Before this time.
    pub to: Option<DateTime<Utc>>,
}

/// Counts what was posted since the last run, unless another replica does.
pub async fn fold(db: &Db) -> Result<(), sqlx::Error> {
    db.run("ledger.fold", |tx| {
        work(async move {
            sqlx::query_scalar!("select set_config('statement_timeout', $1, true)", PATIENCE)
                .fetch_one(&mut *tx)
                .await?;
            // A transfer bears the time of the clock as it was. As long as the count runs more often than a
            // transaction may be open, a step back that hides any is seen here before the clock has caught up.
            let lost = sqlx::query!(
                r#"select home <> ledger_home() as "is_elsewhere!", now() < since as "went_back!" from ledger_fold"#
            )
            .fetch_one(&mut *tx)
            .await?;
            if lost.is_elsewhere || lost.went_back {
                tracing::warn!(
                    lost.is_elsewhere,
                    lost.went_back,
                    "the ledger was summed in another table, or the clock went back: it is summed anew"
                );
                sqlx::query_scalar!("select count_ledger_anew()")
                    .fetch_one(&mut *tx)
                    .await?;
            }
            // One statement, and so one view of what has ended.
            sqlx::query!(
                r#"
                with standing as materialized (
                    select horizon::text::int8 as counted, since,
                        pg_snapshot_xmin(pg_current_snapshot())::text::int8 as ended
                    from ledger_fold for update skip locked
                ), fresh as (
                    select t.party_id, date_trunc('hour', t.created_at, 'UTC') as hour, t.kind,
                        t.debit_account, t.credit_account, count(*) as entries, sum(t.amount_micros)::int8 as amount
                    from standing s join transfer t on t.created_at > s.since - make_interval(secs => $1)
                    where ((s.ended - t.xmin::text::int8) & 4294967295) between 1 and 2147483647
                        and s.ended - ((s.ended - t.xmin::text::int8) & 4294967295) >= s.counted
                    group by 1, 2, 3, 4, 5
                ), added as (
                    insert into ledger_hour as h (party_id, hour, kind, debit_account, credit_account,
                        entries, amount_micros)
                    select * from fresh order by 1, 2, 3, 4, 5
                    on conflict (party_id, hour, kind, debit_account, credit_account) do update set
                        entries = h.entries + excluded.entries,
                        amount_micros = h.amount_micros + excluded.amount_micros
                )
                -- Whoever waited for another run sees its horizon and an older end: never back.
                update ledger_fold f set
                    horizon = greatest(s.counted, s.ended)::text::xid8,
                    since = case when mark::text::int8 <= s.ended then mark_at else f.since end,
                    mark_at = case when mark::text::int8 <= s.ended then now() else mark_at end,
                    mark = case when mark::text::int8 <= s.ended
                        then pg_snapshot_xmax(pg_current_snapshot()) else mark end
                from standing s
                "#,
                OPEN_SECONDS_MAX,
            )
            .execute(&mut *tx)
            .await?;
            Ok(())
        })
    })
    .await
}

/// The sums of what is wanted, by kind and accounts.
pub async fn sums(pool: &PgPool, wanted: Wanted<'_>) -> Result<Vec<Total>, sqlx::Error> {
    let parts = Parts::of(wanted.from, wanted.to);
    let (first, second) = (parts.edges[0], parts.edges[1]);
    sqlx::query_as!(
        Total,
        r#"
        select kind as "kind!: Kind", debit_account as "debit_account!: Account",
            credit_account as "credit_account!: Account", sum(entries)::int8 as "count!",
            sum(amount_micros)::int8 as "amount_micros!"
        from (
            select kind, debit_account, credit_account, entries, amount_micros from ledger_hour
            where party_id = $1 and kind = any($2::transfer_kind[])
                and ($3::timestamptz is null or hour >= $3) and ($4::timestamptz is null or hour < $4)
            union all
            -- What is not counted yet.
            select kind, debit_account, credit_account, 1, amount_micros from transfer t
            where party_id = $1 and kind = any($2::transfer_kind[])
                and id >= (select least_id_at(since - $5::interval - make_interval(secs => $10)) from ledger_fold)
                and created_at > (select since - make_interval(secs => $10) from ledger_fold)
                and (((select horizon::text::int8 from ledger_fold) - t.xmin::text::int8) & 4294967295)
                    not between 1 and 2147483647
                and ($3::timestamptz is null or created_at >= $3) and ($4::timestamptz is null or created_at < $4)
            union all
            -- Parts of hours, counted or not.
            select kind, debit_account, credit_account, 1, amount_micros from transfer
            where party_id = $1 and kind = any($2::transfer_kind[]) and created_at >= $6 and created_at < $7
                and id >= least_id_at($6 - $5::interval) and id < least_id_at($7 + $5::interval)
            union all
            select kind, debit_account, credit_account, 1, amount_micros from transfer
            where party_id = $1 and kind = any($2::transfer_kind[]) and created_at >= $8 and created_at < $9
                and id >= least_id_at($8 - $5::interval) and id < least_id_at($9 + $5::interval)
        ) parts
        group by kind, debit_account, credit_account
        order by kind, debit_account, credit_account
        "#,
        wanted.party,
        wanted.kinds as &[Kind],
        parts.hours.0,
        parts.hours.1,
        CLOCKS_APART as _,
        first.map(|edge| edge.0),
        first.map(|edge| edge.1),
        second.map(|edge| edge.0),
        second.map(|edge| edge.1),
        OPEN_SECONDS_MAX,
    )
    .fetch_all(pool)
    .await
}

/// A span of time, the end not in it.
type Span = (DateTime<Utc>, DateTime<Utc>);

/// A time as whole hours, and the parts of hours before and after them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parts {
    /// From this hour on, and before this one. None lies between when the second is before the first.
    hours: (Option<DateTime<Utc>>, Option<DateTime<Utc>>),
    edges: [Option<Span>; 2],
}

impl Parts {
    fn of(from: Option<DateTime<Utc>>, to: Option<DateTime<Utc>>) -> Self {
        // Nothing was posted before there were clocks, and ids tell no time before it.
        let from = from.map(|from| from.max(DateTime::UNIX_EPOCH));
        let (first, last) = (from.map(next_hour), to.map(hour_of));
        let span = |from: DateTime<Utc>, to: DateTime<Utc>| (from < to).then_some((from, to));
        let before = from.zip(first).and_then(|(from, first)| {
            let end = to.map_or(first, |to| to.min(first));
            span(from, end)
        });
        let after = to.zip(last).and_then(|(to, last)| {
            let begin = first.map_or(last, |first| first.max(last));
            span(begin.max(DateTime::UNIX_EPOCH), to)
        });
        Self {
            hours: (first, last),
            edges: [before, after],
        }
    }
}

/// The hour that a time lies in.
fn hour_of(time: DateTime<Utc>) -> DateTime<Utc> {
    const HOUR: i64 = 3_600;
    let into = time.timestamp().rem_euclid(HOUR);
    let begin = time.timestamp().checked_sub(into);
    begin
        .and_then(|begin| DateTime::from_timestamp(begin, 0))
        .unwrap_or(time)
}

/// The hour that begins at a time, or next after it.
fn next_hour(time: DateTime<Utc>) -> DateTime<Utc> {
    let begun = hour_of(time);
    if begun == time {
        return time;
    }
    begun
        .checked_add_signed(TimeDelta::hours(1))
        .unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    /// Whether a time lies in the hours, counted as whole ones, or in one of the edges: how often.
    fn times_in(parts: &Parts, time: DateTime<Utc>) -> usize {
        let hour = hour_of(time);
        let in_hours = parts.hours.0.is_none_or(|first| hour >= first)
            && parts.hours.1.is_none_or(|last| hour < last);
        let spans = parts.edges.iter().flatten();
        let in_edges = spans.map(|edge| edge.0 <= time && time < edge.1);
        in_edges.chain([in_hours]).filter(|is_in| *is_in).count()
    }

    proptest! {
        #[test]
        fn every_time_that_is_wanted_is_in_one_part_and_no_other_is_in_any(
            from in prop::option::of(0_i64..20_000), to in prop::option::of(0_i64..20_000), time in 0_i64..20_000
        ) {
            let parts = Parts::of(from.map(at), to.map(at));
            let wanted = from.is_none_or(|from| time >= from) && to.is_none_or(|to| time < to);
            prop_assert_eq!(times_in(&parts, at(time)), usize::from(wanted));
        }
    }

    #[test]
    fn whole_hours_have_no_edges() {
        let parts = Parts::of(Some(at(3_600)), Some(at(7_200)));
        assert_eq!(parts.edges, [None, None]);
        let before_clocks = DateTime::from_timestamp(-10_000_000, 5).unwrap();
        assert_eq!(Parts::of(Some(before_clocks), None).edges, [None, None]);
    }
}
