//! Background work: the fold, then the scores that are due. Safe beside as many replicas as there are.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::store::evidence;
use super::{FOLD_MARGIN, fold, recompute};
use crate::app::App;
use crate::metrics::{names, worked};

/// Between two looks: with the fold's margin, a finished call is in the score within some three seconds.
const PERIOD: Duration = Duration::from_secs(1);

/// Folds and computes until told to stop. A failure is told and tried again at the next turn.
pub async fn run(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
        let turned = turn(&app).await;
        if let Err(error) = &turned {
            tracing::warn!(work = "scores", %error, "background work failed");
        }
        worked("scores", turned.is_ok());
    }
}

async fn turn(app: &App) -> Result<(), sqlx::Error> {
    fold(app, FOLD_MARGIN).await?;
    let computed = recompute(app).await?;
    metrics::counter!(names::SCORES.name).increment(u64::try_from(computed).unwrap_or(u64::MAX));
    metrics::gauge!(names::SCORE_LAG.name).set(evidence::lag(app.db.pool()).await?);
    Ok(())
}
