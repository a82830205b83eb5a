//! The sweep of the provider's records: finds payments nobody asked about.
//!
//! Reads what changed since the cursor, with an overlap, oldest change first, for the two words that
//! end a payment. Every success is remembered, so that the audit can find one without evidence.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::evidence;
use super::relay::client::{REFERRER, Updated};
use super::relay::{ProviderError, Record};
use super::store::{evidence as news, sweep as store};
use crate::app::App;

/// The provider's words that are swept, each with its own cursor.
pub(super) const WORDS: [&str; 2] = [SUCCESS, "refund"];
const SUCCESS: &str = "success";
/// How far a sweep reads back behind its cursor: the provider's rows may appear a little after their time.
const OVERLAP: TimeDelta = TimeDelta::seconds(60);
/// How far the provider's clock may be behind ours. Its rows carry its own time, and a cursor moved on by
/// our clock must not pass those that are still to come.
const CLOCKS_APART: TimeDelta = TimeDelta::minutes(15);
/// Most pages of one turn; the rest follows in the next.
pub(super) const PAGES_MAX: usize = 200;

/// Most successes noted at once as being in evidence.
const NOTED_MAX: i64 = 1_000;

/// Why a sweep ended early. Its cursor stands where it had read to.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The provider cannot be asked.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Sweeps whatever is due and not taken by another replica.
pub(super) async fn run(app: &App) -> Result<(), SweepError> {
    // Only the audit is spared by it: the provider is asked whatever becomes of it.
    if let Err(error) = store::note_evidenced(app.db.pool(), NOTED_MAX).await {
        tracing::warn!(%error, "what is in evidence was not noted");
    }
    // A little less than the period, so that a turn is not missed by a hair.
    let every = app
        .config
        .relay_sweep
        .mul_f64(0.9)
        .max(Duration::from_millis(500));
    for word in WORDS {
        let turn = store::take_turn(app.db.pool(), word, every.as_secs_f64()).await?;
        if let Some(position) = turn {
            word_since(app, word, position).await?;
        }
    }
    Ok(())
}

async fn word_since(app: &App, word: &str, position: DateTime<Utc>) -> Result<(), SweepError> {
    let pool = app.db.pool();
    let began = crochet_shared::clock::now();
    let since = position - OVERLAP;
    let mut continuation: Option<String> = None;
    for _ in 0..PAGES_MAX {
        let page = app
            .relay
            .updated(&Updated {
                since,
                status: word,
                continuation: continuation.as_deref(),
            })
            .await?;
        let news = unread(app, word, &page.records).await?;
        read(app, &news).await?;
        let newest = page
            .records
            .iter()
            .filter_map(|record| record.updated_at)
            .max();
        if let Some(newest) = newest {
            // A provider whose clock runs ahead must not carry the cursor past what is to come.
            store::advance(pool, word, newest.min(began)).await?;
        }
        continuation = page.continuation;
        if continuation.is_none() {
            // All that had changed by then is read: a burst does not stay in the window for ever.
            store::advance(pool, word, began - CLOCKS_APART).await?;
            break;
        }
    }
    Ok(())
}

/// Leaves out successes that are in evidence already: the window overlaps, and after a burst nearly
/// all of it was read before.
pub(super) async fn unread(
    app: &App,
    word: &str,
    records: &[Record],
) -> Result<Vec<Record>, sqlx::Error> {
    if word != SUCCESS || records.is_empty() {
        return Ok(records.to_vec());
    }
    let ids: Vec<String> = records.iter().map(|record| record.id.clone()).collect();
    let known: HashSet<String> = news::remembered(app.db.pool(), &ids)
        .await?
        .into_iter()
        .collect();
    Ok(records
        .iter()
        .filter(|record| !known.contains(&record.id))
        .cloned()
        .collect())
}

pub(super) async fn read(app: &App, records: &[Record]) -> Result<(), SweepError> {
    if records.is_empty() {
        return Ok(());
    }
    let pool = app.db.pool();
    let ids: Vec<String> = records.iter().map(|record| record.id.clone()).collect();
    let known = evidence::apply(app, &ids, records).await?;
    let (mut success_ids, mut updated) = (Vec::new(), Vec::new());
    for record in records {
        // Other records of the same provider account are not our business, unless they say that
        // money reached us.
        let is_ours = known.contains_key(&record.id) || concerns_us(app, record);
        // Also one whose details are not there yet: should they never come, the audit has to say so.
        if record.is_filled() && is_ours {
            success_ids.push(record.id.clone());
            updated.push(record.updated_at.unwrap_or_else(crochet_shared::clock::now));
        }
    }
    if !success_ids.is_empty() {
        news::successes(pool, &success_ids, &updated).await?;
    }
    Ok(())
}

pub(super) fn concerns_us(app: &App, record: &Record) -> bool {
    let recipient = record.recipient.as_deref().unwrap_or_default();
    record.referrer.as_deref() == Some(REFERRER)
        && recipient.eq_ignore_ascii_case(&app.config.settlement_address)
}
