//! `POST /auth/challenge`, and the challenges that other routes give.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Extension, FromRequestParts, State};
use chrono::{DateTime, TimeDelta, Utc};
use crochet_shared::clock::rfc3339_millis;
use crochet_shared::code::Code;
use crochet_shared::envelope::Success;
use crochet_shared::id::{self, ProfileId, WalletId};
use http::request::Parts;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::binding::Binding;
use super::message::Message;
use super::pow::Pow;
use super::store::challenges::{self, NewChallenge};
use super::wallet::{ADDRESS_PATTERN, Address};
use super::wallet_change::{ChangesOfWallet, WalletChanges};
use crate::answer::{Data, Secret};
use crate::app::App;
use crate::describe;
use crate::error::ApiError;
use crate::extract::AppJson;
use crate::fields::{self, Fields, FromFields};
use crate::router::{ClientAddress, RateSlot};

/// Life of a challenge, in seconds.
pub const LIFE_SECONDS: i64 = 300;
/// Random bytes of a nonce and of what is to be solved.
const NONCE_BYTES: usize = 16;
/// Purpose of the challenges that `POST /listings` uses up.
pub(super) const CREATE_LISTING: &str = "create_listing";

#[derive(Clone, Copy)]
enum Purpose {
    Register,
    Recover,
    LinkWallet,
    ManageWallet,
    ClaimAgent,
}

const PURPOSES: [(&str, Purpose); 5] = [
    ("register", Purpose::Register),
    ("recover", Purpose::Recover),
    ("link_wallet", Purpose::LinkWallet),
    ("manage_wallet", Purpose::ManageWallet),
    ("claim_agent", Purpose::ClaimAgent),
];

/// The body of `POST /auth/challenge`.
#[derive(ToSchema)]
#[schema(example = json!({"wallet_address": "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "purpose": "register"}))]
#[expect(dead_code, reason = "read by the API document")]
struct AskForChallenge {
    /// The wallet that will sign: `0x` and 40 hex digits is EVM, base58 of 32 bytes is Solana.
    #[schema(example = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", extensions(("x-pattern" = json!(ADDRESS_PATTERN))))]
    wallet_address: String,
    /// What it is for; `register` when absent.
    #[schema(nullable = false, extensions(("x-one-of" = json!(describe::names(&PURPOSES)))))]
    purpose: Option<String>,
    /// The agent to claim; for `claim_agent`, and required there.
    profile_id: Option<ProfileId>,
    /// The other wallet; for `link_wallet`, and required there.
    #[schema(example = "4Nd1mYvZ8kT4nM5t6qUWcR1uBfPq7xYzA2bCdEfGhJkL", extensions(("x-pattern" = json!(ADDRESS_PATTERN))))]
    linked_wallet_address: Option<String>,
    /// The wallet to change; for `manage_wallet`, and required there.
    target_wallet_id: Option<WalletId>,
    /// Exactly the fields that will be sent to `PATCH /me/wallets/:id`; for `manage_wallet`, and
    /// required there.
    changes: Option<ChangesOfWallet>,
}

/// What [`AskForChallenge`] describes, read.
#[derive(Debug)]
pub(super) struct AskChallenge {
    address: Address,
    binding: Binding,
}

impl FromFields for AskChallenge {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let address = fields.required("wallet_address", Address::from_field);
        let purpose = if fields.has("purpose") {
            fields.required("purpose", fields::one_of(&PURPOSES))
        } else {
            Some(Purpose::Register)
        };
        // Judged whatever the purpose is, so that a wrong type is always told.
        let agent = fields.optional("profile_id", fields::parsed("must be an agent's id"));
        let other = fields.optional("linked_wallet_address", Address::from_field);
        let wallet = fields.optional("target_wallet_id", fields::parsed("must be a wallet's id"));
        let changes = fields.nested("changes", |inner| Some(WalletChanges::from_fields(inner)));
        let mut needs = |name: &'static str, missing: bool| {
            if missing && !fields.has_problem_within(name) {
                fields.refuse(name, "is required for this purpose");
            }
        };
        let binding = match purpose? {
            Purpose::Register => Binding::Register,
            Purpose::Recover => Binding::Recover,
            Purpose::LinkWallet => {
                needs("linked_wallet_address", other.is_none());
                if other.is_some() && other == address {
                    fields.refuse("linked_wallet_address", "must be another wallet");
                }
                Binding::LinkWallet { other: other? }
            }
            Purpose::ManageWallet => {
                needs("target_wallet_id", wallet.is_none());
                needs(
                    "changes",
                    changes.as_ref().is_none_or(WalletChanges::is_empty),
                );
                Binding::ManageWallet {
                    wallet: wallet?,
                    changes: changes.filter(|changes| !changes.is_empty())?,
                }
            }
            Purpose::ClaimAgent => {
                needs("profile_id", agent.is_none());
                Binding::ClaimAgent { agent: agent? }
            }
        };
        Some(Self {
            address: address?,
            binding,
        })
    }
}

