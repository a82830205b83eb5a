//! `GET /intents/status/v3`.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;

use super::{
    App,
    gate::{self, Endpoint},
    json_bytes, refuse,
};
use crate::show::StatusAnswer;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StatusQuery {
    request_id: Option<String>,
}

pub(super) async fn status(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Query(query): Query<StatusQuery>,
) -> Response {
    if let Err(response) = gate::enter(&app, Endpoint::Status, &headers).await {
        return *response;
    }
    let Some(id) = query.request_id else {
        return refuse(
            StatusCode::BAD_REQUEST,
            "querystring must have required property 'requestId'",
        );
    };
    let found = app.store.lock().ask_status(&id);
    match found {
        Some(request) => json_bytes(&StatusAnswer::of(&request)),
        None => Json(json!({"status": "unknown"})).into_response(),
    }
}
