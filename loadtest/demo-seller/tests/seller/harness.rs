//! Starts sellers and speaks HTTP to them by hand, since they also break its rules.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use demo_seller::Config;
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time,
};

pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
pub(crate) const OTHER_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
pub(crate) const LISTING: &str = "01890a5d-ac96-774b-bcce-b302099a8057";
/// No test waits longer for an answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Seller {
    pub(crate) address: String,
    pub(crate) stop: Option<oneshot::Sender<()>>,
    pub(crate) task: JoinHandle<anyhow::Result<()>>,
}

/// An answer, taken apart by hand: the seller also breaks the rules.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    pub(crate) buffer: Vec<u8>,
}

impl Seller {
    pub(crate) async fn start(config: Config) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(demo_seller::serve_until(listener, config, async {
            let _ = stopped.await;
        }));
        let seller = Self {
            address,
            stop: Some(stop),
            task,
        };
        let answer = seller.put_secrets(&[SECRET]).await;
        assert_eq!(answer.status, 200);
        seller
    }

    pub(crate) async fn signed() -> Self {
        Self::start(Config::default()).await
    }

    pub(crate) async fn connect(&self) -> Client {
        Client {
            stream: TcpStream::connect(&self.address).await.unwrap(),
            buffer: Vec::new(),
        }
    }

    pub(crate) async fn put_secrets(&self, secrets: &[&str]) -> Answer {
        let body = json!({"secrets": secrets}).to_string();
        self.ask("PUT", &format!("/secrets/{LISTING}"), &body).await
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        let mut client = self.connect().await;
        client.send(&request(method, path, "", body)).await;
        client.answer().await
    }

    pub(crate) async fn calls(&self) -> Value {
        self.ask("GET", "/calls", "").await.json()
    }

    /// A signed call on a connection of its own.
    pub(crate) async fn call(&self, id: &str, body: &Value) -> Answer {
        let mut client = self.connect().await;
        client.send(&signed(id, 1, &body.to_string(), SECRET)).await;
        client.answer().await
    }

    /// What a call whose body says this under `seller` gets.
    pub(crate) async fn told(&self, plan: Value) -> Answer {
        self.call("gw_req_told", &json!({"input": "hi", "seller": plan}))
            .await
    }
}

impl Client {
    pub(crate) async fn send(&mut self, request: &str) {
        self.stream.write_all(request.as_bytes()).await.unwrap();
    }

    /// Reads more; false at the end, however it came.
    pub(crate) async fn more(&mut self) -> bool {
        let read = time::timeout(PATIENCE, self.stream.read_buf(&mut self.buffer))
            .await
            .unwrap();
        read.is_ok_and(|read| read > 0)
    }

    /// Everything until the seller closes.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.buffer)
    }

    pub(crate) async fn answer(&mut self) -> Answer {
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            assert!(
                self.more().await,
                "closed before an answer: {:?}",
                self.buffer
            );
        };
        let head = String::from_utf8(self.buffer.drain(..end).collect()).unwrap();
        let status = head[9..12].parse().unwrap();
        let mut answer = Answer {
            status,
            head,
            body: Vec::new(),
        };
        if answer.header("transfer-encoding") == Some("chunked") {
            answer.body = self.chunks().await;
        } else if let Some(length) = answer.header("content-length") {
            let length = length.parse().unwrap();
            while self.buffer.len() < length {
                assert!(self.more().await);
            }
            answer.body = self.buffer.drain(..length).collect();
        }
        answer
    }

    pub(crate) async fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                let line = self.buffer.drain(..end + 2).take(end).collect();
                return String::from_utf8(line).unwrap();
            }
            assert!(self.more().await);
        }
    }

    pub(crate) async fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let size = usize::from_str_radix(&self.line().await, 16).unwrap();
            while self.buffer.len() < size {
                assert!(self.more().await);
            }
            body.extend(self.buffer.drain(..size));
            assert_eq!(self.line().await, "");
            if size == 0 {
                return body;
            }
        }
    }
}

pub(crate) fn request(method: &str, path: &str, headers: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: seller\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[expect(
    clippy::disallowed_methods,
    reason = "the library under test compares with the machine's clock"
)]
pub(crate) fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
        .try_into()
        .unwrap()
}

pub(crate) fn signed(id: &str, attempt: u32, body: &str, secret: &str) -> String {
    let timestamp = now();
    let signature = Webhook::new(secret)
        .unwrap()
        .sign(id, timestamp, body.as_bytes())
        .unwrap();
    let headers = format!(
        "webhook-id: {id}\r\nwebhook-timestamp: {timestamp}\r\nwebhook-signature: {signature}\r\n\
         X-Crochet-Listing-Id: {LISTING}\r\nX-Crochet-Request-Id: {id}\r\nX-Crochet-Attempt: {attempt}\r\n"
    );
    request("POST", "/call", &headers, body)
}
