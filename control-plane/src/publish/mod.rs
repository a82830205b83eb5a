//! Publishing: what gateways may know, told through Redis and, when they ask, over the internal API.
//!
//! Owns the `outbox` and every record in Redis. It never decides anything: it reads a record from the
//! room it belongs to and passes it on. Redis may be away at any time; then records wait in the
//! outbox and nobody waits for them.
//!
//! Invariants:
//! - A record's version is drawn before the record is read, so of two records under one name the one
//!   that stays was not read before the other's change.
//! - An outbox row is deleted only after the record it names stands in Redis, so a crash tells twice
//!   rather than never. Any number of replicas may publish the same row.
//! - Gateways are told now and then until when everything is published ([`Change::Told`]), and only
//!   after a look into the outbox that left no change of a key or listing waiting. When nobody can say
//!   that any more, they stop believing Redis.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use crochet_redis::{Connection, Patience, Place};
use crochet_shared::api_key::KeyDigest;
use crochet_shared::clock;
use crochet_shared::id::ListingId;
use crochet_shared::internal::{KeyRecord, Quote, RouteName, RouteRecord};
use crochet_shared::redis_key::{
    self, CHANGES_CHANNEL, Change, PUT_IF_NEWER, RECORD_SECONDS_MAX, TOLD_EVERY_MS,
};
use futures_util::StreamExt as _;
use redis::Script;
use secrecy::ExposeSecret as _;
use serde::Serialize;
use tokio::sync::{Notify, watch};

use crate::app::App;
use crate::config::Config;
use crate::metrics::{as_f64, names};
use crate::{endpoints, identity, payments};

mod resolve;
mod store;

pub use resolve::routes;

/// Longest wait for Redis, in milliseconds.
const REDIS_MILLIS_MAX: u64 = 1_000;
/// Pause between looks into the outbox. A change is told within this and the time of telling it.
const LOOK: Duration = Duration::from_millis(100);
/// Longest wait until all that is written was told.
const CAUGHT_UP_MAX: Duration = Duration::from_millis(200);
/// Pause after a failure.
const PAUSE: Duration = Duration::from_millis(500);
/// Records published at once. Each waits twice for Postgres and twice for Redis, hardly for a CPU.
const AT_ONCE: usize = 8;
/// Most outbox rows of one look.
const ROWS_MAX: i64 = 256;

/// The connection to Redis. Made at first use, and again whenever it breaks.
#[derive(Clone)]
pub struct Publisher {
    redis: Connection,
    put_if_newer: Script,
    wanted: Arc<Notify>,
    /// Until when gateways were last told that everything is told, in Unix milliseconds.
    told_until: Arc<AtomicI64>,
    /// When the last look began that left nothing behind.
    looked: Arc<watch::Sender<Option<Instant>>>,
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("Publisher")
    }
}

/// A record and the name it stands under.
struct Named<'a, T> {
    name: String,
    version: store::Version,
    value: &'a T,
}

