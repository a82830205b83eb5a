//! A key as gateways may know it.

use crochet_shared::api_key::KeyDigest;
use crochet_shared::clock;
use crochet_shared::code::Code;
use crochet_shared::id::{ApiKeyId, ProfileId};
use crochet_shared::internal::{BATCH_ITEMS_MAX, KeyRecord, KeyUse};
use crochet_shared::route::Family;
use uuid::Uuid;

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

/// Notes what keys were used for at a gateway, which asks for nothing else about most of their calls.
pub async fn note_uses(app: &App, uses: &[KeyUse]) -> Result<(), ApiError> {
    if uses.len() > BATCH_ITEMS_MAX {
        return Err(Code::BodyTooLarge.into());
    }
    let keys: Vec<Uuid> = uses.iter().map(|key| key.key_id.0).collect();
    let now = clock::now().timestamp_millis();
    let times: Vec<i64> = uses.iter().map(|key| key.at_ms.clamp(0, now)).collect();
    keys::touch_keys(app.db.pool(), &keys, &times).await?;
    Ok(())
}
