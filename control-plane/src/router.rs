//! The three listeners' routes, and what every answer of the public one has in common.
//!
//! [`finish`] stands around every route: it gives the exchange its id, refuses paths and headers
//! that are not plain, bounds the time, and writes refusals as envelopes with their headers.

use std::any::Any;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, body::Body};
use crochet_shared::code::Code;
use crochet_shared::envelope::preserving_only;
use crochet_shared::header as names;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use ipnet::IpNet;
use parking_lot::Mutex;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;

use crate::app::App;
use crate::error::{ApiError, Refused};
use crate::limits::Standing;
use crate::metrics::Shown;

/// Where the public API begins.
pub const API: &str = "/api/v1";
/// Longest time for any answer: a `?wait=30` and what surrounds it.
const ANSWER_SECONDS_MAX: u64 = 45;
/// Most headers of a request.
const HEADERS_MAX: usize = 100;
/// Largest headers of a request, names and values together, in bytes.
const HEADER_BYTES_MAX: usize = 16 * 1024;
/// Longest path with its query, in bytes.
const URI_BYTES_MAX: usize = 8 * 1024;
/// How long a browser may remember a preflight's answer, in seconds.
const PREFLIGHT_SECONDS: &str = "7200";
/// Routes that a browser session is for, from [`API`], beside `/agents/:id/claim`: they answer no
/// foreign origin.
const SESSION_ROUTES: [&str; 3] = ["/auth/signup", "/auth/login", "/auth/logout"];

/// Who is calling, as far as addresses tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

/// Where a limit that was applied leaves its standing, for the `RateLimit` headers.
#[derive(Clone, Debug, Default)]
pub struct RateSlot(Arc<Mutex<Option<Standing>>>);

impl RateSlot {
    /// Leaves the standing to be told, and refuses when the limit was passed.
    pub fn apply(&self, standing: Standing) -> Result<(), ApiError> {
        *self.0.lock() = Some(standing);
        if standing.allowed {
            return Ok(());
        }
        let wait = u32::try_from(standing.reset_seconds).unwrap_or(u32::MAX);
        Err(crochet_shared::envelope::Failure::from(Code::RateLimited)
            .with_retry_after(wait)
            .into())
    }
}

/// The routes of the API, each with its description.
fn api() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::default()
        .merge(crate::health::routes())
        .merge(crate::identity::routes())
        .merge(crate::catalog::routes())
        .merge(crate::endpoints::routes())
        .merge(crate::payments::routes())
        .merge(crate::ledger::routes())
        .merge(crate::reviews::routes())
}

/// The OpenAPI document of both services. `base` is the public origin, without a trailing slash.
pub fn openapi(base: &str) -> serde_json::Value {
    crate::docs::document(api().into_openapi(), base)
}

/// The public API, and the documents.
pub fn public(app: Arc<App>) -> anyhow::Result<Router> {
    let (api, described) = api().split_for_parts();
    Ok(crate::docs::routes(&app, described)?
        .nest(API, api)
        .fallback(async || ApiError::from(Code::NotFound))
        .method_not_allowed_fallback(async || ApiError::from(Code::MethodNotAllowed))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), finish))
        .layer(middleware::from_fn(crate::unread::read_off))
        .with_state(app))
}

/// The internal API, for gateways.
pub fn internal(app: Arc<App>) -> Router {
    crate::internal::routes(&app)
        .layer(CatchPanicLayer::custom(panicked))
        .with_state(app)
}

/// Metrics and health, for operators. `ready` turns false when the process begins to drain.
pub fn admin(app: Arc<App>, metrics: Shown, ready: Arc<AtomicBool>) -> Router {
    let readyz = async move || crate::health::readiness(&app, ready.load(Ordering::Acquire)).await;
    let text = [(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
    )];
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(async move || (text, metrics.render())))
}

