//! Requests and payments, as their buyer and seller see them.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use crochet_shared::clock::{rfc3339_millis, rfc3339_millis_option};
use crochet_shared::code::Code;
use crochet_shared::envelope::{Amount, Failure, Fees};
use crochet_shared::header as names;
use crochet_shared::id::{ListingId, ProfileId, RequestId};
use crochet_shared::internal::{DeliveredFacts, ReadAnswer, StoredAnswer};
use crochet_shared::money::{FeeRate, Micros};
use crochet_shared::redis_key::hex;
use http::{HeaderName, HeaderValue, header};
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;

use super::answers;
use super::evidence;
use super::model::{CHECK_SECONDS_MIN, STATUS_FILTERS, Standing, State as RequestState};
use super::store::history::{self as store, Filter, Payment, Role, Row};
use crate::answer::Data;
use crate::app::App;
use crate::error::ApiError;
use crate::identity::Agent;
use crate::paging::{Page, Paging, ROWS_MAX};
use crate::query::Query;

/// Readers that wait with `?wait` at once; more are answered at once.
pub const WAITERS_MAX: usize = 1_000;
/// Longest `?wait`, in seconds.
const WAIT_SECONDS_MAX: i64 = 30;
/// How often a waiting reader looks at the row.
const LOOK: Duration = Duration::from_millis(250);
/// The roles by their public names.
pub const ROLES: [(&str, Role); 3] = [
    (
        "buyer",
        Role {
            buyer: true,
            seller: false,
        },
    ),
    (
        "seller",
        Role {
            buyer: false,
            seller: true,
        },
    ),
    (
        "all",
        Role {
            buyer: true,
            seller: true,
        },
    ),
];
/// Without `role`, both.
pub const ROLE_DEFAULT: Role = Role {
    buyer: true,
    seller: true,
};

/// One request, as it is shown.
#[derive(Debug, Serialize)]
pub struct Shown {
    id: RequestId,
    relay_request_id: String,
    listing_id: ListingId,
    listing_name: String,
    buyer_id: ProfileId,
    seller_id: ProfileId,
    status: &'static str,
    billable: bool,
    amount: Amount,
    fees: Option<Fees>,
    origin_currency: String,
    seller_status_code: Option<i32>,
    attempts: i32,
    latency_ms: Option<i32>,
    seller_latency_ms: Option<i32>,
    request_bytes: i32,
    response_bytes: Option<i32>,
    response_sha256: Option<String>,
    #[serde(with = "rfc3339_millis")]
    created_at: DateTime<Utc>,
    #[serde(with = "rfc3339_millis_option")]
    delivered_at: Option<DateTime<Utc>>,
}

impl From<Row> for Shown {
    fn from(row: Row) -> Self {
        let standing = Standing {
            state: row.state,
            deposit_seen_at: row.deposit_seen_at,
            attempts: row.attempts,
        };
        Self {
            id: RequestId(row.id),
            relay_request_id: row.relay_request_id,
            listing_id: ListingId(row.listing_id),
            listing_name: row.listing_name,
            buyer_id: ProfileId(row.buyer_id),
            seller_id: ProfileId(row.seller_id),
            status: standing.request(),
            billable: row.state == RequestState::Delivered,
            amount: Micros(row.price_micros).into(),
            fees: fees(Micros(row.price_micros), FeeRate(row.fee_rate_ppm.into())),
            origin_currency: row.origin_currency,
            seller_status_code: row.seller_status,
            attempts: row.attempts,
            latency_ms: row.latency_ms,
            seller_latency_ms: row.seller_latency_ms,
            request_bytes: row.request_bytes,
            response_bytes: row.response_bytes,
            response_sha256: row.response_sha256.as_deref().map(hex),
            created_at: row.created_at,
            delivered_at: row.delivered_at,
        }
    }
}

/// By the quote's own rule.
fn fees(gross: Micros, rate: FeeRate) -> Option<Fees> {
    rate.split(gross).map(|split| Fees::of(rate, &split))
}

