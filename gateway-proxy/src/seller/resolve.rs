//! From a host name to its addresses. Not judged here: see [`super::connect`].
//!
//! Answers are kept for their TTL and never longer than [`ANSWER_AGE_MAX`]; calls that ask for the
//! same name at the same time share one question. Names are asked as they stand (no search list).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{ResolverBuilder, TokioResolver};
use parking_lot::Mutex;

/// The oldest answer that is acted on, whatever its TTL (contract §4).
pub(super) const ANSWER_AGE_MAX: Duration = Duration::from_mins(1);
/// The longest wait for an answer (contract §4).
const LOOKUP_TIME_MAX: Duration = Duration::from_secs(3);
/// The wait for one server before it is asked again: three tries fit in the whole.
const SERVER_TIME_MAX: Duration = Duration::from_secs(1);
/// Who is asked when the system says nothing (resolv.conf(5)).
const LOCAL_SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 53);
/// Names remembered at once.
const NAMES_MAX: usize = 4096;

/// A name that has no address, or none in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name does not resolve")]
pub(super) struct Unresolved;

/// The addresses of a host.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) addresses: Vec<IpAddr>,
    /// Until when new connections may be made by it; `None` for a literal.
    fresh_until: Option<Instant>,
    /// Until when existing connections may be used by it; `None` for a literal.
    kept_until: Option<Instant>,
}

impl Answer {
    /// The answer an address literal is to itself.
    pub(super) fn literal(ip: IpAddr) -> Self {
        Self {
            addresses: vec![ip],
            fresh_until: None,
            kept_until: None,
        }
    }

    fn new(addresses: Vec<IpAddr>, valid_until: Instant, now: Instant) -> Self {
        let kept_until = now + ANSWER_AGE_MAX;
        Self {
            addresses,
            fresh_until: Some(valid_until.min(kept_until)),
            kept_until: Some(kept_until),
        }
    }

    /// Whether new connections may be made by it.
    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        self.fresh_until.is_none_or(|until| now < until)
    }

    /// Whether connections that exist may be used by it.
    pub(super) fn is_kept(&self, now: Instant) -> bool {
        self.kept_until.is_none_or(|until| now < until)
    }
}

type Outcome = Result<Arc<Answer>, Unresolved>;
type Question = Shared<BoxFuture<'static, Outcome>>;

/// Resolves names, with its own bounded cache.
#[derive(Clone)]
pub(super) struct Resolver {
    dns: TokioResolver,
    names: Arc<Mutex<Names>>,
}

#[derive(Default)]
struct Names {
    answers: HashMap<Box<str>, Arc<Answer>>,
    asked: HashMap<Box<str>, Question>,
}

impl Resolver {
    /// Asks `servers`, or those of the system when none are given, or, as the C library does, the
    /// one on this machine when the system names none.
    pub(super) fn new(servers: &[SocketAddr]) -> Result<Self, NetError> {
        Self::of(if servers.is_empty() {
            TokioResolver::builder_tokio().unwrap_or_else(|error| {
                log::warn!("no name server is configured, asking the local one: {error}");
                asking(&[LOCAL_SERVER])
            })
        } else {
            asking(servers)
        })
    }

    /// Sets what does not depend on who is asked.
    pub(super) fn of(mut builder: ResolverBuilder<TokioRuntimeProvider>) -> Result<Self, NetError> {
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.timeout = SERVER_TIME_MAX;
        options.attempts = 2;
        // The only cache is ours, whose bound on age is a promise.
        options.cache_size = 0;
        Ok(Self {
            dns: builder.build()?,
            names: Arc::default(),
        })
    }

    /// The addresses of `name`, from an answer that is still fresh or asked for here.
    pub(super) async fn lookup(&self, name: &str) -> Outcome {
        let now = Instant::now();
        let question = {
            let mut names = self.names.lock();
            if let Some(answer) = names.answers.get(name)
                && answer.is_fresh(now)
            {
                return Ok(Arc::clone(answer));
            }
            if let Some(question) = names.asked.get(name) {
                question.clone()
            } else {
                let question = self.ask(name);
                names.asked.insert(name.into(), question.clone());
                question
            }
        };
        question.await
    }

    /// Asks in a task of its own, so that the question ends even when those who asked have gone.
    fn ask(&self, name: &str) -> Question {
        let resolver = self.clone();
        let name: Box<str> = name.into();
        let task = tokio::spawn(async move {
            let outcome = resolver.query(&name).await;
            resolver.names.lock().answered(name, &outcome);
            outcome
        });
        task.map(|joined| joined.unwrap_or(Err(Unresolved)))
            .boxed()
            .shared()
    }

    async fn query(&self, name: &str) -> Outcome {
        // The dot makes it absolute: no search list is tried.
        let lookup = self.dns.lookup_ip(format!("{name}."));
        let found = tokio::time::timeout(LOOKUP_TIME_MAX, lookup)
            .await
            .map_err(|_| Unresolved)?
            .map_err(|_| Unresolved)?;
        let addresses: Vec<IpAddr> = found.iter().collect();
        if addresses.is_empty() {
            return Err(Unresolved);
        }
        let answer = Answer::new(addresses, found.valid_until(), Instant::now());
        Ok(Arc::new(answer))
    }
}

impl Names {
    fn answered(&mut self, name: Box<str>, outcome: &Outcome) {
        self.asked.remove(&name);
        if self.answers.len() >= NAMES_MAX {
            let now = Instant::now();
            self.answers.retain(|_, answer| answer.is_fresh(now));
            if self.answers.len() >= NAMES_MAX {
                self.answers.clear();
            }
        }
        match outcome {
            Ok(answer) => {
                self.answers.insert(name, Arc::clone(answer));
            }
            Err(Unresolved) => {
                self.answers.remove(&name);
            }
        }
    }
}

/// Only these servers, and no hosts file.
fn asking(servers: &[SocketAddr]) -> ResolverBuilder<TokioRuntimeProvider> {
    let servers = servers.iter().copied().map(name_server).collect();
    let config = ResolverConfig::from_name_servers(servers);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.options_mut().use_hosts_file = ResolveHosts::Never;
    builder
}

pub(super) fn name_server(at: SocketAddr) -> NameServerConfig {
    let mut server = NameServerConfig::udp_and_tcp(at.ip());
    for connection in &mut server.connections {
        connection.port = at.port();
    }
    server
}
