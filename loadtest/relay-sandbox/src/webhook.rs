//! Tells our webhook endpoint what happened: signed, in order per request, tried again when refused.
//!
//! First tries of one request go out in order; a retry does not hold up what comes after it, so an
//! endpoint sees disorder and duplicates exactly when something failed, or when a scenario asks for it.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, ensure};
use axum::body::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::Full;
use hyper::Request;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::Serialize;
use sha2::Sha256;
use tokio::{sync::mpsc, task::JoinSet, time};

use crate::{
    clock::Clock,
    config::Config,
    show::{DepositAddress, in_hashes, out_hashes},
    store::{Row, Tiding},
};

/// Tries after the first.
const RETRIES_MAX: u32 = 10;
/// Longest pause between two tries.
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// How long the endpoint may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Webhooks under way at once.
const WORKERS: usize = 16;

/// How many webhooks there were since the start.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Tries.
    pub(crate) sent: AtomicU64,
    /// Accepted with 2xx.
    pub(crate) accepted: AtomicU64,
    /// Refused or not reached, and tried again or given up.
    pub(crate) refused: AtomicU64,
}

/// A webhook to be sent.
#[derive(Debug)]
struct Letter {
    row: Row,
    body: Bytes,
    /// The row's last: the store wants to know that it was accepted.
    last: bool,
}

/// Where tidings go; cheap to call, never waits.
#[derive(Debug)]
pub(crate) struct Outbox {
    queues: Vec<mpsc::UnboundedSender<Letter>>,
    /// Tidings a shuffling scenario holds back, by row.
    held: parking_lot::Mutex<HashMap<Row, Vec<Letter>>>,
    clock: Clock,
}

/// Called with a row whose last webhook was accepted or given up.
pub(crate) type Heard = Arc<dyn Fn(Row) + Send + Sync>;

#[derive(Clone)]
struct Sender {
    client: Client<HttpConnector, Full<Bytes>>,
    url: hyper::Uri,
    key: Arc<str>,
    backoff: Duration,
    clock: Clock,
    counts: Arc<Counts>,
    heard: Heard,
}

impl Outbox {
    /// Starts the workers in `tasks`; without a configured address everything is dropped.
    pub(crate) fn start(
        config: &Config,
        counts: &Arc<Counts>,
        heard: &Heard,
        tasks: &mut JoinSet<()>,
    ) -> Result<Self> {
        let mut queues = Vec::new();
        if let Some(url) = &config.webhook_url {
            ensure!(
                url.scheme() == "http",
                "the sandbox posts webhooks to http:// addresses only"
            );
            let sender = Sender {
                client: client(),
                url: url.as_str().parse()?,
                key: config.api_key.as_str().into(),
                backoff: Duration::from_millis(config.webhook_backoff_ms),
                clock: config.clock.clone(),
                counts: Arc::clone(counts),
                heard: Arc::clone(heard),
            };
            for _ in 0..WORKERS {
                let (queue, letters) = mpsc::unbounded_channel();
                queues.push(queue);
                tasks.spawn(work(sender.clone(), letters));
            }
        }
        Ok(Self {
            queues,
            held: parking_lot::Mutex::default(),
            clock: config.clock.clone(),
        })
    }

    /// Sends, as the request's plan says.
    pub(crate) fn tell(&self, tidings: Vec<Tiding>) {
        if self.queues.is_empty() {
            return;
        }
        for tiding in tidings {
            let plan = &tiding.request.payment.plan;
            let copies = plan.webhook_copies.unwrap_or(1);
            let Ok(body) = body(&tiding, self.clock.now_ms()) else {
                continue;
            };
            let letters = (0..copies).map(|_| Letter {
                row: tiding.row,
                body: body.clone(),
                last: tiding.last,
            });
            if plan.webhook_shuffle {
                self.hold(tiding.row, letters, tiding.last);
            } else {
                letters.for_each(|letter| self.post(letter));
            }
        }
    }

    fn hold(&self, row: Row, letters: impl Iterator<Item = Letter>, flush: bool) {
        let mut held = self.held.lock();
        let mut entry = match held.entry(row) {
            Entry::Occupied(entry) => entry,
            Entry::Vacant(entry) => entry.insert_entry(Vec::new()),
        };
        entry.get_mut().extend(letters);
        if flush {
            entry
                .remove()
                .into_iter()
                .rev()
                .for_each(|letter| self.post(letter));
        }
    }

