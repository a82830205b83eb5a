//! The provider's HTTP API: a quote, and rows of `/requests/v3`.
//!
//! Every failure becomes one of two: refused (the provider understood and said no) or unavailable
//! (limits, faults, silence, nonsense), which a caller tries again later. After failures the client
//! pauses on its own, so that a provider in trouble is not pressed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use chrono::{DateTime, Utc};
use http::StatusCode;
use parking_lot::Mutex;
use reqwest::header::{HeaderMap, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use url::Url;
use uuid::Uuid;

use super::bucket::{Bucket, seconds};
use super::turns::{Turn, Turns};
use super::types::{Page, ProviderQuote};
use crate::config::Config;
use crate::metrics::names;

/// Longest wait for a quote.
const QUOTE_TIMEOUT: Duration = Duration::from_millis(2_900);
/// Longest wait for records: a check must be answered in 3 s with its collecting.
const RECORDS_TIMEOUT: Duration = Duration::from_millis(2_500);
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1_500);
/// How long a call to spare is waited for before one is kept.
const SPARE_WAIT: Duration = Duration::from_secs(1);
/// Longest wait for one.
const SPARE_WAIT_MAX: Duration = Duration::from_secs(5);
/// Largest answer that is read: 50 records are about 150 KiB.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most ids in one request for records: what the provider puts on one page.
pub const IDS_MAX: usize = 50;
/// First pause after a 429.
const LIMITED_PAUSE: Duration = Duration::from_secs(1);
/// First pause after [`FAILURES_BEFORE_PAUSE`] other failures in a row.
const FAILED_PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(8);
const FAILURES_BEFORE_PAUSE: u32 = 3;
/// Who the provider is told asks.
pub const REFERRER: &str = "crochet";

/// What the client is made of.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// Where the API is.
    pub base: Url,
    /// The key, which also signs webhooks.
    pub api_key: SecretString,
    /// Quotes per second.
    pub quotes_per_second: u32,
    /// Other calls per second.
    pub requests_per_second: u32,
}

/// The provider's client.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    api_key: SecretString,
    quotes: Gate,
    turns: Arc<Turns>,
    records: Gate,
    calls: Bucket,
}

/// Pauses of one endpoint.
#[derive(Debug)]
struct Gate {
    name: &'static str,
    trouble: Mutex<Trouble>,
}

#[derive(Debug, Default)]
struct Trouble {
    /// Failures in a row.
    failures: u32,
    until: Option<Instant>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// The provider understood and said no, with this code.
    #[error("the provider refused: {code}")]
    Refused {
        /// Its `errorCode`; empty when it gave none.
        code: String,
    },
    /// It cannot be asked, or not now.
    #[error("the provider cannot be asked: {why}")]
    Unavailable {
        /// When to try again.
        retry_after_seconds: u32,
        /// For the log.
        why: &'static str,
    },
}

/// What is asked of `/quote/v2`.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QuoteRequest {
    /// The buyer's wallet on the origin chain.
    pub user: String,
    /// Where the deposit settles.
    pub recipient: String,
    /// The origin chain.
    pub origin_chain_id: i64,
    /// The origin token.
    pub origin_currency: String,
    /// The chain of the settlement.
    pub destination_chain_id: i64,
    /// The token of the settlement.
    pub destination_currency: String,
    /// Atomic units to deliver, as text.
    pub amount: String,
    /// `EXACT_OUTPUT`.
    pub trade_type: &'static str,
    /// An address of its own for this payment.
    pub use_deposit_address: bool,
    /// Underpaid is refunded, not filled.
    pub strict: bool,
    /// Where refunds go: the buyer's wallet.
    pub refund_to: String,
    /// Seconds until the quote ends at the provider.
    pub ttl: u64,
    /// Who asks.
    pub referrer: &'static str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ErrorBody {
    error_code: Option<String>,
}

/// Which rows a sweep reads, oldest change first.
#[derive(Clone, Debug)]
pub struct Updated<'a> {
    /// Changed at or after this.
    pub since: DateTime<Utc>,
    /// The provider's word of their status.
    pub status: &'a str,
    /// From the page before.
    pub continuation: Option<&'a str>,
}