/// What every exchange of the public API goes through.
async fn finish(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(request.headers());
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let client = client_address(&request, &app.config.trusted_proxies);
    let slot = RateSlot::default();
    let asked = request.headers().clone();
    request.extensions_mut().insert(ClientAddress(client));
    request.extensions_mut().insert(slot.clone());

    let mut response = answer(request, next).await;
    if !method.is_safe() {
        app.publisher.wake();
    }
    let refused = response.extensions_mut().remove::<Refused>();
    if let Some(refused) = &refused {
        response = envelope(&app, refused, &asked, response);
    }
    let standing = *slot.0.lock();
    common_headers(response.headers_mut(), &id, &path, standing);
    if method == Method::HEAD {
        response = without_body(response).await;
    }
    record(&method, &route, &id, started, &response, refused.as_ref());
    response
}

/// The route's own answer, or the refusal of a request that no route should see.
async fn answer(request: Request, next: Next) -> Response {
    if let Err(refusal) = check_plain(request.uri(), request.headers()) {
        return refusal.into_response();
    }
    if request.method() == Method::OPTIONS {
        return preflight(request.uri().path());
    }
    let limit = Duration::from_secs(ANSWER_SECONDS_MAX);
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::from(Code::ServiceUnavailable).into_response(),
    }
}

/// A path has one spelling, and headers have bounds (contract §1).
fn check_plain(uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
    let bytes: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    let uri_bytes = uri.path_and_query().map_or(0, |all| all.as_str().len());
    if headers.len() > HEADERS_MAX || bytes > HEADER_BYTES_MAX || uri_bytes > URI_BYTES_MAX {
        return Err(Code::HeadersTooLarge.into());
    }
    let path = uri.path();
    let lower = path.to_ascii_lowercase();
    let encoded = ["%2f", "%5c", "%00"].iter().any(|bad| lower.contains(bad));
    let dots = lower
        .split('/')
        .map(|segment| segment.replace("%2e", "."))
        .any(|segment| segment == "." || segment == "..");
    if encoded || dots || path.contains("//") || path.contains('\\') || !is_text(path) {
        return Err(ApiError::field(
            "path",
            "must be UTF-8 without encoded slashes, dot segments or empty segments",
        ));
    }
    Ok(())
}

/// Whether a path is UTF-8 once its percent signs are undone.
fn is_text(path: &str) -> bool {
    if !path.contains('%') {
        return true;
    }
    // A plus means a space in forms only; elsewhere the decoding is the same.
    let decoded = url::form_urlencoded::parse(path.replace('+', "%2B").as_bytes())
        .into_owned()
        .map(|(name, value)| name + &value)
        .collect::<String>();
    !decoded.contains(char::REPLACEMENT_CHARACTER)
}

/// Writes a refusal's envelope, keeping the headers that the refusing layer set (`Allow`).
fn envelope(app: &App, refused: &Refused, asked: &HeaderMap, response: Response) -> Response {
    let failure = &refused.failure;
    let body = failure.to_json(&app.docs);
    let has_body = asked.contains_key(header::TRANSFER_ENCODING)
        || asked
            .get(header::CONTENT_LENGTH)
            .is_some_and(|length| length.as_bytes() != b"0");
    let has_header = |name: &str| asked.contains_key(name);
    let body = preserving_only(&body, has_header, has_body).unwrap_or(body);
    let (mut parts, _) = response.into_parts();
    parts.headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    parts.headers.remove(header::CONTENT_LENGTH);
    if let Some(seconds) = failure.retry_after() {
        parts.headers.insert(header::RETRY_AFTER, seconds.into());
    }
    if parts.status == StatusCode::UNAUTHORIZED {
        parts
            .headers
            .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    Response::from_parts(parts, Body::from(body))
}

fn common_headers(
    headers: &mut HeaderMap,
    id: &HeaderValue,
    path: &str,
    standing: Option<Standing>,
) {
    headers.insert(HeaderName::from_static(names::REQUEST_ID), id.clone());
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    if answers_foreign_origins(path) {
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_ORIGIN,
            HeaderValue::from_static("*"),
        );
        headers.insert(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static(
                "X-Request-Id, X-Crochet-Request-Id, Idempotent-Replayed, Retry-After, Location, RateLimit, RateLimit-Policy",
            ),
        );
    }
    if let Some(standing) = standing {
        rate_headers(headers, standing);
    }
}

