//! A key as gateways may know it.

use crochet_shared::api_key::KeyDigest;
use crochet_shared::id::{ApiKeyId, ProfileId};
use crochet_shared::internal::KeyRecord;
use crochet_shared::route::Family;

use super::store::keys;
use crate::app::App;
use crate::error::ApiError;

/// The record of a key, revoked or not; `None` when there never was one.
pub async fn key_record(app: &App, digest: &KeyDigest) -> Result<Option<KeyRecord>, ApiError> {
    let found = keys::key_with_wallets(app.db.pool(), digest).await?;
    Ok(found.map(|key| KeyRecord {
        key_id: ApiKeyId(key.key_id),
        profile_id: ProfileId(key.profile_id),
        expires_at_ms: key.expires_at.map(|end| end.timestamp_millis()),
        revoked: key.revoked_at.is_some(),
        default_family: key.default_chain.as_deref().and_then(Family::parse),
        has_evm: key.has_evm,
        has_solana: key.has_solana,
    }))
}
