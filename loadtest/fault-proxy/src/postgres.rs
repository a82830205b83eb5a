//! Where a reply of Postgres ends (its frontend/backend protocol, version 3).
//!
//! The server holds back what it says until it is ready for the next query, and it says so only after
//! the statement has been committed: a reply cut off before its `ReadyForQuery` is exactly a commit
//! nobody heard of.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// A message's type and length stand before its body; the length counts itself.
const HEAD_BYTES: usize = 5;
const LENGTH_BYTES: usize = 4;
/// `ReadyForQuery`
const READY: u8 = b'Z';
/// Answers after which the server waits for the client before it is ready: both directions of a copy.
const WAITS: [u8; 3] = [b'G', b'H', b'W'];
/// The answer to a client that would like TLS: no.
const NO_TLS: u8 = b'N';

/// What the server said up to a moment at which it waits.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) raw: Bytes,
    /// Whether it has finished with a query, so that whatever that query did is done.
    pub(crate) is_done: bool,
}

/// Reads what a server says.
#[derive(Debug)]
pub(crate) struct Replies<R> {
    stream: R,
    buffer: BytesMut,
    /// Until the server is ready for the first time, client and server take turns.
    is_starting: bool,
    is_first_byte: bool,
}

impl<R: AsyncRead + Unpin> Replies<R> {
    pub(crate) fn new(stream: R) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
            is_starting: true,
            is_first_byte: true,
        }
    }

    /// The next reply; `None` when the server closed.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Reply>> {
        let mut length = 0;
        loop {
            while let Some((kind, end)) = self.message(length) {
                length = end;
                let is_ready = kind == READY;
                if is_ready || self.is_starting || WAITS.contains(&kind) {
                    // Logging in is no query.
                    let is_done = is_ready && !self.is_starting;
                    self.is_starting &= !is_ready;
                    self.is_first_byte = false;
                    let raw = self.buffer.split_to(length).freeze();
                    return Ok(Some(Reply { raw, is_done }));
                }
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// The type of the message that begins at `from`, and where it ends, when all of it is there.
    fn message(&self, from: usize) -> Option<(u8, usize)> {
        let rest = self.buffer.get(from..)?;
        let kind = *rest.first()?;
        if self.is_first_byte && kind == NO_TLS {
            return Some((kind, from + 1));
        }
        let length = rest.get(HEAD_BYTES - LENGTH_BYTES..HEAD_BYTES)?;
        let length = u32::from_be_bytes(length.try_into().ok()?);
        let end = HEAD_BYTES - LENGTH_BYTES + usize::try_from(length).ok()?;
        (rest.len() >= end).then_some((kind, from + end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + LENGTH_BYTES).unwrap();
        [&[kind][..], &length.to_be_bytes(), body].concat()
    }

    #[tokio::test]
    async fn a_reply_ends_where_the_server_is_ready() {
        let said = [
            vec![NO_TLS],
            message(b'R', b"log in"),
            message(b'S', b"a parameter"),
            message(READY, b"I"),
            message(b'1', b""),
            message(b'D', &[0; 300]),
            message(b'C', b"INSERT 0 1"),
            message(READY, b"I"),
            message(b'N', b"a notice is no refusal of TLS"),
            message(READY, b"T"),
        ]
        .concat();
        // However it is cut up on its way.
        let stream = tokio_stream_of(&said);
        let mut replies = Replies::new(stream);
        let (mut again, mut done) = (Vec::new(), Vec::new());
        while let Some(reply) = replies.next().await.unwrap() {
            again.extend_from_slice(&reply.raw);
            done.push(reply.is_done);
        }
        assert_eq!(again, said);
        assert_eq!(done, [false, false, false, false, true, true]);
    }

    /// A reader that gives seven bytes at a time.
    fn tokio_stream_of(bytes: &[u8]) -> impl AsyncRead + Unpin {
        struct Drops(Vec<u8>);
        impl AsyncRead for Drops {
            fn poll_read(
                mut self: std::pin::Pin<&mut Self>,
                _: &mut std::task::Context<'_>,
                buffer: &mut tokio::io::ReadBuf<'_>,
            ) -> std::task::Poll<io::Result<()>> {
                let some = self.0.len().min(7).min(buffer.remaining());
                buffer.put_slice(&self.0.drain(..some).collect::<Vec<_>>());
                std::task::Poll::Ready(Ok(()))
            }
        }
        Drops(bytes.to_vec())
    }
}
