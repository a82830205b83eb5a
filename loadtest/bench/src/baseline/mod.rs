//! What the gateway is compared with, in front of the same seller's program: nginx, `HAProxy` and a bare pingora,
//! which only pass on, and an x402 gateway, which sells.

mod child;
mod haproxy;
mod nginx;
mod package;
pub(crate) mod pass_through;
mod tls_front;
mod x402;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use crochet_dev::{Build, Checkout};

use crate::load::{self, Exchange, Expect, Job};
use crate::measure::{Role, Watched};
use crate::request::{self, Call};
use crate::subject::Subject;
use child::Child;
pub(crate) use tls_front::{Certificate, TlsFront};

/// Threads of the bare pingora: as many as the gateway has by default.
const PINGORA_THREADS: usize = 1;
/// Workers of nginx and threads of `HAProxy`: as many as the machine that the marks are about has CPUs.
const WORKERS: usize = 2;
/// The serial in what the baselines are asked.
const SERIAL: u64 = 0;
/// What the baselines are asked: a call as long as a paid one.
const RELAY_REQUEST_ID: &str = "0x0000000000000000000000000000000000000000000000000000000000000000";
const CALL: Call<'static> = Call {
    listing: "00000000-0000-7000-8000-000000000000",
    key: "am_k_000000000000000000000000000000000000",
    relay_request_id: Some(RELAY_REQUEST_ID),
    payment_signature: None,
};

/// The baselines, running; dropping them ends them.
#[derive(Debug)]
pub(crate) struct Baselines {
    // In the order of dropping: proxies before the seller they talk to.
    x402: Option<Child>,
    haproxy: Option<Child>,
    nginx: Child,
    pingora: Child,
    seller: Child,
}

impl Baselines {
    /// Starts in `directory` what `subjects` are measured with, and waits until it answers.
    pub(crate) async fn start(
        checkout: &Checkout,
        directory: &Path,
        subjects: &[Subject],
    ) -> Result<Self> {
        let seller = start_seller(checkout, directory).await?;
        let pingora = pass_through::start(directory, seller.address, PINGORA_THREADS).await?;
        let nginx = nginx::start(directory, seller.address, WORKERS).await?;
        let haproxy = if subjects.contains(&Subject::Haproxy) {
            Some(haproxy::start(directory, seller.address, WORKERS).await?)
        } else {
            None
        };
        let x402 = if subjects.contains(&Subject::X402) {
            Some(x402::start(checkout, directory, seller.address, CALL).await?)
        } else {
            None
        };
        Ok(Self {
            x402,
            haproxy,
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

    /// Where `HAProxy` listens.
    pub(crate) fn haproxy(&self) -> Result<SocketAddr> {
        let haproxy = self.haproxy.as_ref().context("HAProxy was not started")?;
        Ok(haproxy.address)
    }

    /// Where the x402 gateway listens.
    pub(crate) fn x402(&self) -> Result<SocketAddr> {
        let x402 = self
            .x402
            .as_ref()
            .context("the x402 gateway was not started")?;
        Ok(x402.address)
    }

    /// A call that the x402 gateway is paid for; `call` is the one that is passed on.
    pub(crate) async fn paid_x402(&self, call: &Exchange) -> Result<Exchange> {
        x402::paid(self.x402()?, CALL, &call.expect).await
    }

    /// All of them.
    pub(crate) fn watched(&self) -> Vec<Watched> {
        let started = [
            (Role::X402, self.x402.as_ref()),
            (Role::Haproxy, self.haproxy.as_ref()),
            (Role::Nginx, Some(&self.nginx)),
            (Role::Pingora, Some(&self.pingora)),
            (Role::UnsignedSeller, Some(&self.seller)),
        ];
        let watched = |(role, child): (Role, Option<&Child>)| {
            let pid = child?.pid();
            Some(Watched { role, pid })
        };
        started.into_iter().filter_map(watched).collect()
    }
}

/// A call to a baseline, with the answer the seller itself gives: byte for byte as long as a paid call, header
/// by header, so that it costs the same to read and to pass on.
pub(crate) async fn exchange(seller: SocketAddr, answer_bytes: u32) -> Result<Exchange> {
    let request = CALL.bytes(&request::body(SERIAL, answer_bytes));
    let job = Job {
        address: seller,
        connections: 1,
        warm_up: Vec::new(),
        measured: vec![Exchange {
            request: request.clone(),
            expect: Expect::Anything,
        }],
        pace: None,
        beside: None,
        anew: false,
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
