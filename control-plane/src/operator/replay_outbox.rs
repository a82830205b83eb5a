//! `replay-outbox`: every route and key told again, after Redis was lost or a gateway is not trusted to know.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use sqlx::PgPool;
use uuid::Uuid;

use super::store::outbox as store;
use super::{Change, Exit, Outcome};
use crate::db::Db;

/// Rows of one batch: what a publisher tells within a fraction of a second, so that a key that is
/// revoked meanwhile waits no longer than that.
const BATCH: i64 = 200;
/// Between two looks at whether a batch is told.
const LOOK: Duration = Duration::from_millis(50);

/// Have every route and key published again
#[derive(Clone, Debug, Args)]
pub struct ReplayOutbox {
    /// Seconds to wait for a running control plane to tell a batch, before giving up.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub patience: u64,
    /// How it is done.
    #[command(flatten)]
    pub change: Change,
}

/// What is told again.
#[derive(Clone, Copy, Debug)]
enum What {
    Listings,
    Keys,
}

/// Writes the outbox batch by batch, each when the one before was told.
pub async fn replay_outbox(db: &Db, wanted: &ReplayOutbox) -> anyhow::Result<Outcome> {
    let pool = db.pool();
    let (listings, keys) = store::to_tell(pool).await?;
    if wanted.change.dry_run {
        let text = format!("{listings} listings and {keys} keys would be told again\n");
        let json = json!({ "dry_run": true, "changed": false, "listings": listings, "keys": keys });
        return Outcome::new(Exit::Done, text, &json);
    }
    let patience = Duration::from_secs(wanted.patience);
    let (mut told, mut is_heard) = ([0, 0], true);
    for (what, count) in [What::Keys, What::Listings].into_iter().zip(&mut told) {
        let mut after = Uuid::nil();
        while is_heard {
            let batch = match what {
                What::Keys => store::tell_keys(pool, after, BATCH).await?,
                What::Listings => store::tell_listings(pool, after, BATCH).await?,
            };
            let Some(last) = batch.last else {
                break;
            };
            (*count, after) = (*count + batch.rows, last);
            is_heard = heard(pool, patience).await?;
        }
    }
    let [told_keys, told_listings] = told;
    let result = if is_heard { "told" } else { "nobody publishes" };
    wanted.change.log(
        "replay-outbox",
        format_args!("{told_listings} listings, {told_keys} keys"),
        result,
    );
    let json = json!({
        "dry_run": false, "changed": true, "finished": is_heard,
        "listings": told_listings, "keys": told_keys,
    });
    if is_heard {
        let text = format!(
            "told again: {told_listings} of {listings} listings, {told_keys} of {keys} keys\n"
        );
        return Outcome::new(Exit::Done, text, &json);
    }
    let text = format!(
        "stopped after {told_listings} listings and {told_keys} keys: the last batch was not published within {} s; does a control plane run, and Redis?\n",
        wanted.patience
    );
    Outcome::new(Exit::Attention, text, &json)
}

/// Waits until nothing but quotes stands in the outbox; false when that takes too long.
async fn heard(pool: &PgPool, patience: Duration) -> Result<bool, sqlx::Error> {
    let began = Instant::now();
    while store::waiting(pool).await? > 0 {
        if began.elapsed() > patience {
            return Ok(false);
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(true)
}
