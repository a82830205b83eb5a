//! Hearing of changes: a subscription in Redis, and what holds while it is open.
//!
//! A message is a hint and comes at most once, so the subscription itself is watched: a ping each
//! second, and when it was lost, a new epoch, which makes everything older a miss.
//!
//! An open subscription to which nobody publishes says nothing. So whoever publishes also says until
//! when everything is told ([`Change::Told`]); what Redis holds is as old as that, and is not believed
//! at all when that is too long ago ([`TOLD_AGE_MAX`]). A node may answer pings and hear of nothing, because
//! it is cut off from those who publish; so a subscription that stays untold is given up, and made again
//! ([`UNTOLD_TIME`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crochet_shared::clock;
use crochet_shared::redis_key::{self, CHANGES_CHANNEL, Change};
use futures_util::StreamExt as _;
use redis::aio::{PubSubSink, PubSubStream};

use crate::gateway::Gateway;
use crate::metrics::Metrics;

const CONNECT_TIME: Duration = Duration::from_secs(1);
const PING_EVERY: Duration = Duration::from_secs(1);
const PING_TIME: Duration = Duration::from_secs(1);
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(2);
/// How long ago it may be until when everything was told: several times what lies between two such
/// messages, and less than [`FRESH`](super::FRESH), for which what was learned then is believed.
const TOLD_AGE_MAX: Duration = Duration::from_secs(3);
/// How long a subscription may go without a word that everything was told: ten times what lies between two
/// such messages, so that a publisher that restarts costs none. The next one may find another node, or the
/// same at the end of another connection. While nobody says it, every subscription waits twice as long as the one
/// before: each makes the gateway forget what it knows.
const UNTOLD_TIME: Duration = Duration::from_secs(5);
/// How long it may go without at most.
const UNTOLD_TIME_MAX: Duration = Duration::from_mins(1);

/// Whether changes are heard of, and since when.
#[derive(Debug)]
pub struct Hearing {
    epoch: AtomicU64,
    connected: AtomicBool,
    /// Unix milliseconds at which the channel last opened.
    opened_ms: AtomicI64,
    /// Milliseconds from `started` to when everything was told; 0 while nobody has said so since the
    /// channel opened.
    told: AtomicU64,
    /// Whether anybody ever said so.
    was_told: AtomicBool,
    started: Instant,
}

impl Default for Hearing {
    fn default() -> Self {
        Self {
            epoch: AtomicU64::default(),
            connected: AtomicBool::default(),
            opened_ms: AtomicI64::default(),
            told: AtomicU64::default(),
            was_told: AtomicBool::default(),
            started: Instant::now(),
        }
    }
}

impl Hearing {
    /// What was learned in another epoch is forgotten.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Whether changes are heard of now.
    pub fn connected(&self) -> bool {
        self.connected.load(Ordering::Acquire)
    }

    /// When the channel last opened, in Unix milliseconds: of changes from before this nobody told us.
    pub fn opened_ms(&self) -> i64 {
        self.opened_ms.load(Ordering::Acquire)
    }

    /// When everything had been told that Redis holds, and so how old what it holds may be. `None`
    /// when that is too long ago to believe it: the channel is closed, or nobody publishes.
    pub fn told_until(&self, now: Instant) -> Option<Instant> {
        let told = self.told.load(Ordering::Acquire);
        let until = self.started.checked_add(Duration::from_millis(told))?;
        let young = now.saturating_duration_since(until) < TOLD_AGE_MAX;
        (told > 0 && young && self.connected()).then_some(until.min(now))
    }

    /// Whether anybody ever said that everything was told, however long ago.
    pub fn was_told(&self) -> bool {
        self.was_told.load(Ordering::Relaxed)
    }

    /// How long ago it is, by the clocks, until when everything was told; since the start, while nobody has said so
    /// since the channel opened. From [`TOLD_AGE_MAX`] on nothing is believed that Redis holds.
    pub fn told_age(&self, now: Instant) -> Duration {
        let told = Duration::from_millis(self.told.load(Ordering::Acquire));
        now.saturating_duration_since(self.started)
            .saturating_sub(told)
    }

    /// Somebody says that everything from before `age` ago was told.
    pub(crate) fn told(&self, age: Duration, now: Instant) {
        let until = now
            .saturating_duration_since(self.started)
            .saturating_sub(age);
        let until = u64::try_from(until.as_millis()).unwrap_or(0);
        self.told.fetch_max(until, Ordering::AcqRel);
        self.was_told.store(true, Ordering::Relaxed);
    }

    pub(crate) fn open(&self) {
        self.told.store(0, Ordering::Release);
        let now_ms = clock::now().timestamp_millis();
        self.opened_ms.store(now_ms, Ordering::Release);
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.connected.store(true, Ordering::Release);
    }

