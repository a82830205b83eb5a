//! The control plane's internal API, as the gateway asks it.
//!
//! MessagePack over HTTP/1.1 connections that are kept, with the bearer secret. Claims, quote
//! look-ups and settlements leave in batches, each kind with a bounded queue of its own, so that a
//! flood of quotes delays no settlement.

mod paper;
mod stored;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::{BufMut as _, Bytes, BytesMut};
use crochet_shared::api_key::KeyDigest;
use crochet_shared::internal::{
    self, Check, CheckAnswer, Claim, ClaimAnswer, CreateQuote, KeyRecord, KeyUse, Outcome,
    ProbeReport, QuoteCreated, QuoteFound, QuoteIdentity, ReadAnswer, RouteName, RouteRecord,
    Settle, SettleAnswer, StoredAnswer,
};
use crochet_traces::{Asking, Followed};
use futures_util::FutureExt as _;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use secrecy::ExposeSecret as _;
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::paper::Paper;
use super::batch::{Batcher, Unanswered};
use crate::config::Config;
use crate::limits::FREE_BYTES;
use crate::metrics::{BatchCounts, INTERNAL_CALLS, InternalCall, InternalCounts, Metrics};

const CONNECT_TIME: Duration = Duration::from_secs(1);
const IDLE_TIME: Duration = Duration::from_mins(1);
/// Keys, routes and the like: reads that a cached row answers.
const READ_TIME: Duration = Duration::from_secs(2);
const CLAIM_TIME: Duration = Duration::from_secs(2);
const SETTLE_TIME: Duration = Duration::from_secs(3);
/// A quote waits for the provider.
const CREATE_TIME: Duration = Duration::from_secs(15);
/// Contract: the provider is asked for at most 3 s; the rest is the way there and back.
const CHECK_TIME: Duration = Duration::from_millis(3_500);

/// Room for a question of any kind but the two below, written, in bytes; a longer one makes its own.
const QUESTION_BYTES: usize = 512;
/// Room for a claim.
const CLAIM_BYTES: usize = 384;
/// Room for a settlement beside its answer.
const SETTLE_BYTES: usize = 384;

const CLAIMS_WAITING_MAX: usize = 4096;
const QUOTES_WAITING_MAX: usize = 2048;
const SETTLEMENTS_WAITING_MAX: usize = 16_384;
/// A settlement above this leaves in batches of its own kind, in bytes: most calls do not wait for few large ones.
const LARGE_SETTLE_BYTES: usize = FREE_BYTES;
/// Of these fewer wait at once. What they hold meanwhile is of the answers' budget.
const LARGE_SETTLEMENTS_WAITING_MAX: usize = 4096;

/// Asks the control plane.
#[derive(Debug)]
pub struct ControlPlane {
    wire: Arc<Wire>,
    /// Claims. The same owner asking again is the same claim.
    pub claims: Questions<Claim, ClaimAnswer>,
    /// What is known of a purchase.
    pub quotes: Questions<QuoteIdentity, QuoteFound>,
    settlements: Questions<Settle, SettleAnswer>,
    /// Those with large answers, which would hold up the others for as long as they take to send.
    large_settlements: Questions<Settle, SettleAnswer>,
}

/// Questions that leave in batches, each with the trace of who asks it, where that is followed.
#[derive(Debug)]
pub struct Questions<I, O>(Batcher<Followed<I>, O>);

impl<I: Send + 'static, O: Send + 'static> Questions<I, O> {
    /// Asks one, in a batch with whatever else waits.
    pub async fn ask(&self, question: I) -> Result<O, Unanswered> {
        self.0.ask(Followed::by_current(question)).await
    }

    /// How many wait, and how many may.
    pub fn waiting(&self) -> (usize, usize) {
        self.0.waiting()
    }
}

type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

struct Wire {
    client: HttpClient,
    base: String,
    authorization: HeaderValue,
    up: AtomicBool,
    counts: [InternalCounts; INTERNAL_CALLS.len()],
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("Wire")
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
}

