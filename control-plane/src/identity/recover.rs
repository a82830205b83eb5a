//! `POST /auth/recover`: a registered wallet proves itself and receives a fresh key.

use std::sync::Arc;

use axum::extract::State;
use crochet_shared::api_key;
use crochet_shared::code::{Code, NextAction};
use crochet_shared::envelope::{Failure, Success};
use crochet_shared::id::{ApiKeyId, ProfileId};
use sqlx::PgConnection;
use utoipa::ToSchema;

use super::binding::Binding;
use super::challenge::SignIn;
use super::proof::{Proof, use_up};
use super::register::{Registered, random_byte};
use super::store::keys::{self, NewApiKey};
use super::store::{profiles, wallets};
use super::wallet::{ADDRESS_PATTERN, Address};
use crate::answer::{Data, Secret};
use crate::app::App;
use crate::db::work;
use crate::error::ApiError;
use crate::extract::AppJson;
use crate::fields::{self, Fields, FromFields};

/// Name of the key that a recovery gives.
const KEY_NAME: &str = "recovered";

/// The body of `POST /auth/recover`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the API document")]
struct RecoverAgent {
    /// The wallet that signed.
    #[schema(example = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", extensions(("x-pattern" = json!(ADDRESS_PATTERN))))]
    wallet_address: String,
    /// Over the exact message of a challenge of purpose `recover`.
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
    /// Whether every earlier key stops working; `false` when absent.
    #[schema(example = false)]
    revoke_existing_keys: Option<bool>,
}

/// What [`RecoverAgent`] describes, read.
#[derive(Debug)]
pub(super) struct Recover {
    proof: Proof,
    revoke_existing_keys: bool,
}

impl FromFields for Recover {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let proof = Proof::from_fields(fields);
        let revoke = fields.optional("revoke_existing_keys", fields::boolean);
        Some(Self {
            proof: proof?,
            revoke_existing_keys: revoke.unwrap_or(false),
        })
    }
}

/// Recovers an agent.
///
/// A registered wallet that is active and can recover proves itself with a signed challenge of
/// purpose `recover` and receives a fresh key, shown this once.
#[utoipa::path(post, path = "/auth/recover", tag = "Identity", operation_id = "recoverAgent",
    request_body = RecoverAgent, responses((status = 200, body = Success<Registered>)),
    extensions(("x-error-codes" = json!([Code::PowInvalid, Code::InvalidSignature, Code::ChallengeInvalid,
        Code::Forbidden, Code::WalletNotFound, Code::RateLimited]))))]
pub(super) async fn recover(
    State(app): State<Arc<App>>,
    _: SignIn,
    AppJson(wanted): AppJson<Recover>,
) -> Result<Secret<Data<Registered>>, ApiError> {
    let nonce = wanted.proof.check(&app, &Binding::Recover).await?;
    let now = crochet_shared::clock::now();
    let key = api_key::generate(random_byte);
    let (wanted, key) = (&wanted, &key);
    let profile = app
        .db
        .run("identity.recover", |tx| {
            work(async move {
                use_up(tx, nonce).await?;
                let profile = recoverable(tx, wanted.proof.address()).await?;
                if wanted.revoke_existing_keys {
                    keys::revoke_keys(tx, profile.0, now).await?;
                }
                let new = NewApiKey {
                    id: ApiKeyId::new(now).0,
                    profile: profile.0,
                    name: KEY_NAME,
                    key,
                    expires_at: None,
                    now,
                };
                keys::insert_key(tx, &new).await?;
                Ok::<_, ApiError>(profile)
            })
        })
        .await?;
    let answer = Registered::read(&app, profile, key).await?;
    Ok(Secret(Data(answer)))
}

/// The profile that a wallet may recover now. Its wallets and keys are locked until the transaction
/// ends, so that a wallet that is being disabled recovers nothing, and no earlier key makes another.
async fn recoverable(tx: &mut PgConnection, address: &Address) -> Result<ProfileId, ApiError> {
    let owner = wallets::owner(&mut *tx, address.family.as_str(), &address.text)
        .await?
        .ok_or_else(unknown)?;
    profiles::lock(tx, owner).await?;
    let wallets = wallets::wallets(&mut *tx, owner).await?;
    let may = wallets
        .iter()
        .any(|wallet| wallet.is_at(address) && wallet.recovers());
    if may {
        Ok(ProfileId(owner))
    } else {
        Err(Failure::from(Code::Forbidden)
            .with_message("This wallet is disabled, or may not recover its agent.")
            .with_next(
                NextAction::FixRequest,
                "Prove another wallet of the agent that is active and can recover it.",
            )
            .into())
    }
}

fn unknown() -> ApiError {
    Failure::from(Code::WalletNotFound)
        .with_message("This wallet is registered with no agent.")
        .with_next(
            NextAction::RegisterAgent,
            "Register the wallet at POST /register.",
        )
        .into()
}
