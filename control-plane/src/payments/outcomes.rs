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
