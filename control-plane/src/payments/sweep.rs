//! The sweep of the provider's records: finds payments nobody asked about.
//!
//! Reads what changed, oldest change first, for the two words that end a payment. Every success is remembered,
//! so that the audit can find one without evidence.
//!
//! A row may appear a little after its time, so each is read twice: as soon as it is there, and once more when all
//! of its time is there ([`OVERLAP`]). In quiet times one reading does both. It has two cursors, because the
//! last minute of a busy time is more than a turn reads: a sweep that began with it each time would never
//! come to what is new.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

use super::evidence;
use super::relay::client::{REFERRER, Updated};
use super::relay::{ProviderError, Record};
use super::store::{evidence as news, sweep as store};
use crate::app::App;

/// The provider's words that are swept, each with its own cursor.
pub(super) const WORDS: [&str; 2] = [SUCCESS, "refund"];
const SUCCESS: &str = "success";
/// How much later than its time a row of the provider's may appear.
const OVERLAP: TimeDelta = TimeDelta::seconds(60);
/// How far the provider's clock may be behind ours. Its rows carry its own time, and a cursor moved on by
/// our clock must not pass those that are still to come.
const CLOCKS_APART: TimeDelta = TimeDelta::minutes(15);
/// How long one turn reads; the rest follows in the next.
const READING_MAX: Duration = Duration::from_secs(5);
/// Most pages of a reading that has not left the second that it began with. The provider is asked by whole seconds:
/// a reading that ended within one would begin the next with the same rows.
const PAGES_MAX: usize = 200;
/// A turn is another replica's when nothing was heard of it for so long: more than one page takes.
const TURN_SECONDS: f64 = 15.0;
/// Pages of which what was read before is read again, beyond what has settled: where they reach the end, nothing
/// is new.
const AGAIN_PAGES: usize = 20;
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
    if let Err(error) = note_evidenced(app).await {
        tracing::warn!(%error, "what is in evidence was not noted");
    }
    // A little less than the period, so that a turn is not missed by a hair.
    let every = app
        .config
        .relay_sweep
        .mul_f64(0.9)
        .max(Duration::from_millis(500));
    let mut swept = Ok(());
    for word in WORDS {
        let turn = store::take_turn(app.db.pool(), word, every.as_secs_f64()).await?;
        if let Some(reach) = turn {
            // One that fails does not keep the other from its turn.
            swept = swept.and(Turn::new(app, word, reach, every).run().await);
        }
    }
    swept
}

async fn note_evidenced(app: &App) -> Result<(), sqlx::Error> {
    let latest = Instant::now() + READING_MAX;
    while store::note_evidenced(app.db.pool(), NOTED_MAX).await? >= NOTED_MAX.unsigned_abs()
        && Instant::now() < latest
    {}
    Ok(())
}

/// What is read of the provider's records in a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// Once more what has settled since, and a little beyond.
    Again,
    /// What nobody has read.
    New,
}

/// A turn of one word.
struct Turn<'a> {
    app: &'a App,
    word: &'a str,
    /// By our clock.
    began: DateTime<Utc>,
    /// When the next one may begin.
    next: Instant,
    /// What changed before is all there by now.
    settled_by: DateTime<Utc>,
    /// See [`store::Reach`].
    position: DateTime<Utc>,
    settled: DateTime<Utc>,
}

impl<'a> Turn<'a> {
    fn new(app: &'a App, word: &'a str, reach: store::Reach, every: Duration) -> Self {
        let settled_by = reach.position - OVERLAP;
        Self {
            app,
            word,
            began: crochet_shared::clock::now(),
            next: Instant::now() + every,
            settled_by,
            position: reach.position,
            settled: reach.settled.unwrap_or(settled_by),
        }
    }

    async fn run(mut self) -> Result<(), SweepError> {
        let mut read = self.read(Reading::Again).await;
        if matches!(read, Ok(true)) {
            self.settled = self.settled.max(self.settled_by);
        } else {
            // One that failed does not keep the other from its turn.
            read = read.and(self.read(Reading::New).await);
        }
        if matches!(read, Ok(true)) {
            // All that had changed by then is read: a burst does not stay in the window for ever.
            self.position = self.position.max(self.began - CLOCKS_APART);
        }
        let next = self.next.saturating_duration_since(Instant::now());
        self.advance(next.as_secs_f64()).await?;
        read.map(drop)
    }

    /// Reads page by page; tells whether it came to the end.
    async fn read(&mut self, reading: Reading) -> Result<bool, SweepError> {
        let since = match reading {
            Reading::Again => self.settled,
            Reading::New => self.position,
        };
        let latest = Instant::now() + READING_MAX;
        let mut continuation: Option<String> = None;
        for pages in 1.. {
            let what = Updated {
                since,
                status: self.word,
                continuation: continuation.as_deref(),
            };
            let page = self.app.relay.updated(&what).await?;
            let news = unread(self.app, self.word, &page.records).await?;
            read(self.app, &news).await?;
            let mut is_cut = pages >= PAGES_MAX;
            let changes = page.records.iter().filter_map(|record| record.updated_at);
            if let Some(newest) = changes.max() {
                is_cut |= newest.timestamp() > since.timestamp() && Instant::now() >= latest;
                // A provider whose clock runs ahead must not carry the cursor past what is to come.
                let newest = newest.min(self.began);
                self.position = self.position.max(newest);
                if reading == Reading::Again {
                    self.settled = self.settled.max(newest.min(self.settled_by));
                    is_cut |= newest > self.settled_by && pages >= AGAIN_PAGES;
                }
                self.advance(TURN_SECONDS).await?;
            }
            continuation = page.continuation;
            if continuation.is_none() {
                return Ok(true);
            }
            if is_cut {
                break;
            }
        }
        Ok(false)
    }

    /// Notes how far it has come. The next turn begins in so many seconds, unless this one is heard of before.
    async fn advance(&self, next_in_seconds: f64) -> Result<(), sqlx::Error> {
        let reach = store::Reach {
            position: self.position,
            settled: Some(self.settled),
        };
        store::advance(self.app.db.pool(), self.word, reach, next_in_seconds).await
    }
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
