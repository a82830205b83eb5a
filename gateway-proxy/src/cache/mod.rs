//! What this process believes for a moment: keys, routes, open quotes.
//!
//! Reads go down a ladder: this process, Redis, the internal API. Never the arbiter: money is
//! decided where the claim is, and what stands here only saves a question.
//!
//! Invariants: nothing is believed longer than its freshness (4 s keys and routes, 60 s quotes). What
//! Redis holds is as old as the last word that everything was told, and is not asked for when there is
//! none ([`invalidation::Hearing::told_until`]); nor are quotes believed then. A told change
//! ([`invalidation`]) ends belief at once, and what was being fetched while the change came in is used
//! once and not kept; Redis is not asked about that name until no record from before the change could
//! be believed, so that an old one put back there changes nothing. When the channel opens again,
//! everything that was known before is forgotten, and so is what Redis holds from before
//! ([`from_redis`]): nobody told this process what changed while it did not listen.

pub mod flight;
pub mod invalidation;
pub mod keys;
pub mod quotes;
pub mod routes;
pub mod uses;

use std::hash::Hash;
use std::time::{Duration, Instant};

use crochet_shared::redis_key::RECORD_SECONDS_MAX;
use quick_cache::sync::Cache;
use serde::de::DeserializeOwned;

use crate::gateway::Gateway;

/// How long a key or route is believed: what is refused "within 5 s" while no change is heard of
/// (contract §3) was asked for just before it changed, and takes a moment to be asked for again.
pub const FRESH: Duration = Duration::from_secs(4);
/// How old a record in Redis may be ([`RECORD_SECONDS_MAX`]): for so long after a change, one from
/// before it could be put back by whoever writes to Redis.
pub const REDIS_AGE_MAX: Duration = Duration::from_secs(RECORD_SECONDS_MAX.unsigned_abs());
/// How long a key or route is asked for again that got no answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Changes that are remembered for the look-ups they may race with.
const CHANGES_MAX: usize = 8192;

/// What Redis holds under a name, unless it was sealed before this process began to hear of changes: whoever
/// writes to Redis could put a record back that is older than a change nobody told us of. By two clocks, and so
/// exact to their difference (`gateway_clock_ahead_seconds`).
pub async fn from_redis<T: DeserializeOwned>(gateway: &Gateway, name: &str) -> Option<T> {
    let (record, sealed_ms) = gateway.redis.read(name).await?;
    (sealed_ms >= gateway.hearing.opened_ms()).then_some(record)
}

/// The last change told of each name, for as long as a fetch may race with it.
#[derive(Debug)]
pub struct Changes<K>(Cache<K, Instant>);

impl<K: Eq + Hash + Clone> Changes<K> {
    /// None yet.
    pub fn new() -> Self {
        Self(Cache::new(CHANGES_MAX))
    }

    /// A change came in.
    pub fn note(&self, name: K, now: Instant) {
        self.0.insert(name, now);
    }

    /// Whether one came in at or after `since`.
    pub fn since(&self, name: &K, since: Instant) -> bool {
        self.0.get(name).is_some_and(|at| at >= since)
    }
}

impl<K: Eq + Hash + Clone> Default for Changes<K> {
    fn default() -> Self {
        Self::new()
    }
}
