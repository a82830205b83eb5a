//! The internal API: what gateways ask. The router, the bearer check, and the wire.
//!
//! Bodies are MessagePack both ways. A batch answers each item; a failure of the whole is an HTTP
//! status and an empty body: 401 for a wrong secret, 400 for what is not the message, 404 for what
//! does not exist, 413 for too much, 503 when the database is away or too much is under way already,
//! 500 else. After any of the last two nothing is known of a claim or a settlement: asking again is
//! safe.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, post};
use bytes::Bytes;
use crochet_shared::code::Code;
use crochet_shared::internal::{self as wire, BATCH_ITEMS_MAX};
use http::{StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use metrics::Gauge;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use subtle::ConstantTimeEq as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::app::App;
use crate::error::ApiError;
use crate::identity;
use crate::metrics::{as_f64, names};
use crate::payments::{answers, claim, evidence, quote, settle};

/// Largest body: a batch of settlements. A gateway sends fewer items when their answers are large;
/// one answer alone is at most 8 MiB of seller's bytes, which base64 makes 11 MiB.
const BODY_BYTES_MAX: usize = 96 * 1024 * 1024;
/// Largest body of anything that carries no answers.
const SMALL_BODY_BYTES_MAX: usize = 1024 * 1024;

/// How many of each kind may be under way. What is over is refused, so that the more important has
/// connections left: settle > claim > quote.
const SETTLES_MAX: usize = 64;
const CLAIMS_MAX: usize = 32;
const FINDS_MAX: usize = 32;
const CREATES_MAX: usize = 256;
const CHECKS_MAX: usize = 4_096;
const READS_MAX: usize = 256;

/// One kind of call: its limits, and what it does.
#[derive(Clone)]
struct Kind {
    name: &'static str,
    under_way: Arc<Semaphore>,
    shown: Gauge,
    bytes_max: usize,
}

impl Kind {
    fn new(name: &'static str, under_way: usize, bytes_max: usize) -> Self {
        metrics::gauge!(names::INTERNAL_MAX.name, "kind" => name).set(as_f64(under_way));
        Self {
            name,
            under_way: Arc::new(Semaphore::new(under_way)),
            shown: metrics::gauge!(names::INTERNAL_UNDERWAY.name, "kind" => name),
            bytes_max,
        }
    }
}

impl Kind {
    /// A place for one call, unless too many are under way.
    fn enter(&self) -> Option<Slot> {
        let Ok(permit) = Arc::clone(&self.under_way).try_acquire_owned() else {
            metrics::counter!(names::INTERNAL_REFUSED.name, "kind" => self.name).increment(1);
            return None;
        };
        self.shown.increment(1.0);
        Some(Slot {
            shown: self.shown.clone(),
            _permit: permit,
        })
    }
}

/// A call's place, shown for as long as it is held.
struct Slot {
    shown: Gauge,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.shown.decrement(1.0);
    }
}

/// All internal routes, behind the bearer check.
pub fn routes(app: &Arc<App>) -> Router<Arc<App>> {
    let small = |name, under_way| Kind::new(name, under_way, SMALL_BODY_BYTES_MAX);
    let large = Kind::new("settlements", SETTLES_MAX, BODY_BYTES_MAX);
    Router::new()
        .route(
            wire::FIND_QUOTES,
            batch(
                small("quotes", FINDS_MAX),
                |app, items: Vec<_>| async move { Ok(quote::find(&app, &items).await?) },
            ),
        )
        .route(
            wire::CREATE_QUOTE,
            single(small("quotes_create", CREATES_MAX), |app, ask| async move {
                quote::create(&app, ask).await
            }),
        )
        .route(
            wire::CLAIMS,
            batch(
                small("claims", CLAIMS_MAX),
                |app, items: Vec<_>| async move { Ok(claim::claim(&app, &items).await?) },
            ),
        )
        .route(
            wire::CHECK,
            single(small("check", CHECKS_MAX), |app, check| async move {
                evidence::check_and_tell(&app, &check).await
            }),
        )
        .route(
            wire::SETTLEMENTS,
            batch(large, |app, items: Vec<_>| async move {
                settle::settle(&app, &items).await
            }),
        )
        .route(
            wire::ANSWERS,
            single(small("answers", READS_MAX), |app, wanted| async move {
                answers::read(&app, &wanted).await
            }),
        )
        .route(
            wire::PROBES,
            single(small("probes", READS_MAX), |app, probe| async move {
                answers::store_probe(&app, &probe).await
            }),
        )
        .route(
            wire::KEYS_USED,
            single(
                small("keys_used", READS_MAX),
                |app, uses: Vec<_>| async move { identity::note_uses(&app, &uses).await },
            ),
        )
        .merge(crate::publish::routes())
        .route_layer(middleware::from_fn_with_state(Arc::clone(app), bearer))
}

