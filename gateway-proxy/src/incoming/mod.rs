//! A call as it comes in, and the way back for its answer.
//!
//! Two ways lead here, and a call knows no difference between them. [`Direct`] is the short one, for the
//! head that almost every client sends ([`plain`]): a POST over HTTP/1.1 whose body's length is told. All
//! else, from chunks to HTTP/2, comes as a request of pingora's.
//!
//! The short way is there for its price. On the other, a call goes through all of a proxy that has nothing
//! to pass on: a second parse, two maps of headers, filters, a future of 14 KB for each request.
//! `loadtest/README.md` has the figures.

pub mod direct;
pub mod plain;

use bytes::Bytes;
use http::HeaderMap;
use pingora::proxy::Session;

pub use direct::Direct;

/// A call of the gateway's own.
pub enum Incoming<'a> {
    /// Read off its connection here.
    Direct(&'a mut Direct),
    /// pingora's.
    Session(&'a mut Session),
}

/// The body broke off, or is not framed as HTTP says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body is broken")]
pub struct Broken;

impl std::fmt::Debug for Incoming<'_> {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str(match self {
            Self::Direct(_) => "Direct",
            Self::Session(_) => "Session",
        })
    }
}

impl Incoming<'_> {
    /// Its headers.
    pub fn headers(&self) -> &HeaderMap {
        match self {
            Self::Direct(direct) => direct.headers(),
            Self::Session(session) => &session.req_header().headers,
        }
    }

    /// Whether all of the body is here already, and takes no time to read.
    pub fn has_whole_body(&self) -> bool {
        match self {
            Self::Direct(direct) => direct.has_whole_body(),
            // Nobody can tell.
            Self::Session(_) => false,
        }
    }

    /// The next part of the body; `None` after the last.
    pub async fn body(&mut self) -> Result<Option<Bytes>, Broken> {
        match self {
            Self::Direct(direct) => direct.body().await,
            Self::Session(session) => session.read_request_body().await.map_err(|_| Broken),
        }
    }

    /// Whether all of the body was read.
    pub fn is_body_done(&mut self) -> bool {
        match self {
            Self::Direct(direct) => direct.is_body_done(),
            Self::Session(session) => session.is_body_done(),
        }
    }

    /// Tells a client that waits for it to send its body.
    pub async fn go_on(&mut self) -> Result<(), Broken> {
        match self {
            // A plain head waits for nothing.
            Self::Direct(_) => Ok(()),
            Self::Session(session) => {
                let keepalive = session.get_keepalive();
                session
                    .write_continue_response()
                    .await
                    .map_err(|_| Broken)?;
                // pingora takes any response before the end of the body for the last on the connection.
                session.set_keepalive(keepalive);
                Ok(())
            }
        }
    }

    /// Ends the connection with the answer.
    pub fn end_connection(&mut self) {
        match self {
            Self::Direct(direct) => direct.end_connection(),
            Self::Session(session) => session.set_keepalive(None),
        }
    }
}