/// What `POST /auth/challenge` answers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ChallengeGiven {
    /// Sign exactly this text.
    #[schema(
        example = "127.0.0.1:8080 wants you to sign in with your Ethereum account:\n0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed\n\n…"
    )]
    message: String,
    /// Send it back with the signature.
    #[schema(example = "5feceb66ffc86f38d952786c6d696c79")]
    nonce: String,
    #[schema(extensions(("x-one-of" = json!(describe::names(&PURPOSES)))))]
    purpose: &'static str,
    /// Seconds until it expires.
    #[schema(example = 300)]
    expires_in: i64,
    #[serde(with = "rfc3339_millis")]
    expires_at: DateTime<Utc>,
    pow: Pow,
}

/// Asks for a challenge to sign.
///
/// The server composes the whole message; sign its exact text, and solve the proof of work where the
/// route wants one. A challenge serves once, for its purpose, wallet and binding, within 300 seconds;
/// only a success uses it up. Given without looking the wallet up.
#[utoipa::path(post, path = "/auth/challenge", tag = "Identity", operation_id = "createChallenge",
    request_body = AskForChallenge, responses((status = 200, body = Success<ChallengeGiven>)),
    extensions(("x-error-codes" = json!([Code::RateLimited]))))]
pub(super) async fn challenge(
    State(app): State<Arc<App>>,
    _: SignIn,
    AppJson(ask): AppJson<AskChallenge>,
) -> Result<Secret<Data<ChallengeGiven>>, ApiError> {
    let now = crochet_shared::clock::now();
    let fresh = Fresh::new(&app, now);
    let message = Message {
        domain: &app.config.public_domain,
        uri: &app.config.public_base_url,
        address: &ask.address,
        binding: &ask.binding,
        nonce: &fresh.nonce,
        issued_at: now,
        expires_at: fresh.expires_at,
    }
    .compose();
    let new = NewChallenge {
        nonce: &fresh.nonce,
        purpose: ask.binding.purpose(),
        wallet: Some((ask.address.family.as_str(), &ask.address.text)),
        profile: None,
        binding: ask.binding.to_json(),
        message: Some(&message),
        pow_challenge: &fresh.pow_challenge,
        pow_difficulty: fresh.difficulty,
        now,
        expires_at: fresh.expires_at,
    };
    challenges::insert_challenge(app.db.pool(), &new).await?;
    Ok(Secret(Data(ChallengeGiven {
        purpose: ask.binding.purpose(),
        expires_in: LIFE_SECONDS,
        expires_at: fresh.expires_at,
        pow: fresh.pow(),
        message,
        nonce: fresh.nonce,
    })))
}

/// The random parts of a new challenge.
struct Fresh {
    nonce: String,
    pow_challenge: String,
    difficulty: u32,
    expires_at: DateTime<Utc>,
}

impl Fresh {
    fn new(app: &App, now: DateTime<Utc>) -> Self {
        let hex = || crochet_shared::redis_key::hex(&id::random::<NONCE_BYTES>());
        Self {
            nonce: hex(),
            pow_challenge: hex(),
            difficulty: app.difficulty.next(Instant::now()),
            expires_at: now + TimeDelta::seconds(LIFE_SECONDS),
        }
    }

    fn pow(&self) -> Pow {
        Pow::new(self.pow_challenge.clone(), self.difficulty)
    }
}

// --- sign-in limit -----------------------------------------------------------------------------

/// An address that asks to be known, within its limit: counted before the body is read.
pub(super) struct SignIn;

impl FromRequestParts<Arc<App>> for SignIn {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let Extension(client) = Extension::<ClientAddress>::from_request_parts(parts, app)
            .await
            .map_err(ApiError::internal)?;
        let slot: RateSlot = parts.extensions.get().cloned().unwrap_or_default();
        let standing = app.limits.sign_in.take(client.0, Instant::now()).await;
        slot.apply(standing)?;
        Ok(Self)
    }
}

// --- listing challenges ------------------------------------------------------------------------

/// What `POST /listings/challenge` answers.
#[derive(Debug, Serialize, ToSchema)]
pub struct ListingChallenge {
    /// Send it with the listing, or leave it out: then your newest open challenge is meant.
    #[schema(example = "5feceb66ffc86f38d952786c6d696c79")]
    nonce: String,
    /// Seconds until it expires.
    #[schema(example = 300)]
    expires_in: i64,
    #[serde(with = "rfc3339_millis")]
    expires_at: DateTime<Utc>,
    pow: Pow,
}

/// Gives an agent the challenge that its next listing is made with.
pub async fn issue_listing_challenge(
    app: &App,
    agent: ProfileId,
) -> Result<ListingChallenge, ApiError> {
    let now = crochet_shared::clock::now();
    let fresh = Fresh::new(app, now);
    let new = NewChallenge {
        nonce: &fresh.nonce,
        purpose: CREATE_LISTING,
        wallet: None,
        profile: Some(agent.0),
        binding: json!({}),
        message: None,
        pow_challenge: &fresh.pow_challenge,
        pow_difficulty: fresh.difficulty,
        now,
        expires_at: fresh.expires_at,
    };
    challenges::insert_challenge(app.db.pool(), &new).await?;
    Ok(ListingChallenge {
        expires_in: LIFE_SECONDS,
        expires_at: fresh.expires_at,
        pow: fresh.pow(),
        nonce: fresh.nonce,
    })
}
