//! API keys: who calls, in a few nanoseconds on the hot path.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use crochet_shared::api_key::KeyDigest;
use crochet_shared::id::ApiKeyId;
use crochet_shared::internal::{KeyRecord, KeyUse};
use crochet_shared::limit::{self, Kind};
use crochet_shared::redis_key;
use parking_lot::Mutex;
use quick_cache::sync::Cache;

use super::flight::Flights;
use super::{Changes, FRESH, PATIENCE, REDIS_AGE_MAX, from_redis};
use crate::adapter::again::patiently;
use crate::adapter::batch::Unanswered;
use crate::gateway::Gateway;
use crate::rate::Window;

const KEYS_MAX: usize = 100_000;
/// Digests known to be nobody's. Apart, so that guesses push out no key.
const UNKNOWN_MAX: usize = 8_192;
/// A key's uses are noted once in so many milliseconds.
const NOTED_EVERY_MS: u64 = 60_000;

/// A key, ready.
#[derive(Debug)]
pub struct Key {
    /// As the control plane gave it.
    pub record: KeyRecord,
    /// Its calls in this minute; outlives a re-fetch that brings the same record.
    pub calls: Arc<Window>,
    /// When a use was last noted, in Unix milliseconds.
    noted_ms: AtomicI64,
}

#[derive(Clone, Debug)]
struct Known {
    key: Arc<Key>,
    at: Instant,
    epoch: u64,
}

/// What is known of a digest without asking.
#[derive(Clone, Debug)]
pub enum Cached {
    /// A key.
    Key(Arc<Key>),
    /// Nobody's.
    Unknown,
    /// Nothing is known, or not any more.
    Miss,
}

type Fetched = Result<Option<Arc<Key>>, Unanswered>;

/// The keys this process has seen lately.
#[derive(Debug)]
pub struct Keys {
    known: Cache<KeyDigest, Known>,
    unknown: Cache<KeyDigest, (Instant, u64)>,
    flights: Flights<KeyDigest, Fetched>,
    changes: Changes<KeyDigest>,
    /// Last uses that the control plane has not been told of, in Unix milliseconds.
    used: Mutex<HashMap<ApiKeyId, i64>>,
    calls_per_minute: u32,
}

impl Keys {
    /// None yet. Each key may call so often a minute.
    pub fn new(calls_per_minute: u32) -> Self {
        Self {
            known: Cache::new(KEYS_MAX),
            unknown: Cache::new(UNKNOWN_MAX),
            flights: Flights::default(),
            changes: Changes::new(),
            used: Mutex::default(),
            calls_per_minute,
        }
    }

    /// What is known now.
    pub fn cached(&self, digest: &KeyDigest, now: Instant, epoch: u64) -> Cached {
        let fresh = |at: Instant, of: u64| of == epoch && now.duration_since(at) < FRESH;
        if let Some(known) = self.known.get(digest) {
            if fresh(known.at, known.epoch) {
                return Cached::Key(known.key);
            }
        } else if let Some((at, of)) = self.unknown.get(digest)
            && fresh(at, of)
        {
            return Cached::Unknown;
        }
        Cached::Miss
    }

    /// Whether it was somebody's when it was last asked for, however long ago.
    pub fn has_known(&self, digest: &KeyDigest) -> bool {
        self.known.peek(digest).is_some()
    }

    /// Asks for a key, once for all who ask at the same time.
    pub async fn fetch(&self, gateway: &Gateway, digest: KeyDigest) -> Fetched {
        let was_known = self.known.peek(&digest).is_some();
        gateway.metrics.keys.missed(was_known);
        self.flights
            .join(&digest, || self.ask(gateway, digest))
            .await
    }

