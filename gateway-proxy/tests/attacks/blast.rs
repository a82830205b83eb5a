//! A seller whose every answer is a bomb.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::background;

pub(super) const MEBIBYTE: u64 = 1024 * 1024;
/// What a bomb would send if somebody took it.
pub(super) const BOMB: u64 = 10 * 1024 * MEBIBYTE;

/// What a hostile seller answers, by the path she is called at.
pub(super) const KINDS: [&str; 8] = [
    "declared",
    "chunked",
    "drip",
    "slow_head",
    "headers",
    "endless",
    "informational",
    "gzip",
];

/// Written once: what attackers cost is no part of the attack.
pub(super) static TEN_THOUSAND_HEADERS: LazyLock<String> = LazyLock::new(|| {
    let each = |number| format!("X-{number}: {number}\r\n");
    (0..10_000).map(each).collect()
});

/// Sellers that answer with a bomb.
pub(super) struct Bombs {
    address: SocketAddr,
    pub(super) taken: Arc<Taken>,
    task: JoinHandle<()>,
}

/// What was taken of bombs.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Bytes in all.
    pub(super) bytes: AtomicU64,
    /// The most that one connection took.
    pub(super) most: AtomicU64,
    /// How many went off of each of [`KINDS`].
    called: [AtomicUsize; KINDS.len()],
}

impl Taken {
    pub(super) fn called(&self) -> [usize; KINDS.len()] {
        std::array::from_fn(|kind| self.called[kind].load(Ordering::Relaxed))
    }
}

impl Drop for Bombs {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Bombs {
    pub(super) async fn start() -> Self {
        LazyLock::force(&TEN_THOUSAND_HEADERS);
        gzip_of_zeros(0);
        let listening = background::spawn(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        let listener = listening.await.unwrap().unwrap();
        let address = listener.local_addr().unwrap();
        let taken = Arc::<Taken>::default();
        let counted = Arc::clone(&taken);
        let task = background::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let taken = Arc::clone(&counted);
                connections.spawn(async move {
                    let mut blast = Blast { stream, bytes: 0 };
                    // The gateway hangs up, which is what it should do.
                    drop(blast.go_off(&taken).await);
                    taken.bytes.fetch_add(blast.bytes, Ordering::Relaxed);
                    taken.most.fetch_max(blast.bytes, Ordering::Relaxed);
                });
            }
        });
        Self {
            address,
            taken,
            task,
        }
    }

    pub(super) fn url(&self, kind: &str) -> String {
        format!("http://{}/{kind}", self.address)
    }
}

/// One answer on its way.
struct Blast {
    stream: TcpStream,
    bytes: u64,
}

impl Blast {
    async fn go_off(&mut self, taken: &Taken) -> io::Result<()> {
        let mut head = vec![0; 64 * 1024];
        let read = self.stream.read(&mut head).await?;
        let line = String::from_utf8_lossy(&head[..read.min(64)]).into_owned();
        let kind = line.split(['/', ' ']).nth(2).unwrap_or_default().to_owned();
        if let Some(number) = KINDS.iter().position(|known| *known == kind) {
            taken.called[number].fetch_add(1, Ordering::Relaxed);
        }
        match kind.as_str() {
            "declared" => {
                self.say(&format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {BOMB}\r\n\r\n"
                ))
                .await?;
                self.pour(b"", &b" ".repeat(64 * 1024)).await
            }
            "chunked" => {
                self.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                    .await?;
                let chunk = [&b"10000\r\n"[..], &b" ".repeat(0x10000), b"\r\n"].concat();
                self.pour(b"", &chunk).await
            }
            "drip" => {
                self.say("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                    .await?;
                self.drip(b" ").await
            }
            "slow_head" => {
                self.say("HTTP/1.1 200 OK\r\n").await?;
                self.drip(b"X").await
            }
            "headers" => {
                self.say("HTTP/1.1 200 OK\r\n").await?;
                self.say(&TEN_THOUSAND_HEADERS).await?;
                self.say("Content-Length: 2\r\n\r\n{}").await
            }
            "endless" => {
                self.pour(b"HTTP/1.1 200 OK\r\nX: ", &b"x".repeat(64 * 1024))
                    .await
            }
            "informational" => {
                self.pour(b"", &b"HTTP/1.1 102 Processing\r\n\r\n".repeat(1024))
                    .await
            }
            _ => {
                // What one byte a thousand would become, if anybody undid it.
                let body = gzip_of_zeros(BOMB.min(256 * MEBIBYTE));
                self.say(&format!(
                    "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                ))
                .await?;
                self.send(&body).await
            }
        }
    }

    async fn say(&mut self, text: &str) -> io::Result<()> {
        self.send(text.as_bytes()).await
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.bytes += u64::try_from(bytes.len()).unwrap();
        Ok(())
    }

    async fn pour(&mut self, first: &[u8], again: &[u8]) -> io::Result<()> {
        self.send(first).await?;
        while self.bytes < BOMB {
            self.send(again).await?;
        }
        Ok(())
    }

    async fn drip(&mut self, byte: &[u8]) -> io::Result<()> {
        loop {
            self.send(byte).await?;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

/// A gzip file of so many zeros: a member of a mebibyte, again and again.
pub(super) fn gzip_of_zeros(bytes: u64) -> Vec<u8> {
    use std::io::Write as _;
    static MEMBER: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut member = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        member.write_all(&vec![0; 1024 * 1024]).unwrap();
        member.finish().unwrap()
    });
    MEMBER.repeat(usize::try_from(bytes / MEBIBYTE).unwrap())
}
