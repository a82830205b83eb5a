//! `POST /listings/:id/endpoint/rotate-secret`.

use std::sync::Arc;

use axum::extract::{Path, State};
use chrono::{DateTime, Utc};
use crochet_shared::clock::rfc3339_millis;
use crochet_shared::code::Code;
use crochet_shared::envelope::Success;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use utoipa::ToSchema;

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

/// Rotates the signing secret.
///
/// The new secret is shown this once. Until `previous_secret_expires_at` both sign every call.
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
                let secret = row.rotate(&app.vault, listing, now, until)?;
                store::put(tx, listing, &row).await?;
                catalog::raise_version(tx, listing).await?;
                Ok::<_, ApiError>(secret)
            })
        })
        .await?;
    Ok(Secret(Data(Rotated {
        signing_secret: secret.expose_secret().to_owned(),
        previous_secret_expires_at: until,
    })))
}
