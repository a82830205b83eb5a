//! `POST /auth/challenge`, and the challenges that other routes give and use up.

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
use serde_json::{Map, Value, json};
use sqlx::PgConnection;
use utoipa::ToSchema;

use super::message::Message;
use super::pow::{self, Pow};
use super::store::{self, NewChallenge};
use super::wallet::Address;
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
/// Longest nonce that is looked up.
const NONCE_CHARS_MAX: usize = 64;
/// Longest label of a wallet.
const LABEL_CHARS_MAX: usize = 60;
/// Purpose of the challenges that `POST /listings` uses up.
const CREATE_LISTING: &str = "create_listing";

/// What a challenge is for and bound to. It serves for nothing else.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Binding {
    Register,
    Recover,
    LinkWallet {
        other: Address,
    },
    ManageWallet {
        wallet: WalletId,
        changes: Map<String, Value>,
    },
    ClaimAgent {
        agent: ProfileId,
    },
}

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

impl Binding {
    pub(super) fn purpose(&self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Recover => "recover",
            Self::LinkWallet { .. } => "link_wallet",
            Self::ManageWallet { .. } => "manage_wallet",
            Self::ClaimAgent { .. } => "claim_agent",
        }
    }

    /// What is signed, in words.
    pub(super) fn statement(&self) -> String {
        match self {
            Self::Register => "Register a new Crochet agent with this wallet.".to_owned(),
            Self::Recover => {
                "Recover the Crochet agent of this wallet and receive a new API key.".to_owned()
            }
            Self::LinkWallet { other } => format!(
                "Link this wallet and {} to one Crochet agent. Both can recover it.",
                other.text
            ),
            Self::ManageWallet { wallet, changes } => {
                let changes: Vec<String> = changes
                    .iter()
                    .map(|(name, value)| format!("{name} to {value}"))
                    .collect();
                format!(
                    "Change wallet {wallet} of a Crochet agent: {}.",
                    changes.join(", ")
                )
            }
            Self::ClaimAgent { agent } => {
                format!(
                    "Confirm to a human operator that this wallet controls Crochet agent {agent}."
                )
            }
        }
    }

    /// The same for machines, each a URN's end.
    pub(super) fn resources(&self) -> Vec<String> {
        let mut resources = vec![format!("purpose:{}", self.purpose())];
        match self {
            Self::Register | Self::Recover => {}
            Self::LinkWallet { other } => {
                resources.push(format!("wallet:{}:{}", other.family.as_str(), other.text));
            }
            Self::ManageWallet { wallet, changes } => {
                let text = Value::Object(changes.clone()).to_string();
                let encoded: String =
                    url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
                resources.push(format!("wallet:{wallet}"));
                resources.push(format!("changes:{}", encoded.replace('+', "%20")));
            }
            Self::ClaimAgent { agent } => resources.push(format!("profile:{agent}")),
        }
        resources
    }

    fn to_json(&self) -> Value {
        match self {
            Self::Register | Self::Recover => json!({}),
            Self::LinkWallet { other } => json!({ "linked_wallet_address": other.text }),
            Self::ManageWallet { wallet, changes } => {
                json!({ "target_wallet_id": wallet, "changes": changes })
            }
            Self::ClaimAgent { agent } => json!({ "profile_id": agent }),
        }
    }
}

/// The body of `POST /auth/challenge`.
#[derive(ToSchema)]
#[schema(example = json!({"wallet_address": "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "purpose": "register"}))]
#[expect(dead_code, reason = "read by the API document")]
struct AskForChallenge {
    /// The wallet that will sign: `0x` and 40 hex digits is EVM, base58 of 32 bytes is Solana.
    #[schema(example = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed")]
    wallet_address: String,
    /// What it is for; `register` when absent.
    #[schema(nullable = false, extensions(("x-one-of" = json!(describe::names(&PURPOSES)))))]
    purpose: Option<String>,
    /// The agent to claim; for `claim_agent`, and required there.
    profile_id: Option<ProfileId>,
    /// The other wallet; for `link_wallet`, and required there.
    #[schema(example = "4Nd1mYvZ8kT4nM5t6qUWcR1uBfPq7xYzA2bCdEfGhJkL")]
    linked_wallet_address: Option<String>,
    /// The wallet to change; for `manage_wallet`, and required there.
    target_wallet_id: Option<WalletId>,
    /// Exactly the fields that will be sent to `PATCH /me/wallets/:id`; for `manage_wallet`, and
    /// required there.
    changes: Option<WalletChanges>,
}

