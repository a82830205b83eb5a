//! Serving: three listeners, the background work, and a stop that loses nothing.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use axum::Router;
use axum::extract::ConnectInfo;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use crate::app::App;
use crate::config::Config;
use crate::metrics::Shown;
use crate::{health, identity, payments, publish, reviews, router};

/// Headers must have arrived within this time, and it also ends an idle connection: longer than
/// gateways keep theirs, so that none is reused at the moment it is closed here.
const HEADER_SECONDS_MAX: u64 = 75;
/// Most headers hyper reads; [`router`] refuses fewer, with an envelope.
const HEADERS_MAX: usize = 200;
/// Most bytes of one request head that hyper holds.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Most connections of one listener; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 10_000;
/// Between failing readiness and closing the listeners, so that callers are led elsewhere first.
const LEAD_AWAY: Duration = Duration::from_millis(500);
/// Longest drain of open connections.
const DRAIN_SECONDS_MAX: u64 = 25;

/// Serves until SIGTERM or SIGINT, then drains. Exits 0.
pub async fn serve(config: Config) -> anyhow::Result<ExitCode> {
    let metrics = crate::metrics::install()?;
    let traces = crochet_traces::start("crochet-control-plane", config.traces.as_ref())?;
    let app = App::new(config)?;
    let missing = app
        .db
        .migrations_missing()
        .await
        .context("the database cannot be asked for its schema")?;
    ensure!(
        missing == 0,
        "the database's schema is behind by {missing}: run `control-plane migrate` first"
    );

    let ready = Arc::new(AtomicBool::new(true));
    let (stop, stopped) = watch::channel(false);
    let config = &app.config;
    let mut servers = JoinSet::new();
    for (name, address, routes) in [
        ("public", config.listen, router::public(Arc::clone(&app))?),
        (
            "internal",
            config.internal_listen,
            router::internal(Arc::clone(&app)),
        ),
        (
            "admin",
            config.admin_listen,
            router::admin(
                Arc::clone(&app),
                Shown::new(Arc::clone(&app), metrics),
                Arc::clone(&ready),
            ),
        ),
    ] {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address} ({name})"))?;
        tracing::info!(listener = name, %address, "listening");
        servers.spawn(accept(listener, routes, stopped.clone()));
    }
    let mut work = JoinSet::new();
    work.spawn(publish::run(Arc::clone(&app), stopped.clone()));
    work.spawn(health::watch(Arc::clone(&app), stopped.clone()));
    work.spawn(identity::background(Arc::clone(&app), stopped.clone()));
    work.spawn(payments::background(Arc::clone(&app), stopped.clone()));
    work.spawn(reviews::background(Arc::clone(&app), stopped.clone()));

    told_to_stop().await?;
    ready.store(false, Ordering::Release);
    tracing::info!("draining");
    tokio::time::sleep(LEAD_AWAY).await;
    // Nobody listens any more only when everything has ended already.
    let _ = stop.send(true);
    let drained = async {
        while servers.join_next().await.is_some() {}
        while work.join_next().await.is_some() {}
    };
    if tokio::time::timeout(Duration::from_secs(DRAIN_SECONDS_MAX), drained)
        .await
        .is_err()
    {
        tracing::warn!("stopped with connections still open");
    }
    // Waits for the thread that sends.
    tokio::task::spawn_blocking(|| traces.end()).await?;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Accepts connections until told to stop, then waits for the open ones.
pub async fn accept(listener: TcpListener, routes: Router, mut stopped: watch::Receiver<bool>) {
    let graceful = GracefulShutdown::new();
    let slots = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            break;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let watched = graceful.watcher();
                let routes = routes.clone();
                tokio::spawn(async move {
                    connection(stream, peer, routes, watched).await;
                    drop(slot);
                });
            }
            // Out of file descriptors, or a peer that left at once: neither ends the server.
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    graceful.shutdown().await;
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    routes: Router,
    watched: hyper_util::server::graceful::Watcher,
) {
    // Answers are written whole; waiting to fill a packet only delays them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "set_nodelay failed");
    }
    let service = TowerToHyperService::new(routes.map_request(
        move |mut request: http::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            request.map(axum::body::Body::new)
        },
    ));
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(HEADER_SECONDS_MAX))
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    // A client that breaks off, or speaks no HTTP, is its own affair.
    if let Err(error) = watched.watch(served).await {
        tracing::debug!(%error, "connection ended");
    }
}

async fn told_to_stop() -> anyhow::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
