//! A seller's own service, scripted byte by byte, that remembers everything it was sent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::until;
use fault_proxy::http1::{Message, Reader};

/// A door that is shut until somebody opens it, then open for good.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    pub(crate) fn shut() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    pub(crate) fn open(&self) {
        self.0.send_replace(true);
    }

    pub(crate) async fn wait(&self) {
        // The sender lives as long as `self`, so waiting cannot fail.
        drop(self.0.subscribe().wait_for(|open| *open).await);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Wait(Gate),
    Send(Bytes),
    Pause(Duration),
    Close,
}

/// What the service does once it has read a request.
#[derive(Clone, Debug)]
pub(crate) struct Reply(Vec<Step>);

impl Reply {
    /// A complete answer. `Content-Length` is added where a body may stand; the connection stays open.
    pub(crate) fn new(status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let mut head = format!("HTTP/1.1 {status} Whatever\r\n");
        for (name, value) in headers {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        if status != 204 && status != 304 {
            write!(head, "Content-Length: {}\r\n", body.len()).unwrap();
        }
        head.push_str("\r\n");
        Self(vec![Step::Send(
            head.into_bytes().into_iter().chain(body).collect(),
        )])
    }

    /// 200 with JSON.
    pub(crate) fn json(body: &str) -> Self {
        Self::status(200, body)
    }

    /// Any status with JSON.
    pub(crate) fn status(status: u16, body: &str) -> Self {
        Self::new(
            status,
            &[("Content-Type", "application/json")],
            body.as_bytes().to_vec(),
        )
    }

    /// These bytes, whatever they are; the connection stays open.
    pub(crate) fn raw(bytes: impl Into<Bytes>) -> Self {
        Self(vec![Step::Send(bytes.into())])
    }

    /// Nothing, and the connection is closed.
    pub(crate) fn hang_up() -> Self {
        Self(vec![Step::Close])
    }

    /// Nothing, ever.
    pub(crate) fn silence() -> Self {
        Self(vec![Step::Wait(Gate::shut())])
    }

    /// The same once `gate` is open.
    pub(crate) fn behind(mut self, gate: &Gate) -> Self {
        self.0.insert(0, Step::Wait(gate.clone()));
        self
    }

    /// The same after a while.
    pub(crate) fn after(mut self, pause: Duration) -> Self {
        self.0.insert(0, Step::Pause(pause));
        self
    }

    /// Then the connection is closed, without having said so.
    pub(crate) fn then_close(mut self) -> Self {
        self.0.push(Step::Close);
        self
    }

    /// The same bytes, one at a time, `pause` apart.
    pub(crate) fn dripping(self, pause: Duration) -> Self {
        let steps = self.0.into_iter().flat_map(|step| match step {
            Step::Send(bytes) => bytes
                .iter()
                .flat_map(|&byte| {
                    [
                        Step::Send(Bytes::copy_from_slice(&[byte])),
                        Step::Pause(pause),
                    ]
                })
                .collect(),
            step @ (Step::Wait(_) | Step::Pause(_) | Step::Close) => vec![step],
        });
        Self(steps.collect())
    }
}

/// A request the service has read whole.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    /// Which of its connections it came in by, from 0.
    pub(crate) connection: usize,
    pub(crate) request: Message,
}

impl Arrival {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.request.header(name).unwrap_or_default()
    }
}

#[derive(Debug)]
struct State {
    arrivals: Mutex<Vec<Arrival>>,
    connections: Mutex<usize>,
    script: Mutex<VecDeque<Reply>>,
    usual: Mutex<Reply>,
}

/// A running service. It ends with all its connections when dropped.
#[derive(Debug)]
pub(crate) struct Service {
    address: SocketAddr,
    scheme: &'static str,
    state: Arc<State>,
    task: JoinHandle<()>,
}

impl Service {
    /// On a port of its own, answering `{"ok":true}` until told otherwise.
    pub(crate) async fn start() -> Self {
        Self::on(
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap(),
            None,
        )
    }

    /// On a port a test has kept free.
    pub(crate) async fn start_at(port: u16) -> Self {
        Self::on(
            TcpListener::bind((Ipv4Addr::LOCALHOST, port))
                .await
                .unwrap(),
            None,
        )
    }

    /// At another address of this machine.
    pub(crate) async fn start_on(ip: impl Into<IpAddr>, port: u16) -> Self {
        Self::on(TcpListener::bind((ip.into(), port)).await.unwrap(), None)
    }

    /// Behind TLS.
    pub(crate) async fn start_tls(acceptor: TlsAcceptor) -> Self {
        Self::on(
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap(),
            Some(acceptor),
        )
    }

