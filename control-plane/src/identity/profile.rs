//! Profiles, wallets and keys as the API shows them.

use chrono::{DateTime, Utc};
use crochet_shared::clock::{rfc3339_millis, rfc3339_millis_option};
use crochet_shared::id::{ApiKeyId, ProfileId, WalletId};
use serde::Serialize;

/// From this score on, a profile carries the checkmark.
pub const VERIFIED_SCORE: i32 = 800;

/// `Profile` (contract §3).
#[derive(Debug, Serialize)]
pub(super) struct Profile {
    pub(super) id: ProfileId,
    pub(super) display_name: String,
    pub(super) description: Option<String>,
    pub(super) avatar_url: Option<String>,
    pub(super) account_type: String,
    pub(super) is_verified: bool,
    pub(super) score: i32,
    pub(super) claimed_by: Option<Operator>,
    #[serde(with = "rfc3339_millis")]
    pub(super) created_at: DateTime<Utc>,
}

/// The human who proved control of an agent's wallet.
#[derive(Debug, Serialize)]
pub(super) struct Operator {
    pub(super) id: ProfileId,
    pub(super) display_name: String,
}

/// A profile beside something of its own: a listing's `provider`.
#[derive(Clone, Debug, Serialize)]
pub struct ProfileCard {
    id: ProfileId,
    display_name: String,
    avatar_url: Option<String>,
    account_type: String,
    is_verified: bool,
    score: i32,
}

impl ProfileCard {
    /// From its columns; `is_verified` follows from the score.
    pub fn new(
        id: ProfileId,
        display_name: String,
        avatar_url: Option<String>,
        account_type: String,
        score: i32,
    ) -> Self {
        Self {
            id,
            display_name,
            avatar_url,
            account_type,
            is_verified: score >= VERIFIED_SCORE,
            score,
        }
    }
}

/// `Wallet` (contract §3).
#[derive(Debug, Serialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the contract's shape: four independent rights"
)]
pub(super) struct Wallet {
    pub(super) id: WalletId,
    pub(super) chain: String,
    pub(super) address: String,
    pub(super) label: Option<String>,
    pub(super) status: String,
    pub(super) can_authenticate: bool,
    pub(super) can_recover: bool,
    pub(super) is_default_payment: bool,
    pub(super) is_default_payout: bool,
    #[serde(with = "rfc3339_millis")]
    pub(super) created_at: DateTime<Utc>,
}

/// `ApiKey` (contract §3).
#[derive(Debug, Serialize)]
pub(super) struct ApiKey {
    pub(super) id: ApiKeyId,
    pub(super) name: String,
    pub(super) prefix: String,
    #[serde(with = "rfc3339_millis")]
    pub(super) created_at: DateTime<Utc>,
    #[serde(with = "rfc3339_millis_option")]
    pub(super) last_used_at: Option<DateTime<Utc>>,
    #[serde(with = "rfc3339_millis_option")]
    pub(super) expires_at: Option<DateTime<Utc>>,
    #[serde(with = "rfc3339_millis_option")]
    pub(super) revoked_at: Option<DateTime<Utc>>,
}

/// A key at the one moment its text is shown.
#[derive(Debug, Serialize)]
pub(super) struct ShownKey {
    api_key: String,
    authorization_header: String,
    key: ApiKey,
}

impl ShownKey {
    pub(super) fn new(text: &str, key: ApiKey) -> Self {
        Self {
            api_key: text.to_owned(),
            authorization_header: format!("Bearer {text}"),
            key,
        }
    }

    pub(super) fn id(&self) -> ApiKeyId {
        self.key.id
    }
}
