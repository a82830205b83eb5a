//! Answers, and how they are written: in one piece where nothing else was asked for.

use std::{fmt::Write, io, time::Duration};

use http::StatusCode;
use tokio::{io::AsyncWriteExt, net::TcpStream, time};

use crate::plan::Cut;

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    GoOn,
    /// Closes, without having said so.
    Close,
    /// Closes when the next request begins to arrive.
    CloseAtNext,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) content_type: Option<String>,
    pub(crate) body: Vec<u8>,
    pub(crate) delay: Duration,
    pub(crate) drip: Option<Duration>,
    pub(crate) chunked: bool,
    pub(crate) cut: Option<Cut>,
    pub(crate) then: Then,
    /// Further header lines, each with its line end.
    pub(crate) headers: String,
}

impl Reply {
    /// A plain JSON answer.
    pub(crate) fn json(status: u16, body: &str) -> Self {
        Self {
            status,
            content_type: Some("application/json".to_owned()),
            body: body.as_bytes().to_vec(),
            delay: Duration::ZERO,
            drip: None,
            chunked: false,
            cut: None,
            then: Then::GoOn,
            headers: String::new(),
        }
    }

    /// Adds a header.
    pub(crate) fn header(&mut self, name: &str, value: &str) {
        // Writing to a String cannot fail.
        let _ = write!(self.headers, "{name}: {value}\r\n");
    }

    /// Writes the answer; `last` announces that the connection closes.
    pub(crate) async fn send(&self, stream: &mut TcpStream, last: bool) -> io::Result<Then> {
        if !self.delay.is_zero() {
            time::sleep(self.delay).await;
        }
        match self.cut {
            Some(Cut::Headers) => return Ok(Then::Close),
            Some(Cut::Garbage) => {
                stream
                    .write_all(b"\x16\x03\x01 this is not HTTP\r\n\r\n")
                    .await?;
                return Ok(Then::Close);
            }
            Some(Cut::Body) | None => {}
        }
        let chunked = (self.chunked || self.drip.is_some()) && self.cut.is_none();
        let mut out = self.head(last, chunked).into_bytes();
        if self.cut == Some(Cut::Body) {
            out.extend(self.body.iter().take(self.body.len() / 2));
            stream.write_all(&out).await?;
            return Ok(Then::Close);
        }
        if let Some(pause) = self.drip {
            stream.write_all(&out).await?;
            self.drip(stream, pause).await?;
        } else {
            if chunked {
                self.chunks(&mut out);
            } else if self.has_body() {
                out.extend_from_slice(&self.body);
            }
            stream.write_all(&out).await?;
        }
        Ok(self.then)
    }

    /// 204 and 304 are never followed by a body.
    const fn has_body(&self) -> bool {
        !matches!(self.status, 204 | 304)
    }

    fn head(&self, last: bool, chunked: bool) -> String {
        let reason = StatusCode::from_u16(self.status)
            .ok()
            .and_then(|status| status.canonical_reason())
            .unwrap_or("Unknown");
        let mut head = String::with_capacity(128 + self.headers.len() + self.body.len());
        // Writing to a String cannot fail.
        let _ = write!(head, "HTTP/1.1 {} {reason}\r\n", self.status);
        if let Some(content_type) = &self.content_type {
            let _ = write!(head, "content-type: {content_type}\r\n");
        }
        head.push_str(&self.headers);
        if last {
            head.push_str("connection: close\r\n");
        }
        if chunked && self.has_body() {
            head.push_str("transfer-encoding: chunked\r\n");
        } else if self.has_body() {
            let _ = write!(head, "content-length: {}\r\n", self.body.len());
        }
        head.push_str("\r\n");
        head
    }

    /// The body in two chunks, so that there is more than one.
    fn chunks(&self, out: &mut Vec<u8>) {
        if !self.has_body() {
            return;
        }
        let (first, second) = self.body.split_at(self.body.len() / 2);
        for chunk in [first, second]
            .into_iter()
            .filter(|chunk| !chunk.is_empty())
        {
            out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            out.extend_from_slice(chunk);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"0\r\n\r\n");
    }

    async fn drip(&self, stream: &mut TcpStream, pause: Duration) -> io::Result<()> {
        if !self.has_body() {
            return Ok(());
        }
        for byte in &self.body {
            time::sleep(pause).await;
            stream
                .write_all(&[b'1', b'\r', b'\n', *byte, b'\r', b'\n'])
                .await?;
        }
        stream.write_all(b"0\r\n\r\n").await
    }
}
