//! `GET /me/wallets`, `GET /me/wallets/:id`, `PATCH /me/wallets/:id`.

use std::sync::Arc;

use axum::extract::{Path, State};
use crochet_shared::code::{Code, NextAction};
use crochet_shared::envelope::{Failure, Success};
use crochet_shared::id::WalletId;
use sqlx::PgConnection;
use utoipa::ToSchema;

use super::agent::Agent;
use super::binding::Binding;
use super::profile::Wallet;
use super::proof::{Signed, WalletProof, use_up};
use super::store::{keys, profiles, wallets};
use super::wallet::Address;
use super::wallet_change::{CannotChange, ChangesOfWallet, WalletChanges};
use crate::answer::Data;
use crate::app::App;
use crate::db::work;
use crate::error::ApiError;
use crate::extract::AppJson;
use crate::fields::{Fields, FromFields};

/// Lists your wallets.
#[utoipa::path(get, path = "/me/wallets", tag = "Identity", operation_id = "listWallets",
    security(("bearer" = [])), responses((status = 200, body = Success<Vec<Wallet>>)))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    agent: Agent,
) -> Result<Data<Vec<Wallet>>, ApiError> {
    let wallets = wallets::wallets(app.db.pool(), agent.profile.0).await?;
    Ok(Data(wallets))
}

/// Shows one of your wallets.
#[utoipa::path(get, path = "/me/wallets/{id}", tag = "Identity", operation_id = "getWallet",
    security(("bearer" = [])), params(("id" = WalletId, Path, description = "The wallet's id.")),
    responses((status = 200, body = Success<Wallet>)),
    extensions(("x-error-codes" = json!([Code::WalletNotFound]))))]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    agent: Agent,
    Path(id): Path<String>,
) -> Result<Data<Wallet>, ApiError> {
    stored(&app, agent, wallet_id(&id)?).await.map(Data)
}

/// The body of `PATCH /me/wallets/:id`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the API document")]
struct ChangeOneWallet {
    /// By an active wallet of yours that can recover the profile, over a challenge of purpose
    /// `manage_wallet` with this wallet as `target_wallet_id` and exactly these `changes`.
    wallet_proof: WalletProof,
    #[serde(flatten)]
    changes: ChangesOfWallet,
}

/// What [`ChangeOneWallet`] describes, read.
#[derive(Debug)]
pub(super) struct ChangeWallet {
    proof: Signed,
    changes: WalletChanges,
}

impl FromFields for ChangeWallet {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let proof = fields.required_nested("wallet_proof", Signed::from_fields);
        let changes = WalletChanges::from_fields(fields);
        Some(Self {
            proof: proof?,
            changes,
        })
    }
}

/// Changes a wallet.
///
/// Only what was signed for changes. A default that is disabled moves to your oldest active wallet;
/// what would leave no active wallet that can recover the profile is refused.
#[utoipa::path(patch, path = "/me/wallets/{id}", tag = "Identity", operation_id = "updateWallet",
    security(("bearer" = [])), params(("id" = WalletId, Path, description = "The wallet's id.")),
    request_body = ChangeOneWallet, responses((status = 200, body = Success<Wallet>)),
    extensions(("x-error-codes" = json!([Code::InvalidSignature, Code::ChallengeInvalid, Code::Forbidden,
        Code::WalletNotFound, Code::WalletLastRecovery]))))]
pub(super) async fn change(
    State(app): State<Arc<App>>,
    agent: Agent,
    Path(id): Path<String>,
    AppJson(wanted): AppJson<ChangeWallet>,
) -> Result<Data<Wallet>, ApiError> {
    let id = wallet_id(&id)?;
    // What is not hers is told before what she signed.
    stored(&app, agent, id).await?;
    let binding = Binding::ManageWallet {
        wallet: id,
        changes: wanted.changes.clone(),
    };
    let nonce = wanted.proof.check(&app, &binding).await?;
    let wanted = &wanted;
    app.db
        .run("identity.change_wallet", |tx| {
            work(async move {
                use_up(tx, nonce).await?;
                apply(tx, agent, id, wanted).await
            })
        })
        .await?;
    stored(&app, agent, id).await.map(Data)
}

/// Changes the wallet and what follows of the profile's others. The profile is locked before they
/// are read: of two changes that together would strand it, the second sees the first.
async fn apply(
    tx: &mut PgConnection,
    agent: Agent,
    id: WalletId,
    wanted: &ChangeWallet,
) -> Result<(), ApiError> {
    let profile = agent.profile.0;
    profiles::lock(tx, profile).await?;
    let before = wallets::wallets(&mut *tx, profile).await?;
    recovery_wallet(&before, &wanted.proof.address)?;
    let mut after = before.clone();
    wanted.changes.apply(&mut after, id)?;
    after.retain(|wallet| !before.contains(wallet));
    wallets::save(tx, profile, &after).await?;
    keys::tell_keys(tx, profile).await?;
    Ok(())
}

impl From<CannotChange> for ApiError {
    fn from(why: CannotChange) -> Self {
        match why {
            CannotChange::NoSuchWallet => Code::WalletNotFound.into(),
            CannotChange::LastRecovery => Code::WalletLastRecovery.into(),
            CannotChange::DisabledDefault(field) => {
                Self::field(field, "must not be true of a disabled wallet")
            }
            CannotChange::NoOtherDefault(field) => Self::field(
                field,
                "must not be false while no other active wallet can be the default",
            ),
        }
    }
}

/// What proves a change of a profile's wallets: one of them, active, that can recover the profile.
pub(super) fn recovery_wallet(wallets: &[Wallet], address: &Address) -> Result<(), ApiError> {
    let may = wallets
        .iter()
        .any(|wallet| wallet.is_at(address) && wallet.recovers());
    if may {
        return Ok(());
    }
    Err(Failure::from(Code::Forbidden)
        .with_message("The proof is by no active recovery wallet of this profile.")
        .with_next(
            NextAction::RequestNewChallenge,
            "Prove it with a wallet of yours that is active and can recover the profile.",
        )
        .into())
}

/// One of the agent's wallets, as it is stored now.
pub(super) async fn stored(app: &App, agent: Agent, id: WalletId) -> Result<Wallet, ApiError> {
    let wallets = wallets::wallets(app.db.pool(), agent.profile.0).await?;
    wallets
        .into_iter()
        .find(|wallet| wallet.id == id)
        .ok_or_else(|| Code::WalletNotFound.into())
}

fn wallet_id(text: &str) -> Result<WalletId, ApiError> {
    text.parse().map_err(|_| Code::WalletNotFound.into())
}