impl ControlPlane {
    /// Prepares the client. Contacts nobody.
    pub fn new(config: &Config, metrics: &Metrics) -> anyhow::Result<Self> {
        let secret = config.internal_secret.expose_secret();
        let mut authorization = HeaderValue::from_str(&format!("Bearer {secret}"))?;
        authorization.set_sensitive(true);
        let wire = Arc::new(Wire {
            client: client(config.internal_ca_file.as_deref())?,
            base: config.internal_url.clone(),
            authorization,
            up: AtomicBool::new(false),
            counts: metrics.internal.clone(),
        });
        let [claims, quotes, settlements] = &metrics.batches;
        Ok(Self {
            claims: batcher(
                &wire,
                (internal::CLAIMS, InternalCall::Claims),
                CLAIM_TIME,
                CLAIMS_WAITING_MAX,
                |_| CLAIM_BYTES,
                claims,
            )?,
            quotes: batcher(
                &wire,
                (internal::FIND_QUOTES, InternalCall::Quotes),
                READ_TIME,
                QUOTES_WAITING_MAX,
                |_| QUESTION_BYTES,
                quotes,
            )?,
            settlements: batcher(
                &wire,
                (internal::SETTLEMENTS, InternalCall::Settlements),
                SETTLE_TIME,
                SETTLEMENTS_WAITING_MAX,
                weigh_settle,
                settlements,
            )?,
            large_settlements: batcher(
                &wire,
                (internal::SETTLEMENTS, InternalCall::Settlements),
                SETTLE_TIME,
                LARGE_SETTLEMENTS_WAITING_MAX,
                weigh_settle,
                settlements,
            )?,
            wire,
        })
    }

    /// Ends a claim. The same settlement asked again gets the same answer.
    pub async fn settle(&self, settle: Settle) -> Result<SettleAnswer, Unanswered> {
        let kind = if settle_bytes(&settle) > LARGE_SETTLE_BYTES {
            &self.large_settlements
        } else {
            &self.settlements
        };
        kind.ask(settle).await
    }

    /// Whether the last exchange was answered.
    pub fn is_up(&self) -> bool {
        self.wire.up.load(Ordering::Relaxed)
    }

    /// How many claims, quotes and settlements wait, and how many may.
    pub fn queues(&self) -> [(usize, usize); 3] {
        let (small, large) = (self.settlements.waiting(), self.large_settlements.waiting());
        // Of the two kinds of settlements the one that is nearer to its end.
        let large_is_fuller = large.0 * small.1 > small.0 * large.1;
        [
            self.claims.waiting(),
            self.quotes.waiting(),
            if large_is_fuller { large } else { small },
        ]
    }

    /// The key behind a digest.
    pub async fn resolve_key(&self, digest: &KeyDigest) -> Result<Option<KeyRecord>, Unanswered> {
        self.wire
            .ask(
                (internal::RESOLVE_KEY, InternalCall::Keys),
                digest,
                READ_TIME,
            )
            .await
    }

    /// The route behind an id or slug.
    pub async fn resolve_route(&self, name: &RouteName) -> Result<Option<RouteRecord>, Unanswered> {
        self.wire
            .ask(
                (internal::RESOLVE_ROUTE, InternalCall::Routes),
                name,
                READ_TIME,
            )
            .await
    }

    /// Makes a quote, or finds one.
    pub async fn create_quote(&self, ask: &CreateQuote) -> Result<QuoteCreated, Unanswered> {
        self.wire
            .ask(
                (internal::CREATE_QUOTE, InternalCall::CreateQuote),
                ask,
                CREATE_TIME,
            )
            .await
    }

    /// Has the provider asked about one payment.
    pub async fn check(&self, ask: &Check) -> Result<CheckAnswer, Unanswered> {
        self.wire
            .ask((internal::CHECK, InternalCall::Check), ask, CHECK_TIME)
            .await
    }

    /// Reads a stored answer into the room that `room` gives it, once its size is known. `None` when there
    /// is none: then nothing of it was read.
    pub async fn answer<R>(
        &self,
        ask: &ReadAnswer,
        room: impl FnOnce(usize) -> Option<R>,
    ) -> Result<Option<(StoredAnswer, R)>, Unanswered> {
        self.wire.stored_answer(ask, room).await
    }

