//! The routes: what the provider answers, and the sandbox's own controls beside it.
//!
//! A provider's route goes through its [`gate`] first: counted, limited, then failed on purpose.

mod controls;
mod gate;
mod quote;
mod requests;
mod status;

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::DefaultBodyLimit,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Notify;

use crate::{
    clock::Clock,
    config::Config,
    currency::Minimums,
    store::{Store, Tiding},
    webhook::{Counts, Outbox},
};
use gate::Gate;

/// Largest body taken: a hundred thousand request ids.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What every handler needs.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) store: Arc<Mutex<Store>>,
    pub(crate) outbox: Outbox,
    pub(crate) counts: Arc<Counts>,
    pub(crate) clock: Clock,
    /// Rung when something is due earlier than before.
    pub(crate) due: Notify,
    api_key: String,
    minimums: Minimums,
    gate: Gate,
}

impl App {
    pub(crate) fn new(
        config: &Config,
        store: Arc<Mutex<Store>>,
        outbox: Outbox,
        counts: Arc<Counts>,
    ) -> Self {
        Self {
            store,
            outbox,
            counts,
            clock: config.clock.clone(),
            due: Notify::new(),
            api_key: config.api_key.clone(),
            minimums: config.minimums,
            gate: Gate::new(config),
        }
    }

    /// Tells what happened and sees that what follows happens in time.
    fn tell(&self, tidings: Vec<Tiding>) {
        self.outbox.tell(tidings);
        self.due.notify_one();
    }
}

/// All routes.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/quote/v2", post(quote::quote))
        .route("/intents/status", get(status::status))
        .route("/intents/status/v2", get(status::status))
        .route("/intents/status/v3", get(status::status))
        .route("/requests/v3", get(requests::requests))
        // The SDK hands transactions over here, to be found sooner; the sandbox needs no finding.
        .route("/transactions/index", post(indexed))
        .route("/transactions/single", post(indexed))
        .route("/sandbox/deposits", post(controls::deposit))
        .route("/sandbox/scenarios", post(controls::scenario))
        .route("/sandbox/faults", post(controls::fault))
        .route("/sandbox/requests", get(controls::requests))
        .route("/healthz", get(async || Json(json!({"status": "ok"}))))
        .fallback(async || refuse(StatusCode::NOT_FOUND, "Route not found"))
        .method_not_allowed_fallback(async || {
            refuse(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed")
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(app)
}

async fn indexed() -> Json<serde_json::Value> {
    Json(json!({"message": "Success"}))
}

/// The provider's error without a code.
fn refuse(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"message": message}))).into_response()
}

/// The provider's error.
fn refuse_with(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({"message": message, "errorCode": code}))).into_response()
}

/// The sandbox itself is broken: no journal, no randomness.
fn broken(error: &anyhow::Error) -> Response {
    eprintln!("relay-sandbox: {error:#}");
    refuse_with(
        StatusCode::INTERNAL_SERVER_ERROR,
        "UNKNOWN_ERROR",
        &format!("{error:#}"),
    )
}

fn parse<T: serde::de::DeserializeOwned>(body: &Bytes) -> Result<T, Box<Response>> {
    serde_json::from_slice(body)
        .map_err(|error| Box::new(refuse(StatusCode::BAD_REQUEST, &format!("body: {error}"))))
}

fn json_bytes(value: &impl serde::Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => ([("content-type", "application/json")], body).into_response(),
        Err(error) => broken(&error.into()),
    }
}