    async fn ask(&self, gateway: &Gateway, digest: KeyDigest) -> Fetched {
        let (since, epoch) = (Instant::now(), gateway.hearing.epoch());
        // What Redis holds may be older than a change that was told of.
        let changed_lately = since
            .checked_sub(REDIS_AGE_MAX)
            .is_none_or(|then| self.changes.since(&digest, then));
        let (mut record, mut at) = (None, since);
        if !changed_lately && let Some(told) = gateway.hearing.told_until(since) {
            record = from_redis(gateway, &redis_key::key(&digest)).await;
            at = told;
        }
        if record.is_none() {
            at = since;
            let ask = || gateway.control_plane.resolve_key(&digest);
            record = patiently(since, PATIENCE, ask).await?;
            gateway.metrics.keys.from_control_plane.increment(1);
        } else {
            gateway.metrics.keys.from_redis.increment(1);
        }
        let stays = !self.changes.since(&digest, since);
        Ok(self.keep(digest, record, (at, epoch), stays))
    }

    fn keep(
        &self,
        digest: KeyDigest,
        record: Option<KeyRecord>,
        (at, epoch): (Instant, u64),
        stays: bool,
    ) -> Option<Arc<Key>> {
        let before = self.known.peek(&digest);
        let Some(record) = record else {
            self.known.remove(&digest);
            if stays {
                self.unknown.insert(digest, (at, epoch));
            }
            return None;
        };
        let key = match before {
            Some(before) if before.key.record == record => before.key,
            before => Arc::new(Key {
                calls: before.map_or_else(
                    || Arc::new(self.window(&record)),
                    |known| Arc::clone(&known.key.calls),
                ),
                record,
                noted_ms: AtomicI64::new(0),
            }),
        };
        // Kept even when a change came in meanwhile, but as too old to be believed: its rate window
        // lives on.
        let at = if stays {
            at
        } else {
            at.checked_sub(FRESH).unwrap_or(at)
        };
        let known = Known {
            key: Arc::clone(&key),
            at,
            epoch: if stays { epoch } else { u64::MAX },
        };
        self.known.insert(digest, known);
        Some(key)
    }

    /// Notes a use, at most once in [`NOTED_EVERY_MS`].
    pub fn note_use(&self, key: &Key, now_ms: i64) {
        // Either way, for a clock may have been set back.
        if now_ms.abs_diff(key.noted_ms.load(Ordering::Relaxed)) < NOTED_EVERY_MS {
            return;
        }
        key.noted_ms.store(now_ms, Ordering::Relaxed);
        self.note([KeyUse {
            key_id: key.record.key_id,
            at_ms: now_ms,
        }]);
    }

    /// Notes what could not be told.
    pub fn note(&self, uses: impl IntoIterator<Item = KeyUse>) {
        let mut noted = self.used.lock();
        for KeyUse { key_id, at_ms } in uses {
            if noted.len() < KEYS_MAX || noted.contains_key(&key_id) {
                let last = noted.entry(key_id).or_insert(at_ms);
                *last = at_ms.max(*last);
            }
        }
    }

    /// Uses to tell of, which are noted no more.
    pub fn take_uses(&self) -> Vec<KeyUse> {
        let used = std::mem::take(&mut *self.used.lock());
        let told = |(key_id, at_ms)| KeyUse { key_id, at_ms };
        used.into_iter().map(told).collect()
    }

    fn window(&self, record: &KeyRecord) -> Window {
        let name = limit::by_id(Kind::Calls, record.key_id.0);
        Window::new(name, self.calls_per_minute)
    }

