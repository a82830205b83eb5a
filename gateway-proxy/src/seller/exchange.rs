//! One request and its answer over one connection.
//!
//! The hyper connection is a future that somebody must poll. Here the call that waits for the answer
//! polls it beside its own wait: no task is spawned for it and no wake-up crosses tasks. Between
//! calls nobody polls it, so before reuse the socket itself is asked whether the other side has hung up.

use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use crochet_shared::outcome::{SellerFailure, is_billable};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName};
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::runtime;
use tokio::task::yield_now;

use super::reading::{Kept, Reading};
use super::request::SellerRequest;
use super::send::{SellerAnswer, Started};
use super::wire::{Heard, Socket, Stream, Watch};
use crate::limits::FREE_BYTES;
use crate::pieces::Pieces;

/// Longest head of an answer, in bytes, all its 1xx heads included. Also the size of the buffer.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Longest `Content-Type` and `Content-Encoding` passed on, in characters.
const HEADER_CHARS_MAX: usize = 255;
/// Longest time a connection idles.
const IDLE_MAX: Duration = Duration::from_mins(1);
/// Time it idles when the seller does not say how long she keeps it: shorter than the five seconds
/// that Node, uvicorn and Apache wait by default, because a request that crosses their close is a
/// lost attempt, and a new connection is only slower.
const IDLE_UNTOLD: Duration = Duration::from_secs(4);
/// How much earlier than the seller says we let go.
const IDLE_MARGIN: Duration = Duration::from_secs(1);

type Driver = http1::Connection<TokioIo<Stream>, Full<Bytes>>;

/// A connection that speaks HTTP/1.1.
pub(super) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    /// `None` once it has ended.
    driver: Option<Box<Driver>>,
    /// `None` then too: whoever has ended is not kept open.
    socket: Option<Socket>,
    is_plain: bool,
    watch: Arc<Watch>,
    peer: IpAddr,
    /// Whose reactor wakes whoever waits for it.
    runtime: runtime::Id,
}

/// How an exchange ended without an answer.
#[derive(Debug)]
pub(super) enum Broken {
    /// The socket accepted no byte: another connection may be used. The request comes back where
    /// hyper still had it.
    NotSent(Option<Box<SellerRequest>>),
    /// This attempt failed.
    Failed(SellerFailure),
    /// It was cut off for others ([`reading`](super::reading)).
    CutOff,
}

const TOO_LARGE: Broken = Broken::Failed(SellerFailure::TooLarge);
const INVALID: Broken = Broken::Failed(SellerFailure::Invalid);

/// An answer, and for how long its connection may idle.
pub(super) struct Answered {
    /// Without its body.
    pub(super) answer: SellerAnswer,
    /// That.
    pub(super) body: Pieces,
    pub(super) idle_for: Duration,
}

/// Bounds of an answer.
#[derive(Clone, Copy)]
pub(super) struct Limits<'a> {
    pub(super) body_bytes: usize,
    pub(super) reading: Option<&'a Reading>,
    /// Whether anybody will look at the body.
    pub(super) keep: bool,
}

impl Connection {
    /// Prepares HTTP on a fresh stream. hyper's own strictness stays as it is: no HTTP/0.9, no
    /// folded headers, no space before a colon, at most 100 headers.
    pub(super) async fn new(
        stream: Stream,
        socket: Socket,
        watch: Arc<Watch>,
        peer: IpAddr,
    ) -> Result<Self, hyper::Error> {
        let is_plain = matches!(stream, Stream::Plain(_));
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .max_header_size(HEAD_BYTES_MAX)
            .handshake(TokioIo::new(stream))
            .await?;
        Ok(Self {
            sender,
            driver: Some(Box::new(driver)),
            socket: Some(socket),
            is_plain,
            watch,
            peer,
            runtime: runtime::Handle::current().id(),
        })
    }

    /// The runtime it was made on.
    pub(super) const fn runtime(&self) -> runtime::Id {
        self.runtime
    }

    /// The checked address it leads to.
    pub(super) const fn peer(&self) -> IpAddr {
        self.peer
    }

    /// Whether it can carry a request, as far as this side can know.
    pub(super) async fn is_alive(&mut self) -> bool {
        match self.heard() {
            Heard::Nothing => self.can_be_kept(),
            // Of TLS's own, perhaps. Unless all of it was read by now there is more, or an end behind it.
            Heard::Bytes if !self.is_plain => {
                self.settle().await;
                self.heard() == Heard::Nothing && self.can_be_kept()
            }
            // Nothing is due before a request.
            Heard::Bytes | Heard::End => false,
        }
    }

    fn heard(&self) -> Heard {
        self.socket.as_ref().map_or(Heard::End, Socket::heard)
    }

