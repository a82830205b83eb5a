//! `rewrap-secrets`: every secret at rest under the newest master key.
//!
//! A row is found by the name of the key it is under, so what was done needs no memory: stopped and
//! run again, it goes on. When nothing is left the old key can be taken out of the configuration.

use clap::Args;
use crochet_shared::id::ListingId;
use crochet_shared::seal::Keyring;
use serde_json::json;
use uuid::Uuid;

use super::paper::Paper;
use super::{Change, Exit, Outcome, Stop};
use crate::db::{Db, work};
use crate::{endpoints, payments};

/// Wrap every secret at rest under the newest master key
#[derive(Clone, Debug, Args)]
pub struct RewrapSecrets {
    /// Endpoints of one transaction. Their owners' changes wait for it; calls do not.
    #[arg(long, value_name = "COUNT", default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=10_000))]
    pub batch: i64,
    /// How it is done.
    #[command(flatten)]
    pub change: Change,
}

/// Wraps all that is not under the newest key. Exit 1 when something is left: what does not open, or
/// what a server with another newest key has sealed meanwhile.
pub async fn rewrap_secrets(
    db: &Db,
    keys: &Keyring,
    wanted: &RewrapSecrets,
) -> anyhow::Result<Outcome> {
    let dry_run = wanted.change.dry_run;
    let (mut rows, mut shut) = (0, Vec::new());
    let mut after = Uuid::nil();
    loop {
        let batch = db
            .run("operator.rewrap", |tx| {
                work(async move {
                    let done = endpoints::rewrap(tx, keys, after, wanted.batch).await?;
                    Stop::or_keep(dry_run, done)
                })
            })
            .await;
        let batch = Stop::end(batch)?;
        let Some(last) = batch.last else {
            break;
        };
        after = last;
        rows += batch.rows;
        shut.extend(batch.shut);
        tracing::info!(target: "crochet::operations", rows, after = %after, dry_run, "secrets are wrapped anew");
    }
    let (days, days_shut) = payments::answers::rewrap_day_keys(db.pool(), keys, dry_run).await?;
    let left = if dry_run {
        0
    } else {
        let left = endpoints::under_other_keys(db.pool(), keys).await?;
        left + i64::try_from(days_shut.len())?
    };
    let done = Done {
        key: keys.sealing_id().to_owned(),
        rows,
        days,
        left,
        shut,
        days_shut: days_shut.len(),
    };
    done.told(wanted)
}

/// What a run did, and what it left.
struct Done {
    key: String,
    rows: u64,
    days: u64,
    left: i64,
    shut: Vec<ListingId>,
    days_shut: usize,
}

impl Done {
    fn told(&self, wanted: &RewrapSecrets) -> anyhow::Result<Outcome> {
        let Self {
            key,
            rows,
            days,
            left,
            ..
        } = self;
        let word = wanted.change.tense("wrapped", "to be wrapped");
        let mut paper = Paper::default();
        paper.line(format_args!(
            "{word} under key {key}: {rows} endpoints and replaced secrets, {days} keys of stored answers"
        ));
        for listing in &self.shut {
            paper.line(format_args!(
                "does not open: the endpoint of listing {listing}; its key is not among CROCHET_MASTER_KEYS"
            ));
        }
        if self.days_shut > 0 {
            paper.line(format_args!(
                "does not open: the keys of {} days of stored answers",
                self.days_shut
            ));
        }
        let is_whole = *left == 0 && self.shut.is_empty() && self.days_shut == 0;
        if *left > 0 {
            paper.line(format_args!(
                "still under other keys: {left}; keep those keys, and run this again when every server seals under {key}"
            ));
        } else if is_whole && !wanted.change.dry_run {
            paper.line(
                "nothing is under another key: older keys can be taken out of CROCHET_MASTER_KEYS",
            );
        }
        wanted.change.log(
            "rewrap-secrets",
            format_args!("key {key}"),
            &format!("{rows} rows, {days} days, {left} left"),
        );
        let json = json!({
            "dry_run": wanted.change.dry_run,
            "changed": rows + days > 0,
            "key": key,
            "endpoint_rows": rows,
            "answer_keys": days,
            "still_under_other_keys": left,
            "do_not_open": self.shut,
        });
        let exit = if is_whole {
            Exit::Done
        } else {
            Exit::Attention
        };
        Outcome::new(exit, paper.done(), &json)
    }
}