    fn post(&self, letter: Letter) {
        let lane = usize::try_from(letter.row).unwrap_or_default() % self.queues.len().max(1);
        if let Some(queue) = self.queues.get(lane) {
            // The receiver is gone only when the sandbox ends.
            let _ = queue.send(letter);
        }
    }
}

async fn work(sender: Sender, mut letters: mpsc::UnboundedReceiver<Letter>) {
    let mut retries = JoinSet::new();
    while let Some(letter) = letters.recv().await {
        while retries.try_join_next().is_some() {}
        if sender.send(&letter.body).await {
            sender.done(&letter);
        } else {
            retries.spawn(retry(sender.clone(), letter));
        }
    }
}

async fn retry(sender: Sender, letter: Letter) {
    let mut pause = sender.backoff;
    for _ in 0..RETRIES_MAX {
        time::sleep(pause).await;
        if sender.send(&letter.body).await {
            break;
        }
        pause = (pause * 2).min(BACKOFF_MAX);
    }
    sender.done(&letter);
}

impl Sender {
    fn done(&self, letter: &Letter) {
        if letter.last {
            (self.heard)(letter.row);
        }
    }

    async fn send(&self, body: &Bytes) -> bool {
        self.counts.sent.fetch_add(1, Ordering::Relaxed);
        let accepted = match time::timeout(ANSWER_MAX, self.post(body)).await {
            Ok(Ok(accepted)) => accepted,
            Ok(Err(_)) | Err(_) => false,
        };
        let counted = if accepted {
            &self.counts.accepted
        } else {
            &self.counts.refused
        };
        counted.fetch_add(1, Ordering::Relaxed);
        accepted
    }

    async fn post(&self, body: &Bytes) -> Result<bool> {
        let timestamp = self.clock.now_ms();
        let request = Request::post(&self.url)
            .header("content-type", "application/json")
            .header("x-signature-timestamp", timestamp)
            .header("x-signature-sha256", signature(&self.key, timestamp, body)?)
            .body(Full::new(body.clone()))?;
        let response = self.client.request(request).await?;
        let accepted = response.status().is_success();
        // Read to the end, so that the connection can be used again.
        http_body_util::BodyExt::collect(http_body_util::Limited::new(
            response.into_body(),
            64 * 1024,
        ))
        .await
        .ok();
        Ok(accepted)
    }
}

fn client() -> Client<HttpConnector, Full<Bytes>> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(Duration::from_secs(5)));
    Client::builder(TokioExecutor::new()).build(connector)
}

/// Hex HMAC-SHA256 over `timestamp.body`, keyed with the API key.
pub(crate) fn signature(key: &str, timestamp: u64, body: &[u8]) -> Result<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes())?;
    mac.update(timestamp.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    let hex = crate::random::hex(&mac.finalize().into_bytes());
    Ok(hex.trim_start_matches("0x").to_owned())
}

#[derive(Serialize)]
struct Envelope<'a> {
    event: &'static str,
    timestamp: u64,
    data: Data<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    status: &'static str,
    in_tx_hashes: Vec<&'a str>,
    tx_hashes: Vec<&'a str>,
    updated_at: u64,
    origin_chain_id: u64,
    destination_chain_id: u64,
    deposit_address: Option<DepositAddress<'a>>,
    request_id: &'a str,
    referrer: Option<&'a str>,
    details: &'static str,
    fail_reason: Option<&'a str>,
    refund_fail_reason: Option<&'a str>,
}

fn body(tiding: &Tiding, now: u64) -> Result<Bytes> {
    let (quote, payment) = (&tiding.request.quote, &tiding.request.payment);
    let envelope = Envelope {
        event: "request.status.updated",
        timestamp: now,
        data: Data {
            status: tiding.news.status.name(),
            in_tx_hashes: in_hashes(payment),
            tx_hashes: out_hashes(payment, tiding.news.status),
            updated_at: payment.updated_at,
            origin_chain_id: quote.origin.currency().chain_id,
            destination_chain_id: crate::currency::BASE,
            deposit_address: DepositAddress::of(&tiding.request),
            request_id: &quote.id,
            referrer: quote.referrer.as_deref(),
            details: "",
            fail_reason: tiding.news.fail_reason.as_deref(),
            refund_fail_reason: payment.refund_fail_reason.as_deref(),
        },
    };
    Ok(Bytes::from(serde_json::to_vec(&envelope)?))
}
