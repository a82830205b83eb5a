//! pingora's hooks, nothing else: whose a request is, and what is passed on.
//!
//! `request_filter` owns the gateway's two paths and ends there. Everything else takes pingora's
//! native way to the control plane: streamed, any size, with the headers that only we may say set
//! anew. A POST is never sent twice.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use crochet_shared::code::Code;
use crochet_shared::envelope::{BadField, Failure};
use http::header::{ACCESS_CONTROL_REQUEST_METHOD, COOKIE, HeaderValue, ORIGIN};
use http::{Method, Uri};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};

use crate::call::{self, Arrival, head, probe, record};
use crate::client::{
    self, FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO, Forwarded, Link, REQUEST_ID,
};
use crate::error::{Kind, Reply};
use crate::gateway::Gateway;
use crate::incoming::Incoming;
use crate::metrics::Route;
use crate::path::{self, Place};
use crate::reply;
use crate::upstream::Upstream;

/// What is wrong with a body that cannot be read.
const BROKEN_BODY: &str = "must be complete and framed as HTTP says";
/// What is wrong with a `Connection` header that pingora does not pass on.
const BAD_CONNECTION: &str = "must name only headers that belong to one connection";

/// The proxy.
#[derive(Debug)]
pub struct FrontDoor {
    gateway: Arc<Gateway>,
    upstream: Arc<Upstream>,
}

/// What the hooks of one request know of each other.
#[derive(Debug, Default)]
pub struct Ctx {
    request_id: Option<HeaderValue>,
    /// The path as it is passed on.
    path: String,
    forwarded: Option<Forwarded>,
    /// The first try found a connection dead.
    is_again: bool,
}

/// Whose a request is, with nothing borrowed from it.
enum Owner {
    Gateway(String),
    Test(String),
    Nobody(Code),
    Ambiguous,
    ControlPlane,
}

impl Owner {
    const fn route(&self) -> Route {
        match self {
            Self::Gateway(_) => Route::Call,
            Self::Test(_) => Route::Test,
            Self::Nobody(_) | Self::Ambiguous | Self::ControlPlane => Route::Other,
        }
    }
}

impl FrontDoor {
    /// Serves for this gateway, passing to this control plane.
    pub const fn new(gateway: Arc<Gateway>, upstream: Arc<Upstream>) -> Self {
        Self { gateway, upstream }
    }

    /// The answer to a request that is the gateway's own.
    async fn own(
        &self,
        session: &mut Session,
        ctx: &Ctx,
        owner: &Owner,
        arrival: Arrival,
    ) -> Option<Reply> {
        let errors = &self.gateway.errors;
        let (name, is_test) = match owner {
            Owner::ControlPlane => return None,
            Owner::Nobody(code) => return Some(errors.code(*code).into_reply()),
            Owner::Ambiguous => {
                let bad = head::field("path", "must not hold encoded slashes, dot segments or //");
                return Some(errors.failure(&Failure::validation(&[bad])).into_reply());
            }
            Owner::Gateway(name) => (name, false),
            Owner::Test(name) => (name, true),
        };
        let request = session.req_header();
        if request.method == Method::OPTIONS
            && request.headers.contains_key(ORIGIN)
            && request.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
        {
            return Some(Reply::ok(204, Kind::Preflight, Bytes::new()));
        }
        if request.method != Method::POST {
            return Some(errors.code(Code::MethodNotAllowed).into_reply());
        }
        let mut incoming = Incoming::Session(session);
        Some(if is_test {
            Box::pin(probe::serve(&self.gateway, &mut incoming, name, arrival)).await
        } else {
            let request_id = ctx.request_id();
            call::serve(&self.gateway, &mut incoming, name, &request_id, arrival).await
        })
    }

    fn owner(request: &RequestHeader, ctx: &mut Ctx) -> Owner {
        if !request.raw_path_is_utf8() {
            return Owner::Ambiguous;
        }
        let Ok(path) = path::normalise(request.uri.path()) else {
            return Owner::Ambiguous;
        };
        match path::place(&path) {
            Place::Gateway(name) => Owner::Gateway(name.to_owned()),
            Place::Test(name) => Owner::Test(name.to_owned()),
            Place::Internal => Owner::Nobody(Code::NotFound),
            Place::ControlPlane => {
                ctx.path = path.into_owned();
                Owner::ControlPlane
            }
        }
    }