    fn close(&self) {
        self.connected.store(false, Ordering::Release);
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }
}

/// Listens for good, reconnecting. Runs inside the service's runtime.
pub async fn listen(gateway: Arc<Gateway>) {
    let mut wait = RETRY_MIN;
    let mut patience = UNTOLD_TIME;
    loop {
        if let Ok(Ok((sink, stream))) =
            tokio::time::timeout(CONNECT_TIME, subscribe(&gateway)).await
        {
            wait = RETRY_MIN;
            gateway.hearing.open();
            gateway.metrics.changes_connected.set(1.0);
            tracing::info!("hearing of changes");
            patience = follow(&gateway, sink, stream, patience).await;
            gateway.hearing.close();
            gateway.metrics.changes_connected.set(0.0);
            tracing::warn!("no longer hearing of changes");
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY_MAX);
    }
}

async fn subscribe(gateway: &Gateway) -> redis::RedisResult<(PubSubSink, PubSubStream)> {
    let (mut sink, stream) = gateway.redis.place().hearing().await?.split();
    sink.subscribe(CHANGES_CHANNEL).await?;
    Ok((sink, stream))
}

/// Takes messages until the channel closes, stops answering, or goes on for longer than `patience` without
/// a word that everything was told. Gives the patience of the next.
async fn follow(
    gateway: &Gateway,
    mut sink: PubSubSink,
    mut stream: PubSubStream,
    patience: Duration,
) -> Duration {
    let mut silence = std::pin::pin!(until_silent(&mut sink));
    let mut untold = std::pin::pin!(tokio::time::sleep(patience));
    // Only a subscription that lasted and heard nothing makes the next one last longer.
    let (mut next, mut longer) = (patience, (patience * 2).min(UNTOLD_TIME_MAX));
    loop {
        tokio::select! {
            // Messages first: a process that was held up has some to take before it may call anybody silent.
            biased;
            message = stream.next() => match message {
                Some(message) => {
                    if take(gateway, message.get_payload_bytes()) == Taken::Told {
                        (next, longer) = (UNTOLD_TIME, UNTOLD_TIME);
                        untold.as_mut().reset(tokio::time::Instant::now() + UNTOLD_TIME);
                    }
                }
                None => return next,
            },
            () = &mut silence => return next,
            () = &mut untold => return longer,
        }
    }
}

/// What a message was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    /// The word that everything was told.
    Told,
    /// A change.
    Change,
    /// Not ours.
    Nothing,
}

async fn until_silent(sink: &mut PubSubSink) {
    loop {
        tokio::time::sleep(PING_EVERY).await;
        let answered = tokio::time::timeout(PING_TIME, sink.ping::<redis::Value>()).await;
        if !matches!(answered, Ok(Ok(_))) {
            return;
        }
    }
}

/// A message that does not open is not ours, and could at worst make us look again.
fn take(gateway: &Gateway, payload: &[u8]) -> Taken {
    let now_ms = clock::now().timestamp_millis();
    let opened = redis_key::open::<Change>(gateway.redis.keys(), CHANGES_CHANNEL, payload, now_ms);
    let Ok((change, published_ms)) = opened else {
        return Taken::Nothing;
    };
    let now = Instant::now();
    let metrics = &gateway.metrics;
    // A clock ahead of ours is not believed to speak of the future.
    let since = |ms: i64| {
        let age = u64::try_from(now_ms.saturating_sub(ms)).unwrap_or(0);
        Duration::from_millis(age)
    };
    match change {
        Change::Key(digest) => {
            gateway.keys.forget(digest, now);
            metrics.keys.changed.increment(1);
        }
        Change::Route { id, slug } => {
            gateway.routes.forget(id, &slug, now);
            metrics.routes.changed.increment(1);
        }
        Change::Quote(identity) => {
            gateway.quotes.forget(identity, now);
            metrics.quotes.changed.increment(1);
        }
        Change::Told(until_ms) => {
            metrics.clock_ahead.set(seconds(now_ms, published_ms));
            gateway.hearing.told(since(until_ms), now);
            return Taken::Told;
        }
    }
    Metrics::took(&metrics.invalidation_lag, since(published_ms));
    Taken::Change
}

/// From one time to another in Unix milliseconds, in seconds; below zero when the second is the later.
#[expect(
    clippy::cast_precision_loss,
    reason = "a gauge shows it, nobody computes with it"
)]
fn seconds(now_ms: i64, then_ms: i64) -> f64 {
    now_ms.saturating_sub(then_ms) as f64 / 1_000.0
}

#[cfg(test)]
mod tests;
