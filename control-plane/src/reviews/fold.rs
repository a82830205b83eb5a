//! The fold: reads what payments wrote since the last time, and adds it to the sums scores stand on.
//!
//! Its cursor is a time. A row's time is the start of the transaction that wrote it, so a row may appear
//! after later ones; the fold therefore reads only as far as no running transaction began before
//! ([`store::settled_until`]). Cursor and sums move in one transaction: a crash or another replica
//! repeats nothing and leaves nothing out.

use std::time::Duration;

use chrono::TimeDelta;
use crochet_shared::outcome::SellerFailure;

use super::model::PERIOD_DAYS;
use super::store::evidence as store;
use crate::app::App;
use crate::db::work;

/// How far behind the present the fold stays: a transaction's start is seen a moment after it is taken.
pub const FOLD_MARGIN: Duration = Duration::from_secs(1);
/// A score is computed at most this often, however busy its agent is.
pub(super) const REST: Duration = Duration::from_secs(5);
/// Longest stretch of time folded at once, at first; see [`next_stretch`].
const STRETCH: TimeDelta = TimeDelta::minutes(1);
const STRETCH_MIN: TimeDelta = TimeDelta::seconds(1);
const STRETCH_MAX: TimeDelta = TimeDelta::days(7);
/// Calls that a stretch should hold: at most a second of the database's work.
const CALLS_FEW: i64 = 2_000;
const CALLS_MANY: i64 = 20_000;

/// The journal's words for failures that are the seller's. A lease that ended is the gateway's.
pub(super) const FAILURES: [&str; 5] = [
    SellerFailure::Status.as_str(),
    SellerFailure::Unreachable.as_str(),
    SellerFailure::Timeout.as_str(),
    SellerFailure::TooLarge.as_str(),
    SellerFailure::Invalid.as_str(),
];

/// What one stretch came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// So many calls, and more time to fold.
    More(i64),
    /// All that can be read is folded, or another replica is at it.
    Done,
}

/// Folds everything up to `margin` ago.
pub async fn fold(app: &App, margin: Duration) -> Result<(), sqlx::Error> {
    let mut stretch = STRETCH;
    while let Turn::More(calls) = turn(app, margin, stretch).await? {
        stretch = next_stretch(stretch, calls);
    }
    Ok(())
}

async fn turn(app: &App, margin: Duration, stretch: TimeDelta) -> Result<Turn, sqlx::Error> {
    app.db
        .run("reviews.fold", |tx| {
            work(async move {
                let Some(since) = store::take_turn(tx).await? else {
                    return Ok(Turn::Done);
                };
                let settled = store::settled_until(tx, margin.as_secs_f64()).await?;
                let until = settled.min(since + stretch);
                if until <= since {
                    return Ok(Turn::Done);
                }
                let rest = REST.as_secs_f64();
                let calls = store::fold(tx, since, until, &FAILURES, PERIOD_DAYS, rest).await?;
                Ok(if until < settled {
                    Turn::More(calls)
                } else {
                    Turn::Done
                })
            })
        })
        .await
}

/// After a long stop, empty weeks are passed quickly and busy minutes in parts.
fn next_stretch(stretch: TimeDelta, calls: i64) -> TimeDelta {
    let next = if calls < CALLS_FEW {
        stretch * 2
    } else if calls > CALLS_MANY {
        stretch / 2
    } else {
        stretch
    };
    next.clamp(STRETCH_MIN, STRETCH_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_adapts_to_what_it_holds_within_bounds() {
        assert_eq!(next_stretch(STRETCH, 0), STRETCH * 2);
        assert_eq!(next_stretch(STRETCH, CALLS_FEW), STRETCH);
        assert_eq!(next_stretch(STRETCH, CALLS_MANY + 1), STRETCH / 2);
        assert_eq!(next_stretch(STRETCH_MAX, 0), STRETCH_MAX);
        assert_eq!(next_stretch(STRETCH_MIN, i64::MAX), STRETCH_MIN);
    }
}