impl Client {
    /// A client as configured. Connects nowhere yet.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        Self::with_settings(ClientSettings {
            base: config.relay_base_url.clone(),
            api_key: config.relay_api_key.clone(),
            quotes_per_second: config.limits.provider_quotes_per_second,
            requests_per_second: config.limits.provider_requests_per_second,
        })
    }

    /// A client of its own settings.
    pub fn with_settings(settings: ClientSettings) -> anyhow::Result<Self> {
        // reqwest brings no cryptography of its own; whoever installs it first is right.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut key = HeaderValue::from_str(settings.api_key.expose_secret())?;
        key.set_sensitive(true);
        let headers = HeaderMap::from_iter([(http::HeaderName::from_static("x-api-key"), key)]);
        let http = reqwest::Client::builder()
            .default_headers(headers)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .pool_max_idle_per_host(8)
            .tcp_nodelay(true)
            .build()?;
        Ok(Self {
            http,
            base: settings.base,
            api_key: settings.api_key,
            quotes: Gate::new("quote"),
            turns: Turns::per_second(settings.quotes_per_second),
            records: Gate::new("requests"),
            calls: Bucket::per_second(settings.requests_per_second),
        })
    }

    /// The key that signs webhooks.
    pub fn webhook_key(&self) -> &SecretString {
        &self.api_key
    }

    /// Whether the last calls were answered, for `/health`.
    pub fn is_healthy(&self) -> bool {
        !self.quotes.is_paused() && !self.records.is_paused()
    }

    /// Leave to ask for a quote for a buyer, when there is some that nobody waits for.
    pub fn turn_at_once(&self, buyer: Uuid) -> Option<Turn> {
        self.turns.at_once(buyer, Instant::now())
    }

    /// Whether she would have a place among those who wait.
    pub fn has_place(&self, buyer: Uuid) -> Result<(), ProviderError> {
        self.quotes.ready()?;
        let place = self.turns.has_place(buyer, Instant::now());
        place.map_err(|wait| self.no_turn(wait))
    }

    /// Leave to ask for a quote when it is her turn among those who wait.
    pub async fn turn(&self, buyer: Uuid) -> Result<Turn, ProviderError> {
        self.quotes.ready()?;
        let turn = self.turns.wait(buyer).await;
        turn.map_err(|wait| self.no_turn(wait))
    }

    fn no_turn(&self, wait: Duration) -> ProviderError {
        self.quotes
            .not_asked(wait, "more want a quote than it gives")
    }

    /// Asks for a quote that delivers exactly `output` atomic units.
    pub async fn quote(
        &self,
        mut turn: Turn,
        request: &QuoteRequest,
        output: i64,
    ) -> Result<ProviderQuote, ProviderError> {
        self.quotes.ready()?;
        turn.ask(Instant::now());
        let url = self.url("quote/v2");
        let call = self.http.post(url).json(request).timeout(QUOTE_TIMEOUT);
        let answered = self.quotes.timed(answer(call)).await;
        drop(turn);
        let outcome = match answered {
            Ok(body) => ProviderQuote::read(&body, output).ok_or(Fault::Nonsense),
            Err(fault) => Err(fault),
        };
        self.quotes.leave(outcome)
    }

    /// The rows of these ids, at most [`IDS_MAX`]. An id the provider does not know has none.
    pub async fn records(&self, ids: &[&str]) -> Result<Page, ProviderError> {
        let mut url = self.url("requests/v3");
        url.query_pairs_mut()
            .append_pair("id", &ids.join(","))
            .append_pair("limit", &IDS_MAX.to_string());
        self.records.ready()?;
        let taken = self.calls.take(Instant::now());
        let counts_until = taken.map_err(|wait| self.over_limit(wait))?;
        self.page(url, counts_until).await
    }

    /// A page of rows by their last change, when there is a call to spare: nobody waits for it.
    pub async fn updated(&self, what: &Updated<'_>) -> Result<Page, ProviderError> {
        let mut url = self.url("requests/v3");
        url.query_pairs_mut()
            .append_pair("sortBy", "updatedAt")
            .append_pair("sortDirection", "asc")
            .append_pair("startTimestamp", &what.since.timestamp().to_string())
            .append_pair("status", what.status)
            .append_pair("limit", &IDS_MAX.to_string());
        if let Some(continuation) = what.continuation {
            url.query_pairs_mut()
                .append_pair("continuation", continuation);
        }
        let counts_until = self.spare().await?;
        self.page(url, counts_until).await
    }

    /// A call that nobody waits for, when there is one to spare; after a while the next that comes free.
    async fn spare(&self) -> Result<Instant, ProviderError> {
        self.records.ready()?;
        let came = Instant::now();
        let mut pressing = None;
        loop {
            let now = Instant::now();
            let taken = match &pressing {
                None => self.calls.take_spare(now),
                Some(pressing) => self.calls.take_pressing(now, pressing),
            };
            let wait = match taken {
                Ok(counts_until) => break Ok(counts_until),
                Err(wait) => wait,
            };
            if now + wait > came + SPARE_WAIT_MAX {
                break Err(self.over_limit(wait));
            }
            if pressing.is_none() && now > came + SPARE_WAIT {
                pressing = Some(self.calls.press());
            }
            tokio::time::sleep(wait).await;
            self.records.ready()?;
        }
    }

    fn over_limit(&self, wait: Duration) -> ProviderError {
        self.records.not_asked(wait, "over our own limit")
    }

    async fn page(&self, url: Url, counts_until: Instant) -> Result<Page, ProviderError> {
        let asked = answer(self.http.get(url).timeout(RECORDS_TIMEOUT));
        let answered = self.records.timed(asked).await;
        if !matches!(answered, Err(Fault::Silent)) {
            self.calls.answered(counts_until, Instant::now());
        }
        let outcome = match answered {
            Ok(body) => Page::read(&body).ok_or(Fault::Nonsense),
            Err(fault) => Err(fault),
        };
        self.records.leave(outcome)
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        let base = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{base}/{path}"));
        url
    }
}

