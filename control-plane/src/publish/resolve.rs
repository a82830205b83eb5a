//! Keys and routes for a gateway that asks: from Postgres, and on into Redis off the answer's path.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use crochet_shared::code::Code;
use crochet_shared::internal::{self, ResolveKey, RouteName};
use http::{HeaderValue, header};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{put_key, put_route, store};
use crate::app::App;
use crate::error::ApiError;
use crate::{endpoints, identity};

/// The two look-ups of the internal API. The bearer check stands around them, in `internal.rs`.
pub fn routes() -> Router<Arc<App>> {
    Router::new()
        .route(internal::RESOLVE_KEY, post(key))
        .route(internal::RESOLVE_ROUTE, post(route))
}

async fn key(State(app): State<Arc<App>>, body: Bytes) -> Result<Response, ApiError> {
    let digest: ResolveKey = read(&body)?;
    let version = store::next_version(app.db.pool()).await?;
    let record = identity::key_record(&app, &digest).await?;
    let answer = write(&record)?;
    if let Some(record) = record {
        tokio::spawn(async move {
            noted("key", put_key(&app, version, &digest, &record).await);
        });
    }
    Ok(answer)
}

async fn route(State(app): State<Arc<App>>, body: Bytes) -> Result<Response, ApiError> {
    let name: RouteName = read(&body)?;
    let version = store::next_version(app.db.pool()).await?;
    let record = endpoints::route_record(&app, &name).await?;
    let answer = write(&record)?;
    if let Some(record) = record {
        tokio::spawn(async move {
            noted("route", put_route(&app, version, &record).await);
        });
    }
    Ok(answer)
}

fn noted(what: &'static str, outcome: anyhow::Result<()>) {
    if let Err(error) = outcome {
        tracing::debug!(
            what,
            error = format!("{error:#}"),
            "a record was not cached"
        );
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    rmp_serde::from_slice(body).map_err(|error| ApiError::from(Code::InvalidJson).caused_by(error))
}

fn write<T: Serialize>(value: &T) -> Result<Response, ApiError> {
    let bytes = rmp_serde::to_vec_named(value).map_err(ApiError::internal)?;
    let media = HeaderValue::from_static(internal::CONTENT_TYPE);
    Ok(([(header::CONTENT_TYPE, media)], bytes).into_response())
}