impl Publisher {
    /// Connects to nothing yet.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        let place = Place::parse(config.redis_url.expose_secret())?;
        let wait = Duration::from_millis(REDIS_MILLIS_MAX);
        Ok(Self {
            redis: place.connection(Patience {
                connect: wait,
                answer: wait,
                retries: 1,
            })?,
            put_if_newer: Script::new(PUT_IF_NEWER),
            wanted: Arc::new(Notify::new()),
            told_until: Arc::default(),
            looked: Arc::default(),
        })
    }

    /// Something was written that gateways must hear of: look into the outbox now. Only saves time;
    /// what nobody wakes the publisher for is told at its next look.
    pub fn wake(&self) {
        self.wanted.notify_one();
    }

    /// Waits until gateways were told of all that is written, at most [`CAUGHT_UP_MAX`]. For whoever is about to
    /// show a buyer that her deposit is known: no gateway should give her the same quote again afterwards.
    pub async fn caught_up(&self) {
        let (asked, mut looked) = (Instant::now(), self.looked.subscribe());
        self.wake();
        let since = looked.wait_for(|began| began.is_some_and(|began| began >= asked));
        // Gateways that hear of nothing believe nothing, and ask. Where quotes alone are not told, in a backlog of
        // them, one may be given again until it is.
        let _ = tokio::time::timeout(CAUGHT_UP_MAX, since).await;
    }

    /// Whether Redis answers.
    pub async fn is_up(&self) -> bool {
        let mut redis = self.redis.clone();
        let ping = redis::cmd("PING");
        let answer = ping.query_async::<String>(&mut redis);
        matches!(
            tokio::time::timeout(Duration::from_millis(REDIS_MILLIS_MAX), answer).await,
            Ok(Ok(_))
        )
    }

    async fn put<T: Serialize>(&self, app: &App, record: Named<'_, T>) -> anyhow::Result<()> {
        let Named {
            name,
            version,
            value,
        } = record;
        // Sealed as of the time before it was read, by which a gateway judges what it may not show.
        let store::Version { number, at_ms } = version;
        let sealed = redis_key::seal(&app.cache_keys, &name, number, value, at_ms)?;
        let mut redis = self.redis.clone();
        let mut put = self.put_if_newer.key(&name);
        put.arg(sealed).arg(RECORD_SECONDS_MAX);
        counted(put.invoke_async::<i64>(&mut redis).await)?;
        Ok(())
    }

    /// Tells every gateway that listens. A hint: one that misses it learns by the record's age.
    async fn tell(&self, app: &App, change: &Change) -> anyhow::Result<()> {
        let now = clock::now().timestamp_millis();
        let sealed = redis_key::seal(&app.cache_keys, CHANGES_CHANNEL, 0, change, now)?;
        let mut redis = self.redis.clone();
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(CHANGES_CHANNEL).arg(sealed);
        counted(publish.query_async::<i64>(&mut redis).await)?;
        Ok(())
    }

    /// Tells that every change of a key or listing from before `until` was told, if that was not said
    /// a moment ago.
    async fn tell_until(&self, app: &App, until: DateTime<Utc>) -> anyhow::Result<()> {
        let until = until.timestamp_millis();
        let last = self.told_until.load(Ordering::Relaxed);
        if (last..last.saturating_add(TOLD_EVERY_MS)).contains(&until) {
            return Ok(());
        }
        self.tell(app, &Change::Told(until)).await?;
        self.told_until.store(until, Ordering::Relaxed);
        Ok(())
    }
}

fn counted<T>(asked: redis::RedisResult<T>) -> redis::RedisResult<T> {
    let result = if asked.is_ok() { "answered" } else { "failed" };
    metrics::counter!(names::REDIS.name, "use" => "publish", "result" => result).increment(1);
    asked
}

/// Sets the gauges of what waits.
pub async fn observe(app: &App) -> Result<(), sqlx::Error> {
    let (waiting, oldest) = store::standing(app.db.pool()).await?;
    let waiting = usize::try_from(waiting).unwrap_or(0);
    metrics::gauge!(names::OUTBOX_WAITING.name).set(as_f64(waiting));
    metrics::gauge!(names::OUTBOX_OLDEST.name).set(oldest);
    Ok(())
}

/// Publishes the outbox, until told to stop.
pub async fn run(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    let mut pause = LOOK;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = app.publisher.wanted.notified(), if pause == LOOK => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
        let began = Instant::now();
        pause = match publish_once(&app).await {
            // A full look is followed by the next at once.
            Ok(rows) if rows >= ROWS_MAX => Duration::ZERO,
            Ok(_) => {
                app.publisher.looked.send_replace(Some(began));
                LOOK
            }
            Err(error) => {
                tracing::warn!(
                    error = format!("{error:#}"),
                    "the outbox waits: a record was not published"
                );
                PAUSE
            }
        };
    }
}

