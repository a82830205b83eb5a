//! `POST /me/wallets`: a wallet of the profile and a new one name each other, and are linked.

use std::sync::Arc;

use axum::extract::State;
use crochet_shared::code::Code;
use crochet_shared::envelope::Success;
use crochet_shared::id::WalletId;
use sqlx::PgConnection;
use utoipa::ToSchema;

use super::agent::Agent;
use super::binding::Binding;
use super::profile::Wallet;
use super::proof::{Signed, WalletProof, use_up};
use super::store::wallets::NewWallet;
use super::store::{keys, profiles, wallets};
use super::wallet_change::LABEL_CHARS_MAX;
use super::wallets::{recovery_wallet, stored};
use crate::answer::Created;
use crate::app::App;
use crate::db::{OnConstraint as _, work};
use crate::error::ApiError;
use crate::extract::AppJson;
use crate::fields::{self, Fields, FromFields};

/// The two proofs of the body.
const EXISTING: &str = "existing_wallet_proof";
const NEW: &str = "new_wallet_proof";

/// The body of `POST /me/wallets`: both challenges have purpose `link_wallet` and name each other's
/// wallet with `linked_wallet_address`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the API document")]
struct LinkNewWallet {
    /// By an active wallet of yours that can recover the profile.
    existing_wallet_proof: WalletProof,
    /// By the wallet to link.
    new_wallet_proof: WalletProof,
    #[schema(example = "Treasury", extensions(("x-name" = json!([0, LABEL_CHARS_MAX]))))]
    label: Option<String>,
}

/// What [`LinkNewWallet`] describes, read.
#[derive(Debug)]
pub(super) struct LinkWallet {
    existing: Signed,
    new: Signed,
    label: Option<String>,
}

impl FromFields for LinkWallet {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let existing = fields.required_nested(EXISTING, Signed::from_fields);
        let new = fields.required_nested(NEW, Signed::from_fields);
        let label = fields.optional("label", fields::name(0, LABEL_CHARS_MAX));
        Some(Self {
            existing: existing?,
            new: new?,
            label,
        })
    }
}

/// Links a wallet.
///
/// Both wallets sign that they belong together. The new one is active and can recover the profile;
/// defaults stay where they are.
#[utoipa::path(post, path = "/me/wallets", tag = "Identity", operation_id = "linkWallet",
    security(("bearer" = [])), request_body = LinkNewWallet,
    responses((status = 201, body = Success<Wallet>)),
    extensions(("x-error-codes" = json!([Code::InvalidSignature, Code::ChallengeInvalid, Code::Forbidden,
        Code::WalletAlreadyRegistered]))))]
pub(super) async fn link(
    State(app): State<Arc<App>>,
    agent: Agent,
    AppJson(wanted): AppJson<LinkWallet>,
) -> Result<Created<Wallet>, ApiError> {
    let LinkWallet { existing, new, .. } = &wanted;
    let naming = |other: &Signed| Binding::LinkWallet {
        other: other.address.clone(),
    };
    let existing_nonce = existing.check_as(EXISTING, &app, &naming(new)).await?;
    let new_nonce = new.check_as(NEW, &app, &naming(existing)).await?;
    let id = WalletId::new(crochet_shared::clock::now());
    let wanted = &wanted;
    app.db
        .run("identity.link_wallet", |tx| {
            work(async move {
                use_up(tx, existing_nonce).await?;
                use_up(tx, new_nonce).await?;
                add(tx, agent, id, wanted).await
            })
        })
        .await?;
    let data = stored(&app, agent, id).await?;
    Ok(Created {
        location: format!("{}/me/wallets/{id}", crate::router::API),
        data,
    })
}

/// Adds the new wallet to the profile, whose existing one must be able to recover it: a lesser one
/// would give itself what it lacks.
async fn add(
    tx: &mut PgConnection,
    agent: Agent,
    id: WalletId,
    wanted: &LinkWallet,
) -> Result<(), ApiError> {
    let profile = agent.profile.0;
    profiles::lock(tx, profile).await?;
    let wallets = wallets::wallets(&mut *tx, profile).await?;
    recovery_wallet(&wallets, &wanted.existing.address)?;
    let address = &wanted.new.address;
    let new = NewWallet {
        id: id.0,
        profile,
        chain: address.family.as_str(),
        address: &address.text,
        label: wanted.label.as_deref(),
        is_default: false,
        now: crochet_shared::clock::now(),
    };
    wallets::insert_wallet(tx, &new).await.on_constraint(
        "wallet_address_once",
        ApiError::from(Code::WalletAlreadyRegistered),
    )?;
    keys::tell_keys(tx, profile).await?;
    Ok(())
}
