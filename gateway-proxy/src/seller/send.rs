//! One call to a seller, from the address to the last byte of the answer, under one deadline.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crochet_shared::outcome::SellerFailure;
use http::StatusCode;

use super::connect::Network;
use super::endpoint::Seller;
use super::exchange::{Broken, Connection, Limits, exchange};
use super::pool::Found;
use super::reading::{Kept, SPARED};
use super::request::{SellerRequest, SignedCall, build};
use super::resolve::Answer;
use super::wire::Watch;
use crate::aside::{aside, is_large};
use crate::pieces::Pieces;

/// Who has no connection after this long cannot be reached: half of what an endpoint's `timeout_ms` is at least.
const CONNECT_TIME_FAIR: Duration = Duration::from_millis(500);

/// A complete answer, whatever its status.
#[derive(Debug)]
pub struct SellerAnswer {
    /// Its status; never 1xx.
    pub status: u16,
    /// Its `Content-Type`, at most 255 characters.
    pub content_type: Option<String>,
    /// Its `Content-Encoding`, which is not undone, at most 255 characters.
    pub content_encoding: Option<String>,
    /// Its body, at most `max_response_bytes`; empty when the status is not billable, because
    /// nobody is shown it then.
    pub body: Bytes,
    /// From the first byte sent to the last byte read.
    pub latency: Duration,
    /// What the body holds of the answers' budget until this is dropped.
    pub kept: Kept,
}

/// Why there is no complete answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No byte of the request reached a socket: the seller cannot have seen it, and no attempt is
    /// used. Said only where it is proven.
    #[error("nothing was sent: {0}")]
    Unsent(Unsent),
    /// The attempt failed after its first byte, or may have.
    #[error("the seller failed: {}", .0.as_str())]
    Failed(SellerFailure, Option<u16>),
    /// So did it, as if out of time, for want of room to read the answer in ([`reading`](super::reading)): it came
    /// slowly and others waited, or it waited itself until its deadline.
    #[error("there was no room for the answer")]
    Crowded(Option<u16>),
}

/// Why nothing was sent. Never tells an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsent {
    /// The name has no address, or none in time.
    #[error("the host does not resolve")]
    Unresolved,
    /// The host has an address that is not allowed.
    #[error("the host has an address that is not allowed")]
    ForbiddenAddress,
    /// No address accepts connections.
    #[error("no connection could be made")]
    Connect,
    /// TLS failed, or its certificate is not the host's.
    #[error("no TLS session could be made")]
    Tls,
    /// The deadline passed first, and there had been time enough for a connection.
    #[error("no connection could be made in time")]
    TooSlow,
    /// Hardly any time was left when it began.
    #[error("no time was left to send")]
    OutOfTime,
}

/// What is known of a call while it runs; outlives a [`send`] that is dropped or panics.
#[derive(Debug, Default)]
pub struct Started {
    watch: Option<Arc<Watch>>,
    /// The verdict, once the connection may be another call's.
    wrote: bool,
    /// Since when a new connection is waited for.
    connecting: Option<Instant>,
    began: Option<Instant>,
    status: Option<u16>,
}

impl Started {
    /// Whether a byte of the request may have left.
    pub fn sent(&self) -> bool {
        self.wrote || self.watch.as_ref().is_some_and(|watch| watch.wrote())
    }

    /// Whether its time went by for want of room to read the answer in.
    fn was_crowded(&self) -> bool {
        let watch = self.watch.as_ref();
        watch.is_some_and(|watch| watch.was_crowded(SPARED))
    }

    /// Time since the first byte was sent: the seller's latency, when the call has just failed.
    pub fn elapsed(&self) -> Option<Duration> {
        let began = self.began.filter(|_| self.sent())?;
        Some(began.elapsed())
    }

    /// The status, once the head of the answer was read.
    pub const fn status(&self) -> Option<u16> {
        self.status
    }

    /// Follows the exchange that begins now.
    pub(super) fn watch(&mut self, watch: Arc<Watch>, now: Instant) {
        self.watch = Some(watch);
        self.began = Some(now);
    }

    pub(super) fn answered(&mut self, status: StatusCode) {
        self.status = Some(status.as_u16());
    }

    /// Whether it no longer looks at a connection, which may be another call's by now.
    #[cfg(test)]
    pub(super) const fn is_settled(&self) -> bool {
        self.watch.is_none()
    }

    /// Keeps the verdict and lets go of the connection.
    fn unwatch(&mut self) {
        self.wrote = self.sent();
        self.watch = None;
    }
}

