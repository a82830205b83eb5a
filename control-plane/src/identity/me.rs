//! `GET /me`, `PATCH /me`, `GET /agents/:id`.

use std::sync::Arc;

use axum::extract::{Path, State};
use crochet_shared::code::Code;
use crochet_shared::id::ProfileId;
use serde::Serialize;

use super::agent::Agent;
use super::profile::{Profile, Wallet};
use super::register::{DESCRIPTION_CHARS_MAX, NAME_CHARS_MAX};
use super::store::{self, ProfileChange};
use crate::answer::Data;
use crate::app::App;
use crate::error::ApiError;
use crate::extract::AppJson;
use crate::fields::{self, Fields, FromFields};

/// Who one is.
#[derive(Debug, Serialize)]
pub(super) struct Me {
    profile: Profile,
    wallets: Vec<Wallet>,
    authenticated_by: &'static str,
}

/// `GET /me`
pub(super) async fn get(State(app): State<Arc<App>>, agent: Agent) -> Result<Data<Me>, ApiError> {
    me(&app, agent.profile).await
}

/// `PATCH /me`
pub(super) async fn change(
    State(app): State<Arc<App>>,
    agent: Agent,
    AppJson(change): AppJson<ProfileChange>,
) -> Result<Data<Me>, ApiError> {
    store::change_profile(app.db.pool(), agent.profile.0, &change).await?;
    me(&app, agent.profile).await
}

/// `GET /agents/:id`
pub(super) async fn agent(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Data<Profile>, ApiError> {
    let id: ProfileId = id.parse().map_err(|_| Code::AgentNotFound)?;
    let profile = store::profile(app.db.pool(), id.0)
        .await?
        .filter(|profile| profile.account_type != "human")
        .ok_or(Code::AgentNotFound)?;
    Ok(Data(profile))
}

async fn me(app: &App, id: ProfileId) -> Result<Data<Me>, ApiError> {
    let profile = store::profile(app.db.pool(), id.0)
        .await?
        .ok_or(Code::AgentNotFound)?;
    let wallets = store::wallets(app.db.pool(), id.0).await?;
    Ok(Data(Me {
        profile,
        wallets,
        authenticated_by: "api_key",
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
