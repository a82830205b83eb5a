//! Starts sandboxes, speaks HTTP to them, and catches their webhooks.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, http::StatusCode, routing::post};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use relay_sandbox::{Config, clock::Clock};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle, time};

pub(crate) const KEY: &str = "relay-sandbox-key";
pub(crate) const SOLANA_WALLET: &str = "9WzDXwBbmkg8ZTbNMqUxvQRAyrZzDsGYdLVL9zYtAWWM";
pub(crate) const EVM_WALLET: &str = "0x1111111111111111111111111111111111111111";
pub(crate) const SETTLEMENT: &str = "0x2222222222222222222222222222222222222222";
/// The exact input of [`sol_quote`]: 1.02 USD at 150 USD a SOL.
pub(crate) const SOL_INPUT: u64 = 6_800_000;
/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running sandbox.
pub(crate) struct Sandbox {
    pub(crate) base: String,
    client: Client<HttpConnector, Full<Bytes>>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Sandbox {
    pub(crate) async fn start(config: Config) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        Self {
            base,
            client: Client::builder(TokioExecutor::new()).build_http(),
            task: tokio::spawn(relay_sandbox::serve(listener, config)),
        }
    }

    /// A sandbox whose deposits are a success at once.
    pub(crate) async fn instant() -> Self {
        Self::start(Config {
            step_ms: 0,
            ..Config::default()
        })
        .await
    }

    /// Ends it without a farewell, as `kill -9` would.
    pub(crate) async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }

    /// How its start failed.
    pub(crate) async fn failure(self) -> String {
        format!("{:#}", self.task.await.unwrap().unwrap_err())
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> (u16, String) {
        let response = time::timeout(PATIENCE, self.client.request(request))
            .await
            .unwrap()
            .unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    pub(crate) async fn get_text(&self, path: &str) -> (u16, String) {
        let request = Request::get(format!("{}{path}", self.base))
            .header("x-api-key", KEY)
            .body(Full::default());
        self.send(request.unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        let (status, body) = self.get_text(path).await;
        (status, serde_json::from_str(&body).unwrap())
    }

    pub(crate) async fn get_with_key(&self, path: &str, key: Option<&str>) -> u16 {
        let mut request = Request::get(format!("{}{path}", self.base));
        if let Some(key) = key {
            request = request.header("x-api-key", key);
        }
        self.send(request.body(Full::default()).unwrap()).await.0
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.post_with_key(path, body, None).await
    }

    pub(crate) async fn post_with_key(
        &self,
        path: &str,
        body: &Value,
        key: Option<&str>,
    ) -> (u16, Value) {
        let mut request = Request::post(format!("{}{path}", self.base))
            .header("content-type", "application/json");
        if let Some(key) = key {
            request = request.header("x-api-key", key);
        }
        let (status, body) = self
            .send(request.body(Full::from(body.to_string())).unwrap())
            .await;
        (status, serde_json::from_str(&body).unwrap())
    }

    /// Posts to a control that has to agree.
    pub(crate) async fn control(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.post(path, body).await;
        assert_eq!(status, 200, "{path} {body} {answer}");
        answer
    }

    /// Takes a quote; its request id.
    pub(crate) async fn quote(&self, body: &Value) -> String {
        let (status, quote) = self.post("/quote/v2", body).await;
        assert_eq!(status, 200, "{quote}");
        quote["steps"][0]["requestId"].as_str().unwrap().to_owned()
    }

    /// A paid quote; its request id.
    pub(crate) async fn paid(&self) -> String {
        let id = self.quote(&sol_quote()).await;
        self.deposit(&id).await;
        id
    }

    /// Pays the exact amount; what became of it.
    pub(crate) async fn deposit(&self, id: &str) -> Value {
        self.control("/sandbox/deposits", &json!({"requestId": id}))
            .await["deposits"][0]
            .clone()
    }

    /// Pays this amount; what became of it.
    pub(crate) async fn deposit_amount(&self, id: &str, amount: u64) -> Value {
        let body = json!({"requestId": id, "amount": amount.to_string()});
        self.control("/sandbox/deposits", &body).await["deposits"][0].clone()
    }

    pub(crate) async fn status(&self, id: &str) -> Value {
        self.get(&format!("/intents/status/v3?requestId={id}"))
            .await
            .1
    }

    /// Asks until the status is this one.
    pub(crate) async fn until(&self, id: &str, status: &str) -> Value {
        let asked = async {
            loop {
                let answer = self.status(id).await;
                if answer["status"] == status {
                    return answer;
                }
                tokio::task::yield_now().await;
            }
        };
        time::timeout(PATIENCE, asked)
            .await
            .unwrap_or_else(|_| panic!("{id} never was {status}"))
    }

    /// Its row in `/requests/v3`.
    pub(crate) async fn row(&self, id: &str) -> Value {
        let (status, page) = self.get(&format!("/requests/v3?id={id}")).await;
        assert_eq!(status, 200, "{page}");
        page["requests"][0].clone()
    }

    /// The ids of a page, and where it continues.
    pub(crate) async fn page(&self, query: &str) -> (Vec<String>, Option<String>) {
        let (status, page) = self.get(&format!("/requests/v3?{query}")).await;
        assert_eq!(status, 200, "{page}");
        let ids = page["requests"].as_array().unwrap().iter();
        let ids = ids
            .map(|row| row["id"].as_str().unwrap().to_owned())
            .collect();
        (ids, page["continuation"].as_str().map(str::to_owned))
    }
}

/// A quote for a dollar, paid in SOL.
pub(crate) fn sol_quote() -> Value {
    json!({
        "user": SOLANA_WALLET, "recipient": SETTLEMENT,
        "originChainId": 792_703_809, "originCurrency": "11111111111111111111111111111111",
        "destinationChainId": 8453, "destinationCurrency": "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913",
        "amount": "1000000", "tradeType": "EXACT_OUTPUT", "useDepositAddress": true, "strict": true,
        "refundTo": SOLANA_WALLET, "ttl": 900, "referrer": "crochet"
    })
}

/// The same, paid on Base with the currency at this address.
pub(crate) fn base_quote(currency: &str) -> Value {
    with(
        sol_quote(),
        &json!({"user": EVM_WALLET, "refundTo": EVM_WALLET, "originChainId": 8453, "originCurrency": currency}),
    )
}

/// Fields replaced; null removes.
pub(crate) fn with(mut body: Value, changes: &Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            body.as_object_mut().unwrap().remove(name);
        } else {
            body[name] = value.clone();
        }
    }
    body
}