/// `GET /gateway-requests`.
pub async fn list(
    State(app): State<Arc<App>>,
    agent: Agent,
    mut query: Query,
) -> Result<Page<Shown>, ApiError> {
    let paging = Paging::read(&mut query);
    let role = query.one_of("role", &ROLES).unwrap_or(ROLE_DEFAULT);
    let status = query.one_of("status", &STATUS_FILTERS);
    let listing = query.parsed::<ListingId>("listing_id", "must be a listing's id");
    let (from, to) = (query.time("from"), query.time("to"));
    query.finish()?;
    let (state, deposit_seen, attempted) = match status {
        Some((state, seen, attempted)) => (Some(state), seen, attempted),
        None => (None, None, None),
    };
    let filter = Filter {
        profile: agent.profile.0,
        role,
        id: None,
        state,
        deposit_seen,
        attempted,
        listing: listing.map(|listing| listing.0),
        from,
        to,
    };
    let pool = app.db.pool();
    let total = if paging.counts() {
        Some(store::count(pool, &filter, ROWS_MAX).await?)
    } else {
        None
    };
    let rows = store::list(
        pool,
        &filter,
        paging.after(),
        paging.fetch(),
        paging.offset(),
    )
    .await?;
    paging.page(rows, total, |row| row.id, Shown::from)
}

/// `GET /gateway-requests/:id`.
pub async fn one(
    State(app): State<Arc<App>>,
    agent: Agent,
    Path(id): Path<String>,
) -> Result<Data<Shown>, ApiError> {
    let id: RequestId = id.parse().map_err(|_| Code::RequestNotFound)?;
    let filter = Filter {
        profile: agent.profile.0,
        role: ROLE_DEFAULT,
        id: Some(id.0),
        state: None,
        deposit_seen: None,
        attempted: None,
        listing: None,
        from: None,
        to: None,
    };
    let rows = store::list(app.db.pool(), &filter, None, 1, 0).await?;
    let row = rows.into_iter().next().ok_or(Code::RequestNotFound)?;
    Ok(Data(row.into()))
}

/// `GET /gateway-requests/:id/response`: the stored envelope, byte for byte.
pub async fn response(
    State(app): State<Arc<App>>,
    agent: Agent,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let request_id: RequestId = id.parse().map_err(|_| Code::RequestNotFound)?;
    let wanted = ReadAnswer {
        request_id,
        buyer: agent.profile,
    };
    match answers::read(&app, &wanted).await? {
        StoredAnswer::Stored(envelope) => {
            let id = HeaderValue::try_from(id).map_err(ApiError::internal)?;
            let headers = [
                (
                    header::CONTENT_TYPE,
                    HeaderValue::from_static("application/json"),
                ),
                (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
                (HeaderName::from_static(names::CROCHET_REQUEST_ID), id),
                (
                    HeaderName::from_static(names::IDEMPOTENT_REPLAYED),
                    HeaderValue::from_static("true"),
                ),
            ];
            Ok((headers, envelope).into_response())
        }
        StoredAnswer::NoLongerStored(facts) => Err(no_longer_stored(&facts).into()),
        StoredAnswer::Unknown => Err(Failure::from(Code::RequestNotFound)
            .with_message("You have no delivered gateway request by this id.")
            .into()),
    }
}

fn no_longer_stored(facts: &DeliveredFacts) -> Failure {
    Failure::from(Code::ResponseNoLongerStored).with_data(json!({
        "request_id": facts.request_id,
        "charged_amount": Amount::from(facts.gross),
        "fees": fees(facts.gross, facts.fee_rate),
        "seller_status_code": facts.seller_status,
        "response_sha256": hex(&facts.response_sha256),
    }))
}

/// A payment, as it is shown.
#[derive(Debug, Serialize)]
pub struct ShownPayment {
    relay_request_id: String,
    request_id: RequestId,
    listing_id: ListingId,
    status: &'static str,
    amount: Amount,
    attempts: i32,
    #[serde(with = "rfc3339_millis")]
    expires_at: DateTime<Utc>,
    #[serde(with = "rfc3339_millis_option")]
    redeem_until: Option<DateTime<Utc>>,
    response_available: bool,
    #[serde(with = "rfc3339_millis_option")]
    response_available_until: Option<DateTime<Utc>>,
}

impl Payment {
    fn status(&self) -> &'static str {
        Standing {
            state: self.state,
            deposit_seen_at: self.deposit_seen_at,
            attempts: self.attempts,
        }
        .payment()
    }
}