    /// Tells which keys were used, at most [`internal::BATCH_ITEMS_MAX`].
    pub async fn keys_used(&self, uses: &[KeyUse]) -> Result<(), Unanswered> {
        self.wire
            .ask(
                (internal::KEYS_USED, InternalCall::KeysUsed),
                &uses,
                READ_TIME,
            )
            .await
    }

    /// Tells how an endpoint's test went.
    pub async fn probe(&self, report: &ProbeReport) -> Result<(), Unanswered> {
        self.wire
            .ask((internal::PROBES, InternalCall::Probes), report, READ_TIME)
            .await
    }
}

/// What a question is called, in metrics and traces.
fn name_of(call: InternalCall) -> &'static str {
    INTERNAL_CALLS
        .get(call as usize)
        .copied()
        .unwrap_or("internal")
}

fn weigh_settle(settle: &Followed<Settle>) -> usize {
    settle_bytes(&settle.item)
}

fn settle_bytes(settle: &Settle) -> usize {
    let envelope = match &settle.outcome {
        Outcome::Delivered(delivery) => delivery.envelope.len(),
        Outcome::Failed { .. } | Outcome::Unsent { .. } => 0,
    };
    envelope + SETTLE_BYTES
}

fn batcher<I, O>(
    wire: &Arc<Wire>,
    (path, call): (&'static str, InternalCall),
    time: Duration,
    waiting_max: usize,
    weigh: fn(&Followed<I>) -> usize,
    counts: &BatchCounts,
) -> anyhow::Result<Questions<I, O>>
where
    I: Serialize + Send + Sync + 'static,
    O: DeserializeOwned + Send + 'static,
{
    let wire = Arc::clone(wire);
    let uri = wire.uri(path)?;
    let paper = Arc::new(Paper::default());
    let send: super::batch::Send<Followed<I>, O> = Box::new(move |batch| {
        let (wire, uri, paper) = (Arc::clone(&wire), uri.clone(), Arc::clone(&paper));
        async move {
            let asking = crochet_traces::asking_all(name_of(call), &batch);
            let answers = match paper.write(&batch, batch.iter().map(weigh).sum()) {
                Ok(written) => wire.ask_at((uri, call), written, time, asking).await,
                Err(error) => Err(unwritable(call, &error)),
            };
            (batch, answers)
        }
        .boxed()
    });
    let batcher = Batcher::new(waiting_max, weigh, counts.clone(), send);
    Ok(Questions(batcher))
}

impl Wire {
    fn uri(&self, path: &str) -> Result<Uri, http::uri::InvalidUri> {
        format!("{}{path}", self.base).parse()
    }

    async fn ask<Q, A>(
        &self,
        (path, call): (&str, InternalCall),
        question: &Q,
        time: Duration,
    ) -> Result<A, Unanswered>
    where
        Q: Serialize + Sync,
        A: DeserializeOwned,
    {
        let uri = self.uri(path).map_err(|_| Unanswered::Failed)?;
        let asking = crochet_traces::asking(name_of(call));
        let mut written = BytesMut::with_capacity(QUESTION_BYTES).writer();
        rmp_serde::encode::write_named(&mut written, question)
            .map_err(|error| unwritable(call, &error))?;
        let written = written.into_inner().freeze();
        self.ask_at((uri, call), written, time, asking).await
    }

    async fn ask_at<A>(
        &self,
        (uri, call): (Uri, InternalCall),
        written: Bytes,
        time: Duration,
        asking: Option<Asking>,
    ) -> Result<A, Unanswered>
    where
        A: DeserializeOwned,
    {
        let began = Instant::now();
        let asked = tokio::time::timeout(time, async {
            let response = self.exchange(uri, written, asking).await?;
            let body = response.into_body().collect().await;
            body.map(http_body_util::Collected::to_bytes)
                .map_err(|_| Unanswered::Lost)
        });
        let answered = asked.await.unwrap_or(Err(Unanswered::Lost));
        self.note(call, &answered, began);
        rmp_serde::from_slice(&answered?).map_err(|error| unreadable(&error))
    }

    /// Counts how a question ended, and whether there is somebody to ask.
    fn note<T>(&self, call: InternalCall, answered: &Result<T, Unanswered>, began: Instant) {
        if let Some(counts) = self.counts.get(call as usize) {
            counts.count(answered, began.elapsed());
        }
        // No call waits for this, and a control plane of the version before does not know it.
        if call == InternalCall::KeysUsed {
            return;
        }
        let up = answered.is_ok();
        if self.up.swap(up, Ordering::Relaxed) != up {
            tracing::warn!(up, "the internal API");
        }
    }

    async fn exchange(
        &self,
        uri: Uri,
        body: Bytes,
        asking: Option<Asking>,
    ) -> Result<Response<Incoming>, Unanswered> {
        let path = uri.path().to_owned();
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.insert(AUTHORIZATION, self.authorization.clone());
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static(internal::CONTENT_TYPE),
        );
        if let Some(asking) = &asking {
            asking.say(headers);
        }
        let response = self.client.request(request).await.map_err(|error| {
            if error.is_connect() {
                Unanswered::Unreachable
            } else {
                Unanswered::Lost
            }
        })?;
        let status = response.status();
        if status != StatusCode::OK {
            if status == StatusCode::NOT_FOUND && path == internal::KEYS_USED {
                tracing::debug!(
                    "the control plane is of the version before: uses of keys are not told"
                );
            } else {
                tracing::error!(status = status.as_u16(), path, "the internal API refused");
            }
            // 503 is a control plane that lives and cannot reach its database: nobody's item is at
            // fault, and halving the batch would only multiply the load.
            return Err(if status == StatusCode::SERVICE_UNAVAILABLE {
                Unanswered::Lost
            } else {
                Unanswered::Failed
            });
        }
        Ok(response)
    }
}

