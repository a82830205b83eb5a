//! RECONCILE: the provider's successes of a time, asked for at once by an operator.
//!
//! The sweep's own reading and recording, from a time that she names, and without the sweep's cursor:
//! what a sweep missed, because it did not run or because the provider told late, is found here.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::model::State;
use super::relay::client::Updated;
use super::relay::{ProviderError, Record};
use super::store::evidence as store;
use super::sweep::{self, SweepError, WORDS};
use crate::app::App;

/// Most pages of one word.
const PAGES_MAX: usize = 200;
/// Between two pages: the servers' own questions leave this much of the provider's limit unused.
const PACE: Duration = Duration::from_millis(200);
/// How often a page is asked for again that the provider did not give.
const TRIES_MAX: u32 = 5;

/// A success that was not in evidence before: of a request that waits for it, or of none that we know
/// although its money reached us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The provider's id.
    pub relay_request_id: String,
    /// When the provider last changed its record.
    pub updated_at: Option<DateTime<Utc>>,
    /// What arrived, in atomic units.
    pub amount: Option<String>,
    /// Our request's state before; `None` when we know no such request.
    pub before: Option<State>,
    /// Its state now.
    pub after: Option<State>,
}

/// What the provider told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Successes read.
    pub read: usize,
    /// Those that were not in evidence.
    pub found: Vec<Found>,
    /// Whether there is more than was read: ask again from a later time.
    pub is_cut_short: bool,
}

/// Reads the provider's successes since a time and records those without evidence; a rehearsal only
/// tells which these are.
pub async fn since(
    app: &App,
    since: DateTime<Utc>,
    rehearse: bool,
) -> Result<Reconciled, SweepError> {
    let mut done = Reconciled::default();
    for word in WORDS {
        word_since(app, word, since, rehearse, &mut done).await?;
    }
    Ok(done)
}

async fn word_since(
    app: &App,
    word: &str,
    since: DateTime<Utc>,
    rehearse: bool,
    done: &mut Reconciled,
) -> Result<(), SweepError> {
    let mut continuation: Option<String> = None;
    for number in 0..PAGES_MAX {
        if number > 0 {
            tokio::time::sleep(PACE).await;
        }
        let mut page = page(app, since, word, continuation.as_deref()).await?;
        // A refund may be that of a second deposit, whose first was filled.
        page.records.retain(Record::is_filled);
        done.read += page.records.len();
        let news = sweep::unread(app, word, &page.records).await?;
        let before = states(app, &news).await?;
        if !rehearse {
            sweep::read(app, &news).await?;
        }
        let after = states(app, &news).await?;
        let found = news.iter().filter(|record| match before.get(&record.id) {
            Some(before) => before.awaits_evidence(),
            // Other records of the same provider account are not our business.
            None => sweep::concerns_us(app, record),
        });
        done.found.extend(found.map(|record| Found {
            relay_request_id: record.id.clone(),
            updated_at: record.updated_at,
            amount: record.output.as_ref().map(|output| output.amount.clone()),
            before: before.get(&record.id).copied(),
            after: after.get(&record.id).copied(),
        }));
        continuation = page.continuation;
        if continuation.is_none() {
            return Ok(());
        }
    }
    done.is_cut_short = true;
    Ok(())
}

async fn page(
    app: &App,
    since: DateTime<Utc>,
    word: &str,
    continuation: Option<&str>,
) -> Result<super::relay::types::Page, ProviderError> {
    let mut tries = 1;
    loop {
        let what = Updated {
            since,
            status: word,
            continuation,
        };
        match app.relay.updated(&what).await {
            Err(ProviderError::Unavailable {
                retry_after_seconds,
                ..
            }) if tries < TRIES_MAX => {
                tokio::time::sleep(Duration::from_secs(retry_after_seconds.into())).await;
                tries += 1;
            }
            outcome => return outcome,
        }
    }
}

async fn states(app: &App, records: &[Record]) -> Result<HashMap<String, State>, sqlx::Error> {
    let ids: Vec<String> = records.iter().map(|record| record.id.clone()).collect();
    let expected = store::expected(app.db.pool(), &ids).await?;
    Ok(expected
        .into_iter()
        .map(|row| (row.relay_request_id, row.state))
        .collect())
}
