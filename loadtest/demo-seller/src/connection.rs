//! One connection: reads requests one after another and has them answered.

use std::{io, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
};

use crate::{
    Seller, call, control,
    reply::{Reply, Then},
};

/// Largest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Most header lines of a request.
const HEADERS_MAX: usize = 128;
/// Largest body of a request, in bytes.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// First size of a connection's buffer: most calls fit.
const BUFFER_BYTES: usize = 8 * 1024;

/// A request as far as the seller cares.
#[derive(Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Without the query.
    pub(crate) path: String,
    /// `webhook-id`, `webhook-timestamp`, `webhook-signature`, for the library that verifies.
    pub(crate) webhook: http::HeaderMap,
    pub(crate) listing: Option<String>,
    /// `webhook-id`, else `X-Crochet-Request-Id`.
    pub(crate) id: Option<String>,
    pub(crate) attempt: Option<String>,
    pub(crate) body: Vec<u8>,
    /// The client will not use the connection again.
    pub(crate) last: bool,
    length: usize,
    chunked: bool,
    continues: bool,
}

/// Serves until either side has had enough.
pub(crate) async fn serve(stream: TcpStream, seller: Arc<Seller>, stopped: watch::Receiver<bool>) {
    let mut connection = Connection {
        stream,
        buffer: Vec::with_capacity(BUFFER_BYTES),
    };
    // An error is the client's going away.
    let _ = connection.serve(&seller, stopped).await;
}

struct Connection {
    stream: TcpStream,
    /// Read but not used yet.
    buffer: Vec<u8>,
}

impl Connection {
    async fn serve(
        &mut self,
        seller: &Seller,
        mut stopped: watch::Receiver<bool>,
    ) -> io::Result<()> {
        loop {
            if self.buffer.is_empty() {
                tokio::select! {
                    read = self.fill() => if !read? { return Ok(()) },
                    _ = stopped.wait_for(|stopped| *stopped) => return Ok(()),
                }
            }
            let Some(request) = self.read().await? else {
                return Ok(());
            };
            let reply = match control::answer(seller, &request) {
                Some(reply) => reply,
                None => call::answer(seller, &request),
            };
            match self
                .write(&reply, request.last || *stopped.borrow())
                .await?
            {
                Then::GoOn => {}
                Then::Close => return self.stream.shutdown().await,
                Then::CloseAtNext => {
                    self.fill().await?;
                    return Ok(());
                }
            }
        }
    }

    async fn write(&mut self, reply: &Reply, last: bool) -> io::Result<Then> {
        let then = reply.send(&mut self.stream, last).await?;
        Ok(if last && then == Then::GoOn {
            Then::Close
        } else {
            then
        })
    }

    /// Reads more; false at the end.
    async fn fill(&mut self) -> io::Result<bool> {
        Ok(self.stream.read_buf(&mut self.buffer).await? > 0)
    }

    /// The next request, or none when the client left or does not speak HTTP.
    async fn read(&mut self) -> io::Result<Option<Request>> {
        let (mut request, head) = loop {
            match parse_head(&self.buffer) {
                Ok(Some(parsed)) => break parsed,
                Ok(None) if self.buffer.len() < HEAD_BYTES_MAX => {
                    if !self.fill().await? {
                        return Ok(None);
                    }
                }
                Ok(None) | Err(()) => return Ok(None),
            }
        };
        self.buffer.drain(..head);
        if request.continues {
            self.stream
                .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
                .await?;
        }
        let body = if request.chunked {
            self.read_chunks().await?
        } else {
            self.take(request.length).await?
        };
        Ok(body.map(|body| {
            request.body = body;
            request
        }))
    }

    /// Exactly so many bytes.
    async fn take(&mut self, length: usize) -> io::Result<Option<Vec<u8>>> {
        if length > BODY_BYTES_MAX {
            return Ok(None);
        }
        while self.buffer.len() < length {
            if !self.fill().await? {
                return Ok(None);
            }
        }
        let rest = self.buffer.split_off(length);
        Ok(Some(std::mem::replace(&mut self.buffer, rest)))
    }

    async fn read_chunks(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut body = Vec::new();
        loop {
            let size = loop {
                match httparse::parse_chunk_size(&self.buffer) {
                    Ok(httparse::Status::Complete((line, size))) => {
                        self.buffer.drain(..line);
                        break size;
                    }
                    Ok(httparse::Status::Partial) => {
                        if !self.fill().await? {
                            return Ok(None);
                        }
                    }
                    Err(_) => return Ok(None),
                }
            };
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            if size > BODY_BYTES_MAX.saturating_sub(body.len()) {
                return Ok(None);
            }
            // The line end after the chunk comes with it; trailers are not spoken here.
            let Some(mut chunk) = self.take(size + 2).await? else {
                return Ok(None);
            };
            chunk.truncate(size);
            if size == 0 {
                return Ok(Some(body));
            }
            body.append(&mut chunk);
        }
    }
}

/// The head at the buffer's beginning and its length, none while it is incomplete.
fn parse_head(buffer: &[u8]) -> Result<Option<(Request, usize)>, ()> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut headers);
    let length = match head.parse(buffer) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(()),
    };
    let path = head.path.unwrap_or("/");
    let mut request = Request {
        method: head.method.unwrap_or_default().to_owned(),
        path: path
            .split_once('?')
            .map_or(path, |(path, _)| path)
            .to_owned(),
        last: head.version == Some(0),
        ..Request::default()
    };
    for header in head.headers.iter() {
        request.take_header(header)?;
    }
    Ok(Some((request, length)))
}

impl Request {
    fn take_header(&mut self, header: &httparse::Header<'_>) -> Result<(), ()> {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        let text = || std::str::from_utf8(header.value).map_err(|_| ());
        let has = |word: &[u8]| header.value.eq_ignore_ascii_case(word);
        match header.name.len() {
            6 if is("expect") => self.continues = has(b"100-continue"),
            10 if is("connection") => {
                self.last = has(b"close") || (self.last && !has(b"keep-alive"));
            }
            10 if is("webhook-id") => {
                self.id = Some(text()?.to_owned());
                self.keep("webhook-id", header.value)?;
            }
            14 if is("content-length") => self.length = text()?.trim().parse().map_err(|_| ())?,
            17 if is("webhook-timestamp") => self.keep("webhook-timestamp", header.value)?,
            17 if is("webhook-signature") => self.keep("webhook-signature", header.value)?,
            17 if is("transfer-encoding") => self.chunked = has(b"chunked"),
            17 if is("x-crochet-attempt") => self.attempt = Some(text()?.to_owned()),
            20 if is("x-crochet-listing-id") => self.listing = Some(text()?.to_owned()),
            20 if is("x-crochet-request-id") && self.id.is_none() => {
                self.id = Some(text()?.to_owned());
            }
            _ => {}
        }
        Ok(())
    }

    fn keep(&mut self, name: &'static str, value: &[u8]) -> Result<(), ()> {
        let value = http::HeaderValue::from_bytes(value).map_err(|_| ())?;
        self.webhook.insert(name, value);
        Ok(())
    }
}
