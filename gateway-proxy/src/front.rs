//! Connections: a request's head is read here, within a size and a time, and answered or handed to pingora.
//!
//! pingora itself would take up to 1 MiB of head at any pace, and answer what is too large with a
//! bare 400. Between requests a connection waits for a limited time, and for nothing once the
//! process is stopping. Requests that came in together are handed over one by one, and so answered
//! in their order. A call with a plain head never comes to pingora ([`incoming`](crate::incoming)).
//! HTTP/2, which only TLS's ALPN chooses, is [`http2`]'s.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use crochet_shared::code::Code;
use crochet_shared::envelope::{BadField, Failure};
use pingora::apps::{HttpServerApp as _, ServerApp};
use pingora::protocols::http::ServerSession;
use pingora::protocols::{ALPN, Stream};
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt};

use crate::call::{self, Arrival, record};
use crate::client::{self, REQUEST_ID};
use crate::error::Refusal;
use crate::gateway::Gateway;
use crate::head::{self, BadHead, HEAD_BYTES_MAX, Length};
use crate::incoming::plain::{self, Plain};
use crate::incoming::{Direct, Incoming};
use crate::limits::within;
use crate::metrics::Route;
use crate::proxy::FrontDoor;
use crate::reply;
use crate::serve::READ_BUFFER_BYTES;
use crate::tls::http2;

/// Room for a head at first: what the connection's own buffer holds, and most heads fit in.
const HEAD_BYTES: usize = READ_BUFFER_BYTES;
/// Where less is left of it, there is more.
const HEAD_SPARE_BYTES: usize = 512;
/// How long a connection that has not spoken yet is heard out when the process is stopping: its first request is on
/// its way, and its client takes the end of a new connection for a failure.
pub(crate) const FIRST_WORD_TIME: Duration = Duration::from_secs(1);
/// How long a connection that was refused may go on sending.
const LINGER_TIME: Duration = Duration::from_secs(1);
/// pingora's own time to read a head, in seconds; never reached, because the head is there.
const KEPT_SECONDS: u64 = 60;
/// Slowest pace at which an answer may be read, in bytes a second (but a second at least): a
/// client that stops reading would hold her answers in memory, and the process from stopping, for ever.
pub(crate) const SEND_BYTES_A_SECOND_MIN: usize = 64 * 1024;

/// Serves connections.
pub struct Front {
    proxy: Arc<HttpProxy<FrontDoor>>,
    gateway: Arc<Gateway>,
}

impl std::fmt::Debug for Front {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("Front")
    }
}

/// What came instead of a head.
#[derive(Debug, PartialEq, Eq)]
enum NoHead {
    /// The connection ended, was idle too long, or the process is stopping.
    Gone,
    /// One that is refused.
    Bad(BadHead),
}

impl From<BadHead> for NoHead {
    fn from(bad: BadHead) -> Self {
        Self::Bad(bad)
    }
}

impl Front {
    /// Hands requests to `proxy`.
    pub const fn new(proxy: Arc<HttpProxy<FrontDoor>>, gateway: Arc<Gateway>) -> Self {
        Self { proxy, gateway }
    }

    /// Reads until a head is there, and tells where it ends in `pending`.
    async fn read_head(
        &self,
        stream: &mut Stream,
        pending: &mut BytesMut,
        stopping: &mut ShutdownWatch,
        is_first: bool,
    ) -> Result<usize, NoHead> {
        if pending.is_empty() {
            let idle = self.gateway.config.idle_time;
            // What comes fills the connection's own buffer. Room for a head is taken when there is one.
            let mut first = [0_u8; 1];
            tokio::select! {
                biased;
                read = tokio::time::timeout(idle, stream.read(&mut first)) => match read {
                    Ok(Ok(bytes)) if bytes > 0 => {}
                    Ok(_) | Err(_) => return Err(NoHead::Gone),
                },
                () = self.leaving(stopping, is_first) => return Err(NoHead::Gone),
            }
            pending.reserve(HEAD_BYTES + first.len());
            pending.extend_from_slice(&first);
        }
        let time = self.gateway.config.head_time;
        within(time, complete(stream, pending))
            .await
            .unwrap_or(Err(NoHead::Gone))
    }

    /// Answers a call whose head is plain. Gives the connection back if it may serve another request.
    async fn answer(
        &self,
        mut direct: Direct,
        name: &str,
        peer: IpAddr,
    ) -> Option<(Stream, BytesMut)> {
        let gateway = &self.gateway;
        let mut incoming = Incoming::Direct(&mut direct);
        let arrival = Arrival::now(gateway, peer, incoming.headers());
        let request_id = gateway.request_id(incoming.headers());
        let mut reply = call::serve(gateway, &mut incoming, name, &request_id, arrival).await;
        if gateway.is_draining() {
            incoming.end_connection();
        }
        let headers = incoming.headers();
        reply::name_what_stood(&mut reply, headers, client::has_body(headers));
        reply::write(&gateway.sending, &mut incoming, &reply, &request_id).await;
        record::record(gateway, Route::Call, &reply, arrival);
        drop(reply);
        direct.finish().await
    }

