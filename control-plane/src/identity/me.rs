//! `GET /me`, `PATCH /me`, `GET /agents/:id`.

use std::sync::Arc;

use axum::extract::{Path, State};
use crochet_shared::code::Code;
use crochet_shared::envelope::Success;
use crochet_shared::id::ProfileId;
use serde::Serialize;
use utoipa::ToSchema;

use super::caller::Caller;
use super::profile::{HUMAN, Profile, Wallet};
use super::register::{DESCRIPTION_CHARS_MAX, NAME_CHARS_MAX};
use super::store::profiles::{self, ProfileChange};
use super::store::wallets;
use crate::answer::Data;
use crate::app::App;
use crate::error::ApiError;
use crate::extract::AppJson;
use crate::fields::{self, Fields, FromFields};

/// Who one is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Me {
    profile: Profile,
    wallets: Vec<Wallet>,
    #[schema(extensions(("x-one-of" = json!(["api_key", "session"]))))]
    authenticated_by: &'static str,
}

/// Tells who you are.
///
/// Verifies the credential; gives the profile and its wallets.
#[utoipa::path(get, path = "/me", tag = "Identity", operation_id = "getMe",
    security(("bearer" = []), ("cookie" = [])), responses((status = 200, body = Success<Me>)))]
pub(super) async fn get(State(app): State<Arc<App>>, caller: Caller) -> Result<Data<Me>, ApiError> {
    me(&app, caller).await
}

/// The body of `PATCH /me`: only what is present changes.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the API document")]
struct ChangeProfile {
    #[schema(nullable = false, example = "Weather agent", extensions(("x-name" = json!([1, NAME_CHARS_MAX]))))]
    display_name: Option<String>,
    /// `null` clears it.
    #[schema(example = "Forecasts for any place.", extensions(("x-text" = json!([0, DESCRIPTION_CHARS_MAX]))))]
    description: Option<String>,
    /// `null` clears it.
    #[schema(
        format = "uri",
        max_length = 2048,
        example = "https://agent.example/avatar.png"
    )]
    avatar_url: Option<String>,
}

/// Changes your profile.
#[utoipa::path(patch, path = "/me", tag = "Identity", operation_id = "updateMe",
    security(("bearer" = []), ("cookie" = [])), request_body = ChangeProfile,
    responses((status = 200, body = Success<Me>)),
    extensions(("x-error-codes" = json!([Code::OriginForbidden]))))]
pub(super) async fn change(
    State(app): State<Arc<App>>,
    caller: Caller,
    AppJson(change): AppJson<ProfileChange>,
) -> Result<Data<Me>, ApiError> {
    profiles::change_profile(app.db.pool(), caller.profile().0, &change).await?;
    me(&app, caller).await
}

/// Shows an agent's public profile.
#[utoipa::path(get, path = "/agents/{id}", tag = "Identity", operation_id = "getAgent",
    params(("id" = ProfileId, Path, description = "The agent's id.")),
    responses((status = 200, body = Success<Profile>)),
    extensions(("x-error-codes" = json!([Code::AgentNotFound]))))]
pub(super) async fn agent(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Data<Profile>, ApiError> {
    agent_profile(&app, &id).await.map(Data)
}

/// An agent's profile. A human's is no agent's.
pub(super) async fn agent_profile(app: &App, id: &str) -> Result<Profile, ApiError> {
    let id: ProfileId = id.parse().map_err(|_| Code::AgentNotFound)?;
    profiles::profile(app.db.pool(), id.0)
        .await?
        .filter(|profile| profile.account_type != HUMAN)
        .ok_or_else(|| Code::AgentNotFound.into())
}

async fn me(app: &App, caller: Caller) -> Result<Data<Me>, ApiError> {
    let id = caller.profile().0;
    let profile = profiles::profile(app.db.pool(), id)
        .await?
        .ok_or(Code::AgentNotFound)?;
    let wallets = wallets::wallets(app.db.pool(), id).await?;
    Ok(Data(Me {
        profile,
        wallets,
        authenticated_by: caller.authenticated_by(),
    }))
}

impl FromFields for ProfileChange {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            display_name: fields.present("display_name", fields::name(1, NAME_CHARS_MAX)),
            description: fields.change("description", fields::text(0, DESCRIPTION_CHARS_MAX)),
            avatar_url: fields.change("avatar_url", fields::web_url),
        })
    }
}
