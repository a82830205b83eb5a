//! Everything a request needs, made once and shared.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crochet_shared::id;
use crochet_shared::limit::{self, Kind};
use crochet_shared::redis_key;
use http::{HeaderMap, HeaderValue};
use quick_cache::sync::Cache;
use secrecy::ExposeSecret as _;
use tokio::sync::Semaphore;

use crate::adapter::control_plane::ControlPlane;
use crate::adapter::redis::Redis;
use crate::cache::flight::Flights;
use crate::cache::invalidation::Hearing;
use crate::cache::keys::Keys;
use crate::cache::quotes::Quotes;
use crate::cache::routes::Routes;
use crate::call::quote::Learned;
use crate::call::replay::Replays;
use crate::client;
use crate::config::Config;
use crate::error::Errors;
use crate::front::FIRST_WORD_TIME;
use crate::limits::{Budget, Underway};
use crate::metrics::Metrics;
use crate::rate::doubt::Stranger;
use crate::rate::{Rates, Window};
use crate::seller::{Network, NetworkConfig, Reading};
use crate::sending::Sending;
use crate::tls::Certificate;

/// Addresses whose unknown keys are counted at once.
const ADDRESSES_MAX: usize = 65_536;

/// The state of this process. Fields are public because the rooms of `call` are steps of one
/// function over it; none is replaced after the start.
#[expect(
    missing_docs,
    reason = "each field is named by its type, which is documented"
)]
pub struct Gateway {
    pub config: Config,
    pub errors: Errors,
    pub metrics: Metrics,
    pub control_plane: ControlPlane,
    pub redis: Redis,
    pub hearing: Hearing,
    pub keys: Keys,
    pub routes: Routes,
    pub quotes: Quotes,
    /// Quotes being found or made, by the digest of their identity.
    pub quoting: Flights<[u8; 32], Learned>,
    /// Stored answers that are read and sent again.
    pub replays: Replays,
    pub network: Network,
    /// For requests' bodies.
    pub budget: Budget,
    /// For sellers' large answers.
    pub answers: Budget,
    /// Large answers on their way to buyers.
    pub sending: Sending,
    /// For the one answer at a time that is settled although that is spent.
    pub beyond_budget: Arc<Semaphore>,
    pub underway: Underway,
    /// Connections that are told to end, rather than ended, when the process stops.
    pub http2_connections: Underway,
    /// The front door's own, where TLS is served.
    pub certificate: Option<Arc<Certificate>>,
    pub rates: Rates,
    /// Unknown keys tried, by address; IPv6 counts by /64 (contract §1).
    strangers: Cache<IpAddr, Arc<Stranger>>,
    pub request_ids: RequestIds,
    /// SIGTERM came: readiness fails and connections are not kept.
    pub draining: AtomicBool,
    /// The process takes its time to stop: who has just connected is heard out.
    pub stops_patiently: AtomicBool,
    started: Instant,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("Gateway")
    }
}

impl Gateway {
    /// Prepares everything. Contacts nobody and starts nothing: clients connect inside the runtime
    /// of the service that uses them.
    pub fn new(config: Config) -> anyhow::Result<Arc<Self>> {
        let metrics = Metrics::new();
        let (budget, answers) = Budget::halves(config.body_budget_bytes);
        let network = Network::new(NetworkConfig {
            egress: config.egress.clone(),
            breaker: config.breaker,
            dns_servers: &config.dns_servers,
            extra_ca_file: config.extra_ca_file.as_deref(),
            reading: Some(Reading::new(answers.clone())),
        })?;
        Ok(Arc::new(Self {
            errors: Errors::new(&config.public_base_url),
            control_plane: ControlPlane::new(&config, &metrics)?,
            redis: Redis::new(
                config.redis_url.expose_secret(),
                config.cache_keys.clone(),
                &metrics,
            )?,
            hearing: Hearing::default(),
            keys: Keys::new(config.key_calls_per_minute),
            rates: Rates::default(),
            routes: Routes::default(),
            quotes: Quotes::default(),
            quoting: Flights::default(),
            replays: Replays::of(&answers),
            network,
            budget,
            sending: Sending::new(answers.bytes(), metrics.cut_off.clone()),
            answers,
            beyond_budget: Arc::new(Semaphore::new(1)),
            underway: Underway::default(),
            http2_connections: Underway::default(),
            certificate: config
                .tls
                .clone()
                .map(|tls| Certificate::read(tls).map(Arc::new))
                .transpose()?,
            strangers: Cache::new(ADDRESSES_MAX),
            request_ids: RequestIds::new(),
            draining: AtomicBool::new(false),
            stops_patiently: AtomicBool::new(false),
            started: Instant::now(),
            metrics,
            config,
        }))
    }

    /// One that is configured so, and contacts nobody.
    #[cfg(test)]
    pub(crate) fn for_test(settings: &[(&str, &str)]) -> Arc<Self> {
        Self::new(crate::config::tests::check(settings).unwrap()).unwrap()
    }

    /// Milliseconds since the start, wrapping: the clock of the rate windows.
    pub fn millis(&self, now: Instant) -> u32 {
        let since = now.duration_since(self.started).as_millis();
        u32::try_from(since & u128::from(u32::MAX)).unwrap_or(0)
    }

    /// An address as one that tries unknown keys.
    pub fn stranger(&self, address: IpAddr) -> Arc<Stranger> {
        let address = limit::counted(address);
        let limit = self.config.unknown_keys_per_minute;
        let made = self.strangers.get_or_insert_with(&address, || {
            let name = limit::by_address(Kind::UnknownKeys, self.redis.keys(), address);
            Ok::<_, Infallible>(Arc::new(Stranger::new(Window::new(name, limit))))
        });
        match made {
            Ok(stranger) => stranger,
            Err(never) => match never {},
        }
    }

    /// The id of a request: its client's own word for it, or a new one.
    pub fn request_id(&self, headers: &HeaderMap) -> HeaderValue {
        client::request_id(headers)
            .or_else(|| HeaderValue::try_from(self.request_ids.make()).ok())
            .unwrap_or(HeaderValue::from_static("unknown-request"))
    }

    /// How long a connection that has not spoken yet is heard out when the process stops.
    pub fn first_word_time(&self) -> Duration {
        if self.stops_patiently.load(Ordering::Acquire) {
            FIRST_WORD_TIME
        } else {
            Duration::ZERO
        }
    }

    /// Whether this process is on its way out.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}

/// Makes ids for requests that bring none: a random part for the process, then a number.
#[derive(Debug)]
pub struct RequestIds {
    process: String,
    next: AtomicU64,
}

impl RequestIds {
    fn new() -> Self {
        Self {
            process: redis_key::hex(&id::random::<8>()),
            next: AtomicU64::new(0),
        }
    }

    /// A new one: 32 hex digits.
    pub fn make(&self) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut text = String::with_capacity(self.process.len() + 16);
        text.push_str(&self.process);
        redis_key::push_hex(&number.to_be_bytes(), &mut text);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_ids_are_ids_and_differ() {
        let ids = RequestIds::new();
        let (one, two) = (ids.make(), ids.make());
        assert_ne!(one, two);
        assert!(crochet_shared::header::is_request_id(one.as_bytes()));
    }
}
