//! Who calls: key text → checksum → digest → this process → Redis → internal API.
//!
//! A mistyped key costs nobody a look-up. An address that tried too many unknown keys is refused
//! before the look-up, while keys that are known here go on from the same address.

use std::sync::Arc;

use crochet_shared::api_key::KeyDigest;
use crochet_shared::code::Code;
use crochet_shared::id::ProfileId;
use crochet_shared::internal::KeyRecord;

use super::Arrival;
use super::head::NoCredential;
use crate::cache::keys::{Cached, Key};
use crate::error::Refusal;
use crate::gateway::Gateway;

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
    let digest = credential.map_err(|_| gateway.errors.code(Code::Unauthorized))?;
    let key = known(gateway, digest, arrival).await?;
    let Some(key) = key.filter(|key| is_good(&key.record, arrival.now_ms)) else {
        let seconds = gateway.seconds(arrival.at);
        let limit = gateway.config.unknown_keys_per_minute;
        gateway
            .strangers
            .window(arrival.client)
            .hit(seconds, limit)
            .map_err(|full| limited(gateway, full.retry_after_seconds))?;
        return Err(gateway.errors.code(Code::InvalidApiKey));
    };
    let limit = gateway.config.key_calls_per_minute;
    let usage = key
        .calls
        .hit(gateway.seconds(arrival.at), limit)
        .map_err(|full| {
            limited(gateway, full.retry_after_seconds).with_rate(limit, 0, full.retry_after_seconds)
        })?;
    Ok(Identified {
        key,
        digest,
        rate: (limit, usage.remaining, usage.reset_seconds),
    })
}

async fn known(
    gateway: &Gateway,
    digest: KeyDigest,
    arrival: Arrival,
) -> Result<Option<Arc<Key>>, Refusal> {
    match gateway
        .keys
        .cached(&digest, arrival.at, gateway.hearing.epoch())
    {
        Cached::Key(key) => return Ok(Some(key)),
        Cached::Unknown => return Ok(None),
        Cached::Miss => {}
    }
    if let Some(window) = gateway.strangers.known(arrival.client) {
        window
            .check(
                gateway.seconds(arrival.at),
                gateway.config.unknown_keys_per_minute,
            )
            .map_err(|full| limited(gateway, full.retry_after_seconds))?;
    }
    gateway
        .keys
        .fetch(gateway, digest)
        .await
        .map_err(|_| gateway.errors.code(Code::ServiceUnavailable))
}

fn limited(gateway: &Gateway, retry_after_seconds: u32) -> Refusal {
    gateway.errors.wait(Code::RateLimited, retry_after_seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crochet_shared::id::ApiKeyId;

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
