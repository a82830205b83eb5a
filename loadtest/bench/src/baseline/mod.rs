//! What the gateway is compared with: nginx and a bare pingora in front of the same seller's program.

mod child;
mod nginx;
pub(crate) mod pass_through;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use crochet_dev::{Build, Checkout};

use crate::load::{self, Exchange, Expect, Job};
use crate::measure::{Role, Watched};
use crate::request::{self, Call};
use child::Child;

/// Threads of a baseline's proxy: as many as the gateway has by default.
const PROXY_THREADS: usize = 2;

/// The baselines, running; dropping them ends them.
#[derive(Debug)]
pub(crate) struct Baselines {
    // In the order of dropping: proxies before the seller they talk to.
    nginx: Child,
    pingora: Child,
    seller: Child,
}

impl Baselines {
    /// Starts everything in `directory` and waits until it answers.
    pub(crate) async fn start(checkout: &Checkout, directory: &Path) -> Result<Self> {
        let seller = start_seller(checkout, directory).await?;
        let pingora = pass_through::start(directory, seller.address, PROXY_THREADS).await?;
        let nginx = nginx::start(directory, seller.address, PROXY_THREADS).await?;
        Ok(Self {
            nginx,
            pingora,
            seller,
        })
    }

    /// Where the seller listens.
    pub(crate) fn seller(&self) -> SocketAddr {
        self.seller.address
    }

    /// Where the bare pingora listens.
    pub(crate) fn pingora(&self) -> SocketAddr {
        self.pingora.address
    }

    /// Where nginx listens.
    pub(crate) fn nginx(&self) -> SocketAddr {
        self.nginx.address
    }

    /// All of them.
    pub(crate) fn watched(&self) -> [Watched; 3] {
        let watched = |role, child: &Child| Watched {
            role,
            pid: child.pid(),
        };
        [
            watched(Role::Nginx, &self.nginx),
            watched(Role::Pingora, &self.pingora),
            watched(Role::UnsignedSeller, &self.seller),
        ]
    }
}

/// A call to a baseline, with the answer the seller itself gives: byte for byte as long as a paid call, header
/// by header, so that it costs the same to read and to pass on.
pub(crate) async fn exchange(seller: SocketAddr, answer_bytes: u32) -> Result<Exchange> {
    const SERIAL: u64 = 0;
    let relay_request_id = format!("0x{}", "0".repeat(64));
    let call = Call {
        listing: "00000000-0000-7000-8000-000000000000",
        key: "am_k_000000000000000000000000000000000000",
        relay_request_id: Some(&relay_request_id),
    };
    let request = call.bytes(&request::body(SERIAL, answer_bytes));
    let job = Job {
        address: seller,
        connections: 1,
        warm_up: Vec::new(),
        measured: vec![Exchange {
            request: request.clone(),
            expect: Expect::Anything,
        }],
        beside: None,
        watched: Vec::new(),
    };
    let kept = load::run(job).await?.kept.into_iter().flatten().next();
    let answer = kept.context("the seller did not answer")?;
    let json: serde_json::Value =
        serde_json::from_slice(&answer.body).context("the seller's answer")?;
    let at = |name: &str| json.get(name).cloned().unwrap_or_default();
    let filler = at("filler").as_str().map_or(0, str::len);
    let right = answer.status == 200
        && at("ok") == true
        && at("echo") == request::serial_text(SERIAL)
        && filler == usize::try_from(answer_bytes)?;
    ensure!(right, "not the seller's answer: {} {json}", answer.status);
    let expect = Expect::Exactly {
        status: 200,
        body: answer.body,
        replayed: false,
    };
    Ok(Exchange { request, expect })
}

/// The program behind the gateway, but looking at no signature: the baselines do not sign.
async fn start_seller(checkout: &Checkout, directory: &Path) -> Result<Child> {
    let address = free_address()?;
    let mut command =
        std::process::Command::new(checkout.program(Build::of_this_program(), "demo-seller"));
    command.args(["--unsigned", "--listen", &address.to_string()]);
    Child::start("unsigned-seller", command, address, directory).await
}

/// An address on the loopback that nobody listens on now.
fn free_address() -> Result<SocketAddr> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("looking for a free port")?;
    Ok(listener.local_addr()?)
}
