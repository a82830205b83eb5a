//! HTTP/1.1 messages read by hand, so that a test sees and sends exactly the bytes it means.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// The longest head anybody sends here.
const HEAD_MAX: usize = 256 * 1024;
/// The first byte of a TLS connection.
const TLS_HANDSHAKE: u8 = 0x16;

/// A request or an answer as it stood on the wire.
#[derive(Clone, Debug)]
pub struct Message {
    /// `POST /path HTTP/1.1` or `HTTP/1.1 200 OK`.
    pub line: String,
    /// Every header in the order sent, names in lowercase.
    pub headers: Vec<(String, String)>,
    /// The body, out of its framing.
    pub body: Bytes,
    /// Head and body as they were, to be passed on.
    pub raw: Bytes,
}

impl Message {
    /// The first header of this name (lowercase).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(given, _)| given == name)
            .map(|(_, value)| value.as_str())
    }

    /// How often a header of this name stands there.
    pub fn count(&self, name: &str) -> usize {
        self.headers
            .iter()
            .filter(|(given, _)| given == name)
            .count()
    }

    /// The second word of the line: a request's target, an answer's status.
    pub fn second_word(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }

    /// An answer's status.
    pub fn status(&self) -> u16 {
        self.second_word().parse().unwrap_or_default()
    }

    /// `error.code` of an answer's body.
    pub fn code(&self) -> String {
        let json: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        json.pointer("/error/code")
            .and_then(serde_json::Value::as_str)
            .unwrap_or_default()
            .to_owned()
    }
}

/// Reads messages from a stream one after the other.
#[derive(Debug)]
pub struct Reader<R> {
    stream: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Reads from `stream`.
    pub fn new(stream: R) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
        }
    }

    /// The next request; `None` when the peer closed in between.
    pub async fn request(&mut self) -> io::Result<Option<Message>> {
        self.message(false).await
    }

    /// The answer to a request; its body ends with its length, its last chunk or the connection.
    /// Informational answers are skipped.
    pub async fn answer(&mut self, to_head: bool) -> io::Result<Option<Message>> {
        loop {
            match self.message_of(true, to_head).await? {
                Some(message) if (100..200).contains(&message.status()) => {}
                message => return Ok(message),
            }
        }
    }

    /// The next answer, informational or not.
    pub async fn informational(&mut self) -> io::Result<Option<Message>> {
        self.message(true).await
    }

    async fn message(&mut self, is_answer: bool) -> io::Result<Option<Message>> {
        self.message_of(is_answer, false).await
    }

    async fn message_of(&mut self, is_answer: bool, no_body: bool) -> io::Result<Option<Message>> {
        let Some(head_end) = self.head_end().await? else {
            return Ok(None);
        };
        let head = self.buffer.split_to(head_end).freeze();
        let (line, headers) = parse_head(&head);
        let find = |name: &str| {
            headers
                .iter()
                .find(|(given, _)| given == name)
                .map(|(_, value)| value.as_str())
        };
        let status = is_answer
            .then(|| {
                line.split(' ')
                    .nth(1)
                    .and_then(|word| word.parse::<u16>().ok())
            })
            .flatten();
        let bodiless =
            no_body || status.is_some_and(|status| status < 200 || status == 204 || status == 304);
        let mut raw = BytesMut::from(&head[..]);
        let body = if bodiless {
            Bytes::new()
        } else if find("transfer-encoding").is_some() {
            let (body, framed) = self.chunks().await?;
            raw.extend_from_slice(&framed);
            body
        } else if let Some(length) = find("content-length") {
            let body = self
                .exactly(length.parse().map_err(|_| invalid("content-length"))?)
                .await?;
            raw.extend_from_slice(&body);
            body
        } else if is_answer {
            while self.fill().await? != 0 {}
            let body = self.buffer.split().freeze();
            raw.extend_from_slice(&body);
            body
        } else {
            Bytes::new()
        };
        Ok(Some(Message {
            line,
            headers,
            body,
            raw: raw.freeze(),
        }))
    }

    async fn fill(&mut self) -> io::Result<usize> {
        self.stream.read_buf(&mut self.buffer).await
    }

    async fn head_end(&mut self) -> io::Result<Option<usize>> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                return Ok(Some(end + 4));
            }
            // A TLS handshake where plain HTTP is spoken has no end of head to wait for.
            if self.buffer.len() > HEAD_MAX || self.buffer.first() == Some(&TLS_HANDSHAKE) {
                return Err(invalid("head"));
            }
            if self.fill().await? == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }

    async fn exactly(&mut self, length: usize) -> io::Result<Bytes> {
        while self.buffer.len() < length {
            if self.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.buffer.split_to(length).freeze())
    }

    /// The body out of its chunks, and the chunks as they were.
    async fn chunks(&mut self) -> io::Result<(Bytes, Bytes)> {
        let (mut body, mut framed) = (BytesMut::new(), BytesMut::new());
        loop {
            let line_end = loop {
                if let Some(end) = find(&self.buffer, b"\r\n") {
                    break end;
                }
                if self.fill().await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            };
            let line = self.exactly(line_end + 2).await?;
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            let size = usize::from_str_radix(text.split(';').next().unwrap_or_default().trim(), 16)
                .map_err(|_| invalid("chunk"))?;
            let chunk = self.exactly(size + 2).await?;
            framed.extend_from_slice(&line);
            framed.extend_from_slice(&chunk);
            body.extend_from_slice(chunk.get(..size).unwrap_or_default());
            if size == 0 {
                return Ok((body.freeze(), framed.freeze()));
            }
        }
    }
}

fn parse_head(head: &[u8]) -> (String, Vec<(String, String)>) {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let line = lines.next().unwrap_or_default().to_owned();
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    (line, headers.collect())
}

fn find(buffer: &[u8], wanted: &[u8]) -> Option<usize> {
    buffer
        .windows(wanted.len())
        .position(|window| window == wanted)
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("bad {what}"))
}
