//! A client that sends exactly the bytes a test wrote, for what a well-behaved client cannot say.

use std::fmt::Write as _;

use demo_agent::Api;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use fault_proxy::http1::{Message, Reader};

/// One connection to a gateway.
#[derive(Debug)]
pub(crate) struct Wire {
    read: Reader<OwnedReadHalf>,
    write: OwnedWriteHalf,
}

impl Wire {
    /// To the gateway of `api`.
    pub(crate) async fn to(api: &Api) -> Self {
        Self::to_origin(api.base_url().trim_end_matches("/api/v1")).await
    }

    /// To any `http://host:port`.
    pub(crate) async fn to_origin(origin: &str) -> Self {
        let stream = TcpStream::connect(origin.trim_start_matches("http://"))
            .await
            .unwrap();
        stream.set_nodelay(true).unwrap();
        let (read, write) = stream.into_split();
        Self {
            read: Reader::new(read),
            write,
        }
    }

    /// Sends bytes as they are.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.write.write_all(bytes).await.unwrap();
    }

    /// The next answer; none when the server closed.
    pub(crate) async fn answer(&mut self) -> Option<Message> {
        self.read.answer(false).await.ok().flatten()
    }

    /// The next answer to a HEAD request.
    pub(crate) async fn answer_to_head(&mut self) -> Option<Message> {
        self.read.answer(true).await.ok().flatten()
    }

    /// The status of an informational answer (100).
    pub(crate) async fn informational(&mut self) -> u16 {
        self.read
            .informational()
            .await
            .ok()
            .flatten()
            .map_or(0, |message| message.status())
    }

    /// Says that nothing more will be sent.
    pub(crate) async fn finish(&mut self) {
        // A server that has closed already need not be told.
        drop(self.write.shutdown().await);
    }

    /// One whole request with these header lines, and its answer.
    pub(crate) async fn ask(
        &mut self,
        line: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Message {
        self.send(&request(line, headers, body)).await;
        self.answer()
            .await
            .unwrap_or_else(|| panic!("no answer to {line}"))
    }
}

/// A request's bytes; `Host` is added, `Content-Length` where there is a body and no other framing.
pub(crate) fn request(line: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("{line} HTTP/1.1\r\nHost: crochet.test\r\n");
    for (name, value) in headers {
        write!(text, "{name}: {value}\r\n").unwrap();
    }
    let framed = headers.iter().any(|(name, _)| {
        name.eq_ignore_ascii_case("transfer-encoding")
            || name.eq_ignore_ascii_case("content-length")
    });
    if !body.is_empty() && !framed {
        write!(text, "Content-Length: {}\r\n", body.len()).unwrap();
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}