fn rate_headers(headers: &mut HeaderMap, standing: Standing) {
    let policy = format!(
        "\"default\";q={};w={}",
        standing.quota, standing.window_seconds
    );
    let now = format!(
        "\"default\";r={};t={}",
        standing.remaining, standing.reset_seconds
    );
    for (name, value) in [("ratelimit-policy", policy), ("ratelimit", now)] {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}

fn preflight(path: &str) -> Response {
    if !answers_foreign_origins(path) {
        return StatusCode::NO_CONTENT.into_response();
    }
    let headers = [
        (
            header::ACCESS_CONTROL_ALLOW_METHODS,
            "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
        ),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "Authorization, Content-Type, Idempotency-Key, X-Request-Id, X-Crochet-Origin-Currency, X-Crochet-Relay-Request-Id",
        ),
        (header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_SECONDS),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

fn answers_foreign_origins(path: &str) -> bool {
    path.strip_prefix(API).is_none_or(|route| {
        let claims = route.starts_with("/agents/") && route.ends_with("/claim");
        !claims && !SESSION_ROUTES.contains(&route)
    })
}

/// HEAD answers as GET would, with its length and without its body.
async fn without_body(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    if !parts.headers.contains_key(header::CONTENT_LENGTH)
        && let Ok(bytes) = axum::body::to_bytes(body, usize::MAX).await
    {
        parts
            .headers
            .insert(header::CONTENT_LENGTH, bytes.len().into());
    }
    Response::from_parts(parts, Body::empty())
}

/// A caller's own id when it is one, else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    if let Some(id) = headers.get(names::REQUEST_ID)
        && names::is_request_id(id.as_bytes())
    {
        return id.clone();
    }
    let id = crochet_shared::id::uuid_v7(crochet_shared::clock::now());
    HeaderValue::try_from(id.simple().to_string()).unwrap_or(HeaderValue::from_static("unknown0"))
}

/// The peer, or whom a trusted proxy names: `X-Forwarded-For` from right to left, as long as each
/// hop is one of ours.
fn client_address(request: &Request, trusted: &[IpNet]) -> IpAddr {
    let mut client = request
        .extensions()
        .get::<ConnectInfo<SocketAddr>>()
        .map_or(IpAddr::from([127, 0, 0, 1]), |info| {
            // An IPv4 peer at a socket of both kinds: the network it is in is told in IPv4.
            info.0.ip().to_canonical()
        });
    let hops: Vec<&str> = request
        .headers()
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .collect();
    for hop in hops.into_iter().rev() {
        if !trusted.iter().any(|net| net.contains(&client)) {
            break;
        }
        let Ok(named) = hop.trim().parse() else {
            break;
        };
        client = named;
    }
    client
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the panic handler is given the payload"
)]
fn panicked(payload: Box<dyn Any + Send + 'static>) -> Response {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    ApiError::internal(anyhow::anyhow!("a handler panicked: {text}")).into_response()
}

/// A method as a label: whatever a client invents is one.
fn method_label(method: &Method) -> &str {
    let known = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ];
    if known.contains(method) {
        method.as_str()
    } else {
        "other"
    }
}

/// One line and one count an exchange. Paths are named by their route: ids stay out of metrics.
fn record(
    method: &Method,
    route: &str,
    id: &HeaderValue,
    started: Instant,
    response: &Response,
    refused: Option<&Refused>,
) {
    let status = response.status().as_u16();
    let code = refused.map_or("", |refused| refused.failure.code.as_str());
    let elapsed = started.elapsed();
    let labels = [
        ("route", route.to_owned()),
        ("method", method_label(method).to_owned()),
        ("status", format!("{}xx", status / 100)),
    ];
    metrics::histogram!(crate::metrics::names::HTTP.name, &labels).record(elapsed);
    let id = id.to_str().unwrap_or_default();
    let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    match refused.and_then(|refused| refused.source.as_deref()) {
        Some(source) if status >= 500 => {
            tracing::error!(%method, route, status, code, millis, request_id = id, error = format!("{source:#}"), "request failed");
        }
        _ => tracing::info!(%method, route, status, code, millis, request_id = id, "request"),
    }
}