/// Sends one call and reads the whole answer before `deadline`. Never sends twice: see the module.
pub async fn send(
    seller: &Arc<Seller>,
    network: &Network,
    call: &SignedCall,
    deadline: Instant,
    started: &mut Started,
) -> Result<SellerAnswer, SendError> {
    if Instant::now() >= deadline {
        return Err(SendError::Unsent(Unsent::OutOfTime));
    }
    let calling = Box::pin(converse(seller, network, call, started));
    if let Ok(ended) = tokio::time::timeout_at(deadline.into(), calling).await {
        let (mut answer, body) = ended?;
        // All is there, and her time is over.
        answer.body = body.join().await;
        return Ok(answer);
    }
    let crowded = started.was_crowded();
    started.unwatch();
    if crowded {
        Err(SendError::Crowded(started.status))
    } else if started.sent() {
        Err(SendError::Failed(SellerFailure::Timeout, started.status))
    } else if (started.connecting).is_some_and(|since| since.elapsed() >= CONNECT_TIME_FAIR) {
        Err(SendError::Unsent(Unsent::TooSlow))
    } else {
        Err(SendError::Unsent(Unsent::OutOfTime))
    }
}

async fn converse(
    seller: &Arc<Seller>,
    network: &Network,
    call: &SignedCall,
    started: &mut Started,
) -> Result<(SellerAnswer, Pieces), SendError> {
    // What takes its time to sign is signed first: no connection waits for it.
    let mut unsent: Option<Box<SellerRequest>> = None;
    if is_large(call.body.len()) {
        unsent = Some(Box::new(signed(seller, call).await?));
    }
    loop {
        let obtained = obtain(seller, network, started).await;
        let (mut connection, reused) = obtained.map_err(SendError::Unsent)?;
        let request = match unsent.take() {
            Some(request) => *request,
            None => signed(seller, call).await?,
        };
        let limits = Limits {
            body_bytes: seller.max_response_bytes,
            reading: network.reading.as_ref(),
            // Of a test only its status is told.
            keep: !call.test,
        };
        let ended = exchange(&mut connection, request, limits, started).await;
        started.unwatch();
        match ended {
            Ok(answered) => {
                if !answered.idle_for.is_zero() {
                    keep(seller, connection, answered.idle_for);
                }
                return Ok((answered.answer, answered.body));
            }
            Err(Broken::Failed(failure)) => {
                return Err(SendError::Failed(failure, started.status));
            }
            Err(Broken::CutOff) => return Err(SendError::Crowded(started.status)),
            // Not one byte was accepted: another connection is the same attempt. Each turn uses up
            // an idle connection, and a fresh one ends the loop.
            Err(Broken::NotSent(request)) if reused => unsent = request,
            Err(Broken::NotSent(_)) => return Err(SendError::Unsent(Unsent::Connect)),
        }
    }
}

/// Every part was judged when the endpoint was prepared, so this fails only by a fault of ours.
async fn signed(seller: &Arc<Seller>, call: &SignedCall) -> Result<SellerRequest, SendError> {
    let bytes = call.body.len();
    let built = if is_large(bytes) {
        let (seller, call) = (Arc::clone(seller), call.clone());
        aside(bytes, move || build(&seller, &call)).await
    } else {
        build(seller, call)
    };
    built.map_err(|error| {
        log::error!("a request to a seller could not be built: {error}");
        SendError::Unsent(Unsent::Connect)
    })
}

/// A connection to an allowed address: an idle one that still lives, else a new one. An answer that
/// was asked for by this very call is fresh whatever its TTL.
async fn obtain(
    seller: &Seller,
    network: &Network,
    started: &mut Started,
) -> Result<(Connection, bool), Unsent> {
    let mut asked = None;
    let kept = loop {
        match seller.pool.take(Instant::now()) {
            Found::Idle(mut connection) => {
                if connection.is_alive().await {
                    return Ok((connection, true));
                }
            }
            Found::Empty(answer) => {
                started.connecting.get_or_insert_with(Instant::now);
                break answer;
            }
            Found::Stale => {
                started.connecting.get_or_insert_with(Instant::now);
                asked = Some(resolve(seller, network).await?);
            }
        }
    };
    let answer = match asked {
        Some(answer) => answer,
        None if kept.is_fresh(Instant::now()) => kept,
        None => resolve(seller, network).await?,
    };
    let connection = network
        .connect(&seller.target, seller.server_name.as_ref(), &answer)
        .await?;
    Ok((connection, false))
}

async fn resolve(seller: &Seller, network: &Network) -> Result<Arc<Answer>, Unsent> {
    let answer = network.resolve(&seller.target).await?;
    seller.pool.learn(Arc::clone(&answer));
    Ok(answer)
}

fn keep(seller: &Seller, connection: Connection, idle_for: Duration) {
    let limit = seller.max_concurrency as usize;
    seller.pool.put(connection, idle_for, Instant::now(), limit);
}
