//! Many connections that are kept open and have nothing to do.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::future::join_all;

use super::connection::Connection;
use super::{Exchange, PHASE_LIMIT, Sent, Wrong, on_a_thread, send_due};

/// Connections that are opened and used at the same time: fewer than a listener's queue takes.
const AT_ONCE: usize = 64;
/// What the server has to tidy up after the last answer is given this long.
const SETTLE: Duration = Duration::from_secs(1);

/// Opens `count` connections, sends one of `exchanges` on each and keeps them open while `look` looks. Then sends a
/// second request on each: one that was not kept is a wrong answer.
pub(crate) async fn hold<T: Send + 'static>(
    address: SocketAddr,
    exchanges: Vec<Exchange>,
    count: usize,
    look: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<(T, Wrong)> {
    let holding = on_a_thread(move || async move {
        let mut connections = Vec::with_capacity(count);
        let mut sent = Sent::default();
        while connections.len() < count {
            let some = AT_ONCE.min(count - connections.len());
            let mut opened = super::open(address, some)
                .await
                .with_context(|| format!("after {} connections", connections.len()))?;
            use_each(&mut opened, &exchanges, &mut sent).await;
            connections.extend(opened);
        }
        tokio::time::sleep(SETTLE).await;
        let seen = look()?;
        for some in connections.chunks_mut(AT_ONCE) {
            use_each(some, &exchanges, &mut sent).await;
        }
        Ok((seen, sent.wrong))
    });
    tokio::time::timeout(PHASE_LIMIT, holding)
        .await
        .with_context(|| format!("no end after {PHASE_LIMIT:?} at {address}"))?
}

/// One request on each.
async fn use_each(connections: &mut [Connection], exchanges: &[Exchange], all: &mut Sent) {
    let asking = connections.iter_mut().zip(exchanges.iter().cycle()).map(
        |(connection, exchange)| async move {
            let mut sent = Sent::default();
            send_due(
                connection,
                0,
                exchange,
                std::time::Instant::now(),
                &mut sent,
            )
            .await;
            sent.wrong
        },
    );
    for wrong in join_all(asking).await {
        all.wrong.merge(wrong);
    }
}
