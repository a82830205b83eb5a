//! Starting and stopping.
//!
//! pingora makes a runtime for each service, so the clients of Redis and the control plane start
//! inside the front's ([`FrontService`]). Its own way to stop sleeps a fixed time and then drops what
//! still runs; ours fails readiness first, accepts for a moment longer, stops listening, and leaves
//! when nothing is under way ([`StopSignal`]). Told to by SIGQUIT, it first hands its open listeners to
//! the gateway that takes its place, so that their ports are never closed.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use crochet_shared::api_key::KeyDigest;
use metrics_exporter_prometheus::PrometheusHandle;
use pingora::listeners::{L4BufferSettings, ListenerConfig};
use pingora::proxy::HttpProxy;
use pingora::server::configuration::{Opt, ServerConf};
use pingora::server::{
    ListenFds, RunArgs, Server, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch,
};
use pingora::services::Service;
use pingora::services::listening;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::admin::Admin;
use crate::cache::{invalidation, uses};
use crate::front::{FIRST_WORD_TIME, Front};
use crate::gateway::Gateway;
use crate::proxy::FrontDoor;
use crate::rate;
use crate::tls;
use crate::upstream::Upstream;

/// Buffers of a connection, allocated with it: together they are a quarter of what an idle one holds. What is read
/// or written in larger pieces goes past them, so they need to hold only what comes in small ones: a head with
/// a small body; a small answer with its head.
pub(crate) const READ_BUFFER_BYTES: usize = 2 * 1024;
const WRITE_BUFFER_BYTES: usize = 3 * 1024;
/// Tries of a harmless request passed to the control plane.
const PASS_TRIES_MAX: usize = 2;
/// A file of authorities that holds none.
const NO_AUTHORITIES: &str = "/dev/null";
/// Connections to the control plane kept for passing requests on.
const PASS_CONNECTIONS: usize = 256;
/// How long HTTP/2 connections may take to hear that no more requests are taken.
const GOODBYE_TIME: Duration = Duration::from_secs(3);
/// How often the metrics' histograms are emptied into their buckets.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);
/// Threads for work on large bodies ([`aside`](crate::aside)): enough for the cores, and few beside those that serve.
const ASIDE_THREADS: usize = 8;
/// How often the internal API is tried, and until it answers for the first time.
const TRY_EVERY: Duration = Duration::from_secs(2);
const TRY_FIRST_EVERY: Duration = Duration::from_millis(200);

/// Serves until a signal, then finishes what is under way.
pub fn run(gateway: Arc<Gateway>, scrape: PrometheusHandle) -> anyhow::Result<()> {
    let by_tls = gateway.config.tls.as_ref();
    let addresses = [
        ("GATEWAY_LISTEN", Some(gateway.config.listen)),
        ("GATEWAY_ADMIN_LISTEN", Some(gateway.config.admin_listen)),
        ("GATEWAY_TLS_LISTEN", by_tls.map(|tls| tls.listen)),
    ];
    let addresses = addresses
        .into_iter()
        .filter_map(|(name, address)| Some((name, address?)));
    // Whoever takes another's place is given listeners that are open.
    for (name, address) in addresses.filter(|_| !gateway.config.upgrade) {
        // pingora would panic in a task of its own and go on without the listener.
        can_listen(address).with_context(|| format!("{name}={address}"))?;
    }
    warn_of_openings(&gateway);
    let upgrade_socket = gateway.config.upgrade_socket.clone();
    let conf = ServerConf {
        threads: gateway.config.threads,
        // One thread has nobody to steal from, and a runtime that does not provide for it costs less.
        work_stealing: gateway.config.threads > 1,
        max_blocking_threads: Some(ASIDE_THREADS),
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(1),
        max_retries: PASS_TRIES_MAX,
        upstream_keepalive_pool_size: PASS_CONNECTIONS,
        upgrade_sock: upgrade_socket.unwrap_or_default(),
        // pingora itself connects to the control plane alone, by plain HTTP. Else it would read the system's
        // authorities, and panic over one that it cannot.
        ca_file: Some(NO_AUTHORITIES.to_owned()),
        ..ServerConf::default()
    };
    let options = Opt {
        upgrade: gateway.config.upgrade,
        ..Opt::default()
    };
    let mut server = Server::new_with_opt_and_conf(options, conf);
    server.bootstrap();
    let (stop, stopping) = watch::channel(false);
    let listeners = Arc::<OnceLock<ListenFds>>::default();

    let upstream = Arc::new(Upstream::new(&gateway.config.control_plane));
    let door = FrontDoor::new(Arc::clone(&gateway), Arc::clone(&upstream));
    let mut proxy = HttpProxy::new(door, Arc::clone(&server.configuration));
    proxy.handle_init_modules();
    let front = Front::new(Arc::new(proxy), Arc::clone(&gateway));
    let mut listening = listening::Service::new("front".to_owned(), front);
    let buffers = L4BufferSettings::new(READ_BUFFER_BYTES, WRITE_BUFFER_BYTES);
    let address = gateway.config.listen.to_string();
    listening.add_listener(ListenerConfig::tcp(address).l4_buffer(buffers));
    if let (Some(by_tls), Some(certificate)) = (by_tls, &gateway.certificate) {
        let certificate = Arc::clone(certificate);
        listening.add_listener(tls::listener(by_tls.listen, certificate, buffers)?);
        tracing::info!(listen = %by_tls.listen, "serving TLS");
    }
    server.add_service(FrontService {
        listening,
        gateway: Arc::clone(&gateway),
        upstream,
        stopping: stopping.clone(),
        listeners: Arc::clone(&listeners),
    });

    let admin = Admin::new(Arc::clone(&gateway), scrape.clone());
    let mut operators = listening::Service::new("admin".to_owned(), admin);
    operators.threads = Some(1);
    operators.add_tcp(&gateway.config.admin_listen.to_string());
    server.add_service(AdminService {
        listening: operators,
        scrape,
    });

    tracing::info!(listen = %gateway.config.listen, admin = %gateway.config.admin_listen, "serving");
    server.run(RunArgs {
        shutdown_signal: Box::new(StopSignal {
            gateway,
            stop,
            listeners,
        }),
    });
    tracing::info!("stopped");
    Ok(())
}

