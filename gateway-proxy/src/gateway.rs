//! Everything a request needs, made once and shared.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crochet_shared::id;
use crochet_shared::redis_key;
use quick_cache::sync::Cache;
use secrecy::ExposeSecret as _;

use crate::adapter::control_plane::ControlPlane;
use crate::adapter::redis::Redis;
use crate::cache::flight::Flights;
use crate::cache::invalidation::Hearing;
use crate::cache::keys::Keys;
use crate::cache::quotes::Quotes;
use crate::cache::routes::Routes;
use crate::call::quote::Learned;
use crate::config::Config;
use crate::error::Errors;
use crate::limits::{Budget, Underway, Window};
use crate::metrics::Metrics;
use crate::seller::{Network, NetworkConfig};

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
    pub network: Network,
    pub budget: Budget,
    pub underway: Underway,
    /// Unknown keys tried, by address.
    pub strangers: Strangers,
    pub request_ids: RequestIds,
    /// SIGTERM came: readiness fails and connections are not kept.
    pub draining: AtomicBool,
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
        let budget = Budget::new(config.body_budget_bytes);
        let network = Network::new(NetworkConfig {
            egress: config.egress.clone(),
            breaker: config.breaker,
            dns_servers: &config.dns_servers,
            extra_ca_file: config.extra_ca_file.as_deref(),
            answer_budget: Some(budget.semaphore()),
        })?;
        Ok(Arc::new(Self {
            errors: Errors::new(&config.public_base_url),
            control_plane: ControlPlane::new(&config, &metrics.batch_items)?,
            redis: Redis::new(config.redis_url.expose_secret(), config.cache_keys.clone())?,
            hearing: Hearing::default(),
            keys: Keys::default(),
            routes: Routes::default(),
            quotes: Quotes::default(),
            quoting: Flights::default(),
            network,
            budget,
            underway: Underway::default(),
            strangers: Strangers(Cache::new(ADDRESSES_MAX)),
            request_ids: RequestIds::new(),
            draining: AtomicBool::new(false),
            started: Instant::now(),
            metrics,
            config,
        }))
    }

    /// Whole seconds since the start: the clock of the rate windows.
    pub fn seconds(&self, now: Instant) -> u32 {
        let since = now.duration_since(self.started).as_secs();
        u32::try_from(since).unwrap_or(u32::MAX)
    }

    /// Whether this process is on its way out.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}

/// Counts unknown keys by address; IPv6 counts by /64 (contract §1).
#[derive(Debug)]
pub struct Strangers(Cache<u64, Arc<Window>>);

impl Strangers {
    /// The window of an address.
    pub fn window(&self, address: IpAddr) -> Arc<Window> {
        let name = network_of(address);
        if let Some(window) = self.0.get(&name) {
            return window;
        }
        let window = Arc::new(Window::default());
        self.0.insert(name, Arc::clone(&window));
        window
    }

    /// The window of an address that tried an unknown key before.
    pub fn known(&self, address: IpAddr) -> Option<Arc<Window>> {
        self.0.get(&network_of(address))
    }
}

/// An IPv4 address, or the first half of an IPv6 one. The two cannot meet: a mapped address is
/// counted as the IPv4 address it is, and no global IPv6 network begins with 32 zero bits.
fn network_of(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(ip) => u64::from(u32::from(ip)),
        IpAddr::V6(ip) => u64::try_from(u128::from(ip) >> 64).unwrap_or(u64::MAX),
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
    fn ipv6_counts_by_64_and_mapped_addresses_as_ipv4() {
        let of = |text: &str| network_of(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }

    #[test]
    fn made_ids_are_ids_and_differ() {
        let ids = RequestIds::new();
        let (one, two) = (ids.make(), ids.make());
        assert_ne!(one, two);
        assert!(crochet_shared::header::is_request_id(one.as_bytes()));
    }
}
