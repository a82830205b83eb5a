//! Connections: a request's head is read here, within a size and a time, and handed to pingora.
//!
//! pingora itself would take up to 1 MiB of head at any pace, and answer what is too large with a
//! bare 400. Between requests a connection waits for a limited time, and for nothing once the
//! process is stopping.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use crochet_shared::code::Code;
use pingora::apps::{HttpServerApp as _, ServerApp};
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::gateway::Gateway;
use crate::proxy::FrontDoor;

/// Largest head of a request.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;
/// What most heads fit in.
const HEAD_BYTES: usize = 4096;
/// How long a connection that was refused may go on sending.
const LINGER_TIME: Duration = Duration::from_secs(1);
/// pingora's own time to read a head, in seconds; never reached, because the head is there.
const KEPT_SECONDS: u64 = 60;

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
    /// Larger than [`HEAD_BYTES_MAX`].
    TooLarge,
}

impl Front {
    /// Hands requests to `proxy`.
    pub const fn new(proxy: Arc<HttpProxy<FrontDoor>>, gateway: Arc<Gateway>) -> Self {
        Self { proxy, gateway }
    }

    /// Reads until the head is there, and perhaps some of what follows it.
    async fn read_head(
        &self,
        stream: &mut Stream,
        stopping: &mut ShutdownWatch,
    ) -> Result<BytesMut, NoHead> {
        let mut head = BytesMut::with_capacity(HEAD_BYTES);
        let idle = self.gateway.config.idle_time;
        tokio::select! {
            biased;
            read = tokio::time::timeout(idle, stream.read_buf(&mut head)) => match read {
                Ok(Ok(bytes)) if bytes > 0 => {}
                Ok(_) | Err(_) => return Err(NoHead::Gone),
            },
            _ = stopping.wait_for(|stopping| *stopping) => return Err(NoHead::Gone),
        }
        let time = self.gateway.config.head_time;
        tokio::time::timeout(time, complete(stream, &mut head))
            .await
            .unwrap_or(Err(NoHead::Gone))?;
        Ok(head)
    }

    /// Says why, and lets the client read it before the connection closes.
    async fn refuse(&self, stream: &mut Stream) {
        let reply = self.gateway.errors.code(Code::HeadersTooLarge).into_reply();
        self.gateway.metrics.count(reply.kind);
        let head = format!(
            "HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nCache-Control: no-store\r\nAccess-Control-Allow-Origin: *\r\n\
             X-Request-Id: {}\r\nConnection: close\r\n\r\n",
            reply.body.len(),
            self.gateway.request_ids.make(),
        );
        let mut answer = head.into_bytes();
        answer.extend_from_slice(&reply.body);
        let said = async {
            stream.write_all(&answer).await?;
            stream.flush().await?;
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

async fn complete(stream: &mut Stream, head: &mut BytesMut) -> Result<(), NoHead> {
    let mut seen = 0;
    loop {
        if let Some(end) = end_of_head(head, seen) {
            return if end <= HEAD_BYTES_MAX {
                Ok(())
            } else {
                Err(NoHead::TooLarge)
            };
        }
        if head.len() > HEAD_BYTES_MAX {
            return Err(NoHead::TooLarge);
        }
        seen = head.len().saturating_sub(3);
        head.reserve(HEAD_BYTES);
        match stream.read_buf(head).await {
            Ok(bytes) if bytes > 0 => {}
            Ok(_) | Err(_) => return Err(NoHead::Gone),
        }
    }
}

/// Where the head ends, searched from `from`: after an empty line, with bare line feeds allowed as
/// the parser allows them. An empty line before the request counts too; then pingora reads on.
fn end_of_head(bytes: &[u8], from: usize) -> Option<usize> {
    let tail = bytes.get(from..)?;
    tail.iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'\n')
        .find_map(|(at, _)| match tail.get(at + 1..)? {
            [b'\n', ..] => Some(from + at + 2),
            [b'\r', b'\n', ..] => Some(from + at + 3),
            _ => None,
        })
}

#[async_trait]
impl ServerApp for Front {
    async fn process_new(
        self: &Arc<Self>,
        mut stream: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        let mut stopping = shutdown.clone();
        loop {
            let head = match self.read_head(&mut stream, &mut stopping).await {
                Ok(head) => head,
                Err(NoHead::Gone) => return None,
                Err(NoHead::TooLarge) => {
                    self.refuse(&mut stream).await;
                    return None;
                }
            };
            let underway = self.gateway.underway.begin();
            let mut session = ServerSession::new_http1(stream);
            session.set_keepalive(Some(KEPT_SECONDS));
            session.set_pipelined_prefix(head);
            let reused = self.proxy.process_new_http(session, shutdown).await?;
            drop(underway);
            (stream, _) = reused.consume();
        }
    }

    async fn cleanup(&self) {
        self.proxy.http_cleanup().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_ends_at_its_empty_line_however_lines_end() {
        for (bytes, end) in [
            (&b"GET / HTTP/1.1\r\n\r\nbody"[..], Some(18)),
            (b"GET / HTTP/1.1\n\nbody", Some(16)),
            (b"GET / HTTP/1.1\r\nA: b\n\r\nx", Some(23)),
            (b"GET / HTTP/1.1\r\n", None),
            (b"GET / HTTP/1.1\r\n\r", None),
            (b"", None),
        ] {
            assert_eq!(end_of_head(bytes, 0), end);
            if let Some(end) = end {
                // Also when the end came in with the last bytes only.
                assert_eq!(end_of_head(bytes, end - 4), Some(end));
            }
        }
    }
}