    /// A change was told.
    pub fn forget(&self, digest: KeyDigest, now: Instant) {
        self.changes.note(digest, now);
        self.unknown.remove(&digest);
        if let Some(mut known) = self.known.peek(&digest) {
            known.epoch = u64::MAX;
            self.known.insert(digest, known);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crochet_shared::id::ProfileId;
    use std::time::Duration;

    fn record(revoked: bool) -> KeyRecord {
        let now = crochet_shared::clock::now();
        KeyRecord {
            key_id: ApiKeyId::new(now),
            profile_id: ProfileId::new(now),
            expires_at_ms: None,
            revoked,
            default_family: None,
            has_evm: false,
            has_solana: false,
        }
    }

    fn found(cached: &Cached) -> Option<&Arc<Key>> {
        match cached {
            Cached::Key(key) => Some(key),
            Cached::Unknown | Cached::Miss => None,
        }
    }

    #[test]
    fn a_key_is_believed_for_four_seconds_in_its_epoch() {
        let (keys, digest, now) = (Keys::new(6_000), KeyDigest([1; 32]), Instant::now());
        keys.keep(digest, Some(record(false)), (now, 1), true);
        let young = now + Duration::from_millis(3_999);
        assert!(found(&keys.cached(&digest, young, 1)).is_some());
        assert!(matches!(keys.cached(&digest, now + FRESH, 1), Cached::Miss));
        assert!(matches!(keys.cached(&digest, now, 2), Cached::Miss));
        keys.keep(KeyDigest([2; 32]), None, (now, 1), true);
        let unknown = keys.cached(&KeyDigest([2; 32]), now, 1);
        assert!(matches!(unknown, Cached::Unknown));
    }

    #[test]
    fn a_told_change_ends_belief_at_once_and_the_rate_window_lives_on() {
        let (keys, digest, now) = (Keys::new(6_000), KeyDigest([1; 32]), Instant::now());
        let first = keys
            .keep(digest, Some(record(false)), (now, 1), true)
            .unwrap();
        keys.forget(digest, now);
        assert!(matches!(keys.cached(&digest, now, 1), Cached::Miss));
        let second = keys
            .keep(digest, Some(record(true)), (now, 1), true)
            .unwrap();
        assert!(Arc::ptr_eq(&first.calls, &second.calls));
        assert!(keys.changes.since(&digest, now));
        assert!(!keys.changes.since(&digest, now + FRESH));
    }

    #[test]
    fn what_raced_with_a_change_is_used_once_and_not_kept() {
        let (keys, digest, now) = (Keys::new(6_000), KeyDigest([1; 32]), Instant::now());
        assert!(
            keys.keep(digest, Some(record(false)), (now, 1), false)
                .is_some()
        );
        assert!(matches!(keys.cached(&digest, now, 1), Cached::Miss));
        keys.keep(digest, None, (now, 1), false);
        assert!(matches!(keys.cached(&digest, now, 1), Cached::Miss));
    }

    #[test]
    fn a_use_is_noted_once_a_minute_and_told_once() {
        let (keys, digest, now) = (Keys::new(6_000), KeyDigest([1; 32]), Instant::now());
        let key = keys
            .keep(digest, Some(record(false)), (now, 1), true)
            .unwrap();
        let use_at = |at_ms| KeyUse {
            key_id: key.record.key_id,
            at_ms,
        };
        let start = 1_700_000_000_000;
        // The last: the clock was set back.
        for (at_ms, noted) in [
            (start, Some(start)),
            (start + 59_999, None),
            (start + 60_000, Some(start + 60_000)),
            (start - 60_000, Some(start - 60_000)),
        ] {
            keys.note_use(&key, at_ms);
            let noted: Vec<_> = noted.map(use_at).into_iter().collect();
            assert_eq!(keys.take_uses(), noted);
            assert_eq!(keys.take_uses(), []);
        }
        // What could not be told is noted again, as far as there is room, and the last use is told.
        keys.note([use_at(start), use_at(start - 1)]);
        assert_eq!(keys.take_uses(), [use_at(start)]);
        let now = crochet_shared::clock::now();
        keys.note((0..=KEYS_MAX).map(|_| KeyUse {
            key_id: ApiKeyId::new(now),
            at_ms: start,
        }));
        assert_eq!(keys.take_uses().len(), KEYS_MAX);
    }

    #[test]
    fn an_unchanged_record_keeps_the_prepared_entry() {
        let (keys, digest, now) = (Keys::new(6_000), KeyDigest([1; 32]), Instant::now());
        let record = record(false);
        let first = keys
            .keep(digest, Some(record.clone()), (now, 1), true)
            .unwrap();
        let second = keys.keep(digest, Some(record), (now, 1), true).unwrap();
        assert!(Arc::ptr_eq(&first, &second));
    }
}
