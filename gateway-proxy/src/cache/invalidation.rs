//! Hearing of changes: a subscription in Redis, and what holds while it is open.
//!
//! A message is a hint and comes at most once, so the subscription itself is watched: a ping each
//! second, and when it was lost, a new epoch, which makes everything older a miss.

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

/// Whether changes are heard of, and since when.
#[derive(Debug, Default)]
pub struct Hearing {
    epoch: AtomicU64,
    connected: AtomicBool,
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

    fn open(&self) {
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
    let lag = u64::try_from(now_ms.saturating_sub(published_ms)).unwrap_or(0);
    Metrics::took(&metrics.invalidation_lag, Duration::from_millis(lag));
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
    }
}