/// A route that takes one question.
fn single<In, Out, Work, Done>(kind: Kind, work: Work) -> MethodRouter<Arc<App>>
where
    In: DeserializeOwned + Send + 'static,
    Out: Serialize + Send,
    Work: Fn(Arc<App>, In) -> Done + Clone + Send + Sync + 'static,
    Done: Future<Output = Result<Out, ApiError>> + Send,
{
    post(move |State(app): State<Arc<App>>, request: Request| {
        let (kind, work) = (kind.clone(), work.clone());
        async move { answer(&kind, app, request, work).await }
    })
}

/// A route that takes a bounded list of questions and answers each, in its order.
fn batch<In, Out, Work, Done>(kind: Kind, work: Work) -> MethodRouter<Arc<App>>
where
    In: DeserializeOwned + Send + 'static,
    Out: Serialize + Send,
    Work: Fn(Arc<App>, Vec<In>) -> Done + Clone + Send + Sync + 'static,
    Done: Future<Output = Result<Vec<Out>, ApiError>> + Send,
{
    let name = kind.name;
    single(kind, move |app, items: Vec<In>| {
        let work = work.clone();
        async move {
            if items.len() > BATCH_ITEMS_MAX {
                return Err(Code::BodyTooLarge.into());
            }
            // The sizes of batches are counts; as seconds they would only be misread.
            let size = u32::try_from(items.len()).unwrap_or(u32::MAX);
            metrics::histogram!(names::INTERNAL_BATCH.name, "kind" => name).record(f64::from(size));
            work(app, items).await
        }
    })
}

async fn answer<In, Out, Work, Done>(
    kind: &Kind,
    app: Arc<App>,
    request: Request,
    work: Work,
) -> Response
where
    In: DeserializeOwned,
    Out: Serialize,
    Work: Fn(Arc<App>, In) -> Done,
    Done: Future<Output = Result<Out, ApiError>>,
{
    let started = Instant::now();
    let (head, body) = request.into_parts();
    let outcome = crochet_traces::answering(kind.name, &head.headers, async {
        match kind.enter() {
            None => Err(Code::ServiceUnavailable.into()),
            Some(_slot) => match read(body, kind.bytes_max).await {
                Ok(question) => work(app, question).await,
                Err(refusal) => Err(refusal),
            },
        }
    });
    let outcome = outcome.await;
    let response = match outcome.and_then(|answer| write(&answer)) {
        Ok(response) => response,
        Err(error) => refuse(kind.name, &error),
    };
    let status = response.status().as_u16().to_string();
    metrics::histogram!(names::INTERNAL.name, "kind" => kind.name, "status" => status)
        .record(started.elapsed());
    response
}

async fn read<In: DeserializeOwned>(body: Body, bytes_max: usize) -> Result<In, ApiError> {
    let collected = Limited::new(body, bytes_max).collect().await;
    let bytes: Bytes = match collected {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Err(Code::BodyTooLarge.into()),
        Err(_) => return Err(Code::ValidationError.into()),
    };
    rmp_serde::from_slice(&bytes)
        .map_err(|error| ApiError::from(Code::ValidationError).caused_by(error))
}

fn write<Out: Serialize>(answer: &Out) -> Result<Response, ApiError> {
    let bytes = rmp_serde::to_vec_named(answer).map_err(ApiError::internal)?;
    let media = [(header::CONTENT_TYPE, wire::CONTENT_TYPE)];
    Ok((media, bytes).into_response())
}

/// The status alone; why is for our log.
fn refuse(kind: &'static str, error: &ApiError) -> Response {
    let status =
        StatusCode::from_u16(error.failure.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let cause = std::error::Error::source(error).map(|cause| format!("{cause:#}"));
    tracing::warn!(
        kind,
        status = status.as_u16(),
        cause,
        "an internal call failed"
    );
    status.into_response()
}

/// Lets gateways in: one of the secrets, compared in constant time.
async fn bearer(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let presented = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "))
        .unwrap_or_default();
    if is_known(presented, &app.config.internal_secrets) {
        return next.run(request).await;
    }
    metrics::counter!(names::UNAUTHORIZED.name).increment(1);
    StatusCode::UNAUTHORIZED.into_response()
}

/// Every secret is compared, whether an earlier one fits or not.
fn is_known(presented: &[u8], secrets: &[SecretString]) -> bool {
    let found = secrets
        .iter()
        .fold(subtle::Choice::from(0), |found, secret| {
            found | secret.expose_secret().as_bytes().ct_eq(presented)
        });
    found.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_of_two_secrets_lets_in_and_nothing_else() {
        let secrets = ["a".repeat(32), "b".repeat(32)].map(SecretString::from);
        assert!(is_known("a".repeat(32).as_bytes(), &secrets));
        assert!(is_known("b".repeat(32).as_bytes(), &secrets));
        assert!(!is_known("a".repeat(31).as_bytes(), &secrets));
        assert!(!is_known(b"", &secrets));
        assert!(!is_known(b"", &[]));
    }
}