    /// Lets hyper finish what it can without waiting.
    async fn settle(&mut self) {
        poll_fn(|cx| {
            self.poll_driver(cx);
            Poll::Ready(())
        })
        .await;
    }

    /// Whether the last exchange is over on both sides and the connection stays open.
    fn can_be_kept(&self) -> bool {
        self.driver.is_some() && self.sender.is_ready()
    }

    /// An ended driver is dropped at once: that answers whoever still waits for it.
    fn poll_driver(&mut self, cx: &mut Context<'_>) {
        if let Some(driver) = &mut self.driver
            && Pin::new(driver).poll(cx).is_ready()
        {
            self.driver = None;
            self.socket = None;
        }
    }

    /// Waits for `wanted`, driving the connection meanwhile. Looked at before and after: what is there already
    /// costs no look at the connection, and what the connection brings no second turn.
    async fn drive<F: Future>(&mut self, wanted: F) -> F::Output {
        let mut wanted = pin!(wanted);
        poll_fn(|cx| {
            if let Poll::Ready(output) = wanted.as_mut().poll(cx) {
                return Poll::Ready(output);
            }
            self.poll_driver(cx);
            wanted.as_mut().poll(cx)
        })
        .await
    }

    /// Sends the request and waits for the head of the answer.
    async fn head(&mut self, request: SellerRequest) -> Result<Response<Incoming>, Broken> {
        let mut answering = pin!(self.sender.try_send_request(request));
        let answered = poll_fn(|cx| {
            self.poll_driver(cx);
            match answering.as_mut().poll(cx) {
                Poll::Ready(answered) => Poll::Ready(Some(answered)),
                // All that was read has been parsed by now, and was no head.
                Poll::Pending if self.watch.read_bytes() > HEAD_BYTES_MAX => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        match answered {
            Some(Ok(response)) => Ok(response),
            Some(Err(mut error)) if !self.watch.wrote() => {
                Err(Broken::NotSent(error.take_message().map(Box::new)))
            }
            Some(Err(_)) | None => Err(Broken::Failed(SellerFailure::Invalid)),
        }
    }

    /// Reads the body, and keeps it only if somebody will look at it.
    async fn body(
        &mut self,
        mut body: Incoming,
        keep: bool,
        limits: Limits<'_>,
    ) -> Result<Gathered, Broken> {
        let declared = body.size_hint().exact();
        let declared = declared.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        if declared.is_some_and(|bytes| bytes > limits.body_bytes) {
            return Err(TOO_LARGE);
        }
        let mut gathered = Gathered::default();
        while !body.is_end_stream() {
            let Some(frame) = self.drive(body.frame()).await else {
                break;
            };
            let frame = frame.map_err(|_| INVALID)?;
            // Trailers are none of the buyer's business.
            let Ok(data) = frame.into_data() else {
                continue;
            };
            gathered.bytes += data.len();
            if gathered.bytes > limits.body_bytes {
                return Err(TOO_LARGE);
            }
            if !keep {
                continue;
            }
            gathered.pieces.push(data);
            if gathered.bytes > FREE_BYTES
                && let Some(reading) = limits.reading
            {
                // In a box, because most bodies are small.
                let rest = self.rest(body, gathered, limits, reading);
                return Box::pin(rest).await;
            }
        }
        Ok(gathered)
    }

    /// Reads the rest of a large body, which takes its part of the budget.
    async fn rest(
        &mut self,
        mut body: Incoming,
        mut gathered: Gathered,
        limits: Limits<'_>,
        reading: &Reading,
    ) -> Result<Gathered, Broken> {
        let mut held = reading.begin(Instant::now());
        while !body.is_end_stream() {
            let next = held.unless_cut(self.drive(body.frame())).await;
            let Some(frame) = next.ok_or(Broken::CutOff)? else {
                break;
            };
            let Ok(data) = frame.map_err(|_| INVALID)?.into_data() else {
                continue;
            };
            // For what came before it, now that more did: an answer that is whole waits for nothing, and what
            // room it lacks is looked for before it is settled.
            let began = self.watch.waits_for_room();
            held.grow(gathered.bytes).await;
            self.watch.waited_for_room(began);
            gathered.bytes += data.len();
            if gathered.bytes > limits.body_bytes {
                return Err(TOO_LARGE);
            }
            gathered.pieces.push(data);
            // Else one poll would read all that has come, and others wait for milliseconds.
            yield_now().await;
        }
        gathered.kept = held.read(gathered.bytes);
        Ok(gathered)
    }
}

/// A body as it comes in, and what it holds.
#[derive(Default)]
struct Gathered {
    /// All that came, also of a body that nobody looks at.
    bytes: usize,
    pieces: Pieces,
    kept: Kept,
}

/// Sends `request` and reads the whole answer. The connection may be kept afterwards only when
/// [`Answered::idle_for`] is not zero.
pub(super) async fn exchange(
    connection: &mut Connection,
    request: SellerRequest,
    limits: Limits<'_>,
    started: &mut Started,
) -> Result<Answered, Broken> {
    connection.watch.reset();
    // The first byte leaves in the first poll, a few microseconds from here.
    let first_byte = Instant::now();
    started.watch(Arc::clone(&connection.watch), first_byte);
    let response = connection.head(request).await?;
    let (head, body) = response.into_parts();
    // 600 to 999 parse and are no statuses of HTTP (RFC 9110 §15): such a head is malformed, and no
    // complete answer of any class, so an endpoint of `redelivery: never` is not called again.
    if !is_status(head.status) {
        return Err(Broken::Failed(SellerFailure::Invalid));
    }
    started.answered(head.status);
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Broken::Failed(SellerFailure::Invalid));
    }
    let status = head.status.as_u16();
    let keep = limits.keep && is_billable(status);
    let gathered = connection.body(body, keep, limits).await?;
    let latency = first_byte.elapsed();
    if !connection.can_be_kept() {
        connection.settle().await;
    }
    let idle_for = if connection.can_be_kept() {
        idle_for(&head.headers)
    } else {
        Duration::ZERO
    };
    Ok(Answered {
        answer: SellerAnswer {
            status,
            content_type: text(&head.headers, &CONTENT_TYPE),
            content_encoding: text(&head.headers, &CONTENT_ENCODING),
            body: Bytes::new(),
            latency,
            kept: gathered.kept,
        },
        body: gathered.pieces,
        idle_for,
    })
}

/// Whether a status is one of HTTP's five classes.
fn is_status(status: StatusCode) -> bool {
    (100..600).contains(&status.as_u16())
}

/// How long a connection may idle: as the seller says, less a margin (`Keep-Alive: timeout=5`).
fn idle_for(headers: &HeaderMap) -> Duration {
    let told = headers
        .get("keep-alive")
        .and_then(|value| value.to_str().ok())
        .and_then(|value| {
            value.split(',').find_map(|part| {
                let seconds = part.trim().strip_prefix("timeout=")?;
                seconds.parse().ok().map(Duration::from_secs)
            })
        });
    told.map_or(IDLE_UNTOLD, |told| {
        told.saturating_sub(IDLE_MARGIN).min(IDLE_MAX)
    })
}

/// A header as text, its lines joined, cut to [`HEADER_CHARS_MAX`]. Bytes that are no text are
/// replaced rather than dropped: that there is a `Content-Encoding` must not get lost.
fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    let mut joined = String::from_utf8_lossy(first.as_bytes());
    for value in values {
        let joined = joined.to_mut();
        joined.push_str(", ");
        joined.push_str(&String::from_utf8_lossy(value.as_bytes()));
    }
    let is_plain = joined.len() <= HEADER_CHARS_MAX && !joined.chars().any(char::is_control);
    if is_plain {
        return Some(joined.into_owned());
    }
    let printable = joined.chars().filter(|c| !c.is_control());
    Some(printable.take(HEADER_CHARS_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_connection_is_let_go_before_the_seller_does() {
        let idle = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("keep-alive", HeaderValue::from_static(value));
            idle_for(&headers)
        };
        assert_eq!(idle("timeout=5, max=100"), Duration::from_secs(4));
        assert_eq!(idle("max=100, timeout=1"), Duration::ZERO);
        assert_eq!(idle("timeout=100000"), IDLE_MAX);
        assert_eq!(idle("nonsense"), IDLE_UNTOLD);
        assert_eq!(idle_for(&HeaderMap::new()), IDLE_UNTOLD);
    }

    #[test]
    fn headers_are_told_as_bounded_text() {
        let mut headers = HeaderMap::new();
        assert_eq!(text(&headers, &CONTENT_ENCODING), None);
        headers.insert(
            CONTENT_ENCODING,
            HeaderValue::from_bytes(b"gz\xff").unwrap(),
        );
        headers.append(CONTENT_ENCODING, HeaderValue::from_static("br"));
        assert_eq!(
            text(&headers, &CONTENT_ENCODING).as_deref(),
            Some("gz\u{fffd}, br")
        );
        let long = "x".repeat(1000);
        headers.insert(CONTENT_TYPE, HeaderValue::from_str(&long).unwrap());
        assert_eq!(text(&headers, &CONTENT_TYPE).unwrap().len(), 255);
    }
}
