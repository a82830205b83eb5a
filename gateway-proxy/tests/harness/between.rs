//! Something between a gateway and the control plane's internal API that delays and loses what passes.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use crochet_shared::internal::ClaimAnswer;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::http1::{Message, Reader};
use super::service::Gate;

/// What happens to a request that passes.
#[derive(Clone, Debug)]
pub(crate) enum Mischief {
    /// It is passed on and answered; the answer is lost with the connection.
    LoseReply,
    /// It is never passed on; the connection is cut.
    LoseRequest,
    /// It is passed on and answered; the answer waits until the gate is open.
    HoldReply(Gate),
    /// It is passed on; the claims granted in its answer have leases of this many milliseconds.
    ShortenLeases(u32),
}

#[derive(Debug)]
struct State {
    upstream: SocketAddr,
    /// Path, what happens, how many more times.
    rules: Mutex<Vec<(String, Mischief, usize)>>,
    /// Every path that passed.
    seen: Mutex<Vec<String>>,
}

/// A running interloper; a gateway is told its URL in place of the control plane's.
#[derive(Debug)]
pub(crate) struct Between {
    address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

impl Between {
    /// In front of `origin` (`http://127.0.0.1:PORT`).
    pub(crate) async fn start(origin: &str) -> Self {
        let upstream = origin
            .trim_start_matches("http://")
            .trim_end_matches('/')
            .parse()
            .unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let state = Arc::new(State {
            upstream,
            rules: Mutex::default(),
            seen: Mutex::default(),
        });
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(accept(listener, Arc::clone(&state)));
        Self {
            address,
            state,
            task,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next `times` requests to a path that ends in `path` suffer `mischief`.
    pub(crate) fn plan(&self, path: &str, mischief: Mischief, times: usize) {
        self.state
            .rules
            .lock()
            .unwrap()
            .push((path.to_owned(), mischief, times));
    }

    /// Nothing more happens to anybody.
    pub(crate) fn make_peace(&self) {
        self.state.rules.lock().unwrap().clear();
    }

    /// How many requests to a path that ends in `path` passed.
    pub(crate) fn seen(&self, path: &str) -> usize {
        self.state
            .seen
            .lock()
            .unwrap()
            .iter()
            .filter(|seen| seen.ends_with(path))
            .count()
    }

    /// How many planned mischiefs on `path` have not happened yet.
    pub(crate) fn left(&self, path: &str) -> usize {
        self.state
            .rules
            .lock()
            .unwrap()
            .iter()
            .filter(|(planned, ..)| planned == path)
            .map(|(.., left)| *left)
            .sum()
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    fn fate(&self, path: &str) -> Option<Mischief> {
        self.seen.lock().unwrap().push(path.to_owned());
        let mut rules = self.rules.lock().unwrap();
        let (_, mischief, left) = rules
            .iter_mut()
            .find(|(planned, _, left)| path.ends_with(planned.as_str()) && *left > 0)?;
        *left -= 1;
        Some(mischief.clone())
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        drop(stream.set_nodelay(true));
        // A cut connection is the point of this; both sides find out by themselves.
        connections.spawn(pass(stream, Arc::clone(&state)));
    }
}

/// The same answer to a batch of claims with other leases.
fn shortened(answer: &Message, milliseconds: u32) -> Vec<u8> {
    let mut claims: Vec<ClaimAnswer> = rmp_serde::from_slice(&answer.body).expect("claims");
    for claim in &mut claims {
        if let ClaimAnswer::Claimed(grant) = claim {
            grant.lease_ms = milliseconds;
        }
    }
    let body = rmp_serde::to_vec_named(&claims).expect("claims");
    let mut bytes = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/msgpack\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend(body);
    bytes
}

async fn pass(client: TcpStream, state: Arc<State>) -> io::Result<()> {
    let upstream = TcpStream::connect(state.upstream).await?;
    upstream.set_nodelay(true)?;
    let (client_read, mut client_write) = client.into_split();
    let (upstream_read, mut upstream_write) = upstream.into_split();
    let (mut requests, mut answers) = (Reader::new(client_read), Reader::new(upstream_read));
    while let Some(request) = requests.request().await? {
        let fate = state.fate(request.second_word());
        if matches!(fate, Some(Mischief::LoseRequest)) {
            return Ok(());
        }
        upstream_write.write_all(&request.raw).await?;
        let Some(answer) = answers.answer(false).await? else {
            return Ok(());
        };
        match fate {
            Some(Mischief::LoseReply | Mischief::LoseRequest) => return Ok(()),
            Some(Mischief::HoldReply(gate)) => gate.wait().await,
            Some(Mischief::ShortenLeases(milliseconds)) => {
                client_write
                    .write_all(&shortened(&answer, milliseconds))
                    .await?;
                continue;
            }
            None => {}
        }
        client_write.write_all(&answer.raw).await?;
    }
    Ok(())
}
