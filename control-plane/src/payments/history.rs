//! Requests and payments, as their buyer and seller see them.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, TimeDelta, Utc};
use crochet_shared::clock::{self, rfc3339_millis, rfc3339_millis_option};
use crochet_shared::code::Code;
use crochet_shared::envelope::{Amount, Failure, Fees, Success};
use crochet_shared::header as names;
use crochet_shared::id::{ListingId, ProfileId, RequestId};
use crochet_shared::internal::{DeliveredFacts, ReadAnswer, StoredAnswer};
use crochet_shared::money::{FeeRate, Micros};
use crochet_shared::redis_key::hex;
use crochet_shared::route::OriginCurrency;
use http::{HeaderName, HeaderValue, header};
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};

use super::answers;
use super::delivered::Delivered;
use super::evidence;
use super::model::{
    CHECK_SECONDS_MIN, PAYMENT_STATUSES, STATUS_FILTERS, Standing, State as RequestState,
};
use super::store::history::{self as store, Filter, Payment, Role, Row};
use crate::answer::{Data, Listed};
use crate::app::App;
use crate::describe::{self, schema_type};
use crate::error::ApiError;
use crate::identity::Agent;
use crate::paging::{Page, Paging, PagingParams, ROWS_MAX};
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
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GatewayRequest)]
pub struct Shown {
    id: RequestId,
    /// The provider's id of its payment.
    #[schema(example = "0x6d0bd05f0c0f3cd0a5a8ad2f8cd1cf1c9f0b1fd1b8ff4a2f9c6a1f0de4ed0a11")]
    relay_request_id: String,
    listing_id: ListingId,
    #[schema(example = "Weather forecast")]
    listing_name: String,
    buyer_id: ProfileId,
    seller_id: ProfileId,
    #[schema(example = "delivered", extensions(("x-one-of" = json!(describe::names(&STATUS_FILTERS)))))]
    status: &'static str,
    /// Whether the seller is paid for it: exactly when it was delivered.
    #[schema(example = true)]
    billable: bool,
    amount: Amount,
    fees: Option<Fees>,
    #[schema(extensions(("x-one-of" = json!(OriginCurrency::ALL))))]
    origin_currency: String,
    #[schema(example = 200)]
    seller_status_code: Option<i32>,
    /// Delivery attempts used.
    #[schema(example = 1)]
    attempts: i32,
    #[schema(example = 212)]
    latency_ms: Option<i32>,
    #[schema(example = 208)]
    seller_latency_ms: Option<i32>,
    #[schema(example = 38)]
    request_bytes: i32,
    #[schema(example = 64)]
    response_bytes: Option<i32>,
    /// Of the stored envelope's bytes, in hex.
    #[schema(example = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
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

/// The filters of `GET /gateway-requests`.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by the API document")]
struct HistoryParams {
    /// As whom; `all` when absent.
    #[param(value_type = Roles, required = false, inline)]
    role: Option<String>,
    /// Only what stands so.
    #[param(value_type = Statuses, required = false, inline)]
    status: Option<String>,
    /// Only calls of this listing.
    listing_id: Option<ListingId>,
    /// From this time on.
    #[param(value_type = describe::Time, required = false, inline)]
    from: Option<String>,
    /// Before this time.
    #[param(value_type = describe::Time, required = false, inline)]
    to: Option<String>,
}

schema_type!(Roles = describe::one_of(&ROLES));
schema_type!(Statuses = describe::one_of(&STATUS_FILTERS));

/// Lists gateway requests, the newest first.
///
/// Those you bought, sold, or both.
#[utoipa::path(get, path = "/gateway-requests", tag = "Payments", operation_id = "listGatewayRequests",
    security(("bearer" = [])), params(HistoryParams, PagingParams),
    responses((status = 200, body = Listed<Shown>)))]
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

/// Shows a gateway request.
#[utoipa::path(get, path = "/gateway-requests/{id}", tag = "Payments", operation_id = "getGatewayRequest",
    security(("bearer" = [])), params(("id" = RequestId, Path, description = "The request's id.")),
    responses((status = 200, body = Success<Shown>)),
    extensions(("x-error-codes" = json!([Code::RequestNotFound]))))]
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

/// Gives the stored answer of a delivered call again.
///
/// Byte for byte, for its buyer, for 24 hours; then 410.
#[utoipa::path(get, path = "/gateway-requests/{id}/response", tag = "Payments",
    operation_id = "getGatewayResponse", security(("bearer" = [])),
    params(("id" = RequestId, Path, description = "The request's id.")),
    responses((status = 200, body = Success<Delivered>)),
    extensions(("x-error-codes" = json!([Code::RequestNotFound, Code::ResponseNoLongerStored]))))]
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
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Payment)]
pub struct ShownPayment {
    #[schema(example = "0x6d0bd05f0c0f3cd0a5a8ad2f8cd1cf1c9f0b1fd1b8ff4a2f9c6a1f0de4ed0a11")]
    relay_request_id: String,
    request_id: RequestId,
    listing_id: ListingId,
    #[schema(example = "paid", extensions(("x-one-of" = json!(PAYMENT_STATUSES))))]
    status: &'static str,
    amount: Amount,
    /// Delivery attempts used.
    #[schema(example = 0)]
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

/// The parameter of `GET /relay-requests/:id`.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by the API document")]
struct WaitParams {
    /// Holds the answer for so many seconds while the status is `quoted`, `pending` or `in_progress`,
    /// until it changes.
    #[param(value_type = Wait, required = false, inline, example = 10)]
    wait: Option<i64>,
}

/// For how long it is news that a deposit is known. What is older was told.
const NEWS: TimeDelta = TimeDelta::seconds(10);

schema_type!(Wait = describe::integer(1, WAIT_SECONDS_MAX));

/// Shows a payment, to its buyer.
///
/// Asks the provider when there is no news.
#[utoipa::path(get, path = "/relay-requests/{relay_request_id}", tag = "Payments",
    operation_id = "getRelayRequest", security(("bearer" = [])),
    params(("relay_request_id" = String, Path, description = "The `relay_request_id` of a 402.",
        example = "0x6d0bd05f0c0f3cd0a5a8ad2f8cd1cf1c9f0b1fd1b8ff4a2f9c6a1f0de4ed0a11"), WaitParams),
    responses((status = 200, body = Success<ShownPayment>)),
    extensions(("x-error-codes" = json!([Code::RelayRequestNotFound]))))]
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
        _ if awaits_news(found.state) => {
            ask(&app, &agent, &id).await;
            return shown(&app, read().await?).await;
        }
        _ => return shown(&app, found).await,
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
    shown(&app, payment).await
}

/// Whoever is shown that her deposit is known is asked by no gateway to pay the same quote again.
async fn shown(app: &App, payment: Payment) -> Result<Data<ShownPayment>, ApiError> {
    let paid_at = (payment.redeem_until).map(|until| until - app.config.redeem);
    let known_since = payment.deposit_seen_at.or(paid_at);
    let is_news = known_since.is_none_or(|since| clock::now() - since < NEWS);
    if is_news && matches!(payment.status(), "pending" | "paid") {
        app.publisher.caught_up().await;
    }
    Ok(Data(payment.into()))
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
