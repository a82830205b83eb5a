//! SIGQUIT: the next gateway takes both listeners over, while calls by TLS are made.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crochet_dev::Role;
use demo_agent::{Agent, Api, Quote};
use http::Version;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::renewal::Load;
use super::stage::Stage;
use crate::harness::{Gate, Market, Reply, ok, trials, until};

trials!(
    a_gateway_hands_its_tls_listener_over_without_a_failed_call,
    somebody_who_has_just_connected_is_heard_out,
);

const GATEWAY: Role = Role::Gateway(0);

async fn a_gateway_hands_its_tls_listener_over_without_a_failed_call() {
    let mut stage = Stage::set("handover").await;
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("upgrade.sock");
    let stack = &mut stage.world.stack;
    stack.tell(GATEWAY, "GATEWAY_UPGRADE_SOCKET", socket.to_str().unwrap());
    stack.tell(GATEWAY, "GATEWAY_DRAIN_SECONDS", "1");
    stack.restart(GATEWAY).await.unwrap();
    let before = stack.pid(GATEWAY);
    let market = Arc::new(Market::within(&stage.world.door, json!({})).await);
    let calls = Load::begin(&stage, &market, &stage.first);
    let purchases = Purchases::begin(&stage, &market);
    calls.more().await;

    // One is claimed by the gateway that goes, and its seller takes her time.
    let held = Market::within(&stage.world.door, json!({})).await;
    let gate = Gate::shut();
    held.service.then(Reply::json("1").behind(&gate));
    let call = held.call();
    let quote = held.evidenced(&call).await;
    let api = stage.api(Version::HTTP_2);
    let (buyer, id) = (held.buyer.through(&api), quote.relay_request_id.clone());
    let answering = tokio::spawn(async move { buyer.call(&call, Some(&id)).await });
    held.service.called_for(&quote.request_id).await;

    let (port, log) = (stage.port, stage.world.stack.log(GATEWAY));
    let trusted = [stage.first.cert.pem()];
    let upgrading = tokio::spawn(async move {
        let status = stage.world.stack.upgrade(GATEWAY).await.unwrap();
        (stage, status)
    });
    until("the listeners are handed over", || async {
        let log = std::fs::read_to_string(&log).unwrap();
        log.contains("the listeners are handed over").then_some(())
    })
    .await;
    // Whoever connects now is served, by the one or the other.
    for version in [Version::HTTP_2, Version::HTTP_11] {
        let answer = port.api(version, &trusted).get("/health", None).await;
        assert_eq!(answer.unwrap().status, 200);
    }
    gate.open();
    ok(&answering.await.unwrap().unwrap());
    let (stage, status) = upgrading.await.unwrap();
    assert!(status.success(), "{status}");
    assert_ne!(stage.world.stack.pid(GATEWAY), before);
    calls.more().await;
    held.assert_settled(&quote, 1).await;
    let (calls, bought) = (calls.end().await, purchases.end().await);
    for quote in &bought {
        market.assert_settled(quote, 1).await;
    }
    let bought = bought.len();
    println!("{calls} calls and {bought} purchases by TLS during an upgrade, none failed");
    assert!(bought > 0);
    stage.world.close().await;
}

/// The process stops between a client's handshake and her first request.
async fn somebody_who_has_just_connected_is_heard_out() {
    let mut stage = Stage::set("first_word").await;
    let mut plain = stage.connect("http/1.1").await;
    let mut client = stage.http2().await;
    let port = stage.port.0;
    let stopping = tokio::spawn(async move {
        let status = stage.world.stack.terminate(GATEWAY).await.unwrap();
        (stage, status)
    });
    until("the gateway listens no longer", || async {
        TcpStream::connect(port).await.is_err().then_some(())
    })
    .await;
    let request = b"GET /api/v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    plain.write_all(request).await.unwrap();
    let mut heard = [0; 12];
    plain.read_exact(&mut heard).await.unwrap();
    assert_eq!(heard, *b"HTTP/1.1 200");

    let request = http::Request::get(format!("https://localhost:{}/api/v1/health", port.port()));
    let (answer, _) = client
        .send_request(request.body(()).unwrap(), true)
        .unwrap();
    assert_eq!(answer.await.unwrap().status(), 200);
    let (mut stage, status) = stopping.await.unwrap();
    assert!(status.success(), "{status}");
    stage.world.stack.start_again(GATEWAY).await.unwrap();
    stage.world.close().await;
}

/// Buyers who buy one call after the other by TLS, each on a connection of its own, and must be served.
struct Purchases {
    stop: Arc<AtomicBool>,
    buyers: JoinSet<Vec<Quote>>,
}

impl Purchases {
    fn begin(stage: &Stage, market: &Arc<Market>) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let mut buyers = JoinSet::new();
        for version in [Version::HTTP_2, Version::HTTP_11] {
            let (port, trusted) = (stage.port, [stage.first.cert.pem()]);
            let (market, stop) = (Arc::clone(market), Arc::clone(&stop));
            buyers.spawn(async move {
                let mut bought = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    bought.push(purchase(&market, &port.api(version, &trusted)).await);
                }
                bought
            });
        }
        Self { stop, buyers }
    }

    async fn end(self) -> Vec<Quote> {
        self.stop.store(true, Ordering::Relaxed);
        self.buyers.join_all().await.concat()
    }
}

async fn purchase(market: &Market, api: &Api) -> Quote {
    let buyer: Agent = market.buyer.through(api);
    let call = market.call();
    let bought = buyer.buy(&call, &market.door.sandbox).await;
    let bought = bought.unwrap_or_else(|error| panic!("{error:#}"));
    ok(&bought.answer);
    bought.quote
}