/// Publishes what stands in the outbox now and gives how many rows there were.
pub async fn publish_once(app: &App) -> anyhow::Result<i64> {
    let began = clock::now();
    let rows = store::outbox(app.db.pool(), ROWS_MAX).await?;
    // Several changes of one record are told once: the record is read when it is told.
    let mut whats: Vec<store::What> = Vec::with_capacity(rows.len());
    let mut seen = HashSet::with_capacity(rows.len());
    for row in &rows {
        if seen.insert(&row.what) {
            whats.push(row.what.clone());
        }
    }
    let outcomes: Vec<(store::What, anyhow::Result<()>)> = futures_util::stream::iter(whats)
        .map(|what| async move {
            let outcome = publish(app, &what).await;
            (what, outcome)
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let mut told = HashSet::with_capacity(outcomes.len());
    let (mut failed, mut only_quotes_failed) = (None, true);
    for (what, outcome) in outcomes {
        match outcome {
            Ok(()) => {
                told.insert(what);
            }
            Err(error) => {
                only_quotes_failed &= matches!(what, store::What::Quote(_));
                failed = Some(error);
            }
        }
    }
    let now = clock::now();
    let mut done = Vec::with_capacity(rows.len());
    for row in rows.iter().filter(|row| told.contains(&row.what)) {
        let lag = (now - row.created_at).to_std().unwrap_or_default();
        metrics::histogram!(names::OUTBOX_LAG.name).record(lag);
        done.push(row.id);
    }
    store::delete_outbox(app.db.pool(), &done).await?;
    let published = u64::try_from(done.len()).unwrap_or(0);
    metrics::counter!(names::PUBLISHED.name).increment(published);
    let read = i64::try_from(rows.len()).unwrap_or(i64::MAX);
    // Quotes come last: once one was read, so was every key and listing.
    let is_quote = |row: &store::Row| matches!(row.what, store::What::Quote(_));
    let all_were_read = read < ROWS_MAX || rows.last().is_some_and(is_quote);
    if all_were_read && only_quotes_failed {
        app.publisher.tell_until(app, began).await?;
    }
    failed.map_or(Ok(read), Err)
}

async fn publish(app: &App, what: &store::What) -> anyhow::Result<()> {
    match what {
        store::What::Key(digest) => publish_key(app, digest).await,
        store::What::Listing(id) => publish_route(app, *id).await,
        store::What::Quote(identity) => publish_quote(app, identity).await,
    }
}

async fn publish_key(app: &App, digest: &KeyDigest) -> anyhow::Result<()> {
    let version = store::next_version(app.db.pool()).await?;
    if let Some(record) = identity::key_record(app, digest).await? {
        put_key(app, version, digest, &record).await?;
    }
    app.publisher.tell(app, &Change::Key(*digest)).await
}

async fn publish_route(app: &App, id: ListingId) -> anyhow::Result<()> {
    let version = store::next_version(app.db.pool()).await?;
    let record = endpoints::route_record(app, &RouteName::Id(id)).await?;
    if let Some(record) = &record {
        put_route(app, version, record).await?;
    }
    // A deleted listing was a draft, whose endpoint may have been tested. Its record may age away: gateways do not
    // believe one of a listing that they were told of.
    let slug = record.map_or_else(String::new, |record| record.slug);
    app.publisher.tell(app, &Change::Route { id, slug }).await
}

/// A quote that is open no longer leaves an empty record, not a gap: an older writer that is late
/// finds a newer version standing and leaves it alone. Whoever reads it reads a miss.
async fn publish_quote(app: &App, identity: &[u8; 32]) -> anyhow::Result<()> {
    let version = store::next_version(app.db.pool()).await?;
    let quote: Option<Quote> = payments::open_quote(app, identity).await?;
    let record = Named {
        name: redis_key::quote(identity),
        version,
        value: &quote,
    };
    app.publisher.put(app, record).await?;
    app.publisher.tell(app, &Change::Quote(*identity)).await
}

async fn put_key(
    app: &App,
    version: store::Version,
    digest: &KeyDigest,
    record: &KeyRecord,
) -> anyhow::Result<()> {
    let record = Named {
        name: redis_key::key(digest),
        version,
        value: record,
    };
    app.publisher.put(app, record).await
}

/// A route stands under its id and under its slug.
async fn put_route(app: &App, version: store::Version, record: &RouteRecord) -> anyhow::Result<()> {
    for name in [
        redis_key::route(record.listing_id),
        redis_key::slug(&record.slug),
    ] {
        let record = Named {
            name,
            version,
            value: record,
        };
        app.publisher.put(app, record).await?;
    }
    Ok(())
}
