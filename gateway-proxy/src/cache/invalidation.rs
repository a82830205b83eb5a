//! Hearing of changes: a subscription in Redis, and what holds while it is open.
//!
//! A message is a hint and comes at most once, so the subscription itself is watched: a ping each
//! second, and when it was lost, a new epoch, which makes everything older a miss.
//!
//! An open subscription to which nobody publishes says nothing. So whoever publishes also says until
//! when everything is told ([`Change::Told`]); what Redis holds is as old as that, and is not believed
//! at all when that is too long ago ([`TOLD_AGE_MAX`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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

/// Whether changes are heard of, and since when.
#[derive(Debug)]
pub struct Hearing {
    epoch: AtomicU64,
    connected: AtomicBool,
    /// Milliseconds from `started` to when everything was told; 0 while nobody has said so since the
    /// channel opened.
    told: AtomicU64,
    started: Instant,
}

impl Default for Hearing {
    fn default() -> Self {
        Self {
            epoch: AtomicU64::default(),
            connected: AtomicBool::default(),
            told: AtomicU64::default(),
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

    /// When everything had been told that Redis holds, and so how old what it holds may be. `None`
    /// when that is too long ago to believe it: the channel is closed, or nobody publishes.
    pub fn told_until(&self, now: Instant) -> Option<Instant> {
        let told = self.told.load(Ordering::Acquire);
        let until = self.started.checked_add(Duration::from_millis(told))?;
        let young = now.saturating_duration_since(until) < TOLD_AGE_MAX;
        (told > 0 && young && self.connected()).then_some(until.min(now))
    }

    /// How long ago it is, by the clocks, until when everything was told; since the start, while nobody has said so
    /// since the channel opened. From [`TOLD_AGE_MAX`] on nothing is believed that Redis holds.
    pub fn told_age(&self, now: Instant) -> Duration {
        let told = Duration::from_millis(self.told.load(Ordering::Acquire));
        now.saturating_duration_since(self.started)
            .saturating_sub(told)
    }

    /// Somebody says that everything from before `age` ago was told.
    fn told(&self, age: Duration, now: Instant) {
        let until = now
            .saturating_duration_since(self.started)
            .saturating_sub(age);
        let until = u64::try_from(until.as_millis()).unwrap_or(0);
        self.told.fetch_max(until, Ordering::AcqRel);
    }

    fn open(&self) {
        self.told.store(0, Ordering::Release);
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
    loop {
        if let Ok(Ok((sink, stream))) =
            tokio::time::timeout(CONNECT_TIME, subscribe(&gateway)).await
        {
            wait = RETRY_MIN;
            gateway.hearing.open();
            gateway.redis.note_answer();
            gateway.metrics.changes_connected.set(1.0);
            tracing::info!("hearing of changes");
            follow(&gateway, sink, stream).await;
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

/// Takes messages until the channel closes or stops answering.
async fn follow(gateway: &Gateway, mut sink: PubSubSink, mut stream: PubSubStream) {
    let mut silence = std::pin::pin!(until_silent(&mut sink));
    loop {
        tokio::select! {
            message = stream.next() => match message {
                Some(message) => take(gateway, message.get_payload_bytes()),
                None => return,
            },
            () = &mut silence => return,
        }
    }
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
fn take(gateway: &Gateway, payload: &[u8]) {
    let now_ms = clock::now().timestamp_millis();
    let opened =
        redis_key::open_stamped::<Change>(gateway.redis.keys(), CHANGES_CHANNEL, payload, now_ms);
    let Ok((change, published_ms)) = opened else {
        return;
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
            return gateway.hearing.told(since(until_ms), now);
        }
    }
    Metrics::took(&metrics.invalidation_lag, since(published_ms));
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
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn redis_is_believed_while_somebody_says_that_everything_was_told() {
        let hearing = Hearing::default();
        let start = hearing.started;
        hearing.open();
        assert_eq!(hearing.told_until(start + SECOND), None, "nobody said so");
        assert_eq!(hearing.told_age(start + 7 * SECOND), 7 * SECOND);
        hearing.told(SECOND, start + 10 * SECOND);
        let told = start + 9 * SECOND;
        assert_eq!(hearing.told_age(start + 10 * SECOND), SECOND);
        assert_eq!(hearing.told_until(start + 10 * SECOND), Some(told));
        hearing.told(5 * SECOND, start + 11 * SECOND);
        assert_eq!(
            hearing.told_until(start + 11 * SECOND),
            Some(told),
            "an older word changes nothing"
        );
        assert_eq!(
            hearing.told_until(told + TOLD_AGE_MAX),
            None,
            "publishing stopped"
        );
        assert_eq!(hearing.told_age(told + TOLD_AGE_MAX), TOLD_AGE_MAX);
        hearing.told(Duration::ZERO, start + 20 * SECOND);
        assert!(hearing.told_until(start + 20 * SECOND).is_some());
        hearing.close();
        assert_eq!(hearing.told_until(start + 20 * SECOND), None);
        hearing.open();
        assert_eq!(
            hearing.told_until(start + 20 * SECOND),
            None,
            "the channel was closed meanwhile"
        );
    }

    #[test]
    fn a_word_from_before_the_start_says_nothing() {
        let hearing = Hearing::default();
        hearing.open();
        hearing.told(50 * SECOND, hearing.started + SECOND);
        assert_eq!(hearing.told_until(hearing.started + SECOND), None);
    }

    #[test]
    fn a_clock_that_is_ahead_makes_what_was_told_old_and_one_that_is_behind_does_not() {
        let hearing = Hearing::default();
        let now = hearing.started + 60 * SECOND;
        hearing.open();
        // Told this moment, by a clock four seconds behind this one.
        hearing.told(4 * SECOND, now);
        assert_eq!(hearing.told_age(now), 4 * SECOND);
        assert_eq!(hearing.told_until(now), None);
        assert!((seconds(5_000, 1_000) - 4.0).abs() < f64::EPSILON);
        // By one that is ahead of this one it is told now.
        hearing.told(Duration::ZERO, now);
        assert_eq!(hearing.told_age(now), Duration::ZERO);
        assert!((seconds(1_000, 5_000) + 4.0).abs() < f64::EPSILON);
    }
}
