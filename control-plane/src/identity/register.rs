//! `POST /register`: a wallet proves itself and becomes an agent with a key.

use std::sync::Arc;

use axum::extract::State;
use crochet_shared::api_key::{self, NewKey};
use crochet_shared::code::Code;
use crochet_shared::envelope::Success;
use crochet_shared::id;
use secrecy::ExposeSecret as _;
use serde::Serialize;
use sqlx::PgConnection;
use utoipa::ToSchema;

use super::binding::Binding;
use super::challenge::SignIn;
use super::profile::{AGENT, Profile, ShownKey};
use super::proof::{Proof, use_up};
use super::store::keys::{self, NewApiKey};
use super::store::profiles::{self, NewProfile};
use super::store::wallets::{self, NewWallet};
use super::wallet::ADDRESS_PATTERN;
use crate::answer::{Created, Secret};
use crate::app::App;
use crate::db::{OnConstraint as _, work};
use crate::error::ApiError;
use crate::extract::AppJson;
use crate::fields::{self, Fields, FromFields};

/// Longest name of a profile, in characters.
pub(super) const NAME_CHARS_MAX: usize = 80;
/// Longest description of a profile, in characters.
pub(super) const DESCRIPTION_CHARS_MAX: usize = 1000;
/// Name of an agent's first key.
const FIRST_KEY: &str = "default";

/// The body of `POST /register`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the API document")]
struct RegisterAgent {
    /// The wallet that signed.
    #[schema(example = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", extensions(("x-pattern" = json!(ADDRESS_PATTERN))))]
    wallet_address: String,
    /// Over the challenge's exact message: EIP-191 `personal_sign` as `0x` hex for EVM, ed25519 as
    /// base58 (or base64) for Solana.
    #[schema(
        example = "0xb91467e570a6466aa9e9876cbcd013baba02900b8979d43fe208a4a4f339f5fd6007e74cd82e037b800186422fc2da167c747ef045e5d18a5f5d4300f8e1a0291c"
    )]
    signature: String,
    /// The challenge's `nonce`.
    #[schema(example = "5feceb66ffc86f38d952786c6d696c79")]
    nonce: String,
    /// What solves the challenge's proof of work.
    #[schema(example = "48213", max_length = 128)]
    pow_nonce: String,
    #[schema(example = "Weather agent", extensions(("x-name" = json!([1, NAME_CHARS_MAX]))))]
    display_name: String,
    #[schema(example = "Forecasts for any place.", extensions(("x-text" = json!([0, DESCRIPTION_CHARS_MAX]))))]
    description: Option<String>,
    #[schema(
        format = "uri",
        max_length = 2048,
        example = "https://agent.example/avatar.png"
    )]
    avatar_url: Option<String>,
}

/// What [`RegisterAgent`] describes, read.
#[derive(Debug)]
pub(super) struct Register {
    proof: Proof,
    display_name: String,
    description: Option<String>,
    avatar_url: Option<String>,
}

impl FromFields for Register {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let proof = Proof::from_fields(fields);
        let display_name = fields.required("display_name", fields::name(1, NAME_CHARS_MAX));
        let description = fields.optional("description", fields::text(0, DESCRIPTION_CHARS_MAX));
        let avatar_url = fields.optional("avatar_url", fields::web_url);
        Some(Self {
            proof: proof?,
            display_name: display_name?,
            description,
            avatar_url,
        })
    }
}

/// What `POST /register` and `POST /auth/recover` answer; the key's text is shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Registered {
    profile: Profile,
    #[serde(flatten)]
    key: ShownKey,
}

impl Registered {
    /// A profile, and the key that was just made for it.
    pub(super) async fn read(
        app: &App,
        profile: id::ProfileId,
        key: &NewKey,
    ) -> Result<Self, ApiError> {
        let stored = keys::key_by_digest(app.db.pool(), &key.digest).await?;
        let profile = profiles::profile(app.db.pool(), profile.0)
            .await?
            .ok_or(Code::AgentNotFound)?;
        Ok(Self {
            profile,
            key: ShownKey::new(key.text.expose_secret(), stored),
        })
    }
}

/// Registers an agent.
///
/// A wallet proves itself with a signed challenge of purpose `register` and becomes an agent with a
/// key. The key's text is shown this once. A registered wallet gets a fresh one at
/// `POST /auth/recover`.
#[utoipa::path(post, path = "/register", tag = "Identity", operation_id = "registerAgent",
    request_body = RegisterAgent, responses((status = 201, body = Success<Registered>)),
    extensions(("x-error-codes" = json!([Code::PowInvalid, Code::InvalidSignature, Code::ChallengeInvalid,
        Code::WalletAlreadyRegistered, Code::RateLimited]))))]
pub(super) async fn register(
    State(app): State<Arc<App>>,
    _: SignIn,
    AppJson(wanted): AppJson<Register>,
) -> Result<Secret<Created<Registered>>, ApiError> {
    let nonce = wanted.proof.check(&app, &Binding::Register).await?;
    let now = crochet_shared::clock::now();
    let profile = id::ProfileId::new(now);
    let key = api_key::generate(random_byte);
    let (wanted, key) = (&wanted, &key);
    app.db
        .run("identity.register", |tx| {
            work(async move {
                use_up(tx, nonce).await?;
                let new = NewProfile {
                    id: profile.0,
                    account_type: AGENT,
                    display_name: &wanted.display_name,
                    description: wanted.description.as_deref(),
                    avatar_url: wanted.avatar_url.as_deref(),
                    now,
                };
                profiles::insert_profile(tx, &new).await?;
                add_first_wallet(tx, profile.0, &wanted.proof, now).await?;
                let new = NewApiKey {
                    id: id::ApiKeyId::new(now).0,
                    profile: profile.0,
                    name: FIRST_KEY,
                    key,
                    expires_at: None,
                    now,
                };
                keys::insert_key(tx, &new).await?;
                Ok::<_, ApiError>(())
            })
        })
        .await?;
    let data = Registered::read(&app, profile, key).await?;
    Ok(Secret(Created {
        location: format!("{}/agents/{profile}", crate::router::API),
        data,
    }))
}

/// The first wallet is the default for paying and for being paid.
async fn add_first_wallet(
    tx: &mut PgConnection,
    profile: uuid::Uuid,
    proof: &Proof,
    now: chrono::DateTime<chrono::Utc>,
) -> Result<(), ApiError> {
    let address = proof.address();
    let new = NewWallet {
        id: id::WalletId::new(now).0,
        profile,
        chain: address.family.as_str(),
        address: &address.text,
        label: None,
        is_default: true,
        now,
    };
    wallets::insert_wallet(tx, &new).await.on_constraint(
        "wallet_address_once",
        ApiError::from(Code::WalletAlreadyRegistered),
    )
}

/// One byte from the operating system.
pub(super) fn random_byte() -> u8 {
    let [byte] = id::random::<1>();
    byte
}
