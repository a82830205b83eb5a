//! `GET /api-keys`, `POST /api-keys`, `DELETE /api-keys/:id`.

use std::sync::Arc;

use axum::extract::{Path, State};
use chrono::{DateTime, Utc};
use crochet_shared::api_key;
use crochet_shared::clock::rfc3339_millis;
use crochet_shared::code::Code;
use crochet_shared::envelope::{Failure, Success};
use crochet_shared::id::{ApiKeyId, ProfileId};
use secrecy::ExposeSecret as _;
use serde::Serialize;
use utoipa::ToSchema;

use super::agent::Agent;
use super::caller::Caller;
use super::profile::{ApiKey, ShownKey};
use super::register::random_byte;
use super::store::keys::{self, NewApiKey};
use super::store::profiles;
use crate::answer::{Created, Data, Secret};
use crate::app::App;
use crate::db::work;
use crate::error::ApiError;
use crate::extract::AppJson;
use crate::fields::{self, Fields, FromFields};
use crate::query::Query;

/// Longest name of a key, in characters.
const NAME_CHARS_MAX: usize = 60;

/// Lists API keys.
///
/// Metadata only: the text of a key is shown once, when it is made. An agent sees its own keys; a
/// person by session those of the agents she has claimed, each with its `agent_id`.
#[utoipa::path(get, path = "/api-keys", tag = "Identity", operation_id = "listApiKeys",
    security(("bearer" = []), ("cookie" = [])),
    params(("agent_id" = Option<ProfileId>, Query, description = "Only the keys of this agent.")),
    responses((status = 200, body = Success<Vec<ApiKey>>)))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    mut query: Query,
) -> Result<Data<Vec<ApiKey>>, ApiError> {
    let agent: Option<ProfileId> = query.parsed("agent_id", "must be an agent's id");
    query.finish()?;
    let told_apart = matches!(caller, Caller::Human(_));
    let agent = agent.map(|agent| agent.0);
    let keys = keys::keys(app.db.pool(), caller.profile().0, agent, told_apart).await?;
    Ok(Data(keys))
}

/// The body of `POST /api-keys`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the API document")]
struct CreateApiKey {
    /// What you call it.
    #[schema(example = "worker", extensions(("x-name" = json!([1, NAME_CHARS_MAX]))))]
    name: String,
    /// When it stops working; never when absent. Must be in the future.
    #[schema(example = "2030-01-31T12:00:00.000Z")]
    expires_at: Option<DateTime<Utc>>,
}

/// What [`CreateApiKey`] describes, read.
#[derive(Debug)]
pub(super) struct WantedKey {
    name: String,
    expires_at: Option<DateTime<Utc>>,
}

impl FromFields for WantedKey {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let name = fields.required("name", fields::name(1, NAME_CHARS_MAX));
        let expires_at = fields.optional("expires_at", |raw| {
            let time = fields::moment(raw)?;
            if time > crochet_shared::clock::now() {
                Ok(time)
            } else {
                Err("must be in the future".into())
            }
        });
        Some(Self {
            name: name?,
            expires_at,
        })
    }
}

/// Keys in use that one agent may have. Limits of rate are counted by key, and a change of her wallets is told
/// to every gateway for each key.
const KEYS_MAX: i64 = 100;
/// When to try again; a key may run out meanwhile.
const TOO_MANY_RETRY_SECONDS: u32 = 60;

fn too_many() -> ApiError {
    Failure::from(Code::RateLimited)
        .with_message(format!(
            "{KEYS_MAX} API keys are in use; revoke one before you make another."
        ))
        .with_retry_after(TOO_MANY_RETRY_SECONDS)
        .into()
}

/// Makes an API key. At most 100 may be in use.
///
/// The answer holds the key's text, this once: keep it. Only a digest is stored.
#[utoipa::path(post, path = "/api-keys", tag = "Identity", operation_id = "createApiKey",
    security(("bearer" = [])), request_body = CreateApiKey,
    responses((status = 201, body = Success<ShownKey>)))]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    agent: Agent,
    AppJson(wanted): AppJson<WantedKey>,
) -> Result<Secret<Created<ShownKey>>, ApiError> {
    let now = crochet_shared::clock::now();
    let key = api_key::generate(random_byte);
    let (wanted, key) = (&wanted, &key);
    app.db
        .run("identity.create_key", |tx| {
            work(async move {
                let new = NewApiKey {
                    id: ApiKeyId::new(now).0,
                    profile: agent.profile.0,
                    name: &wanted.name,
                    key,
                    expires_at: wanted.expires_at,
                    now,
                };
                // Locked first: of two that would be the last to fit, one counts the other.
                profiles::lock(tx, agent.profile.0).await?;
                if keys::live(tx, agent.profile.0).await? >= KEYS_MAX {
                    return Err(too_many());
                }
                if !keys::still_holds(tx, agent.profile.0, agent.key.0).await? {
                    return Err(ApiError::from(Code::InvalidApiKey));
                }
                keys::insert_key(tx, &new).await?;
                Ok(())
            })
        })
        .await?;
    let stored = keys::key_by_digest(app.db.pool(), &key.digest).await?;
    let shown = ShownKey::new(key.text.expose_secret(), stored);
    Ok(Secret(Created {
        location: format!("{}/api-keys/{}", crate::router::API, shown.id()),
        data: shown,
    }))
}

/// What `DELETE /api-keys/:id` answers, the first time and later.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Revoked {
    id: ApiKeyId,
    #[serde(with = "rfc3339_millis")]
    revoked_at: DateTime<Utc>,
}

/// Revokes an API key.
///
/// Gateways refuse it within a second. A second time answers the same. By session, a person revokes
/// keys of the agents she has claimed.
#[utoipa::path(delete, path = "/api-keys/{id}", tag = "Identity", operation_id = "revokeApiKey",
    security(("bearer" = []), ("cookie" = [])),
    params(("id" = ApiKeyId, Path, description = "The key's id.")),
    responses((status = 200, body = Success<Revoked>)),
    extensions(("x-error-codes" = json!([Code::ApiKeyNotFound, Code::OriginForbidden]))))]
pub(super) async fn revoke(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Data<Revoked>, ApiError> {
    let id: ApiKeyId = id.parse().map_err(|_| Code::ApiKeyNotFound)?;
    let now = crochet_shared::clock::now();
    let revoked_at = app
        .db
        .run("identity.revoke_key", |tx| {
            work(async move { keys::revoke_key(tx, caller.profile().0, id.0, now).await })
        })
        .await
        .map_err(ApiError::from)?
        .ok_or(Code::ApiKeyNotFound)?;
    Ok(Data(Revoked { id, revoked_at }))
}
