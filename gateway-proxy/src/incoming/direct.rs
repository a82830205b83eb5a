//! A call read straight off its connection, and its answer written there.

use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};
use pingora::protocols::Stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::Broken;
use crate::error::Reply;
use crate::reply;
use crate::sending::Sending;

/// Read at once of a body that did not come along with its head.
const READ_BYTES: usize = 64 * 1024;
/// How long saying that a connection ends may take.
const CLOSE_TIME: Duration = Duration::from_secs(1);

/// A call on an HTTP/1.1 connection.
pub struct Direct {
    stream: Stream,
    headers: HeaderMap,
    /// What came behind the head: of the body, and of the next request.
    pending: BytesMut,
    /// Bytes of the body still to be handed on.
    rest: usize,
    keep: bool,
    /// The client did not take its answer.
    is_gone: bool,
}

impl std::fmt::Debug for Direct {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("Direct").finish_non_exhaustive()
    }
}

impl Direct {
    /// A call whose head was read off `stream`, and `pending` behind it. Its body has `length` bytes. `keep`
    /// says whether the connection may serve another.
    pub const fn new(
        stream: Stream,
        headers: HeaderMap,
        length: usize,
        pending: BytesMut,
        keep: bool,
    ) -> Self {
        Self {
            stream,
            headers,
            pending,
            rest: length,
            keep,
            is_gone: false,
        }
    }

    pub(super) const fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    pub(super) fn has_whole_body(&self) -> bool {
        self.pending.len() >= self.rest
    }

    pub(super) const fn is_body_done(&self) -> bool {
        self.rest == 0
    }

    pub(super) const fn end_connection(&mut self) {
        self.keep = false;
    }

    /// The next part of the body. No more of it is kept than was read at once.
    pub(super) async fn body(&mut self) -> Result<Option<Bytes>, Broken> {
        if self.rest == 0 {
            return Ok(None);
        }
        if self.pending.is_empty() {
            self.pending.reserve(self.rest.min(READ_BYTES));
            let read = self.stream.read_buf(&mut self.pending).await;
            if !matches!(read, Ok(bytes) if bytes > 0) {
                return Err(Broken);
            }
        }
        let part = self.pending.split_to(self.rest.min(self.pending.len()));
        self.rest -= part.len();
        Ok(Some(part.freeze()))
    }

    /// Writes the whole answer. An error is a client that went away, or does not read.
    pub(crate) async fn answer(
        &mut self,
        sending: &Sending,
        reply: &Reply,
        request_id: &HeaderValue,
    ) -> io::Result<()> {
        // Where the next request begins is known only behind the whole body.
        self.keep &= self.rest == 0;
        let head = reply::wire(reply, request_id, self.keep);
        let time = reply::send_time(head.len() + reply.body.len());
        let mut bytes = Buf::chain(head.as_slice(), reply.body.clone());
        let writing = async {
            self.stream.write_all_buf(&mut bytes).await?;
            self.stream.flush().await
        };
        let counted = reply::counted_bytes(reply);
        let sent = sending.within(counted, time, writing).await;
        let sent = sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        self.is_gone = sent.is_err();
        sent
    }

    /// The connection, if it may serve another request, and what came of that already. Else it ends here.
    pub async fn finish(mut self) -> Option<(Stream, BytesMut)> {
        // To end in order would be to send first what a client that is gone does not take.
        if self.is_gone {
            return None;
        }
        if self.keep {
            // The room that a large body took is not kept while the connection idles.
            let pending = if self.pending.is_empty() {
                BytesMut::new()
            } else {
                self.pending
            };
            return Some((self.stream, pending));
        }
        // The other end may be gone already.
        let _ = tokio::time::timeout(CLOSE_TIME, self.stream.shutdown()).await;
        None
    }
}
