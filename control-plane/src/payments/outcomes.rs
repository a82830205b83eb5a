//! Stats of listings, from how their calls ended: counted behind the calls, never on their path.
//!
//! Claims and settlements write nothing for it. What they leave anyway, the seller's credit and the
//! attempt journal, is read here soon after, each row exactly once: a row belongs to the transaction
//! that wrote it, and a run counts the rows of those that ended since the last run. A transaction
//! that is open while others end is waited for, so a late commit is not missed.

use super::store::outcomes as store;
use crate::app::App;
use crate::catalog;
use crate::db::work;

/// Most attempts deleted in one statement, so that each is short.
const OLD_ATTEMPTS_MAX: i32 = 1_000;

/// Counts what has ended since the last run, in one transaction.
pub async fn fold(app: &App) -> Result<(), sqlx::Error> {
    app.db
        .run("payments.fold", |tx| {
            work(async move {
                let Some(fold) = store::begin(tx).await? else {
                    return Ok(());
                };
                let ended = store::ended(tx, &fold).await?;
                catalog::tally(tx, &ended, fold.today).await?;
                store::finish(tx, &fold).await
            })
        })
        .await
}

/// Deletes the attempts that are older than they are kept: how long and why, migration 0015 says.
pub async fn delete_old(app: &App) -> Result<(), sqlx::Error> {
    loop {
        let deleted = store::delete_old_attempts(app.db.pool(), OLD_ATTEMPTS_MAX).await?;
        if deleted > 0 {
            tracing::info!(deleted, "old attempts were deleted");
        }
        if deleted < OLD_ATTEMPTS_MAX {
            return Ok(());
        }
    }
}