impl From<Payment> for ShownPayment {
    fn from(payment: Payment) -> Self {
        Self {
            status: payment.status(),
            request_id: RequestId(payment.id),
            listing_id: ListingId(payment.listing_id),
            amount: Micros(payment.price_micros).into(),
            attempts: payment.attempts,
            expires_at: payment.expires_at,
            redeem_until: payment.redeem_until,
            response_available: payment.is_stored,
            response_available_until: payment.answer_until.filter(|_| payment.is_stored),
            relay_request_id: payment.relay_request_id,
        }
    }
}

/// `GET /relay-requests/:id`, with `?wait=1..30` held until its status changes.
pub async fn payment(
    State(app): State<Arc<App>>,
    agent: Agent,
    Path(id): Path<String>,
    mut query: Query,
) -> Result<Data<ShownPayment>, ApiError> {
    let wait = query.integer("wait", 1, WAIT_SECONDS_MAX);
    query.finish()?;
    if !names::is_relay_request_id(id.as_bytes()) {
        return Err(Code::RelayRequestNotFound.into());
    }
    let read = async || {
        store::payment(app.db.pool(), &id, agent.profile.0)
            .await?
            .ok_or_else(|| ApiError::from(Code::RelayRequestNotFound))
    };
    let found = read().await?;
    let first = found.status();
    let wait = wait.and_then(|seconds| u64::try_from(seconds).ok());
    let until = Instant::now() + Duration::from_secs(wait.unwrap_or(0));
    let _slot = match app.payments.waiters.try_acquire() {
        Ok(slot) if wait.is_some() => slot,
        _ => return once(&app, &agent, found).await.map(Data),
    };
    let mut payment = found;
    let mut asked: Option<Instant> = None;
    let check_every = Duration::from_secs(CHECK_SECONDS_MIN.into());
    while may_change(payment.state) && payment.status() == first && Instant::now() < until {
        if awaits_news(payment.state) && asked.is_none_or(|at| at.elapsed() >= check_every) {
            asked = Some(Instant::now());
            ask(&app, &agent, &id).await;
        } else {
            tokio::time::sleep_until(until.min(Instant::now() + LOOK)).await;
        }
        payment = read().await?;
    }
    Ok(Data(payment.into()))
}

/// Asks the provider when there is no news, then shows what stands.
async fn once(app: &Arc<App>, agent: &Agent, found: Payment) -> Result<ShownPayment, ApiError> {
    if !awaits_news(found.state) {
        return Ok(found.into());
    }
    let id = found.relay_request_id;
    ask(app, agent, &id).await;
    store::payment(app.db.pool(), &id, agent.profile.0)
        .await?
        .map(ShownPayment::from)
        .ok_or_else(|| Code::RelayRequestNotFound.into())
}

/// A provider that cannot be asked leaves the row as it is, which is what is shown.
async fn ask(app: &Arc<App>, agent: &Agent, id: &str) {
    let check = crochet_shared::internal::Check {
        relay_request_id: id.to_owned(),
        buyer: agent.profile,
    };
    if let Err(error) = evidence::check(app, &check).await {
        tracing::debug!(%error, "no news of a payment");
    }
}

const fn awaits_news(state: RequestState) -> bool {
    matches!(state, RequestState::Quoted)
}

const fn may_change(state: RequestState) -> bool {
    matches!(state, RequestState::Quoted | RequestState::Claimed)
}
