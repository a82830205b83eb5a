//! Who calls, where people are welcome too: by API key, or by browser session.
//!
//! A request with an `Authorization` header is judged by that alone, whatever cookie comes with it:
//! browsers add cookies unasked, a key is always meant.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use crochet_shared::code::{Code, NextAction};
use crochet_shared::envelope::Failure;
use crochet_shared::id::ProfileId;
use http::header;
use http::request::Parts;

use super::agent::{self, Agent};
use super::session;
use crate::app::App;
use crate::error::ApiError;

/// An agent by its key, or a human by her session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    Agent(Agent),
    Human(Human),
}

/// The human whose session the request carries: signed in, within her limits, and on our own pages
/// where the request changes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Human {
    pub(super) profile: ProfileId,
}

impl Caller {
    /// Who it is.
    pub(super) const fn profile(&self) -> ProfileId {
        match self {
            Self::Agent(agent) => agent.profile,
            Self::Human(human) => human.profile,
        }
    }

    /// As `GET /me` says it.
    pub(super) const fn authenticated_by(&self) -> &'static str {
        match self {
            Self::Agent(_) => "api_key",
            Self::Human(_) => "session",
        }
    }
}

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        if parts.headers.contains_key(header::AUTHORIZATION) {
            return Agent::from_request_parts(parts, app).await.map(Self::Agent);
        }
        match by_session(parts, app).await? {
            Some(human) => Ok(Self::Human(human)),
            None => Err(Code::Unauthorized.into()),
        }
    }
}

impl FromRequestParts<Arc<App>> for Human {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        if parts.headers.contains_key(header::AUTHORIZATION) {
            Agent::from_request_parts(parts, app).await?;
            return Err(Code::HumanSessionRequired.into());
        }
        by_session(parts, app).await?.ok_or_else(|| {
            Failure::from(Code::Unauthorized)
                .with_next(
                    NextAction::FixRequest,
                    "Sign in at POST /auth/login and send the session cookie.",
                )
                .into()
        })
    }
}

async fn by_session(parts: &Parts, app: &App) -> Result<Option<Human>, ApiError> {
    let Some(profile) = session::holder(app, &parts.headers).await? else {
        return Ok(None);
    };
    if !parts.method.is_safe() {
        session::own_origin(&parts.headers, &app.config)?;
    }
    agent::within_limits(app, parts, profile.0).await?;
    Ok(Some(Human { profile }))
}
