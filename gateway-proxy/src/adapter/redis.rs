//! Redis: sealed records that save a question to the control plane, and counts of calls.
//!
//! Never the arbiter of anything. A record that does not open, a slow answer and a dead Redis are
//! all the same: a miss. After a failure it is left alone for a moment, so that a dead one costs a
//! call nothing.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crochet_redis::{Connection, NoAddress, Patience, Place};
use crochet_shared::clock;
use crochet_shared::redis_key;
use crochet_shared::seal::Keyring;
use redis::{FromRedisValue, Pipeline};
use serde::de::DeserializeOwned;

use crate::metrics::{Metrics, RedisCounts};

const CONNECT_TIME: Duration = Duration::from_millis(500);
/// Longer than this, the control plane is the faster answer.
const ANSWER_TIME: Duration = Duration::from_millis(100);
/// Longest wait for a whole pipeline.
const PIPELINE_TIME: Duration = Duration::from_millis(250);
/// How long it is left alone after a failure, in milliseconds.
const REST_MS: i64 = 500;

/// Reads records.
pub struct Redis {
    place: Place,
    connection: OnceLock<Connection>,
    keys: Keyring,
    resting_until_ms: AtomicI64,
    gets: RedisCounts,
    pipelines: RedisCounts,
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("Redis")
    }
}

impl Redis {
    /// Prepares; contacts nobody until [`Self::start`].
    pub fn new(url: &str, keys: Keyring, metrics: &Metrics) -> Result<Self, NoAddress> {
        Ok(Self {
            place: Place::parse(url)?,
            connection: OnceLock::new(),
            keys,
            resting_until_ms: AtomicI64::new(0),
            gets: metrics.redis_get.clone(),
            pipelines: metrics.redis_pipeline.clone(),
        })
    }

    /// Makes the connection, inside the runtime that will use it.
    pub fn start(&self) -> redis::RedisResult<()> {
        let connection = self.place.connection(Patience {
            connect: CONNECT_TIME,
            answer: ANSWER_TIME,
            retries: 0,
        })?;
        // A second start keeps the first connection.
        let _ = self.connection.set(connection);
        Ok(())
    }

    /// Where the channel of changes is.
    pub const fn place(&self) -> &Place {
        &self.place
    }

    /// What seals records and changes.
    pub const fn keys(&self) -> &Keyring {
        &self.keys
    }

    /// The answers to several commands at once, or nothing. Off every call's path.
    pub async fn pipeline<T: FromRedisValue>(&self, commands: &Pipeline) -> Option<T> {
        let mut connection = self.connection.get()?.clone();
        let asked = commands.query_async::<T>(&mut connection);
        let answered = tokio::time::timeout(PIPELINE_TIME, asked).await;
        let answered = answered.ok().and_then(Result::ok);
        self.pipelines.count(answered.is_some());
        answered
    }

    /// The record under a name and the Unix milliseconds it was sealed at, or nothing. Whether it may be believed is
    /// [`cache::from_redis`](crate::cache)'s to say.
    pub async fn read<T: DeserializeOwned>(&self, name: &str) -> Option<(T, i64)> {
        let now_ms = clock::now().timestamp_millis();
        if now_ms < self.resting_until_ms.load(Ordering::Relaxed) {
            self.gets.left_alone.increment(1);
            return None;
        }
        let mut connection = self.connection.get()?.clone();
        let mut get = redis::cmd("GET");
        get.arg(name);
        let asked = get.query_async::<Option<Vec<u8>>>(&mut connection);
        let answered = tokio::time::timeout(ANSWER_TIME, asked).await;
        self.gets.count(matches!(answered, Ok(Ok(_))));
        let Ok(Ok(sealed)) = answered else {
            self.resting_until_ms
                .store(now_ms + REST_MS, Ordering::Relaxed);
            return None;
        };
        redis_key::open(&self.keys, name, &sealed?, now_ms).ok()
    }
}
