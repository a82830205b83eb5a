//! Counts in Redis, one round trip each, and no waiting for one that does not answer.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crochet_redis::{Connection, Patience, Place};
use crochet_shared::limit::{self, COUNT, Kind};
use crochet_shared::seal::Keyring;
use parking_lot::Mutex;
use redis::Script;
use secrecy::ExposeSecret as _;

use crate::config::Config;
use crate::metrics::names;

/// Longest that a request waits for its count.
const ANSWER_TIME: Duration = Duration::from_millis(50);
const CONNECT_TIME: Duration = Duration::from_millis(500);
/// How long Redis is left alone after it failed, so that a dead one costs requests nothing.
const REST: Duration = Duration::from_millis(500);

/// The counts.
pub struct Counts {
    redis: Connection,
    count: Script,
    keys: Keyring,
    /// `None` while it answers.
    away: Mutex<Option<Away>>,
}

/// Redis does not answer.
#[derive(Clone, Copy)]
struct Away {
    ask_again: Instant,
}

impl std::fmt::Debug for Counts {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("Counts")
    }
}

impl Counts {
    /// Connects to nothing yet.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        let place = Place::parse(config.redis_url.expose_secret())?;
        Ok(Self {
            redis: place.connection(Patience {
                connect: CONNECT_TIME,
                answer: ANSWER_TIME,
                retries: 0,
            })?,
            count: Script::new(COUNT),
            keys: config.cache_keys.clone(),
            away: Mutex::new(None),
        })
    }

    /// The name of an address's count.
    pub(super) fn name(&self, kind: Kind, address: IpAddr) -> String {
        limit::by_address(kind, &self.keys, address)
    }

    /// Adds one to a count that was `known` last, in a window that lasts `left` still. Gives the
    /// count with this one in it and how long its window lasts; nothing when Redis does not answer.
    pub(super) async fn count(
        &self,
        name: &str,
        known: u32,
        left: Duration,
    ) -> Option<(u32, Duration)> {
        let resting = (*self.away.lock()).is_some_and(|away| Instant::now() < away.ask_again);
        if resting {
            return None;
        }
        let mut redis = self.redis.clone();
        let mut asking = self.count.key(name);
        asking.arg(1).arg(known).arg(millis(left));
        let asked = asking.invoke_async::<(u32, u64)>(&mut redis);
        let answered = tokio::time::timeout(ANSWER_TIME, asked).await;
        let outcome = match answered {
            Ok(Ok(told)) => Ok(told),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer in time".to_owned()),
        };
        let result = if outcome.is_ok() {
            "answered"
        } else {
            "failed"
        };
        metrics::counter!(names::REDIS.name, "use" => "limits", "result" => result).increment(1);
        self.note(outcome.as_ref().err());
        let (used, left) = outcome.ok()?;
        Some((used, Duration::from_millis(left)))
    }

    /// Says once that Redis went away, and once that it is back.
    fn note(&self, failure: Option<&String>) {
        let mut away = self.away.lock();
        let before = away.is_some();
        *away = failure.map(|_| Away {
            ask_again: Instant::now() + REST,
        });
        drop(away);
        match failure {
            Some(error) if !before => {
                tracing::warn!(error, "limits are counted here alone: Redis is away");
            }
            None if before => tracing::info!("limits are counted together again"),
            Some(_) | None => {}
        }
    }
}

/// At least one: a window of no time is none.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}
