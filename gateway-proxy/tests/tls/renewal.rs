//! The certificate is replaced while calls are made.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crochet_dev::Role;
use http::Version;
use serde_json::json;
use tokio::task::JoinSet;

use super::stage::{Pair, Stage, pair};
use crate::harness::{Market, trials, until};

trials!(a_certificate_is_replaced_without_a_failed_call_and_a_broken_one_is_refused);

async fn a_certificate_is_replaced_without_a_failed_call_and_a_broken_one_is_refused() {
    let stage = Stage::set("renewal").await;
    let second = pair();
    let market = Arc::new(Market::within(&stage.world.door, json!({})).await);
    let load = Load::begin(&stage, &market, &second);
    load.more().await;

    // Half of it is written, or it is nonsense: refused, and the first serves on.
    stage
        .files
        .write(&second.cert.pem(), &stage.first.signing_key.serialize_pem());
    refused(&stage, 1).await;
    stage
        .files
        .write("nonsense", &second.signing_key.serialize_pem());
    refused(&stage, 2).await;
    load.more().await;
    assert!(is_served(&stage, &stage.first).await);
    let log = stage.world.log_of(Role::Gateway(0));
    assert!(log.contains("the new certificate is refused"), "{log}");

    stage.files.put(&second);
    until("the second certificate serves", || async {
        is_served(&stage, &second).await.then_some(())
    })
    .await;
    assert!(!is_served(&stage, &stage.first).await);
    assert_eq!(certificates(&stage, "taken").await, 1);
    load.more().await;
    let calls = load.end().await;
    println!("{calls} calls while the certificate was replaced, none failed");
    stage.world.close().await;
}

async fn certificates(stage: &Stage, outcome: &str) -> u64 {
    let series = format!("gateway_tls_certificates_total{{outcome=\"{outcome}\"}} ");
    stage.metric(&series).await
}

async fn refused(stage: &Stage, times: u64) {
    until("the broken certificate is refused", || async {
        (certificates(stage, "refused").await == times).then_some(())
    })
    .await;
}

/// Whether somebody is served who trusts this certificate alone.
async fn is_served(stage: &Stage, trusted: &Pair) -> bool {
    let api = stage.port.api(Version::HTTP_2, &[trusted.cert.pem()]);
    api.get("/health", None).await.is_ok()
}

/// Calls in both versions of HTTP, all of which must be answered.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
    callers: JoinSet<()>,
}

impl Load {
    pub(super) fn begin(stage: &Stage, market: &Arc<Market>, second: &Pair) -> Self {
        let (stop, calls) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let mut callers = JoinSet::new();
        for (version, keeps) in [
            (Version::HTTP_2, true),
            (Version::HTTP_2, false),
            (Version::HTTP_11, true),
            (Version::HTTP_11, false),
        ] {
            let (port, trusted) = (stage.port, [stage.first.cert.pem(), second.cert.pem()]);
            let connect = move || port.api(version, &trusted);
            let (market, stop, calls) = (Arc::clone(market), Arc::clone(&stop), Arc::clone(&calls));
            callers.spawn(async move {
                let call = market.call();
                let mut api = connect();
                while !stop.load(Ordering::Relaxed) {
                    let answer = market.buyer.through(&api).call(&call, None).await;
                    let answer = answer.unwrap_or_else(|error| panic!("{version:?}: {error:#}"));
                    assert_eq!(answer.status, 402, "{answer}");
                    calls.fetch_add(1, Ordering::Relaxed);
                    if !keeps {
                        api = connect();
                    }
                }
            });
        }
        Self {
            stop,
            calls,
            callers,
        }
    }

    /// Waits until more calls are made.
    pub(super) async fn more(&self) {
        const MORE: usize = 40;
        let before = self.calls.load(Ordering::Relaxed);
        until("more calls are made", || async {
            let now = self.calls.load(Ordering::Relaxed);
            (now >= before + MORE).then_some(())
        })
        .await;
    }

    pub(super) async fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.callers.join_all().await;
        self.calls.load(Ordering::Relaxed)
    }
}
