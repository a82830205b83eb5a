//! Where the control plane's public API is: an address, or a name looked up again and again.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};

const CONNECT_TIME: Duration = Duration::from_secs(1);
/// Longer than the longest wait the API offers (30 s).
const READ_TIME: Duration = Duration::from_mins(1);
const WRITE_TIME: Duration = Duration::from_secs(30);
/// How long a connection is kept idle; shorter than the control plane keeps it, so that a request
/// is not sent into one that is just closing.
const IDLE_TIME: Duration = Duration::from_secs(30);
/// How often a name is looked up again.
const LOOK_UP_EVERY: Duration = Duration::from_secs(5);

/// The control plane's public API.
#[derive(Debug)]
pub struct Upstream {
    name: String,
    peer: ArcSwapOption<HttpPeer>,
    /// Numbers that no kept connection is found by; those that are kept go by 0.
    fresh: AtomicU64,
}

impl Upstream {
    /// `name` is host and port.
    pub fn new(name: &str) -> Self {
        let peer = name.parse().ok().map(peer);
        Self {
            name: name.to_owned(),
            peer: ArcSwapOption::from_pointee(peer),
            fresh: AtomicU64::new(1),
        }
    }

    /// Where to connect now; `None` while the name does not resolve.
    pub fn peer(&self) -> Option<Box<HttpPeer>> {
        self.peer.load().as_deref().cloned().map(Box::new)
    }

    /// The same by a connection of its own, for what found a kept one dead: others that are kept may be
    /// as dead. It is not kept.
    pub fn fresh_peer(&self) -> Option<Box<HttpPeer>> {
        let mut peer = self.peer()?;
        peer.group_key = self.fresh.fetch_add(1, Ordering::Relaxed);
        peer.options.idle_timeout = Some(Duration::ZERO);
        Some(peer)
    }

    /// Looks the name up for good, when it is one.
    pub async fn follow(&self) {
        if self.name.parse::<SocketAddr>().is_ok() {
            return;
        }
        loop {
            match tokio::net::lookup_host(&self.name).await {
                Ok(mut addresses) => {
                    if let Some(address) = addresses.next() {
                        self.peer.store(Some(std::sync::Arc::new(peer(address))));
                    }
                }
                Err(error) => tracing::warn!(%error, "CONTROL_PLANE_URL does not resolve"),
            }
            tokio::time::sleep(LOOK_UP_EVERY).await;
        }
    }
}

fn peer(address: SocketAddr) -> HttpPeer {
    let mut peer = HttpPeer::new(address, false, String::new());
    peer.options.connection_timeout = Some(CONNECT_TIME);
    peer.options.total_connection_timeout = Some(CONNECT_TIME);
    peer.options.read_timeout = Some(READ_TIME);
    peer.options.write_timeout = Some(WRITE_TIME);
    peer.options.idle_timeout = Some(IDLE_TIME);
    peer.options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
    peer
}