/// What is to change of a wallet.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the API document")]
pub(super) struct WalletChanges {
    /// `null` clears it.
    #[schema(example = "Treasury", extensions(("x-text" = json!([0, LABEL_CHARS_MAX]))))]
    label: Option<String>,
    #[schema(nullable = false, extensions(("x-one-of" = json!(describe::names(&WALLET_STATUSES)))))]
    status: Option<String>,
    #[schema(nullable = false)]
    can_authenticate: Option<bool>,
    #[schema(nullable = false)]
    can_recover: Option<bool>,
    #[schema(nullable = false)]
    is_default_payment: Option<bool>,
    #[schema(nullable = false)]
    is_default_payout: Option<bool>,
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
        let changes = fields.nested("changes", |inner| Some(read_changes(inner)));
        let mut needs = |name, missing: bool| {
            if missing {
                fields.refuse(name, "is required for this purpose");
            }
        };
        let binding = match purpose? {
            Purpose::Register => Binding::Register,
            Purpose::Recover => Binding::Recover,
            Purpose::LinkWallet => {
                needs("linked_wallet_address", other.is_none());
                Binding::LinkWallet { other: other? }
            }
            Purpose::ManageWallet => {
                needs("target_wallet_id", wallet.is_none());
                needs("changes", changes.as_ref().is_none_or(Map::is_empty));
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

/// What a wallet's status can be set to.
const WALLET_STATUSES: [(&str, &str); 2] = [("active", "active"), ("disabled", "disabled")];

/// The changes of a wallet, in the form that is signed and later compared.
fn read_changes(fields: &mut Fields<'_>) -> Map<String, Value> {
    const FLAGS: [&str; 4] = [
        "can_authenticate",
        "can_recover",
        "is_default_payment",
        "is_default_payout",
    ];
    let mut changes = Map::new();
    for flag in FLAGS {
        if let Some(value) = fields.present(flag, fields::boolean) {
            changes.insert(flag.to_owned(), value.into());
        }
    }
    if let Some(label) = fields.change("label", fields::text(0, LABEL_CHARS_MAX)) {
        changes.insert("label".to_owned(), label.into());
    }
    if let Some(status) = fields.present("status", fields::one_of(&WALLET_STATUSES)) {
        changes.insert("status".to_owned(), status.into());
    }
    changes
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
    store::insert_challenge(app.db.pool(), &new).await?;
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

// --- what a client sends back ------------------------------------------------------------------

/// A signed and solved challenge, as `POST /register` and its kin carry it.
#[derive(Debug)]
pub(super) struct Proof {
    pub(super) address: Address,
    nonce: String,
    pow_nonce: String,
    signature: String,
}

impl Proof {
    pub(super) fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let address = fields.required("wallet_address", Address::from_field);
        let signature = fields.required("signature", fields::any_text);
        let nonce = fields.required("nonce", fields::any_text);
        let pow_nonce = fields.required("pow_nonce", pow_nonce);
        Some(Self {
            address: address?,
            nonce: nonce?,
            pow_nonce: pow_nonce?,
            signature: signature?,
        })
    }

    /// Judges it for a purpose, cheapest first: expiry, purpose, proof of work, signature. Gives the
    /// nonce, which [`use_up`] then takes in the transaction of what is proven.
    pub(super) async fn check(&self, app: &App, purpose: &str) -> Result<&str, ApiError> {
        if self.nonce.chars().count() > NONCE_CHARS_MAX {
            return Err(Code::ChallengeInvalid.into());
        }
        let now = crochet_shared::clock::now();
        let found = store::challenge(app.db.pool(), &self.nonce).await?;
        let given = found
            .filter(|given| given.used_at.is_none() && given.expires_at > now)
            .filter(|given| given.purpose == purpose)
            .filter(|given| {
                given.wallet_address.as_deref() == Some(&self.address.text)
                    && given.chain.as_deref() == Some(self.address.family.as_str())
            })
            .ok_or(Code::ChallengeInvalid)?;
        check_pow(
            given.pow_challenge.as_deref(),
            given.pow_difficulty,
            &self.pow_nonce,
        )?;
        let message = given.message.unwrap_or_default();
        if self.address.signed(&message, &self.signature) {
            Ok(&self.nonce)
        } else {
            Err(Code::InvalidSignature.into())
        }
    }
}

fn check_pow(
    challenge: Option<&str>,
    difficulty: Option<i32>,
    nonce: &str,
) -> Result<(), ApiError> {
    let difficulty = difficulty.and_then(|difficulty| u32::try_from(difficulty).ok());
    match (challenge, difficulty) {
        (Some(challenge), Some(difficulty)) if pow::solves(challenge, nonce, difficulty) => Ok(()),
        _ => Err(Code::PowInvalid.into()),
    }
}

/// Reads a `pow_nonce`.
fn pow_nonce(raw: &serde_json::value::RawValue) -> Result<String, fields::Problem> {
    let text = fields::any_text(raw)?;
    if text.chars().count() > pow::NONCE_CHARS_MAX {
        return Err(format!("must be at most {} characters", pow::NONCE_CHARS_MAX).into());
    }
    Ok(text)
}

/// Uses a challenge up, in the transaction of the success it serves. A second use waits for the
/// first to commit, then finds nothing to use.
pub async fn use_up(tx: &mut PgConnection, nonce: &str) -> Result<(), ApiError> {
    if store::use_challenge(tx, nonce, crochet_shared::clock::now()).await? {
        Ok(())
    } else {
        Err(Code::ChallengeInvalid.into())
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
    store::insert_challenge(app.db.pool(), &new).await?;
    Ok(ListingChallenge {
        expires_in: LIFE_SECONDS,
        expires_at: fresh.expires_at,
        pow: fresh.pow(),
        nonce: fresh.nonce,
    })
}

/// The proof of work of a new listing: `pow_nonce`, and `nonce` when another challenge than the
/// agent's newest is meant.
#[derive(Clone, Debug)]
pub struct ListingProof {
    nonce: Option<String>,
    pow_nonce: String,
}

impl ListingProof {
    /// Reads the two fields.
    pub fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let pow_nonce = fields.required("pow_nonce", pow_nonce);
        let nonce = fields.optional("nonce", fields::any_text);
        Some(Self {
            nonce,
            pow_nonce: pow_nonce?,
        })
    }
}

/// Judges a listing's proof of work. Gives the challenge's nonce, for [`use_up`].
pub async fn listing_challenge(
    app: &App,
    agent: ProfileId,
    proof: &ListingProof,
) -> Result<String, ApiError> {
    let long = |nonce: &String| nonce.chars().count() > NONCE_CHARS_MAX;
    if proof.nonce.as_ref().is_some_and(long) {
        return Err(Code::ChallengeInvalid.into());
    }
    let now = crochet_shared::clock::now();
    let given = store::agent_challenge(
        app.db.pool(),
        agent.0,
        CREATE_LISTING,
        proof.nonce.as_deref(),
        now,
    )
    .await?
    .ok_or(Code::ChallengeInvalid)?;
    check_pow(
        given.pow_challenge.as_deref(),
        given.pow_difficulty,
        &proof.pow_nonce,
    )?;
    Ok(given.nonce)
}
