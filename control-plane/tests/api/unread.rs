//! Requests that are answered before their body was read, over connections as they are served.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use control_plane::serve;
use sqlx::PgPool;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::client::Api;

/// Larger than the server reads at once, and no larger than a body may be.
const BODY_BYTES: usize = 300 * 1024;
/// Longest a test waits for an answer.
const ANSWER: Duration = Duration::from_secs(30);
const CATEGORIES: &str = "GET /api/v1/categories HTTP/1.1\r\nHost: x\r\n\r\n";

/// The public API on an address of its own; it stops when the sender goes.
async fn serve(pool: PgPool) -> (SocketAddr, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(serve::accept(listener, Api::new(pool).routes(), stopped));
    (address, stop)
}

struct Connection {
    read: OwnedReadHalf,
    write: OwnedWriteHalf,
    /// Read, and not yet looked at.
    had: Vec<u8>,
}

impl Connection {
    async fn to(address: SocketAddr) -> Self {
        let (read, write) = TcpStream::connect(address).await.unwrap().into_split();
        let had = Vec::new();
        Self { read, write, had }
    }

    /// The head of the next answer, in lower case, its body read; none when the server closed.
    async fn answer(&mut self) -> Option<String> {
        let read = tokio::time::timeout(ANSWER, self.read_answer()).await;
        read.expect("an answer in time")
    }

    async fn read_answer(&mut self) -> Option<String> {
        let end = loop {
            if let Some(at) = self.had.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.more().await?;
        };
        let head: Vec<u8> = self.had.drain(..end).collect();
        let head = String::from_utf8(head).unwrap().to_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        while self.had.len() < length {
            self.more().await?;
        }
        self.had.drain(..length);
        Some(head)
    }

    async fn more(&mut self) -> Option<()> {
        let read = self.read.read_buf(&mut self.had).await.ok()?;
        (read > 0).then_some(())
    }
}

fn head(line: &str, headers: &[&str]) -> String {
    let mut head = format!("{line} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n");
    for header in headers {
        write!(head, "{header}\r\n").unwrap();
    }
    head + "\r\n"
}

fn status(head: &str) -> &str {
    head.split(' ').nth(1).unwrap_or_default()
}

/// The bodies that are longer than one read, in both framings.
fn framed() -> [(String, Vec<u8>); 2] {
    let body = vec![b' '; BODY_BYTES];
    let chunks: Vec<u8> = body
        .chunks(10_000)
        .flat_map(|chunk| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat())
        .chain(*b"0\r\n\r\n")
        .collect();
    [
        (format!("Content-Length: {BODY_BYTES}"), body),
        ("Transfer-Encoding: chunked".to_owned(), chunks),
    ]
}

#[sqlx::test(migrations = "./migrations")]
async fn a_connection_is_usable_after_an_answer_that_came_before_its_body(pool: PgPool) {
    let (address, _stop) = serve(pool).await;
    for (line, refused) in [
        ("PUT /api/v1/listings/x/endpoint", "401"),
        ("PUT /api/v1/nowhere", "404"),
        ("PUT /api/v1/me", "405"),
        ("PUT /api//v1", "400"),
        ("OPTIONS /api/v1/me", "204"),
        ("GET /api/v1/categories", "200"),
    ] {
        for (framing, body) in framed() {
            let mut connection = Connection::to(address).await;
            for _ in 0..2 {
                let head = head(line, &[&framing]);
                connection.write.write_all(head.as_bytes()).await.unwrap();
                connection.write.write_all(&body).await.unwrap();
                let answer = connection.answer().await.expect("an answer");
                assert_eq!(status(&answer), refused, "{line}: {answer}");
                assert!(!answer.contains("connection: close"), "{line}: {answer}");
            }
            let asked = connection.write.write_all(CATEGORIES.as_bytes()).await;
            let next = connection.answer().await;
            let next = next.unwrap_or_else(|| panic!("{line}, {framing}: closed, {asked:?}"));
            assert_eq!(status(&next), "200", "{line}: {next}");
        }
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn an_answer_to_a_body_that_is_too_long_still_arrives(pool: PgPool) {
    const LENGTH: usize = 6 * 1024 * 1024;
    let (address, _stop) = serve(pool).await;
    for (line, refused) in [
        ("PUT /api/v1/listings/x/endpoint", "401"),
        ("POST /api/v1/auth/challenge", "413"),
    ] {
        let mut connection = Connection::to(address).await;
        let head = head(line, &[&format!("Content-Length: {LENGTH}")]);
        // All of it is sent first, as a client does that looks for no answer meanwhile.
        connection.write.write_all(head.as_bytes()).await.unwrap();
        let body = vec![b' '; LENGTH];
        connection.write.write_all(&body).await.unwrap();
        let answer = connection.answer().await.expect("an answer");
        assert_eq!(status(&answer), refused, "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
        assert_eq!(connection.answer().await, None);
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn an_answer_does_not_wait_long_for_a_body_that_does_not_come(pool: PgPool) {
    let (address, _stop) = serve(pool).await;
    let mut connection = Connection::to(address).await;
    let head = head("PUT /api/v1/listings/x/endpoint", &["Content-Length: 100"]);
    connection.write.write_all(head.as_bytes()).await.unwrap();
    let answer = connection.answer().await.expect("an answer");
    assert_eq!(status(&answer), "401", "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    assert_eq!(connection.answer().await, None, "it closes in the end");
}

#[sqlx::test(migrations = "./migrations")]
async fn nobody_is_asked_for_a_body_that_is_not_wanted(pool: PgPool) {
    let (address, _stop) = serve(pool).await;
    let mut connection = Connection::to(address).await;
    let expecting = ["Content-Length: 100", "Expect: 100-continue"];
    let refused = head("PUT /api/v1/listings/x/endpoint", &expecting);
    connection
        .write
        .write_all(refused.as_bytes())
        .await
        .unwrap();
    let answer = connection.answer().await.expect("an answer");
    assert_eq!(status(&answer), "401", "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");

    let mut connection = Connection::to(address).await;
    let wanted = head("POST /api/v1/auth/challenge", &expecting);
    connection.write.write_all(wanted.as_bytes()).await.unwrap();
    let answer = connection.answer().await.expect("an answer");
    assert_eq!(status(&answer), "100", "{answer}");
}
