//! Who calls: key text → checksum → digest → this process → Redis → internal API.
//!
//! A mistyped key costs nobody a look-up. An address that tried too many unknown keys is refused
//! before the look-up, also when it tries them all at once ([`crate::rate::doubt`]), while keys that are
//! known here go on from the same address, also when what is known of them is too old and has to be
//! asked for again.

use std::sync::Arc;
use std::time::Instant;

use crochet_shared::api_key::KeyDigest;
use crochet_shared::clock;
use crochet_shared::code::Code;
use crochet_shared::id::ProfileId;
use crochet_shared::internal::KeyRecord;

use super::Arrival;
use super::head::NoCredential;
use crate::cache::keys::{Cached, Key};
use crate::error::Refusal;
use crate::gateway::Gateway;
use crate::metrics::Full as Why;
use crate::rate::doubt::{Doubt, NoPlace};
use crate::rate::{Full, Window};

/// A caller with a good key, within its rate.
#[derive(Debug)]
pub struct Identified {
    /// The key.
    pub key: Arc<Key>,
    /// Its digest.
    pub digest: KeyDigest,
    /// Limit, calls left, seconds until the window ends.
    pub rate: (u32, u32, u32),
}

impl Identified {
    /// Whose key it is: the buyer.
    pub fn profile(&self) -> ProfileId {
        self.key.record.profile_id
    }
}

/// Whether a key may be used at this time.
pub fn is_good(record: &KeyRecord, now_ms: i64) -> bool {
    !record.revoked && record.expires_at_ms.is_none_or(|end| now_ms < end)
}

/// Identifies the caller.
pub async fn identify(
    gateway: &Gateway,
    credential: Result<KeyDigest, NoCredential>,
    arrival: Arrival,
) -> Result<Identified, Refusal> {
    let digest = credential.map_err(|why| {
        gateway.errors.code(match why {
            NoCredential::NoKey => Code::Unauthorized,
            NoCredential::Person => Code::AgentRequired,
        })
    })?;
    let now = gateway.millis(arrival.at);
    let (key, doubt) = known(gateway, digest, arrival).await?;
    let Some(key) = key.filter(|key| is_good(&key.record, arrival.now_ms)) else {
        let stranger = gateway.stranger(arrival.client);
        let window = stranger.window();
        let taken = gateway.rates.take(window, now).await;
        // Not before it is counted.
        drop(doubt);
        taken.map_err(|full| limited(gateway, window, full, Why::Stranger))?;
        return Err(gateway.errors.code(Code::InvalidApiKey));
    };
    drop(doubt);
    let taken = gateway.rates.take(&key.calls, now).await;
    let usage = taken.map_err(|full| limited(gateway, &key.calls, full, Why::Key))?;
    gateway.keys.note_use(&key, arrival.now_ms);
    Ok(Identified {
        rate: (key.calls.limit(), usage.remaining, usage.reset_seconds),
        key,
        digest,
    })
}

/// Refuses a caller whose key has ended while her body came: a slow one takes longer than a key is believed.
pub async fn still_good(gateway: &Gateway, caller: &Identified) -> Result<(), Refusal> {
    let now_ms = clock::now().timestamp_millis();
    let key = match believed(gateway, &caller.digest, Instant::now()) {
        Cached::Key(key) => Some(key),
        Cached::Unknown => None,
        Cached::Miss => fetch(gateway, caller.digest).await?,
    };
    key.filter(|key| is_good(&key.record, now_ms))
        .map(drop)
        .ok_or_else(|| gateway.errors.code(Code::InvalidApiKey))
}

/// A key, and the doubt about it while it is not counted: there is none where nobody was asked.
async fn known(
    gateway: &Gateway,
    digest: KeyDigest,
    arrival: Arrival,
) -> Result<(Option<Arc<Key>>, Option<Doubt>), Refusal> {
    match believed(gateway, &digest, arrival.at) {
        Cached::Key(key) => {
            gateway.metrics.keys.hit.increment(1);
            return Ok((Some(key), None));
        }
        Cached::Unknown => {
            gateway.metrics.keys.hit.increment(1);
            return Ok((None, None));
        }
        Cached::Miss => {}
    }
    // A key that was somebody's is no guess.
    let doubt = if gateway.keys.has_known(&digest) {
        None
    } else {
        let stranger = gateway.stranger(arrival.client);
        let doubt = stranger.doubt(gateway.millis(arrival.at)).await;
        Some(doubt.map_err(|why| match why {
            NoPlace::Full(full) => limited(gateway, stranger.window(), full, Why::Stranger),
            // As the look-ups it waited for are told themselves when they fail.
            NoPlace::Slow => gateway.errors.code(Code::ServiceUnavailable),
        })?)
    };
    Ok((fetch(gateway, digest).await?, doubt))
}

fn believed(gateway: &Gateway, digest: &KeyDigest, now: Instant) -> Cached {
    gateway.keys.cached(digest, now, gateway.hearing.epoch())
}

async fn fetch(gateway: &Gateway, digest: KeyDigest) -> Result<Option<Arc<Key>>, Refusal> {
    gateway
        .keys
        .fetch(gateway, digest)
        .await
        .map_err(|_| gateway.errors.code(Code::ServiceUnavailable))
}

fn limited(gateway: &Gateway, window: &Window, full: Full, why: Why) -> Refusal {
    gateway.metrics.full(why);
    let seconds = full.retry_after_seconds;
    gateway
        .errors
        .wait(Code::RateLimited, seconds)
        .with_rate(window.limit(), 0, seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crochet_shared::id::ApiKeyId;

    #[tokio::test(start_paused = true)]
    async fn slow_look_ups_are_not_held_against_those_behind_one_address() {
        let gateway = Gateway::for_test(&[("--rate-limit-unknown-keys-per-minute", "1")]);
        let arrival = Arrival {
            at: Instant::now(),
            now_ms: 0,
            client: std::net::Ipv4Addr::LOCALHOST.into(),
        };
        let stranger = gateway.stranger(arrival.client);
        let now = gateway.millis(arrival.at);
        // Somebody else's look-up, which does not end.
        let doubt = stranger.doubt(now).await.unwrap();
        let asked = identify(&gateway, Ok(KeyDigest([7; 32])), arrival).await;
        let refused = asked.unwrap_err().into_reply();
        let unavailable = gateway.errors.code(Code::ServiceUnavailable).into_reply();
        assert_eq!(refused.body, unavailable.body);
        assert_eq!((refused.status, refused.retry_after), (503, Some(1)));
        // It was of an unknown key: now the limit is reached.
        gateway.rates.take(stranger.window(), now).await.unwrap();
        drop(doubt);
        let asked = identify(&gateway, Ok(KeyDigest([7; 32])), arrival).await;
        assert_eq!(asked.unwrap_err().into_reply().status, 429);
    }

    #[test]
    fn a_key_ends_when_revoked_or_at_its_expiry() {
        let now = crochet_shared::clock::now();
        let good = KeyRecord {
            key_id: ApiKeyId::new(now),
            profile_id: ProfileId::new(now),
            expires_at_ms: Some(1_000),
            revoked: false,
            default_family: None,
            has_evm: false,
            has_solana: false,
        };
        assert!(is_good(&good, 999));
        assert!(!is_good(&good, 1_000));
        let endless = KeyRecord {
            expires_at_ms: None,
            ..good.clone()
        };
        assert!(is_good(&endless, i64::MAX));
        let revoked = KeyRecord {
            revoked: true,
            ..endless
        };
        assert!(!is_good(&revoked, 0));
    }
}
