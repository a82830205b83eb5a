//! One keep-alive connection of a client that does only what the bench needs.

use std::io;
use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Room for a whole answer at once; more is made when one is larger.
const BUFFER_BYTES: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;
const SHOWN_BYTES: usize = 300;

/// A connection with at most one request on its way.
#[derive(Debug)]
pub(super) struct Connection {
    address: SocketAddr,
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// What came back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer<'a> {
    /// The HTTP status.
    pub(crate) status: u16,
    /// Whether `Idempotent-Replayed: true` was there.
    pub(crate) replayed: bool,
    /// All of the body.
    pub(crate) body: &'a [u8],
}

impl std::fmt::Display for Answer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = self.body.get(..SHOWN_BYTES).unwrap_or(self.body);
        let replayed = if self.replayed { " (replayed)" } else { "" };
        let length = self.body.len();
        write!(
            f,
            "{}{replayed} {length} bytes {}",
            self.status,
            String::from_utf8_lossy(shown)
        )
    }
}

impl Connection {
    pub(super) async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            address,
            stream,
            buffer: Vec::with_capacity(BUFFER_BYTES),
        })
    }

    pub(super) async fn reopen(&mut self) -> io::Result<()> {
        *self = Self::open(self.address).await?;
        Ok(())
    }

    /// Sends one request in one write and reads its answer whole.
    pub(super) async fn exchange(&mut self, request: &[u8]) -> Result<Answer<'_>> {
        self.buffer.clear();
        self.stream.write_all(request).await.context("sending")?;
        let head = loop {
            if self.fill().await? == 0 {
                bail!(
                    "the connection was closed after {} bytes",
                    self.buffer.len()
                );
            }
            if let Some(head) = Head::parse(&self.buffer)? {
                break head;
            }
        };
        let end = head.bytes + head.content_bytes;
        while self.buffer.len() < end {
            if self.fill().await? == 0 {
                bail!("the answer was cut at {} of {end} bytes", self.buffer.len());
            }
        }
        if self.buffer.len() > end {
            bail!("{} bytes after the answer", self.buffer.len() - end);
        }
        let body = self.buffer.get(head.bytes..).unwrap_or_default();
        Ok(Answer {
            status: head.status,
            replayed: head.replayed,
            body,
        })
    }

    async fn fill(&mut self) -> Result<usize> {
        self.stream
            .read_buf(&mut self.buffer)
            .await
            .context("receiving")
    }
}

/// What the bench needs of an answer's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    bytes: usize,
    status: u16,
    content_bytes: usize,
    replayed: bool,
}

impl Head {
    /// None while the head is not complete.
    fn parse(buffer: &[u8]) -> Result<Option<Self>> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(bytes) = response.parse(buffer).context("no HTTP")? else {
            return Ok(None);
        };
        let mut content_bytes = None;
        let mut replayed = false;
        for header in response.headers.iter() {
            if header.name.eq_ignore_ascii_case("content-length") {
                content_bytes = std::str::from_utf8(header.value)?.parse().ok();
            } else if header.name.eq_ignore_ascii_case("idempotent-replayed") {
                replayed = header.value == b"true";
            }
        }
        Ok(Some(Self {
            bytes,
            status: response.code.context("no status")?,
            content_bytes: content_bytes.context("an answer without Content-Length")?,
            replayed,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_once_it_is_complete() {
        let answer =
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nIDEMPOTENT-Replayed: true\r\n\r\nhello";
        for cut in 0..answer.len() - 5 {
            assert_eq!(Head::parse(&answer[..cut]).unwrap(), None);
        }
        let head = Head {
            bytes: answer.len() - 5,
            status: 200,
            content_bytes: 5,
            replayed: true,
        };
        assert_eq!(Head::parse(answer).unwrap(), Some(head));
    }

    #[test]
    fn an_answer_of_unknown_length_is_an_error() {
        Head::parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap_err();
        Head::parse(b"SSH-2.0\r\n\r\n").unwrap_err();
    }
}
