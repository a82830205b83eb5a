//! A seller whose every byte is scripted, and a canary that must hear nothing.

use std::future::Future;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// One request as it came in.
#[derive(Clone, Debug, Default)]
pub(super) struct Arrived {
    pub(super) line: String,
    /// Names lowercase, in the order received.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Arrived {
    pub(super) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }
}

/// What a scripted seller has seen.
#[derive(Clone, Default)]
pub(super) struct Seen {
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<Arrived>>>,
}

impl Seen {
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(super) fn requests(&self) -> Vec<Arrived> {
        self.requests.lock().clone()
    }

    pub(super) fn arrivals(&self) -> usize {
        self.requests.lock().len()
    }
}

/// One connection, from the seller's side.
pub(super) struct Peer<S> {
    pub(super) stream: S,
    seen: Seen,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    pub(super) fn new(stream: S, seen: Seen) -> Self {
        Self { stream, seen }
    }

    /// Reads one request to its last byte; `None` when the other side closed instead.
    pub(super) async fn read(&mut self) -> Option<Arrived> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.stream.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.trim_end().lines();
        let line = lines.next().unwrap().to_owned();
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let mut arrived = Arrived {
            line,
            headers,
            body: Vec::new(),
        };
        arrived.body = vec![0; arrived.header("content-length").parse().unwrap()];
        self.stream.read_exact(&mut arrived.body).await.ok()?;
        self.seen.requests.lock().push(arrived.clone());
        Some(arrived)
    }

    pub(super) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        // The other side may have closed: that is for the test's own assertions to tell.
        let _ = self.stream.write_all(bytes.as_ref()).await;
        let _ = self.stream.flush().await;
    }
}

pub(super) const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

/// Runs `script` for each connection on a free loopback port.
pub(super) async fn start<F, R>(script: F) -> (SocketAddr, Seen)
where
    F: Fn(usize, Peer<TcpStream>) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    start_at(Ipv4Addr::LOCALHOST.into(), 0, script).await
}

pub(super) async fn start_at<F, R>(ip: IpAddr, port: u16, script: F) -> (SocketAddr, Seen)
where
    F: Fn(usize, Peer<TcpStream>) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind((ip, port)).await.unwrap();
    let at = listener.local_addr().unwrap();
    let seen = Seen::default();
    let told = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let nth = seen.connections.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(script(nth, Peer::new(stream, seen.clone())));
        }
    });
    (at, told)
}

/// Answers every request with the same bytes and closes after the last of them.
pub(super) async fn answering(raw: impl AsRef<[u8]>) -> (SocketAddr, Seen) {
    let raw = Arc::new(raw.as_ref().to_vec());
    start(move |_, mut peer| {
        let raw = Arc::clone(&raw);
        async move {
            if peer.read().await.is_some() {
                peer.write(raw.as_slice()).await;
            }
        }
    })
    .await
}

/// Answers every request on every connection with an empty object, and keeps it open.
pub(super) async fn polite() -> (SocketAddr, Seen) {
    start(|_, mut peer| async move {
        while peer.read().await.is_some() {
            peer.write(OK).await;
        }
    })
    .await
}

/// A seller on a thread of her own, who answers one request on each connection and hands the connection over.
///
/// Of what is done with it then, the runtime of a test that blocks its only thread meanwhile has not been told.
pub(super) struct Untold<S> {
    pub(super) at: SocketAddr,
    expect: Sender<()>,
    answered: Receiver<S>,
}

impl<S: Read + Write + Send + 'static> Untold<S> {
    /// `speak` makes of a socket what HTTP is spoken over.
    pub(super) fn start(speak: impl Fn(std::net::TcpStream) -> S + Send + 'static) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = listener.local_addr().unwrap();
        let (expect, expected) = channel();
        let (tell, answered) = channel();
        std::thread::spawn(move || {
            for () in expected {
                let mut stream = speak(listener.accept().unwrap().0);
                let mut request = [0; 4096];
                let read = stream.read(&mut request).unwrap();
                assert!(request[..read].ends_with(b"{}"));
                stream.write_all(OK.as_bytes()).unwrap();
                stream.flush().unwrap();
                tell.send(stream).unwrap();
            }
        });
        Self {
            at,
            expect,
            answered,
        }
    }

    /// Has her wait for one more connection.
    pub(super) fn expect_one(&self) {
        self.expect.send(()).unwrap();
    }

    /// The connection whose request she has answered.
    pub(super) fn answered(&self) -> S {
        self.answered.recv().unwrap()
    }
}

/// A listener that must never be connected to. The kernel takes connections for it before any
/// `accept`, so looking once afterwards tells for sure.
pub(super) struct Canary(std::net::TcpListener);

impl Canary {
    pub(super) fn at(ip: IpAddr, port: u16) -> Self {
        let listener = std::net::TcpListener::bind((ip, port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    pub(super) fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    pub(super) fn is_silent(&self) -> bool {
        let heard = self.0.accept();
        matches!(heard, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    }
}
