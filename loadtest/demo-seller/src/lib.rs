//! A seller's service that does what a test asks for, badly if asked to.
//!
//! HTTP/1.1 is spoken by hand, since half of what it is asked for is what a server library prevents:
//! cut answers, garbage, a connection closed under a client that meant to use it again.
//! `connection` reads, `call` decides, `plan` is what a body can ask for, `reply` writes, `control`
//! answers the operator, `book` counts. Dropping the future of [`serve`] ends everything at once.

mod book;
mod call;
mod config;
mod connection;
mod control;
mod plan;
mod reply;

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use anyhow::Result;
use tokio::{net::TcpListener, sync::watch, task::JoinSet, time};

use crate::book::Book;
pub use crate::config::Config;

/// How long calls under way may still take at a shutdown.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// Pause after a failed accept: usually out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What all connections share.
#[derive(Debug)]
struct Seller {
    book: Book,
    /// Do not look at signatures.
    unsigned: bool,
}

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
    let seller = Arc::new(Seller {
        book: Book::default(),
        unsigned: config.unsigned,
    });
    let (stopping, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    // Without it small answers wait for acknowledgements.
                    let _ = stream.set_nodelay(true);
                    connections.spawn(connection::serve(stream, Arc::clone(&seller), stopped.clone()));
                }
                Err(_) => time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
            () = &mut stop => break,
        }
    }
    drop(listener);
    let _ = stopping.send(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    // What has not finished by then is dropped with its connection.
    let _ = time::timeout(DRAIN_MAX, drained).await;
    Ok(())
}
