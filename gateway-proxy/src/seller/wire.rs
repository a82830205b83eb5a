//! The TCP socket under a connection: watched, whether it has taken a byte of the request and how many
//! came back; and asked, before reuse, whether the other side has hung up.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// What one exchange did to its socket. Relaxed everywhere: one task drives a connection.
#[derive(Debug, Default)]
pub(super) struct Watch {
    wrote: AtomicBool,
    read_bytes: AtomicUsize,
    waits_for_room: AtomicBool,
    /// Milliseconds.
    waited_for_room: AtomicU64,
}

impl Watch {
    /// Begins a new exchange.
    pub(super) fn reset(&self) {
        self.wrote.store(false, Ordering::Relaxed);
        self.read_bytes.store(0, Ordering::Relaxed);
        self.waits_for_room.store(false, Ordering::Relaxed);
        self.waited_for_room.store(0, Ordering::Relaxed);
    }

    /// Its answer begins to wait for room to be read in; when.
    pub(super) fn waits_for_room(&self) -> Instant {
        self.waits_for_room.store(true, Ordering::Relaxed);
        Instant::now()
    }

    /// It does so no more.
    pub(super) fn waited_for_room(&self, since: Instant) {
        self.waits_for_room.store(false, Ordering::Relaxed);
        let waited = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.waited_for_room.fetch_add(waited, Ordering::Relaxed);
    }

    /// Whether it is out of time for want of room: it waits, or has waited for so long.
    pub(super) fn was_crowded(&self, so_long: Duration) -> bool {
        let waited = Duration::from_millis(self.waited_for_room.load(Ordering::Relaxed));
        self.waits_for_room.load(Ordering::Relaxed) || waited > so_long
    }

    /// Whether the kernel has accepted a byte since the last reset. Below TLS, so `false` proves
    /// that no part of the request has left.
    pub(super) fn wrote(&self) -> bool {
        self.wrote.load(Ordering::Relaxed)
    }

    /// Bytes received since the last reset.
    pub(super) fn read_bytes(&self) -> usize {
        self.read_bytes.load(Ordering::Relaxed)
    }
}

/// A socket that hyper reads and writes, and that can be asked beside it. Never waited for: one task at a
/// time does either.
#[derive(Clone, Debug)]
pub(super) struct Socket(Arc<Mutex<TcpStream>>);

/// What the other side has done to a connection that idles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing: it lives, as far as this side can know.
    Nothing,
    /// It sent something.
    Bytes,
    /// It closed the connection, or reset it.
    End,
}

impl Socket {
    /// Asks the kernel itself: the runtime may not have been told yet, and a request written into a closed
    /// connection is a lost attempt.
    pub(super) fn heard(&self) -> Heard {
        let mut byte = [MaybeUninit::<u8>::uninit()];
        match SockRef::from(&*self.0.lock()).peek(&mut byte) {
            Ok(0) => Heard::End,
            Ok(_) => Heard::Bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Heard::Nothing,
            Err(_) => Heard::End,
        }
    }
}

/// A watched TCP socket.
#[derive(Debug)]
pub(super) struct Wire {
    socket: Socket,
    watch: Arc<Watch>,
}

impl Wire {
    pub(super) fn new(tcp: TcpStream) -> (Self, Socket, Arc<Watch>) {
        let socket = Socket(Arc::new(Mutex::new(tcp)));
        let watch = Arc::new(Watch::default());
        let wire = Self {
            socket: socket.clone(),
            watch: Arc::clone(&watch),
        };
        (wire, socket, watch)
    }

    fn note_write(&self, written: &Poll<io::Result<usize>>) {
        if matches!(written, Poll::Ready(Ok(n)) if *n > 0) {
            self.watch.wrote.store(true, Ordering::Relaxed);
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut *self.socket.0.lock()).poll_read(cx, buf);
        let read = buf.filled().len() - before;
        self.watch.read_bytes.fetch_add(read, Ordering::Relaxed);
        polled
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut *self.socket.0.lock()).poll_write(cx, buf);
        self.note_write(&polled);
        polled
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut *self.socket.0.lock()).poll_write_vectored(cx, bufs);
        self.note_write(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.0.lock().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.socket.0.lock()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.socket.0.lock()).poll_shutdown(cx)
    }
}

/// What HTTP is spoken over.
#[derive(Debug)]
pub(super) enum Stream {
    /// Straight over TCP (`ENDPOINT_ALLOW_HTTP`).
    Plain(Wire),
    /// Over TLS.
    Tls(Box<TlsStream<Wire>>),
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(wire) => Pin::new(wire).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(wire) => Pin::new(wire).poll_write(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(wire) => Pin::new(wire).poll_write_vectored(cx, bufs),
            Self::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(wire) => wire.is_write_vectored(),
            Self::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(wire) => Pin::new(wire).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(wire) => Pin::new(wire).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
