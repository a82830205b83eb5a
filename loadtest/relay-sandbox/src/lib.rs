//! A stand-in for the payment provider Relay, so that development, tests and load run the real client
//! code over HTTP. See the README for its shapes and controls.
//!
//! `http` answers, `quote` and `payment` hold the rules without I/O, `store` remembers, `journal`
//! survives, `webhook` tells. Dropping the future of [`serve`] ends everything at once, as a kill would.

pub mod clock;
pub mod config;
pub mod currency;
mod http;
mod journal;
mod payment;
mod quote;
mod random;
mod show;
mod store;
mod webhook;

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use anyhow::Result;
use axum::Router;
use hyper_util::{rt::TokioIo, server::graceful::GracefulShutdown, service::TowerToHyperService};
use parking_lot::Mutex;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time,
};

pub use crate::config::Config;
use crate::{http::App, store::Store, webhook::Outbox};

/// How long calls under way may still take at a shutdown.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// Pause after a failed accept: usually out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until dropped.
pub async fn serve(listener: TcpListener, config: Config) -> Result<()> {
    serve_until(listener, config, std::future::pending()).await
}

/// Serves until `stop` is ready, then finishes what is under way.
pub async fn serve_until(
    listener: TcpListener,
    config: Config,
    stop: impl Future<Output = ()>,
) -> Result<()> {
    let mut tasks = JoinSet::new();
    let app = start(&config, &mut tasks)?;
    let router = http::router(app);
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => connect(stream, &router, &graceful, &mut connections),
                Err(_) => time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
            () = &mut stop => break,
        }
    }
    drop(listener);
    // What has not finished by then is dropped with its connection.
    let _ = time::timeout(DRAIN_MAX, graceful.shutdown()).await;
    Ok(())
}

fn connect(
    stream: TcpStream,
    router: &Router,
    graceful: &GracefulShutdown,
    connections: &mut JoinSet<()>,
) {
    // Without it small answers wait for acknowledgements; with an error there is no connection anyway.
    let _ = stream.set_nodelay(true);
    let service = TowerToHyperService::new(router.clone());
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let connection = graceful.watch(connection);
    connections.spawn(async move {
        // An error is the client's going away.
        let _ = connection.await;
    });
}

fn start(config: &Config, tasks: &mut JoinSet<()>) -> Result<Arc<App>> {
    let store = Arc::new(Mutex::new(Store::open(config)?));
    let counts = Arc::default();
    let heard: webhook::Heard = {
        let store = Arc::clone(&store);
        Arc::new(move |row| {
            if let Err(error) = store.lock().heard(row) {
                eprintln!("relay-sandbox: {error:#}");
            }
        })
    };
    let outbox = Outbox::start(config, &counts, &heard, tasks)?;
    outbox.tell(store.lock().unheard());
    let app = Arc::new(App::new(config, store, outbox, counts));
    tasks.spawn(keep_time(Arc::clone(&app)));
    Ok(app)
}

/// Moves payments on when their time comes.
async fn keep_time(app: Arc<App>) {
    loop {
        let now = app.clock.now_ms();
        let (moved, next) = {
            let mut store = app.store.lock();
            (store.advance(now), store.next_due())
        };
        match moved {
            Ok(tidings) => app.outbox.tell(tidings),
            Err(error) => eprintln!("relay-sandbox: {error:#}"),
        }
        let pause = next.map(|at| Duration::from_millis(at.saturating_sub(now).max(1)));
        tokio::select! {
            () = time::sleep(pause.unwrap_or(Duration::MAX)), if pause.is_some() => {}
            () = app.due.notified() => {}
        }
    }
}