    /// Answers or passes on by pingora what is at the beginning of `pending`, of which `end` bytes are the
    /// head. What came in behind the request stays in `pending`.
    async fn hand_over(
        &self,
        mut stream: Stream,
        pending: &mut BytesMut,
        end: usize,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        let request = match head::judge(pending.get(..end).unwrap_or_default()) {
            Ok(Length::Bytes(body)) if pending.len() - end > body => pending.split_to(end + body),
            Ok(Length::Bytes(_) | Length::Chunked) => std::mem::take(pending),
            Err(bad) => {
                self.refuse(&mut stream, bad, pending).await;
                return None;
            }
        };
        let mut session = ServerSession::new_http1(stream);
        session.set_keepalive(Some(KEPT_SECONDS));
        session.set_min_send_rate(Some(SEND_BYTES_A_SECOND_MIN));
        // The next request may come while this one is answered. Else pingora takes it for a fault and
        // drops the connection with the answer; see `FrontDoor::logging` for what becomes of it.
        session.set_pipelining_enabled(true);
        session.set_pipelined_prefix(request);
        let reused = self.proxy.process_new_http(session, shutdown).await?;
        Some(reused.consume().0)
    }

    /// Comes when the process is stopping, a little later to a connection that has not spoken yet.
    async fn leaving(&self, stopping: &mut ShutdownWatch, is_first: bool) {
        // An error says that whoever would tell is gone, too.
        let _ = stopping.wait_for(|stopping| *stopping).await;
        if is_first {
            tokio::time::sleep(self.gateway.first_word_time()).await;
        }
    }

    fn refusal(&self, bad: BadHead) -> Refusal {
        let errors = &self.gateway.errors;
        match bad {
            BadHead::TooLarge => errors.code(Code::HeadersTooLarge),
            BadHead::Malformed { field, problem } => {
                errors.failure(&Failure::validation(&[BadField {
                    field: field.into(),
                    problem: problem.into(),
                }]))
            }
        }
    }

    /// Says why, and lets the client read it before the connection closes.
    async fn refuse(&self, stream: &mut Stream, bad: BadHead, head: &[u8]) {
        let answer = self.refusal(bad).into_reply();
        self.gateway.metrics.count(Route::Other, answer.kind);
        let request_id = self.gateway.request_id(&head::named(head, &REQUEST_ID));
        let answer = reply::closing_bytes(&answer, &request_id);
        let said = async {
            stream.write_all(&answer).await?;
            stream.flush().await?;
            AsyncWriteExt::shutdown(stream).await?;
            let mut rest = BytesMut::with_capacity(HEAD_BYTES);
            while stream.read_buf(&mut rest).await? > 0 {
                rest.clear();
            }
            Ok::<_, std::io::Error>(())
        };
        // A client that does not listen has nothing to hear.
        let _ = tokio::time::timeout(LINGER_TIME, said).await;
    }
}

/// Reads until a head ends, and tells where.
async fn complete(stream: &mut Stream, pending: &mut BytesMut) -> Result<usize, NoHead> {
    let mut seen = 0;
    loop {
        if let Some(end) = head::end(pending, seen) {
            return Ok(end);
        }
        if pending.len() > HEAD_BYTES_MAX {
            return Err(BadHead::TooLarge.into());
        }
        seen = pending.len().saturating_sub(3);
        if pending.capacity() - pending.len() < HEAD_SPARE_BYTES {
            pending.reserve(HEAD_BYTES);
        }
        match stream.read_buf(pending).await {
            Ok(bytes) if bytes > 0 => {}
            Ok(_) | Err(_) => return Err(NoHead::Gone),
        }
    }
}

/// Takes the head off `pending`, if it is a plain one.
fn take_plain(pending: &mut BytesMut, end: usize) -> Option<Plain> {
    if !plain::may_be(pending) {
        return None;
    }
    let head = pending.split_to(end).freeze();
    let plain = plain::read(&head);
    if plain.is_none() {
        let behind = std::mem::take(pending);
        *pending = head.into();
        pending.unsplit(behind);
    }
    plain
}

fn peer_of(stream: &Stream) -> IpAddr {
    stream
        .get_socket_digest()
        .and_then(|digest| {
            digest
                .peer_addr()
                .and_then(|address| address.as_inet().copied())
        })
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.ip())
}

#[async_trait]
impl ServerApp for Front {
    async fn process_new(
        self: &Arc<Self>,
        mut stream: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        if matches!(stream.selected_alpn_proto(), Some(ALPN::H2)) {
            http2::serve(&self.proxy, &self.gateway, stream, shutdown).await;
            return None;
        }
        let peer = peer_of(&stream);
        let mut stopping = shutdown.clone();
        let mut pending = BytesMut::new();
        let mut is_first = true;
        loop {
            let read = self.read_head(&mut stream, &mut pending, &mut stopping, is_first);
            let end = match read.await {
                Ok(end) => end,
                Err(NoHead::Gone) => return None,
                Err(NoHead::Bad(bad)) => {
                    self.refuse(&mut stream, bad, &pending).await;
                    return None;
                }
            };
            is_first = false;
            // Too late: the process is gone before this could be answered, and nothing of it has begun.
            let underway = self.gateway.underway.enter()?;
            stream = if let Some(plain) = take_plain(&mut pending, end) {
                let keep = !*shutdown.borrow();
                let Plain {
                    name,
                    headers,
                    length,
                } = plain;
                let behind = std::mem::take(&mut pending);
                let direct = Direct::new(stream, headers, length, behind, keep);
                let kept = self.answer(direct, &name, peer).await?;
                pending = kept.1;
                kept.0
            } else {
                let handed = self.hand_over(stream, &mut pending, end, shutdown);
                Box::pin(handed).await?
            };
            drop(underway);
        }
    }

    async fn cleanup(&self) {
        self.proxy.http_cleanup().await;
    }
}