fn can_listen(address: SocketAddr) -> std::io::Result<()> {
    TcpListener::bind(address).map(drop)
}

/// What is open beyond public https is said loudly (contract §4).
fn warn_of_openings(gateway: &Gateway) {
    let egress = &gateway.config.egress;
    if !egress.allow_cidrs.is_empty() {
        tracing::warn!(networks = ?egress.allow_cidrs, "endpoints may be in these private networks, on any port");
    }
    if egress.allow_http {
        tracing::warn!("endpoints may be plain http");
    }
}

/// The public listener, and what runs beside it in the same runtime.
struct FrontService {
    listening: listening::Service<Front>,
    gateway: Arc<Gateway>,
    upstream: Arc<Upstream>,
    stopping: ShutdownWatch,
    /// Where the open listeners are told to whoever may hand them over.
    listeners: Arc<OnceLock<ListenFds>>,
}

#[async_trait]
impl Service for FrontService {
    async fn start_service(
        &mut self,
        fds: Option<ListenFds>,
        _shutdown: ShutdownWatch,
        listeners_per_fd: usize,
    ) {
        if let Some(fds) = &fds {
            // The service is started once.
            let _ = self.listeners.set(Arc::clone(fds));
        }
        if let Err(error) = self.gateway.redis.start() {
            tracing::error!(%error, "Redis cannot be used");
        }
        tokio::spawn(invalidation::listen(Arc::clone(&self.gateway)));
        tokio::spawn(rate::run(Arc::clone(&self.gateway)));
        tokio::spawn(uses::report(Arc::clone(&self.gateway)));
        tokio::spawn(try_control_plane(Arc::clone(&self.gateway)));
        if let Some(certificate) = self.gateway.certificate.clone() {
            let gateway = Arc::clone(&self.gateway);
            tokio::spawn(async move { certificate.follow(&gateway.metrics).await });
        }
        let upstream = Arc::clone(&self.upstream);
        tokio::spawn(async move { upstream.follow().await });
        // Not pingora's own signal: it comes when nothing is under way any more.
        let stopping = self.stopping.clone();
        Service::start_service(&mut self.listening, fds, stopping, listeners_per_fd).await;
    }

    fn name(&self) -> &str {
        Service::name(&self.listening)
    }

    fn listen_addresses(&self) -> Option<Vec<String>> {
        Service::listen_addresses(&self.listening)
    }
}

/// The operators' listener, in a runtime of its own so that it answers under any load.
struct AdminService {
    listening: listening::Service<Admin>,
    scrape: PrometheusHandle,
}

#[async_trait]
impl Service for AdminService {
    async fn start_service(
        &mut self,
        fds: Option<ListenFds>,
        shutdown: ShutdownWatch,
        listeners_per_fd: usize,
    ) {
        tokio::spawn(upkeep(self.scrape.clone()));
        Service::start_service(&mut self.listening, fds, shutdown, listeners_per_fd).await;
    }

