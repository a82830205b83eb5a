//! The sums by hour against the transfers, an hour at a time.
//!
//! An hour is looked at when all of its transfers are counted and no other can come, and once: so what a look reads
//! is what was posted in a few hours, however often it is asked for and however long the ledger is. An hour that is
//! not as it should be, or that could not be read in time, stands in the way of the next until it is. Each day the
//! walk begins again two days back: what a clock that was set back put into an hour afterwards is found then.

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;

use super::{OBSERVED, ROWS_MAX, Violation};
use crate::db::{Db, work};
use crate::ledger::totals::OPEN_SECONDS_MAX;

/// Most hours of one look: those of two days are made up for in less than an hour of looks each five minutes.
const HOURS_MAX: usize = 6;
/// Longest that reading one hour may take: beside calls, of which a busy one has millions.
const PATIENCE: &str = "2min";

/// How long a walk goes on before it begins again, once it has caught up.
const AGAIN: TimeDelta = TimeDelta::hours(24);

/// Up to where hours were looked at by this process. A new one begins two days back.
#[derive(Debug, Default)]
pub struct Walk {
    standing: Mutex<Option<Standing>>,
}

#[derive(Clone, Copy, Debug)]
struct Standing {
    /// The begin of the next hour to look at.
    next: DateTime<Utc>,
    /// When the walk begins again.
    again: DateTime<Utc>,
}

impl Standing {
    /// Two days before the first hour that is not closed.
    fn at_first(closed: DateTime<Utc>) -> Self {
        Self {
            next: closed
                .checked_sub_signed(OBSERVED)
                .unwrap_or(DateTime::UNIX_EPOCH),
            again: closed.checked_add_signed(AGAIN).unwrap_or(closed),
        }
    }

    /// Whether to begin again: it is time, and all was looked at; or time itself went back.
    fn is_over(self, closed: DateTime<Utc>) -> bool {
        self.next > closed || (self.next == closed && self.again <= closed)
    }
}

impl Walk {
    /// Looks at the hours that were closed since the last look; gives what is wrong with the first that is not as it
    /// should be.
    pub async fn go_on(&self, db: &Db) -> Result<Vec<Violation>, sqlx::Error> {
        let Some(closed) = closed(db).await? else {
            return Ok(Vec::new());
        };
        let standing = *self.standing.lock();
        let mut standing = standing
            .filter(|standing| !standing.is_over(closed))
            .unwrap_or_else(|| Standing::at_first(closed));
        // Also where no hour is closed yet: it is from now that a day is counted.
        *self.standing.lock() = Some(standing);
        for _ in 0..HOURS_MAX {
            let begin = standing.next;
            let Some(end) = begin
                .checked_add_signed(TimeDelta::hours(1))
                .filter(|end| *end <= closed)
            else {
                break;
            };
            let found = of_hour(db, begin, end).await?;
            if !found.is_empty() {
                return Ok(found);
            }
            standing.next = end;
            *self.standing.lock() = Some(standing);
        }
        Ok(Vec::new())
    }
}

/// The begin of the first hour that is not closed: what is posted in it may not be counted yet. `None` after a
/// restore: all is counted anew, and until then nothing is said of it.
async fn closed(db: &Db) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select date_trunc('hour', since - make_interval(secs => $1), 'UTC') as "closed!"
        from ledger_fold where home = ledger_home()"#,
        OPEN_SECONDS_MAX,
    )
    .fetch_optional(db.pool())
    .await
}

async fn of_hour(
    db: &Db,
    begin: DateTime<Utc>,
    end: DateTime<Utc>,
) -> Result<Vec<Violation>, sqlx::Error> {
    db.run("ledger.hour_audit", |tx| {
        work(async move {
            sqlx::query_scalar!("select set_config('statement_timeout', $1, true)", PATIENCE)
                .fetch_one(&mut *tx)
                .await?;
            sqlx::query_as!(
                Violation,
                r#"
                select format('%s, %s', party_id, hour) as "what!",
                    format('%s of %s transfers, %s counted', kind, coalesce(l.entries, 0), coalesce(h.entries, 0)) as "found!"
                from (
                    select t.party_id, date_trunc('hour', t.created_at, 'UTC') as hour, t.kind, t.debit_account,
                        t.credit_account, count(*) as entries, sum(t.amount_micros) as amount
                    from transfer t where t.created_at >= $1 and t.created_at < $2
                    group by 1, 2, 3, 4, 5
                ) l
                full join (select * from ledger_hour where hour >= $1 and hour < $2) h
                    using (party_id, hour, kind, debit_account, credit_account)
                where l.entries is distinct from h.entries or l.amount is distinct from h.amount_micros
                limit $3
                "#,
                begin,
                end,
                ROWS_MAX,
            )
            .fetch_all(&mut *tx)
            .await
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_begins_again_each_day_once_it_has_caught_up_and_when_time_goes_back() {
        let closed = DateTime::UNIX_EPOCH + TimeDelta::days(1_000);
        let mut standing = Standing::at_first(closed);
        assert_eq!(closed - standing.next, OBSERVED);
        let day_later = closed + AGAIN;
        assert!(!standing.is_over(day_later), "it has not caught up");
        standing.next = closed;
        assert!(!standing.is_over(closed), "it is not time");
        standing.next = day_later;
        assert!(standing.is_over(day_later));
        assert!(
            standing.is_over(day_later - TimeDelta::hours(1)),
            "time went back"
        );
    }
}
