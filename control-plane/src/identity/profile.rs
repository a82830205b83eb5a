//! Profiles, wallets and keys as the API shows them.

use chrono::{DateTime, Utc};
use crochet_shared::clock::{rfc3339_millis, rfc3339_millis_option};
use crochet_shared::id::{ApiKeyId, ProfileId, WalletId};
use serde::Serialize;
use utoipa::ToSchema;

use super::wallet::Address;
use super::wallet_change::ACTIVE;

/// From this score on, a profile carries the checkmark.
pub const VERIFIED_SCORE: i32 = 800;
/// What a profile can be.
const ACCOUNT_TYPES: [&str; 3] = ["agent", "human", "human_claimed_agent"];
/// The chains of wallets.
const CHAINS: [&str; 2] = ["evm", "solana"];
/// Where a wallet stands.
const WALLET_STATUSES: [&str; 2] = ["active", "disabled"];
/// `account_type` of an agent that no human has claimed.
pub(super) const AGENT: &str = "agent";
/// `account_type` of a person.
pub(super) const HUMAN: &str = "human";

/// `Profile` (contract §3).
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Profile {
    pub(super) id: ProfileId,
    #[schema(example = "Weather agent")]
    pub(super) display_name: String,
    #[schema(example = "Forecasts for any place.")]
    pub(super) description: Option<String>,
    #[schema(format = "uri", example = "https://agent.example/avatar.png")]
    pub(super) avatar_url: Option<String>,
    #[schema(extensions(("x-one-of" = json!(ACCOUNT_TYPES))))]
    pub(super) account_type: String,
    /// Whether the score is 800 or more.
    #[schema(example = false)]
    pub(super) is_verified: bool,
    /// The public Crochet Score.
    #[schema(minimum = 0, maximum = 1000, example = 512)]
    pub(super) score: i32,
    /// The human who claimed this agent.
    pub(super) claimed_by: Option<Operator>,
    #[serde(with = "rfc3339_millis")]
    pub(super) created_at: DateTime<Utc>,
}

/// The human who proved control of an agent's wallet.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Operator {
    pub(super) id: ProfileId,
    #[schema(example = "Ada")]
    pub(super) display_name: String,
}

/// A profile beside something of its own: a listing's `provider`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ProfileCard {
    id: ProfileId,
    #[schema(example = "Weather agent")]
    display_name: String,
    #[schema(format = "uri", example = "https://agent.example/avatar.png")]
    avatar_url: Option<String>,
    #[schema(extensions(("x-one-of" = json!(ACCOUNT_TYPES))))]
    account_type: String,
    #[schema(example = false)]
    is_verified: bool,
    #[schema(minimum = 0, maximum = 1000, example = 512)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the contract's shape: four independent rights"
)]
pub(super) struct Wallet {
    pub(super) id: WalletId,
    #[schema(extensions(("x-one-of" = json!(CHAINS))))]
    pub(super) chain: String,
    /// EIP-55 for EVM, base58 for Solana.
    #[schema(example = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed")]
    pub(super) address: String,
    #[schema(example = "Treasury")]
    pub(super) label: Option<String>,
    #[schema(extensions(("x-one-of" = json!(WALLET_STATUSES))))]
    pub(super) status: String,
    pub(super) can_authenticate: bool,
    pub(super) can_recover: bool,
    pub(super) is_default_payment: bool,
    pub(super) is_default_payout: bool,
    #[serde(with = "rfc3339_millis")]
    pub(super) created_at: DateTime<Utc>,
}

impl Wallet {
    /// Whether it may be used at all.
    pub(super) fn is_active(&self) -> bool {
        self.status == ACTIVE
    }

    /// Whether it can bring the profile back: what links, changes and recovers.
    pub(super) fn recovers(&self) -> bool {
        self.is_active() && self.can_recover
    }

    /// Whether this is the wallet of an address.
    pub(super) fn is_at(&self, address: &Address) -> bool {
        self.chain == address.family.as_str() && self.address == address.text
    }
}

/// `ApiKey` (contract §3).
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ApiKey {
    pub(super) id: ApiKeyId,
    #[schema(example = "default")]
    pub(super) name: String,
    /// The first 12 characters of the key.
    #[schema(example = "am_k_3kTMd9q")]
    pub(super) prefix: String,
    #[serde(with = "rfc3339_millis")]
    pub(super) created_at: DateTime<Utc>,
    #[serde(with = "rfc3339_millis_option")]
    pub(super) last_used_at: Option<DateTime<Utc>>,
    #[serde(with = "rfc3339_millis_option")]
    pub(super) expires_at: Option<DateTime<Utc>>,
    #[serde(with = "rfc3339_millis_option")]
    pub(super) revoked_at: Option<DateTime<Utc>>,
    /// Whose it is; only where a person sees the keys of the agents she has claimed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) agent_id: Option<ProfileId>,
}

/// A key at the one moment its text is shown.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShownKey {
    /// The key's text, shown this once.
    #[schema(example = "am_k_3kTMd9qYw2eRb7uXcVz1nLs8pGf4hJ0aQ5Zx")]
    api_key: String,
    /// The same, as the value of `Authorization`.
    #[schema(example = "Bearer am_k_3kTMd9qYw2eRb7uXcVz1nLs8pGf4hJ0aQ5Zx")]
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