    fn on(listener: TcpListener, tls: Option<TlsAcceptor>) -> Self {
        let state = Arc::new(State {
            arrivals: Mutex::default(),
            connections: Mutex::default(),
            script: Mutex::default(),
            usual: Mutex::new(Reply::json(r#"{"ok":true}"#)),
        });
        let address = listener.local_addr().unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let task = tokio::spawn(accept(listener, tls, Arc::clone(&state)));
        Self {
            address,
            scheme,
            state,
            task,
        }
    }

    /// The endpoint a listing names: with a path and a query that must arrive as they are.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}/hook?x=1", self.scheme, self.address)
    }

    pub(crate) const fn port(&self) -> u16 {
        self.address.port()
    }

    /// What the next unscripted request gets.
    pub(crate) fn then(&self, reply: Reply) -> &Self {
        self.state.script.lock().unwrap().push_back(reply);
        self
    }

    /// What requests get when nothing is scripted.
    pub(crate) fn usually(&self, reply: Reply) {
        *self.state.usual.lock().unwrap() = reply;
    }

    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        self.state.arrivals.lock().unwrap().clone()
    }

    /// How often it was called at all.
    pub(crate) fn total(&self) -> usize {
        self.state.arrivals.lock().unwrap().len()
    }

    /// How often it was called for one request.
    pub(crate) fn count(&self, request_id: &str) -> usize {
        self.of(request_id).len()
    }

    /// The calls of one request.
    pub(crate) fn of(&self, request_id: &str) -> Vec<Arrival> {
        let arrivals = self.state.arrivals.lock().unwrap();
        arrivals
            .iter()
            .filter(|arrival| arrival.header("x-crochet-request-id") == request_id)
            .cloned()
            .collect()
    }

    /// How often it was called for each request; no attempt arrived twice.
    pub(crate) fn counts(&self) -> BTreeMap<String, usize> {
        let arrivals = self.state.arrivals.lock().unwrap();
        let mut counts = BTreeMap::new();
        let mut attempts = BTreeSet::new();
        for arrival in arrivals.iter() {
            let request_id = arrival.header("x-crochet-request-id").to_owned();
            let attempt = arrival.header("x-crochet-attempt").to_owned();
            *counts.entry(request_id.clone()).or_default() += 1;
            assert!(
                attempts.insert((request_id.clone(), attempt.clone())),
                "attempt {attempt} of {request_id} arrived twice"
            );
        }
        counts
    }

    /// How many connections were opened to it.
    pub(crate) fn connections(&self) -> usize {
        *self.state.connections.lock().unwrap()
    }

    /// Waits until it was called for `request_id`.
    pub(crate) async fn called_for(&self, request_id: &str) -> Arrival {
        until(
            &format!("the seller was called for {request_id}"),
            || async { self.of(request_id).into_iter().next_back() },
        )
        .await
    }

    /// Waits until it was called `calls` times in all.
    pub(crate) async fn called(&self, calls: usize) {
        until(&format!("the seller was called {calls} times"), || async {
            (self.total() >= calls).then_some(())
        })
        .await;
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let number = {
            let mut count = state.connections.lock().unwrap();
            *count += 1;
            *count - 1
        };
        drop(stream.set_nodelay(true));
        let (tls, state) = (tls.clone(), Arc::clone(&state));
        // A connection that breaks off is what some tests are about: nobody else needs to know.
        connections.spawn(async move {
            match tls {
                Some(tls) => serve(tls.accept(stream).await?, number, &state).await,
                None => serve(stream, number, &state).await,
            }
        });
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite,
    number: usize,
    state: &State,
) -> io::Result<()> {
    let (read, mut write) = tokio::io::split(stream);
    let mut read = Reader::new(Box::pin(read));
    while let Some(request) = read.request().await? {
        let reply = state.script.lock().unwrap().pop_front();
        let reply = reply.unwrap_or_else(|| state.usual.lock().unwrap().clone());
        state.arrivals.lock().unwrap().push(Arrival {
            connection: number,
            request,
        });
        for step in reply.0 {
            match step {
                Step::Wait(gate) => gate.wait().await,
                Step::Send(bytes) => write.write_all(&bytes).await?,
                Step::Pause(pause) => tokio::time::sleep(pause).await,
                Step::Close => return Ok(()),
            }
        }
        write.flush().await?;
    }
    Ok(())
}

/// A port nobody listens on, outside the range of outgoing connections, so that it stays so.
pub(crate) async fn free_port() -> u16 {
    const FIRST: u16 = 12_000;
    const COUNT: u16 = 7_000;
    static NEXT: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(0);
    let begin = u16::try_from(std::process::id() % u32::from(COUNT)).unwrap();
    loop {
        let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let port = FIRST + (begin + next) % COUNT;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.is_ok() {
            return port;
        }
    }
}

/// A service behind TLS with this certificate.
pub(crate) async fn tls_service(certificate: &rcgen::CertifiedKey<rcgen::KeyPair>) -> Service {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = rustls::pki_types::PrivateKeyDer::try_from(certificate.signing_key.serialize_der())
        .unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.cert.der().clone()], key)
        .unwrap();
    Service::start_tls(TlsAcceptor::from(Arc::new(config))).await
}
