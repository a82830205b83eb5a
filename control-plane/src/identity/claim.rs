//! `POST /agents/:id/claim`: a human proves that she controls a wallet of an agent.

use std::sync::Arc;

use axum::extract::{Path, State};
use crochet_shared::code::{Code, NextAction};
use crochet_shared::envelope::{Failure, Success};
use crochet_shared::id::ProfileId;
use sqlx::PgConnection;

use super::binding::Binding;
use super::caller::Human;
use super::me::agent_profile;
use super::profile::{AGENT, Profile, Wallet};
use super::proof::{Signed, WalletProof, use_up};
use super::store::{profiles, wallets};
use crate::answer::Data;
use crate::app::App;
use crate::db::work;
use crate::error::ApiError;
use crate::extract::AppJson;
use crate::fields::{Fields, FromFields};

/// What [`WalletProof`] describes, as the body of `POST /agents/:id/claim`.
#[derive(Debug)]
pub(super) struct Claim {
    proof: Signed,
}

impl FromFields for Claim {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        Signed::from_fields(fields).map(|proof| Self { proof })
    }
}

/// Claims an agent.
///
/// A signed-in person proves that she controls an active wallet of the agent, which can authenticate
/// or recover it, with a challenge of purpose `claim_agent` and this `profile_id`. Says who operates
/// the agent; changes no score and no checkmark.
#[utoipa::path(post, path = "/agents/{id}/claim", tag = "Identity", operation_id = "claimAgent",
    security(("cookie" = [])), params(("id" = ProfileId, Path, description = "The agent's id.")),
    request_body = WalletProof, responses((status = 200, body = Success<Profile>)),
    extensions(("x-error-codes" = json!([Code::InvalidSignature, Code::ChallengeInvalid, Code::Forbidden,
        Code::HumanSessionRequired, Code::OriginForbidden, Code::AgentNotFound, Code::AgentAlreadyClaimed]))))]
pub(super) async fn claim(
    State(app): State<Arc<App>>,
    human: Human,
    Path(id): Path<String>,
    AppJson(Claim { proof }): AppJson<Claim>,
) -> Result<Data<Profile>, ApiError> {
    let agent = agent_profile(&app, &id).await?.id;
    let nonce = proof.check(&app, &Binding::ClaimAgent { agent }).await?;
    let proof = &proof;
    app.db
        .run("identity.claim", |tx| {
            work(async move {
                use_up(tx, nonce).await?;
                take(tx, agent, human, proof).await
            })
        })
        .await?;
    agent_profile(&app, &id).await.map(Data)
}

async fn take(
    tx: &mut PgConnection,
    agent: ProfileId,
    human: Human,
    proof: &Signed,
) -> Result<(), ApiError> {
    let standing = profiles::lock(tx, agent.0)
        .await?
        .ok_or(Code::AgentNotFound)?;
    let wallets = wallets::wallets(&mut *tx, agent.0).await?;
    let proves = |wallet: &Wallet| {
        wallet.is_at(&proof.address)
            && wallet.is_active()
            && (wallet.can_authenticate || wallet.can_recover)
    };
    if !wallets.iter().any(proves) {
        return Err(Failure::from(Code::Forbidden)
            .with_message("The proof is by no active wallet of this agent.")
            .with_next(
                NextAction::RequestNewChallenge,
                "Prove it with a wallet of the agent that is active and can authenticate or recover it.",
            )
            .into());
    }
    if standing.claimed_by.is_some() || standing.account_type != AGENT {
        return Err(Code::AgentAlreadyClaimed.into());
    }
    profiles::claim(tx, agent.0, human.profile.0).await?;
    Ok(())
}
