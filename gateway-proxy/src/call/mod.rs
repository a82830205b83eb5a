//! One gateway call, from its headers to its answer:
//! `identify → admit → quote | claim → forward → settle → answer → record`.
//!
//! It owns the order in which a call is refused, and what is durable before what. It never decides
//! about money itself: the control plane does, at the claim and at the settlement.
//!
//! Invariants (contract §5, architecture "Life of one gateway call"):
//!
//! - Without a relay id the order is key → listing → media type, size, JSON → seller → currency →
//!   quote. With one, nothing of listing, media type or JSON is refused before the claim's answer.
//! - The seller is called only under a [`claim::Claimed`], and at most once under each.
//! - Every claim is settled: by its step, else by its guard. A lost reply is asked again with the
//!   same owner, and never taken for a refusal.
//! - A delivered answer is durable before its first byte goes to the buyer, and the bytes that were
//!   settled are the bytes that are sent.
//! - A claimed call is finished, settled and stored whatever becomes of the buyer's connection.

pub mod admit;
pub mod answer;
pub mod body;
pub mod claim;
pub mod finish;
pub mod forward;
pub mod head;
pub mod identify;
pub mod probe;
pub mod quote;
pub mod record;
pub mod replay;
pub mod room;
pub mod settle;

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use crochet_shared::clock;
use crochet_shared::code::Code;
use crochet_shared::envelope::Failure;
use crochet_traces::Kind;
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderValue};

use crate::client;
use crate::error::{Refusal, Reply};
use crate::gateway::Gateway;
use crate::incoming::Incoming;
use crate::limits::UnderwayGuard;
use finish::Finish;
use head::{Head, Once};
use identify::Identified;

/// When and from where a call came.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// A monotonic clock.
    pub at: Instant,
    /// Unix milliseconds.
    pub now_ms: i64,
    /// The client's address.
    pub client: IpAddr,
}

impl Arrival {
    /// Of a request that has just come from `peer`.
    pub fn now(gateway: &Gateway, peer: IpAddr, headers: &HeaderMap) -> Self {
        Self {
            at: Instant::now(),
            now_ms: clock::now().timestamp_millis(),
            client: client::address(peer, headers, &gateway.config.trusted_proxies),
        }
    }
}

/// Answers `POST /api/v1/gateway/:name`, as a trace of its own where traces are on.
pub async fn serve(
    gateway: &Arc<Gateway>,
    incoming: &mut Incoming<'_>,
    name: &str,
    request_id: &HeaderValue,
    arrival: Arrival,
) -> Reply {
    let request_id = || request_id.to_str().unwrap_or_default().to_owned();
    let answering = Box::pin(answer(gateway, incoming, name, arrival));
    crochet_traces::call("gateway call", request_id, answering, told).await
}

/// What a trace tells of a call's end.
fn told(reply: &Reply) -> Vec<(&'static str, String)> {
    let status = ("http.response.status_code", reply.status.to_string());
    let purchase = reply
        .request_id
        .map(|id| ("crochet.request_id", id.to_string()));
    std::iter::once(status).chain(purchase).collect()
}

async fn answer(
    gateway: &Arc<Gateway>,
    incoming: &mut Incoming<'_>,
    name: &str,
    arrival: Arrival,
) -> Reply {
    let mut head = Head::read(incoming.headers());
    let caller = match identify::identify(gateway, head.credential, arrival).await {
        Ok(caller) => caller,
        Err(refusal) => return refusal.into_reply(),
    };
    let rate = caller.rate;
    let relay_request_id = std::mem::replace(&mut head.relay_request_id, Once::Absent);
    let answered = match relay_request_id {
        Once::Absent => first_call(gateway, incoming, &caller, name, head, arrival).await,
        Once::One(id) => retry(gateway, incoming, &caller, name, id, &head, arrival).await,
        Once::Twice => Err(gateway.errors.failure(&Failure::validation(&[head::field(
            "X-Crochet-Relay-Request-Id",
            head::STANDS_TWICE,
        )]))),
    };
    let mut reply = answered.unwrap_or_else(Refusal::into_reply);
    reply.rate = Some(rate);
    reply
}

/// Without a relay id: a quote, or where the purchase stands.
async fn first_call(
    gateway: &Arc<Gateway>,
    incoming: &mut Incoming<'_>,
    caller: &Identified,
    name: &str,
    head: Head,
    arrival: Arrival,
) -> Result<Reply, Refusal> {
    let admitted = admit::for_quote(gateway, incoming, caller, name, head, arrival).await?;
    quote::quote(gateway, admitted).await
}

/// With a relay id: the claim decides.
async fn retry(
    gateway: &Arc<Gateway>,
    incoming: &mut Incoming<'_>,
    caller: &Identified,
    name: &str,
    relay_request_id: String,
    head: &Head,
    arrival: Arrival,
) -> Result<Reply, Refusal> {
    let presented =
        admit::for_claim(gateway, incoming, caller, name, relay_request_id, head.body).await?;
    // Counted here, because whoever is given up before its first step still makes it.
    let underway = gateway.underway.begin();
    let call = Finish::new(paid(Arc::clone(gateway), presented, arrival, underway));
    AssertUnwindSafe(call)
        .catch_unwind()
        .await
        .unwrap_or_else(|_| {
            // The guard settles what was claimed; the panic itself is in the log already.
            tracing::error!("a claimed call broke off");
            Err(gateway.errors.code(Code::InternalError))
        })
}

/// From the claim to the answer, whatever becomes of the buyer's connection.
async fn paid(
    gateway: Arc<Gateway>,
    presented: admit::Presented,
    arrival: Arrival,
    _underway: UnderwayGuard,
) -> Result<Reply, Refusal> {
    let claimed = claim::claim(&gateway, presented).await?;
    let forwarded = Box::pin(forward::forward(&gateway, claimed));
    let ended = crochet_traces::step("seller", Kind::Client, forwarded).await;
    let settled = settle::settle(&gateway, ended, arrival).await?;
    let seller = settled.seller;
    let mut reply = answer::answer(&gateway, settled)?;
    reply.seller = Some(seller);
    Ok(reply)
}
