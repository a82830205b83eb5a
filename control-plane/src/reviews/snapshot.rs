//! Computes the scores that are due, and keeps each as a snapshot and on the agent's profile.

use std::time::Duration;

use sqlx::PgConnection;

use super::model::{Components, Evidence, PERIOD_DAYS, PERIODS_READ};
use super::store::snapshot as store;
use crate::app::App;
use crate::db::work;

/// A score is computed again after this time, evidence or none: what is old fades.
pub(super) const EVERY: Duration = Duration::from_hours(24);
/// How long snapshots of past days are kept, in days.
const KEEP_DAYS: i32 = 400;
/// Agents computed in one transaction.
const BATCH: i64 = 20;
/// Most agents computed in one turn, so that the fold is never kept waiting; the rest follows.
const BATCHES_MAX: usize = 25;
/// Most rows of calls read for one agent: far beyond where more buyers move a score by a point.
const CALLS_READ_MAX: i64 = 2_000;
/// Most reviews read for one agent, the newest.
const OPINIONS_READ_MAX: i64 = 1_000;

/// Computes what is due. Gives back how many scores that were.
pub async fn recompute(app: &App) -> Result<usize, sqlx::Error> {
    let mut computed = 0;
    for _ in 0..BATCHES_MAX {
        let batch = app
            .db
            .run("reviews.recompute", |tx| work(batch(tx)))
            .await?;
        computed += batch;
        if batch < usize::try_from(BATCH).unwrap_or(usize::MAX) {
            break;
        }
    }
    Ok(computed)
}

async fn batch(tx: &mut PgConnection) -> Result<usize, sqlx::Error> {
    let due = store::take_due(tx, BATCH).await?;
    for agent in &due {
        let seller = agent.profile;
        let evidence = Evidence {
            calls: store::calls(tx, seller, PERIOD_DAYS, PERIODS_READ, CALLS_READ_MAX).await?,
            opinions: store::opinions(tx, seller, OPINIONS_READ_MAX).await?,
            served_days: agent.served_days,
            idle_days: agent.idle_days,
        };
        let parts = Components::of(&evidence);
        let every = EVERY.as_secs_f64();
        store::keep(tx, seller, &parts, parts.score(), every, KEEP_DAYS).await?;
    }
    Ok(due.len())
}