    /// 400 for a part of a request that cannot be passed on, and no more on this connection: where the
    /// next request begins is unknown.
    async fn refuse(&self, session: &mut Session, ctx: &Ctx, bad: BadField) {
        session.set_keepalive(None);
        let refusal = self.gateway.errors.failure(&Failure::validation(&[bad]));
        let mut answer = refusal.into_reply();
        self.gateway.metrics.count(Route::Other, answer.kind);
        self.write(session, ctx, &mut answer).await;
    }

    async fn write(&self, session: &mut Session, ctx: &Ctx, answer: &mut Reply) -> bool {
        // HTTP/2 frames a body without saying its length.
        let has_body = session.is_http2() && !session.is_body_empty();
        let headers = &session.req_header().headers;
        let has_body = has_body || client::has_body(headers);
        reply::name_what_stood(answer, headers, has_body);
        let incoming = &mut Incoming::Session(session);
        reply::write(&self.gateway.sending, incoming, answer, &ctx.request_id()).await
    }
}

impl Ctx {
    fn request_id(&self) -> HeaderValue {
        let made = HeaderValue::from_static("unknown-request");
        self.request_id.clone().unwrap_or(made)
    }
}

/// Whether an HTTP/2 head is larger than HTTP/1.1's may be, which the front has judged already.
fn is_too_large(session: &Session) -> bool {
    session.is_http2() && crate::head::is_too_large(&session.req_header().headers)
}

/// Whether the client speaks TLS to this process.
fn is_by_tls(session: &Session) -> bool {
    session
        .digest()
        .is_some_and(|digest| digest.ssl_digest.is_some())
}

fn peer_of(session: &Session) -> IpAddr {
    session
        .client_addr()
        .and_then(|address| address.as_inet())
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), std::net::SocketAddr::ip)
}

#[async_trait]
impl ProxyHttp for FrontDoor {
    type CTX = Ctx;

    fn new_ctx(&self) -> Ctx {
        Ctx::default()
    }