/// What went wrong with one call.
enum Fault {
    Refused(String),
    Limited,
    Server,
    Silent,
    Nonsense,
}

async fn answer(call: reqwest::RequestBuilder) -> Result<bytes::Bytes, Fault> {
    let mut response = call.send().await.map_err(|_| Fault::Silent)?;
    let status = response.status();
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|_| Fault::Silent)? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(Fault::Nonsense);
        }
        body.extend_from_slice(&chunk);
    }
    if status == StatusCode::TOO_MANY_REQUESTS {
        return Err(Fault::Limited);
    }
    if status.is_success() {
        return Ok(body.freeze());
    }
    let code = serde_json::from_slice::<ErrorBody>(&body)
        .ok()
        .and_then(|body| body.error_code);
    match code {
        Some(code) => Err(Fault::Refused(code)),
        None if status.is_client_error() => Err(Fault::Refused(String::new())),
        None => Err(Fault::Server),
    }
}

impl Gate {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            trouble: Mutex::default(),
        }
    }

    /// Waits for a call and records how long it took.
    async fn timed<T>(&self, call: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let outcome = call.await;
        metrics::histogram!(names::RELAY_SECONDS.name, "endpoint" => self.name)
            .record(began.elapsed());
        outcome
    }

    fn is_paused(&self) -> bool {
        let now = Instant::now();
        self.trouble.lock().until.is_some_and(|until| until > now)
    }

    /// Whether the endpoint may be asked: it is not paused.
    fn ready(&self) -> Result<(), ProviderError> {
        let now = Instant::now();
        let paused = self.trouble.lock().until;
        match paused {
            Some(until) if until > now => {
                let wait = until.saturating_duration_since(now);
                Err(self.not_asked(wait, "paused after failures"))
            }
            _ => Ok(()),
        }
    }

    /// Counts and tells that it was not asked, and when it may be.
    fn not_asked(&self, wait: Duration, why: &'static str) -> ProviderError {
        self.count("not_asked");
        ProviderError::Unavailable {
            retry_after_seconds: seconds(wait),
            why,
        }
    }

    /// Remembers how the call went, and says it.
    fn leave<T>(&self, outcome: Result<T, Fault>) -> Result<T, ProviderError> {
        let fault = match outcome {
            Ok(value) => {
                *self.trouble.lock() = Trouble::default();
                self.count("answered");
                return Ok(value);
            }
            Err(fault) => fault,
        };
        let (result, why) = match &fault {
            Fault::Refused(_) => ("refused", ""),
            Fault::Limited => ("limited", "it limits us"),
            Fault::Server => ("server_error", "it failed"),
            Fault::Silent => ("silent", "it does not answer"),
            Fault::Nonsense => ("nonsense", "its answer makes no sense"),
        };
        self.count(result);
        match fault {
            Fault::Refused(code) if !is_passing(&code) => Err(ProviderError::Refused { code }),
            Fault::Refused(_) | Fault::Server | Fault::Silent | Fault::Nonsense => {
                Err(self.pause(FAILURES_BEFORE_PAUSE, FAILED_PAUSE, why))
            }
            Fault::Limited => Err(self.pause(1, LIMITED_PAUSE, why)),
        }
    }

    fn pause(&self, from: u32, first: Duration, why: &'static str) -> ProviderError {
        let mut trouble = self.trouble.lock();
        trouble.failures = trouble.failures.saturating_add(1);
        let doublings = trouble.failures.checked_sub(from);
        let pause = doublings.map_or(Duration::ZERO, |doublings| {
            (first * 2_u32.pow(doublings.min(4))).min(PAUSE_MAX)
        });
        trouble.until = Some(Instant::now() + pause);
        ProviderError::Unavailable {
            retry_after_seconds: seconds(pause.max(Duration::from_secs(1))),
            why,
        }
    }

    fn count(&self, result: &'static str) {
        metrics::counter!(names::RELAY.name, "endpoint" => self.name, "result" => result)
            .increment(1);
    }
}

