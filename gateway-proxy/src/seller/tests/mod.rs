//! Tests of the room, against scripted sellers, a scripted name server and a CA made here.

mod address;
mod answer;
mod breaker;
mod chaos;
mod dns;
mod once;
mod permit;
mod pool;
mod reading;
mod script;
mod signed;
mod tls;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crochet_shared::egress::Egress;
use crochet_shared::id::{ListingId, ProfileId};
use crochet_shared::internal::{EndpointRecord, Redelivery};
use sha2::{Digest as _, Sha256};

use super::{Network, NetworkConfig, Seller, SellerAnswer, SendError, SignedCall, Started, send};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const REQUEST_ID: &str = "gw_req_0123456789abcdef0123456789abcdef";
/// Long enough that only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(20);

fn endpoint(url: &str) -> EndpointRecord {
    EndpointRecord {
        url: url.to_owned(),
        auth_header: None,
        secrets: vec![(SECRET.to_owned(), None)],
        timeout_ms: 1000,
        max_request_bytes: 1024 * 1024,
        max_response_bytes: 64 * 1024,
        max_concurrency: 64,
        redelivery: Redelivery::SameRequestId,
        paused: false,
    }
}

/// Loopback over http, as `cargo dev up` allows it.
fn loopback() -> Egress {
    Egress {
        allow_cidrs: vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
        allow_http: true,
        ..Egress::default()
    }
}

fn network() -> Network {
    Network::new(NetworkConfig {
        egress: loopback(),
        ..NetworkConfig::default()
    })
    .unwrap()
}

fn listing() -> ListingId {
    ListingId::new(crochet_shared::clock::now())
}

fn buyer() -> ProfileId {
    ProfileId::new(crochet_shared::clock::now())
}

fn seller(url: &str, network: &Network) -> Arc<Seller> {
    Seller::new(listing(), &endpoint(url), network, None).unwrap()
}

fn call(body: &[u8]) -> SignedCall {
    SignedCall {
        request_id: REQUEST_ID.to_owned(),
        buyer: buyer(),
        attempt: 1,
        test: false,
        body: Bytes::copy_from_slice(body),
        body_sha256: Sha256::digest(body).into(),
    }
}

async fn send_within(
    seller: &Arc<Seller>,
    network: &Network,
    time: Duration,
) -> (Result<SellerAnswer, SendError>, Started) {
    let mut started = Started::default();
    let deadline = Instant::now() + time;
    let ended = send(seller, network, &call(b"{}"), deadline, &mut started).await;
    (ended, started)
}

async fn send_one(seller: &Arc<Seller>, network: &Network) -> Result<SellerAnswer, SendError> {
    send_within(seller, network, PATIENCE).await.0
}
