//! `GET` and `PUT /listings/:id/endpoint`, and the judging of a private URL.

use std::sync::Arc;

use axum::extract::{Path, State};
use crochet_shared::code::Code;
use crochet_shared::envelope::{Failure, Success};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;

use super::model::{CheckedUrl, Endpoint, EndpointChange, EndpointSettings};
use super::store;
use crate::answer::Data;
use crate::app::App;
use crate::catalog::{self, PricingModel, Record};
use crate::db::work;
use crate::error::ApiError;
use crate::extract::OpenJson;
use crate::fields::Findings;
use crate::identity::Agent;

/// Shows a listing's private endpoint, safely.
///
/// Its settings for their owner: never the URL's path, the auth header's value or the secret.
#[utoipa::path(get, path = "/listings/{id}/endpoint", tag = "Endpoints", operation_id = "getEndpoint",
    security(("bearer" = [])),
    params(("id" = String, Path, description = "The listing's id or slug.", example = "weather-forecast")),
    responses((status = 200, body = Success<Endpoint>)),
    extensions(("x-error-codes" = json!([Code::ListingNotFound, Code::Forbidden, Code::ListingNotPerCall]))))]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    owner: Agent,
    Path(text): Path<String>,
) -> Result<Data<Endpoint>, ApiError> {
    let listing = sold_per_call(catalog::owned(&app, owner, &text).await?)?;
    let row = store::read(app.db.pool(), listing.id)
        .await?
        .ok_or(Code::ListingNotPerCall)?;
    let now = crochet_shared::clock::now();
    Ok(Data(Endpoint::new(listing.id, row, None, now)))
}

/// Changes a listing's private endpoint.
///
/// Only what is present changes. Every gateway follows within a second.
#[utoipa::path(put, path = "/listings/{id}/endpoint", tag = "Endpoints", operation_id = "updateEndpoint",
    security(("bearer" = [])),
    params(("id" = String, Path, description = "The listing's id or slug.", example = "weather-forecast")),
    request_body = EndpointSettings, responses((status = 200, body = Success<Endpoint>)),
    extensions(("x-error-codes" = json!([Code::ListingNotFound, Code::Forbidden, Code::ListingNotPerCall,
        Code::EndpointUrlForbidden]))))]
pub(super) async fn put(
    State(app): State<Arc<App>>,
    owner: Agent,
    Path(text): Path<String>,
    OpenJson(change, findings): OpenJson<EndpointChange>,
) -> Result<Data<Endpoint>, ApiError> {
    let listing = sold_per_call(catalog::owned(&app, owner, &text).await?)?.id;
    let url = check_url(&app, change.url.as_ref()).await;
    let url = finish(findings, url)?;
    let (app, change, url) = (&app, &change, url.as_ref());
    let row = app
        .db
        .run("endpoints.put", |tx| {
            work(async move {
                let locked = catalog::lock(tx, listing)
                    .await?
                    .ok_or(Code::ListingNotFound)?;
                sold_per_call(locked)?;
                let mut row = store::read(&mut *tx, listing)
                    .await?
                    .ok_or(Code::ListingNotPerCall)?;
                if !change.is_empty() {
                    row.apply(&app.vault, listing, change, url)?;
                    store::put(tx, listing, &row).await?;
                    catalog::raise_version(tx, listing).await?;
                }
                Ok::<_, ApiError>(row)
            })
        })
        .await?;
    let now = crochet_shared::clock::now();
    Ok(Data(Endpoint::new(listing, row, None, now)))
}

/// Endpoint routes are for listings sold per call.
pub(super) fn sold_per_call(listing: Record) -> Result<Record, ApiError> {
    match listing.content.pricing_model {
        PricingModel::PerCall => Ok(listing),
        PricingModel::Free => Err(Code::ListingNotPerCall.into()),
    }
}

/// Why a private URL is refused: which rule, and never an address.
pub(super) struct UrlRefused(String);

/// Judges a private URL, when there is one, and every address its host has now.
pub(super) async fn check_url(
    app: &App,
    url: Option<&SecretString>,
) -> Result<Option<CheckedUrl>, UrlRefused> {
    let Some(url) = url else {
        return Ok(None);
    };
    match crate::resolve::check(&app.egress, &app.resolver, url.expose_secret()).await {
        Ok(target) => Ok(Some(CheckedUrl {
            url: url.clone(),
            hint: target.hint(),
        })),
        Err(forbidden) => Err(UrlRefused(forbidden.to_string())),
    }
}

/// Refuses what was found wrong: a URL that is the only fault by its own code, else with the others.
pub(super) fn finish(
    mut findings: Findings,
    url: Result<Option<CheckedUrl>, UrlRefused>,
) -> Result<Option<CheckedUrl>, ApiError> {
    match url {
        Ok(url) => findings.finish().map(|()| url),
        Err(UrlRefused(problem)) if findings.is_empty() => {
            Err(Failure::from(Code::EndpointUrlForbidden)
                .with_message(format!("This endpoint URL is not allowed: it {problem}."))
                .with_details(
                    json!({ "fields": [{ "field": "private_endpoint_url", "problem": problem }] }),
                )
                .into())
        }
        Err(UrlRefused(problem)) => {
            findings.refuse("private_endpoint_url", problem);
            findings.finish().map(|()| None)
        }
    }
}
