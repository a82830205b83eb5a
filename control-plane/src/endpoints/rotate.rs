//! `POST /listings/:id/endpoint/rotate-secret`.

use std::sync::Arc;

use axum::extract::{Path, State};
use chrono::{DateTime, Utc};
use crochet_shared::clock::rfc3339_millis;
use crochet_shared::code::Code;
use crochet_shared::envelope::{Failure, Success};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use utoipa::ToSchema;

use super::model::Previous;
use super::settings::sold_per_call;
use super::store;
use crate::answer::{Data, Secret};
use crate::app::App;
use crate::catalog;
use crate::db::work;
use crate::error::ApiError;
use crate::extract::{AppJson, NoFields};
use crate::fields::{Fields, FromFields};
use crate::identity::Agent;

/// A body without fields.
#[derive(Debug)]
pub(super) struct Nothing;

impl FromFields for Nothing {
    fn from_fields(_: &mut Fields<'_>) -> Option<Self> {
        Some(Self)
    }
}

/// The new secret, shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Rotated {
    #[schema(example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
    signing_secret: String,
    #[serde(with = "rfc3339_millis")]
    previous_secret_expires_at: DateTime<Utc>,
}

/// Secrets that sign beside the one in force. Each was promised its overlap, so none is dropped for a
/// new one: a rotation beyond these waits until the oldest has ended.
const PREVIOUS_MAX: usize = 5;

/// Rotates the signing secret.
///
/// The new secret is shown this once. Until `previous_secret_expires_at` both sign every call.
/// Only so many replaced secrets sign at a time: a rotation beyond them is 429, with `Retry-After` until
/// the first of them has ended.
#[utoipa::path(post, path = "/listings/{id}/endpoint/rotate-secret", tag = "Endpoints",
    operation_id = "rotateSigningSecret", security(("bearer" = [])),
    params(("id" = String, Path, description = "The listing's id or slug.", example = "weather-forecast")),
    request_body = NoFields, responses((status = 200, body = Success<Rotated>)),
    extensions(("x-error-codes" = json!([Code::ListingNotFound, Code::Forbidden, Code::ListingNotPerCall]))))]
pub(super) async fn rotate(
    State(app): State<Arc<App>>,
    owner: Agent,
    Path(text): Path<String>,
    AppJson(Nothing): AppJson<Nothing>,
) -> Result<Secret<Data<Rotated>>, ApiError> {
    let listing = sold_per_call(catalog::owned(&app, owner, &text).await?)?.id;
    let now = crochet_shared::clock::now();
    let until = now + app.config.secret_overlap;
    let app = &app;
    let secret: SecretString = app
        .db
        .run("endpoints.rotate", |tx| {
            work(async move {
                let locked = catalog::lock(tx, listing)
                    .await?
                    .ok_or(Code::ListingNotFound)?;
                sold_per_call(locked)?;
                let mut row = store::read(&mut *tx, listing)
                    .await?
                    .ok_or(Code::ListingNotPerCall)?;
                let previous = store::previous_secrets(&mut *tx, listing, now).await?;
                if previous.len() >= PREVIOUS_MAX {
                    return Err(too_often(&previous, now));
                }
                let rotated = row.rotate(&app.vault, listing, now, until)?;
                store::put(tx, listing, &row).await?;
                store::keep_previous(tx, listing, now, &rotated.previous).await?;
                catalog::raise_version(tx, listing).await?;
                Ok::<_, ApiError>(rotated.new)
            })
        })
        .await?;
    Ok(Secret(Data(Rotated {
        signing_secret: secret.expose_secret().to_owned(),
        previous_secret_expires_at: until,
    })))
}

/// Until the first of them ends there is no place for another.
fn too_often(previous: &[Previous], now: DateTime<Utc>) -> ApiError {
    let first = previous.iter().map(|one| one.expires_at).min();
    let wait = first.map_or(0, |end| (end - now).num_seconds().saturating_add(1));
    Failure::from(Code::RateLimited)
        .with_message(format!(
            "{PREVIOUS_MAX} replaced secrets still sign; rotate again when the first of them has ended."
        ))
        .with_retry_after(u32::try_from(wait).unwrap_or(u32::MAX))
        .into()
}
