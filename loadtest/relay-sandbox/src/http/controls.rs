//! `/sandbox/…`: what the provider does not have. Pays, scripts, breaks, tells.

use std::sync::{Arc, atomic::Ordering};

use axum::{
    Json,
    body::Bytes,
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    App, broken,
    gate::{Endpoint, Fault, Mode},
    json_bytes, parse, refuse,
};
use crate::{
    currency::Atomic,
    payment::{Disguise, Outcome, Payment, Plan, Status, Verdict},
    show::{RowAnswer, StatusAnswer},
    store::{Row, Store, Tiding},
};

/// Rows `GET /sandbox/requests` shows when not told how many.
const ROWS_DEFAULT: usize = 100;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DepositBody {
    request_id: Option<String>,
    #[serde(default)]
    request_ids: Vec<String>,
    amount: Option<Atomic>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Deposited {
    request_id: String,
    status: Status,
    amount: Atomic,
    verdict: Verdict,
}

pub(super) async fn deposit(State(app): State<Arc<App>>, body: Bytes) -> Response {
    let body: DepositBody = match parse(&body) {
        Ok(body) => body,
        Err(response) => return *response,
    };
    let ids: Vec<String> = body
        .request_id
        .into_iter()
        .chain(body.request_ids)
        .collect();
    if ids.is_empty() {
        return refuse(StatusCode::BAD_REQUEST, "requestId or requestIds is needed");
    }
    let now = app.clock.now_ms();
    let outcome = {
        let mut store = app.store.lock();
        match ids
            .iter()
            .map(|id| store.find(id).ok_or(id))
            .collect::<Result<Vec<Row>, _>>()
        {
            Err(id) => {
                return refuse(
                    StatusCode::NOT_FOUND,
                    &format!("unknown requestId {id}; nothing was deposited"),
                );
            }
            Ok(rows) => pay(&mut store, &rows, body.amount, now),
        }
    };
    match outcome {
        Ok((deposits, tidings)) => {
            app.tell(tidings);
            json_bytes(&json!({"deposited": deposits.len(), "deposits": deposits}))
        }
        Err(error) => broken(&error),
    }
}

fn pay(
    store: &mut Store,
    rows: &[Row],
    amount: Option<Atomic>,
    now: u64,
) -> anyhow::Result<(Vec<Deposited>, Vec<Tiding>)> {
    let mut deposits = Vec::with_capacity(rows.len());
    let mut tidings = Vec::new();
    for row in rows {
        tidings.extend(store.change(*row, now, |payment, quote, to| {
            payment.deposit(quote, amount, to)
        })?);
        if let Some(request) = store.row(*row)
            && let Some(last) = request.payment.deposits.last()
        {
            deposits.push(Deposited {
                request_id: request.quote.id.clone(),
                status: request.payment.status,
                amount: last.amount,
                verdict: last.verdict,
            });
        }
    }
    store.commit()?;
    Ok((deposits, tidings))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScenarioBody {
    #[serde(rename = "requestId")]
    request_id: String,
    #[serde(default)]
    outcome: Outcome,
    step_ms: Option<u64>,
    webhook_copies: Option<u32>,
    #[serde(default)]
    webhook_shuffle: bool,
    #[serde(default)]
    hide_details: bool,
    #[serde(default)]
    late: bool,
    #[serde(default)]
    details: Disguise,
}

pub(super) async fn scenario(State(app): State<Arc<App>>, body: Bytes) -> Response {
    let body: ScenarioBody = match parse(&body) {
        Ok(body) => body,
        Err(response) => return *response,
    };
    let plan = Plan {
        outcome: body.outcome,
        step_ms: body.step_ms,
        webhook_copies: body.webhook_copies,
        webhook_shuffle: body.webhook_shuffle,
        hide_details: body.hide_details,
        late: body.late,
        details: body.details,
    };
    match script(&app, &body.request_id, plan) {
        Ok(Scripted::One(status)) => {
            Json(json!({"requestId": body.request_id, "status": status})).into_response()
        }
        Ok(Scripted::Later) => Json(json!({"requestId": "*"})).into_response(),
        Ok(Scripted::Unknown) => refuse(StatusCode::NOT_FOUND, "unknown requestId"),
        Err(error) => broken(&error),
    }
}

/// What a scenario was for.
enum Scripted {
    /// One request, with its status after the change.
    One(Status),
    /// Those quoted later.
    Later,
    /// No request there is.
    Unknown,
}

fn script(app: &App, id: &str, plan: Plan) -> anyhow::Result<Scripted> {
    let mut store = app.store.lock();
    if id == "*" {
        store.plan_later(plan)?;
        return Ok(Scripted::Later);
    }
    let Some(row) = store.find(id) else {
        return Ok(Scripted::Unknown);
    };
    let now = app.clock.now_ms();
    let tidings = store.change(row, now, |payment: &mut Payment, quote, to| {
        payment.replan(plan, quote, to)
    })?;
    store.commit()?;
    let status = store.row(row).map(|request| request.payment.status);
    drop(store);
    app.tell(tidings);
    Ok(status.map_or(Scripted::Unknown, Scripted::One))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultBody {
    endpoint: Option<String>,
    mode: Mode,
    count: Option<u64>,
    then: Option<u64>,
    #[serde(rename = "errorCode")]
    error_code: Option<String>,
}

pub(super) async fn fault(State(app): State<Arc<App>>, body: Bytes) -> Response {
    let body: FaultBody = match parse(&body) {
        Ok(body) => body,
        Err(response) => return *response,
    };
    let endpoint = match body.endpoint.as_deref() {
        None | Some("*") => None,
        Some("quote") => Some(Endpoint::Quote),
        Some("status") => Some(Endpoint::Status),
        Some("requests") => Some(Endpoint::Requests),
        Some(_) => {
            return refuse(
                StatusCode::BAD_REQUEST,
                "endpoint is quote, status, requests or *",
            );
        }
    };
    if body.then.is_some() && body.count.is_none() {
        return refuse(StatusCode::BAD_REQUEST, "then follows a count");
    }
    let fault = Fault {
        mode: body.mode,
        count: body.count,
        then: body.then,
        met: 0,
        code: body
            .error_code
            .unwrap_or_else(|| "UNKNOWN_ERROR".to_owned()),
    };
    app.gate.set(endpoint, &fault);
    Json(json!({"endpoint": body.endpoint.as_deref().unwrap_or("*"), "count": fault.count}))
        .into_response()
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SeenQuery {
    request_id: Option<String>,
    limit: Option<usize>,
}

pub(super) async fn requests(
    State(app): State<Arc<App>>,
    Query(query): Query<SeenQuery>,
) -> Response {
    let store = app.store.lock();
    let rows: Vec<Row> = match &query.request_id {
        Some(id) => store.find(id).into_iter().collect(),
        None => store
            .by_age(None, 0, Row::MAX)
            .rev()
            .take(query.limit.unwrap_or(ROWS_DEFAULT))
            .collect(),
    };
    let seen: Vec<_> = rows
        .into_iter()
        .filter_map(|row| store.row(row))
        .cloned()
        .collect();
    let by_status: serde_json::Map<String, serde_json::Value> = Status::ALL
        .into_iter()
        .map(|status| (status.name().to_owned(), store.count(status).into()))
        .collect();
    let total = store.len();
    drop(store);
    let rows: Vec<serde_json::Value> = seen
        .iter()
        .map(|request| {
            json!({
                "requestId": request.quote.id,
                "status": request.payment.status,
                "statusCalls": request.status_calls,
                "amountIn": request.quote.input,
                "amountOut": request.quote.output,
                "deposits": request.payment.deposits,
                "refunds": request.payment.refunds,
                "plan": request.payment.plan,
                "expiresAt": request.quote.expires_at,
                "intent": StatusAnswer::of(request),
                "row": RowAnswer::of(request),
            })
        })
        .collect();
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    Json(json!({
        "calls": app.gate.calls(),
        "faults": app.gate.faults(),
        "total": total,
        "byStatus": by_status,
        "webhooks": {
            "sent": count(&app.counts.sent),
            "accepted": count(&app.counts.accepted),
            "refused": count(&app.counts.refused),
        },
        "requests": rows,
    }))
    .into_response()
}