/// The provider's codes that pass by themselves, and those that say it failed (relay.md).
fn is_passing(code: &str) -> bool {
    matches!(
        code,
        "PRICE_FETCH_FAILED"
            | "SERVICE_UNAVAILABLE"
            | "REQUEST_TIMED_OUT"
            | "RPC_HTTP_ERROR"
            | "DESTINATION_TX_FAILED"
            | "UNKNOWN_ERROR"
            | "SWAP_QUOTE_FAILED"
            | "PERMIT_FAILED"
            | "UNAUTHORIZED"
            | "CHAIN_DISABLED"
            | "INSUFFICIENT_LIQUIDITY"
            | "NO_QUOTES"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_pauses_nothing_and_three_do() {
        let gate = Gate::new("t");
        for _ in 0..2 {
            let error = gate.leave::<()>(Err(Fault::Server)).unwrap_err();
            assert!(matches!(error, ProviderError::Unavailable { .. }));
            assert_eq!(gate.ready(), Ok(()));
        }
        gate.leave::<()>(Err(Fault::Silent)).unwrap_err();
        assert!(gate.ready().is_err());
        assert_eq!(gate.leave(Ok(())), Ok(()));
        assert_eq!(gate.ready(), Ok(()));
    }

    #[test]
    fn a_limit_pauses_at_once() {
        let gate = Gate::new("t");
        gate.leave::<()>(Err(Fault::Limited)).unwrap_err();
        assert!(gate.ready().is_err());
    }

    #[test]
    fn refusals_are_told_apart_from_passing_trouble() {
        let gate = Gate::new("t");
        for (code, refused) in [
            ("AMOUNT_TOO_LOW", true),
            ("SANCTIONED_WALLET_ADDRESS", true),
            ("UNKNOWN_ERROR", false),
        ] {
            let error = gate
                .leave::<()>(Err(Fault::Refused(code.into())))
                .unwrap_err();
            assert_eq!(
                matches!(error, ProviderError::Refused { .. }),
                refused,
                "{code}"
            );
        }
    }
}