/// A clock that stands until moved.
#[derive(Clone)]
pub(crate) struct Hand(Arc<AtomicU64>);

impl Hand {
    pub(crate) fn at(ms: u64) -> Self {
        Self(Arc::new(AtomicU64::new(ms)))
    }

    pub(crate) fn clock(&self) -> Clock {
        let now = Arc::clone(&self.0);
        Clock::new(move || now.load(Ordering::SeqCst))
    }

    pub(crate) fn forward(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

/// A journal nobody else uses.
pub(crate) fn journal(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("{name}-{}.jsonl", std::process::id()));
    let _ = std::fs::remove_file(&path);
    path
}

/// A webhook as it arrived.
pub(crate) struct Caught {
    pub(crate) headers: HeaderMap,
    pub(crate) raw: Bytes,
    pub(crate) body: Value,
}

impl Caught {
    pub(crate) fn status(&self) -> &str {
        self.body["data"]["status"].as_str().unwrap()
    }
}

/// An endpoint for webhooks.
pub(crate) struct Receiver {
    pub(crate) url: url::Url,
    caught: mpsc::UnboundedReceiver<Caught>,
}

struct Answers {
    caught: mpsc::UnboundedSender<Caught>,
    statuses: Mutex<VecDeque<u16>>,
}

impl Receiver {
    /// Answers with these statuses, then 200.
    pub(crate) async fn start(statuses: impl IntoIterator<Item = u16>) -> Self {
        let (sender, caught) = mpsc::unbounded_channel();
        let answers = Arc::new(Answers {
            caught: sender,
            statuses: Mutex::new(statuses.into_iter().collect()),
        });
        let router = Router::new()
            .route("/hook", post(Self::catch))
            .with_state(answers);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap())
            .parse()
            .unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, caught }
    }

    #[expect(clippy::unused_async, reason = "a handler has to be async")]
    async fn catch(
        State(answers): State<Arc<Answers>>,
        headers: HeaderMap,
        raw: Bytes,
    ) -> StatusCode {
        let body = serde_json::from_slice(&raw).unwrap();
        let _ = answers.caught.send(Caught { headers, raw, body });
        let status = answers.statuses.lock().unwrap().pop_front().unwrap_or(200);
        StatusCode::from_u16(status).unwrap()
    }

    pub(crate) async fn next(&mut self) -> Caught {
        time::timeout(PATIENCE, self.caught.recv())
            .await
            .unwrap()
            .unwrap()
    }

    pub(crate) async fn statuses(&mut self, count: usize) -> Vec<String> {
        let mut statuses = Vec::new();
        for _ in 0..count {
            statuses.push(self.next().await.status().to_owned());
        }
        statuses
    }
}