fn unwritable(call: InternalCall, error: &rmp_serde::encode::Error) -> Unanswered {
    tracing::error!(%error, call = name_of(call), "a question could not be written");
    Unanswered::Failed
}

fn unreadable(error: &rmp_serde::decode::Error) -> Unanswered {
    tracing::error!(%error, "an answer of the internal API could not be read");
    Unanswered::Lost
}

fn client(ca_file: Option<&std::path::Path>) -> anyhow::Result<HttpClient> {
    let mut roots = rustls::RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    if let Some(path) = ca_file {
        for certificate in CertificateDer::pem_file_iter(path)? {
            roots.add(certificate?)?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIME));
    tcp.enforce_http(false);
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIME)
        .build(connector))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crochet_shared::clock;
    use crochet_shared::id::{ListingId, Owner, ProfileId, RequestId};
    use crochet_shared::internal::Delivery;

    #[test]
    fn what_is_written_fits_in_the_room_taken_for_it() {
        let now = clock::now();
        let claim = Claim {
            relay_request_id: format!("0x{}", "f".repeat(64)),
            buyer: ProfileId::new(now),
            listing: Some(ListingId::new(now)),
            body_sha256: [0xff; 32],
            owner: Owner([0xff; 16]),
            serve: true,
        };
        let settle = Settle {
            request_id: RequestId::new(now),
            epoch: i32::MAX,
            owner: Owner([0xff; 16]),
            outcome: Outcome::Delivered(Delivery {
                envelope: vec![0xff; 70_000].into(),
                envelope_sha256: [0xff; 32],
                seller_status: 599,
                seller_latency_ms: u32::MAX,
                latency_ms: u32::MAX,
            }),
        };
        let written = |bytes: Result<Vec<u8>, _>| bytes.unwrap().len();
        let claims = written(rmp_serde::to_vec_named(&vec![claim; 64]));
        assert!(claims <= 64 * CLAIM_BYTES, "{claims}");
        let room = settle_bytes(&settle);
        let settled = written(rmp_serde::to_vec_named(&vec![settle; 3]));
        assert!(settled <= 3 * room && settled > 3 * 70_000, "{settled}");
    }
}