    /// No modules: nothing is compressed or changed on its way.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
        if self.gateway.is_draining() {
            session.set_keepalive(None);
        }
        let headers = &session.req_header().headers;
        let arrival = Arrival::now(&self.gateway, peer_of(session), headers);
        ctx.request_id = Some(self.gateway.request_id(headers));
        let owner = if is_too_large(session) {
            Owner::Nobody(Code::HeadersTooLarge)
        } else {
            Self::owner(session.req_header(), ctx)
        };
        let Some(mut answer) = self.own(session, ctx, &owner, arrival).await else {
            return Ok(false);
        };
        let written = self.write(session, ctx, &mut answer).await;
        record::record(&self.gateway, owner.route(), &answer, arrival);
        if written {
            Ok(true)
        } else {
            // pingora would first send what the client does not take, for as long as that lasts.
            Err(Error::new_down(ErrorType::WriteError))
        }
    }

    async fn upstream_peer(&self, _session: &mut Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
        let peer = if ctx.is_again {
            self.upstream.fresh_peer()
        } else {
            self.upstream.peer()
        };
        peer.ok_or_else(|| Error::explain(pingora::ConnectError, "the control plane is nowhere"))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        let headers = &session.req_header().headers;
        for name in client::spoken_for(headers) {
            request.remove_header(&name);
        }
        if let Some(cookies) = client::joined_cookies(headers) {
            request.insert_header(COOKIE, cookies)?;
        }
        let trusted = &self.gateway.config.trusted_proxies;
        let link = Link {
            peer: peer_of(session),
            by_tls: is_by_tls(session),
            authority: session.req_header().uri.authority(),
        };
        let forwarded = Forwarded::read(&link, headers, trusted);
        request.insert_header(FORWARDED_FOR.clone(), forwarded.address.to_string())?;
        request.insert_header(FORWARDED_PROTO.clone(), forwarded.proto)?;
        if let Some(host) = forwarded.host.clone() {
            request.insert_header(FORWARDED_HOST.clone(), host)?;
        }
        if let Some(id) = ctx.request_id.clone() {
            request.insert_header(REQUEST_ID.clone(), id)?;
        }
        ctx.forwarded = Some(forwarded);
        request.set_uri(passed_uri(&ctx.path, request.uri.query())?);
        Ok(())
    }

    async fn response_filter(
        &self,
        _session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        if let Some(id) = ctx.request_id.clone() {
            response.insert_header(REQUEST_ID.clone(), id)?;
        }
        self.gateway.metrics.passed(Some(response.status.as_u16()));
        Ok(())
    }

    /// Nothing was sent: whoever balances load before the control planes may know by now which is gone.
    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Ctx,
        mut error: Box<Error>,
    ) -> Box<Error> {
        error.set_retry(true);
        ctx.is_again = true;
        error
    }

    /// Again only what changes nothing, and only when the connection turned out to be dead.
    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        ctx: &mut Ctx,
        client_reused: bool,
    ) -> Box<Error> {
        let method = &session.req_header().method;
        let harmless = matches!(*method, Method::GET | Method::HEAD);
        if harmless && !session.as_ref().retry_buffer_truncated() {
            error.retry.decide_reuse(client_reused);
            // pingora asks again what it could not write to a kept connection. What reached a control plane
            // that was just closing ends in reading; nothing of an answer has reached the client then.
            if session.response_written().is_none() && is_closed(&error) {
                error.set_retry(true);
            }
            ctx.is_again = error.retry();
        } else {
            error.set_retry(false);
        }
        error
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut Ctx,
    ) -> FailToProxy {
        let unanswerable = FailToProxy {
            error_code: 0,
            can_reuse_downstream: false,
        };
        if session.response_written().is_some() {
            return unanswerable;
        }
        if *error.esource() == ErrorSource::Downstream {
            if let Some(bad) = part_at_fault(error.etype()) {
                self.refuse(session, ctx, bad).await;
            }
            return unanswerable;
        }
        self.gateway.metrics.passed(None);
        // pingora closes the connection after a request that it could not pass on, whatever it is told here:
        // the client hears so, and sends its next one elsewhere.
        session.set_keepalive(None);
        let refusal = self.gateway.errors.code(Code::ServiceUnavailable);
        let mut answer = refusal.into_reply();
        let status = answer.status;
        if !self.write(session, ctx, &mut answer).await {
            return unanswerable;
        }
        FailToProxy {
            error_code: status,
            can_reuse_downstream: false,
        }
    }

    /// Comes after the answer and before the connection is kept. What pingora read behind the request is
    /// lost to the front, which judges each head itself: then the connection ends with this answer, and
    /// the client asks again (RFC 9112 §9.3.2), rather than the rest being read as a request.
    async fn logging(&self, session: &mut Session, _error: Option<&Error>, _ctx: &mut Ctx) {
        session.set_pipelining_enabled(false);
    }

    fn suppress_error_log(&self, _session: &Session, _ctx: &Ctx, error: &Error) -> bool {
        *error.esource() == ErrorSource::Downstream
    }

    /// Method and path: a query may hold what is nobody's business.
    fn request_summary(&self, session: &Session, ctx: &Ctx) -> String {
        format!("{} {}", session.req_header().method, ctx.path)
    }
}

/// What of the request could not be read or passed on; nothing when it is the answer that could not
/// be written.
fn part_at_fault(error: &ErrorType) -> Option<BadField> {
    let is_of_the_body = matches!(
        error,
        ErrorType::ReadError
            | ErrorType::ConnectionClosed
            // pingora's names for what its parser of bodies finds; the constants are its own.
            | ErrorType::Custom("InvalidChunk" | "InvalidTrailerEnd")
    );
    if is_of_the_body {
        return Some(head::field("body", BROKEN_BODY));
    }
    // The front has judged every other header: this one names what must reach the control plane.
    matches!(error, ErrorType::InvalidHTTPHeader).then(|| head::field("Connection", BAD_CONNECTION))
}

/// Whether the other end of a connection to the control plane closed it.
fn is_closed(error: &Error) -> bool {
    let closed = matches!(
        error.etype(),
        ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError
    );
    closed && *error.esource() == ErrorSource::Upstream
}

fn passed_uri(path: &str, query: Option<&str>) -> Result<Uri> {
    let text = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    text.parse()
        .map_err(|_| Error::explain(pingora::InvalidHTTPHeader, "the path is not one"))
}
