//! Who calls, by API key: the argument that makes a route an agent's.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::FromRequestParts;
use chrono::{DateTime, TimeDelta, Utc};
use crochet_shared::api_key::{self, KeyDigest};
use crochet_shared::code::Code;
use crochet_shared::id::{ApiKeyId, ProfileId};
use http::request::Parts;
use http::{HeaderMap, Method, header};
use uuid::Uuid;

use super::session;
use super::store::keys::{self, KeyOwner};
use crate::app::App;
use crate::error::ApiError;
use crate::router::{ClientAddress, RateSlot};

/// `last_used_at` is written at most this often.
const TOUCH_SECONDS: i64 = 60;

/// The agent whose key the request carries: authenticated, and within its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Who.
    pub profile: ProfileId,
    /// By which key.
    pub key: ApiKeyId,
}

/// As [`Agent`] where a key is welcome and not needed: none is nobody, a wrong one is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaybeAgent(pub Option<Agent>);

impl FromRequestParts<Arc<App>> for Agent {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        if !parts.headers.contains_key(header::AUTHORIZATION) {
            return Err(without_key(app, &parts.headers).await);
        }
        let digest = presented(&parts.headers)?;
        let address = parts
            .extensions
            .get::<ClientAddress>()
            .map_or(std::net::IpAddr::from([127, 0, 0, 1]), |client| client.0);
        let slot = parts
            .extensions
            .get::<RateSlot>()
            .cloned()
            .unwrap_or_default();
        let owner = look_up(app, &digest, address, &slot).await?;
        within_limits(app, parts, owner.key_id).await?;
        touch(app, &owner);
        Ok(Self {
            profile: ProfileId(owner.profile_id),
            key: ApiKeyId(owner.key_id),
        })
    }
}

impl FromRequestParts<Arc<App>> for MaybeAgent {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        if parts.headers.contains_key(header::AUTHORIZATION) {
            Agent::from_request_parts(parts, app)
                .await
                .map(|agent| Self(Some(agent)))
        } else {
            Ok(Self(None))
        }
    }
}

/// What a request without a key is told: a person that is signed in, that this is for agents.
async fn without_key(app: &App, headers: &HeaderMap) -> ApiError {
    match session::holder(app, headers).await {
        Ok(Some(_)) => Code::AgentRequired.into(),
        Ok(None) => Code::Unauthorized.into(),
        Err(error) => error,
    }
}

/// Counts a read or a write of a caller: an agent's by its key, a human's by her profile.
pub(super) async fn within_limits(app: &App, parts: &Parts, caller: Uuid) -> Result<(), ApiError> {
    let slot: RateSlot = parts.extensions.get().cloned().unwrap_or_default();
    let reads = matches!(parts.method, Method::GET | Method::HEAD);
    let window = if reads {
        &app.limits.reads
    } else {
        &app.limits.writes
    };
    slot.apply(window.take(caller, Instant::now()).await)
}

/// The digest of the one well-formed key in the headers. A typo is told without a look-up.
fn presented(headers: &HeaderMap) -> Result<KeyDigest, ApiError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(Code::Unauthorized.into());
    };
    let (scheme, key) = value
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .ok_or(Code::Unauthorized)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Code::Unauthorized.into());
    }
    api_key::parse(key.trim()).ok_or_else(|| Code::Unauthorized.into())
}

/// Whose key it is. Addresses that keep guessing are refused before any look-up.
async fn look_up(
    app: &App,
    digest: &KeyDigest,
    address: std::net::IpAddr,
    slot: &RateSlot,
) -> Result<KeyOwner, ApiError> {
    let guesses = app.limits.unknown_keys.look(address, Instant::now());
    if !guesses.allowed {
        slot.apply(guesses)?;
    }
    let owner = keys::key_owner(app.db.pool(), digest).await?;
    let now = crochet_shared::clock::now();
    match owner {
        Some(owner) if holds(&owner, now) => Ok(owner),
        found => {
            if found.is_none() {
                let standing = app.limits.unknown_keys.take(address, Instant::now()).await;
                if !standing.allowed {
                    // Others have counted it full; from here on this process knows.
                    slot.apply(standing)?;
                }
            }
            Err(Code::InvalidApiKey.into())
        }
    }
}

fn holds(owner: &KeyOwner, now: DateTime<Utc>) -> bool {
    owner.revoked_at.is_none() && owner.expires_at.is_none_or(|end| end > now)
}

/// Notes the use off the answer's path.
fn touch(app: &Arc<App>, owner: &KeyOwner) {
    let now = crochet_shared::clock::now();
    let recent = |last: DateTime<Utc>| now - last < TimeDelta::seconds(TOUCH_SECONDS);
    if owner.last_used_at.is_some_and(recent) {
        return;
    }
    let app = Arc::clone(app);
    let key = owner.key_id;
    tokio::spawn(async move {
        if let Err(error) = keys::touch_key(app.db.pool(), key, now).await {
            tracing::warn!(%error, "last_used_at was not written");
        }
    });
}