    fn name(&self) -> &str {
        Service::name(&self.listening)
    }

    fn threads(&self) -> Option<usize> {
        Some(1)
    }

    fn listen_addresses(&self) -> Option<Vec<String>> {
        Service::listen_addresses(&self.listening)
    }
}

async fn upkeep(scrape: PrometheusHandle) {
    let mut ticks = tokio::time::interval(UPKEEP_EVERY);
    loop {
        ticks.tick().await;
        scrape.run_upkeep();
    }
}

/// Knows whether the internal API answers also when nobody asks it anything: by a key that cannot be.
async fn try_control_plane(gateway: Arc<Gateway>) {
    loop {
        let nobody = KeyDigest([0; 32]);
        let answered = gateway.control_plane.resolve_key(&nobody).await.is_ok();
        tokio::time::sleep(if answered { TRY_EVERY } else { TRY_FIRST_EVERY }).await;
    }
}

/// SIGTERM: readiness fails, then the listener, then the process, when nothing is under way. SIGQUIT:
/// the same once another gateway has the listeners, where there is a socket for that. SIGINT leaves out
/// the first wait. A second signal leaves out all.
struct StopSignal {
    gateway: Arc<Gateway>,
    stop: watch::Sender<bool>,
    listeners: Arc<OnceLock<ListenFds>>,
}

#[async_trait]
impl ShutdownSignalWatch for StopSignal {
    async fn recv(&self) -> ShutdownSignal {
        let Ok(mut signals) = Signals::new() else {
            tracing::error!("signals cannot be heard; stopping");
            return ShutdownSignal::FastShutdown;
        };
        let heard = loop {
            let heard = signals.next().await;
            match (heard, &self.gateway.config.upgrade_socket) {
                // With nobody there to take the place, this one stays in it.
                (Heard::Quit, Some(socket)) if !self.hand_over(socket).await => {}
                _ => break heard,
            }
        };
        let patient = heard != Heard::Interrupt;
        self.gateway
            .stops_patiently
            .store(patient, Ordering::Release);
        tokio::select! {
            () = self.wind_down(patient) => ShutdownSignal::GracefulTerminate,
            _ = signals.next() => ShutdownSignal::FastShutdown,
        }
    }
}

impl StopSignal {
    /// Gives the open listeners to the gateway that waits for them at `socket`. Both listen then, and
    /// what connects meanwhile waits in the one queue that both take from.
    async fn hand_over(&self, socket: &str) -> bool {
        let Some(listeners) = self.listeners.get().cloned() else {
            return false;
        };
        let socket = socket.to_owned();
        let sent = tokio::task::spawn_blocking(move || {
            let sent = listeners.lock().send_to_sock(socket.as_str());
            sent.map_err(|error| error.to_string())
        });
        let sent = sent.await.unwrap_or_else(|error| Err(error.to_string()));
        match &sent {
            Ok(_) => tracing::info!("the listeners are handed over"),
            Err(error) => tracing::error!(error, "nobody took the listeners; serving on"),
        }
        sent.is_ok()
    }

    async fn wind_down(&self, patient: bool) {
        let config = &self.gateway.config;
        self.gateway.draining.store(true, Ordering::Release);
        tracing::info!("draining");
        if patient {
            tokio::time::sleep(config.drain_time).await;
        }
        // No receiver is no listener.
        let _ = self.stop.send(true);
        if patient {
            // Clients came until now. Who has not spoken yet, or is still shaking hands, is counted nowhere.
            tokio::time::sleep(FIRST_WORD_TIME).await;
        }
        // HTTP/2 says goodbye: until its client has heard it, another request may be on its way.
        let goodbye = self.gateway.http2_connections.none();
        let _ = tokio::time::timeout(GOODBYE_TIME, goodbye).await;
        let finished = tokio::time::timeout(config.finish_time, self.gateway.underway.close());
        if finished.await.is_err() {
            self.gateway.underway.shut();
            let left = self.gateway.underway.count();
            tracing::warn!(left, "stopping although calls are under way");
        }
    }
}

/// A signal that asks to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Terminate,
    Quit,
    Interrupt,
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    quit: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            quit: signal(SignalKind::quit())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> Heard {
        tokio::select! {
            _ = self.terminate.recv() => Heard::Terminate,
            _ = self.quit.recv() => Heard::Quit,
            _ = self.interrupt.recv() => Heard::Interrupt,
        }
    }
}
