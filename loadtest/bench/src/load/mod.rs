//! The load generator: a closed loop over keep-alive connections, or an open one at a fixed rate, on a thread and
//! runtime of its own.
//!
//! Requests are whole byte strings made beforehand and answers are compared with bytes known
//! beforehand, so that the generator takes little of the machine it measures.
//!
//! Invariants: no request is ever sent twice, whatever happens to its connection; each connection has
//! sent a request of the same kind before the clock starts; the clock stops at the last byte.

mod connection;
mod held;
mod paced;

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures_util::future::join_all;

pub(crate) use connection::Answer;
use connection::Connection;
pub(crate) use held::hold;

use crate::measure::{Readings, Watched};

/// Longer than any sane phase; beyond it something hangs.
const PHASE_LIMIT: Duration = Duration::from_mins(3);
/// What a proxy does off the path of a request (records, metrics) is given this long to be counted in.
const AFTERMATH: Duration = Duration::from_millis(50);
/// How many wrong answers are shown; all are counted.
const WRONG_SHOWN: usize = 3;

/// One request and what has to come back.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    /// All bytes of the request.
    pub(crate) request: Bytes,
    /// What is done with the answer.
    pub(crate) expect: Expect,
}

/// What is done with an answer.
#[derive(Clone, Debug)]
pub(crate) enum Expect {
    /// It is kept for the caller to look at.
    Anything,
    /// It has to be exactly this.
    Exactly {
        /// The HTTP status.
        status: u16,
        /// All bytes of the body.
        body: Bytes,
        /// Whether `Idempotent-Replayed: true` is there.
        replayed: bool,
    },
}

/// What to send where.
#[derive(Debug)]
pub(crate) struct Job {
    /// The server.
    pub(crate) address: SocketAddr,
    /// How many connections.
    pub(crate) connections: usize,
    /// Sent before the clock starts, spread over all connections.
    pub(crate) warm_up: Vec<Exchange>,
    /// What is measured.
    pub(crate) measured: Vec<Exchange>,
    /// How many of these are sent a second, answered or not; without it each connection sends one when it has
    /// the answer to the last.
    pub(crate) pace: Option<f64>,
    /// What every connection sends somewhere else after each of its requests, on a connection of its own.
    pub(crate) beside: Option<Beside>,
    /// Whether every request has a connection of its own, opened for it and closed after it.
    pub(crate) anew: bool,
    /// Whose CPU is read.
    pub(crate) watched: Vec<Watched>,
}

/// A companion's requests: checked like any other, and in no figure but the CPU of who answers them.
#[derive(Clone, Debug)]
pub(crate) struct Beside {
    /// The server.
    pub(crate) address: SocketAddr,
    /// The request, always the same.
    pub(crate) exchange: Exchange,
}

/// An answer that was kept.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The body.
    pub(crate) body: Bytes,
}

/// What happened.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Measured requests that were answered as expected.
    pub(crate) right: usize,
    /// From the first byte sent to the last byte received.
    pub(crate) elapsed: Duration,
    /// CPU before and after.
    pub(crate) before: Readings,
    pub(crate) after: Readings,
    /// Microseconds from a request's first byte (at a fixed rate: from when it was due) to its answer's last, sorted.
    pub(crate) latencies_us: Vec<u32>,
    /// Answers kept, by the request's index; none where it was not to be kept or never came.
    pub(crate) kept: Vec<Option<Kept>>,
    /// Answers that were not as expected, the warm-up's too.
    pub(crate) wrong: Wrong,
}

/// Wrong answers: how many, and the first few in words.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wrong {
    pub(crate) count: usize,
    pub(crate) shown: Vec<String>,
}

impl Wrong {
    pub(crate) fn add(&mut self, what: String) {
        self.count += 1;
        if self.shown.len() < WRONG_SHOWN {
            self.shown.push(what);
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.count += other.count;
        let room = WRONG_SHOWN.saturating_sub(self.shown.len());
        self.shown.extend(other.shown.into_iter().take(room));
    }
}

/// Does a job on a thread of its own.
pub(crate) async fn run(job: Job) -> Result<Outcome> {
    on_a_thread(move || async move { do_job(&job).await }).await
}

async fn on_a_thread<T, F>(work: impl FnOnce() -> F + Send + 'static) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>>,
{
    let (send, receive) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("load".to_owned())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let outcome = match runtime {
                Ok(runtime) => runtime.block_on(work()),
                Err(error) => Err(error.into()),
            };
            // Nobody waits any more when the bench was interrupted.
            drop(send.send(outcome));
        })
        .context("starting the load's thread")?;
    receive.await.context("the load's thread ended early")?
}

async fn do_job(job: &Job) -> Result<Outcome> {
    let mut connections = open(job.address, job.connections).await?;
    let mut beside = Vec::new();
    if let Some(companion) = &job.beside {
        beside = open(companion.address, job.connections).await?;
    }
    let companion = job.beside.as_ref().map(|beside| &beside.exchange);
    let limited = tokio::time::timeout(PHASE_LIMIT, async {
        let warm_up = send_all(
            &mut pair(&mut connections, &mut beside),
            &job.warm_up,
            companion,
        )
        .await;
        tokio::time::sleep(AFTERMATH).await;
        let before = Readings::take(&job.watched)?;
        let begun = Instant::now();
        let sent = match job.pace {
            Some(rate) => paced::send_all(&mut connections, &job.measured, rate).await?,
            None if job.anew => send_all_anew(&mut connections, &job.measured).await,
            None => {
                send_all(
                    &mut pair(&mut connections, &mut beside),
                    &job.measured,
                    companion,
                )
                .await
            }
        };
        let elapsed = begun.elapsed();
        tokio::time::sleep(AFTERMATH).await;
        let after = Readings::take(&job.watched)?;
        Ok(outcome(job, warm_up, sent, elapsed, before, after))
    });
    limited
        .await
        .with_context(|| format!("no end after {PHASE_LIMIT:?} at {}", job.address))?
}

async fn open(address: SocketAddr, count: usize) -> Result<Vec<Connection>> {
    let opening = (0..count).map(|_| Connection::open(address));
    let opened: std::io::Result<Vec<Connection>> = join_all(opening).await.into_iter().collect();
    opened.with_context(|| format!("connecting to {address}"))
}

/// A connection and its companion, if there is one.
type Pair<'a> = (&'a mut Connection, Option<&'a mut Connection>);

fn pair<'a>(connections: &'a mut [Connection], beside: &'a mut [Connection]) -> Vec<Pair<'a>> {
    let mut beside = beside.iter_mut();
    connections
        .iter_mut()
        .map(|connection| (connection, beside.next()))
        .collect()
}

fn outcome(
    job: &Job,
    warm_up: Vec<Sent>,
    sent: Vec<Sent>,
    elapsed: Duration,
    before: Readings,
    after: Readings,
) -> Outcome {
    let mut outcome = Outcome {
        right: 0,
        elapsed,
        before,
        after,
        latencies_us: Vec::with_capacity(job.measured.len()),
        kept: vec![None; job.measured.len()],
        wrong: Wrong::default(),
    };
    for one in warm_up {
        outcome.wrong.merge(one.wrong);
    }
    for one in sent {
        outcome.right += one.latencies_us.len();
        outcome.latencies_us.extend(one.latencies_us);
        outcome.wrong.merge(one.wrong);
        for (index, kept) in one.kept {
            if let Some(place) = outcome.kept.get_mut(index) {
                *place = Some(kept);
            }
        }
    }
    outcome.latencies_us.sort_unstable();
    outcome
}

/// What one connection did.
#[derive(Debug, Default)]
struct Sent {
    latencies_us: Vec<u32>,
    kept: Vec<(usize, Kept)>,
    wrong: Wrong,
}

/// Sends every exchange once; each connection takes the next one as soon as it has its answer, and
/// its companion's.
async fn send_all(
    pairs: &mut [Pair<'_>],
    exchanges: &[Exchange],
    companion: Option<&Exchange>,
) -> Vec<Sent> {
    let next = Cell::new(0);
    let loops = pairs.iter_mut().map(|(connection, beside)| {
        let next = &next;
        async move {
            let mut sent = Sent::default();
            loop {
                let index = next.replace(next.get() + 1);
                let Some(exchange) = exchanges.get(index) else {
                    return sent;
                };
                send_one(connection, index, exchange, &mut sent).await;
                if let (Some(beside), Some(exchange)) = (beside.as_mut(), companion) {
                    let mut aside = Sent::default();
                    send_one(beside, index, exchange, &mut aside).await;
                    sent.wrong.merge(aside.wrong);
                }
            }
        }
    });
    join_all(loops).await
}

/// The same, each on a connection that is opened for it: its latency counts from before that.
async fn send_all_anew(connections: &mut [Connection], exchanges: &[Exchange]) -> Vec<Sent> {
    let next = Cell::new(0);
    let loops = connections.iter_mut().map(|connection| {
        let next = &next;
        async move {
            let mut sent = Sent::default();
            loop {
                let index = next.replace(next.get() + 1);
                let Some(exchange) = exchanges.get(index) else {
                    return sent;
                };
                let due = Instant::now();
                match connection.reopen().await {
                    Ok(()) => send_due(connection, index, exchange, due, &mut sent).await,
                    Err(error) => sent.wrong.add(format!("connecting: {error}")),
                }
            }
        }
    });
    join_all(loops).await
}

async fn send_one(connection: &mut Connection, index: usize, exchange: &Exchange, sent: &mut Sent) {
    send_due(connection, index, exchange, Instant::now(), sent).await;
}

/// Sends what was due at `due`, from when its latency counts.
async fn send_due(
    connection: &mut Connection,
    index: usize,
    exchange: &Exchange,
    due: Instant,
    sent: &mut Sent,
) {
    match connection.exchange(&exchange.request).await {
        Ok(answer) => match judge(&exchange.expect, &answer) {
            Ok(kept) => {
                let micros = u32::try_from(due.elapsed().as_micros()).unwrap_or(u32::MAX);
                sent.latencies_us.push(micros);
                sent.kept.extend(kept.map(|kept| (index, kept)));
            }
            Err(what) => sent.wrong.add(what),
        },
        Err(error) => {
            sent.wrong.add(format!("{error:#}"));
            // The next request gets a fresh connection; this one is not repeated.
            if let Err(error) = connection.reopen().await {
                sent.wrong.add(format!("connecting again: {error}"));
            }
        }
    }
}

fn judge(expect: &Expect, answer: &Answer<'_>) -> Result<Option<Kept>, String> {
    match expect {
        Expect::Anything => Ok(Some(Kept {
            status: answer.status,
            body: Bytes::copy_from_slice(answer.body),
        })),
        Expect::Exactly {
            status,
            body,
            replayed,
        } => {
            if answer.status == *status && answer.body == body && answer.replayed == *replayed {
                Ok(None)
            } else {
                let expected = Answer {
                    status: *status,
                    replayed: *replayed,
                    body,
                };
                Err(format!("got {answer}\n    not {expected}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that answers each request on a connection with the next of `answers`, the first 20 bytes of the
    /// request being one request.
    async fn server(answers: &'static [&'static [u8]]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let mut answers = answers.iter().cycle();
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 20];
                while stream.read_exact(&mut request).await.is_ok() {
                    let answer = answers.next().unwrap();
                    stream.write_all(answer).await.unwrap();
                    if answer.is_empty() {
                        break;
                    }
                }
            }
        });
        address
    }

    fn job(address: SocketAddr, expect: &Expect, count: usize) -> Job {
        let exchange = Exchange {
            request: Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n.."),
            expect: expect.clone(),
        };
        Job {
            address,
            connections: 1,
            warm_up: Vec::new(),
            measured: vec![exchange; count],
            pace: None,
            beside: None,
            anew: false,
            watched: Vec::new(),
        }
    }

    fn exactly(body: &'static [u8]) -> Expect {
        Expect::Exactly {
            status: 200,
            body: Bytes::from_static(body),
            replayed: false,
        }
    }

    #[tokio::test]
    async fn every_answer_is_compared() {
        let address = server(&[
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\nok",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno",
            b"HTTP/1.1 200 OK\r\nIdempotent-Replayed: true\r\nContent-Length: 2\r\n\r\nok",
        ])
        .await;
        let outcome = run(job(address, &exactly(b"ok"), 4)).await.unwrap();
        assert_eq!(outcome.right, 1);
        assert_eq!(outcome.wrong.count, 3);
        assert_eq!(outcome.latencies_us.len(), 1);
        assert!(outcome.wrong.shown[0].contains("500"), "{outcome:?}");
    }

    #[tokio::test]
    async fn a_lost_connection_is_a_wrong_answer_and_the_next_request_gets_another() {
        let address = server(&[b"", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"]).await;
        let outcome = run(job(address, &exactly(b"ok"), 2)).await.unwrap();
        assert_eq!((outcome.right, outcome.wrong.count), (1, 1));
    }

    #[tokio::test]
    async fn anew_every_request_has_a_connection_of_its_own() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (count, mut counted) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.send(()).unwrap();
                tokio::spawn(async move {
                    while stream.read_exact(&mut [0; 20]).await.is_ok() {
                        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                        stream.write_all(answer).await.unwrap();
                    }
                });
            }
        });
        let mut job = job(address, &exactly(b"ok"), 5);
        job.anew = true;
        let outcome = run(job).await.unwrap();
        assert_eq!((outcome.right, outcome.wrong.count), (5, 0));
        // And the one that the warm-up would have used.
        let mut connections = 0;
        while counted.try_recv().is_ok() {
            connections += 1;
        }
        assert_eq!(connections, 6);
    }

    #[tokio::test]
    async fn at_a_fixed_rate_a_wait_for_the_connection_is_in_the_latency() {
        // One connection, and a server that takes 20 ms: the second request is due long before it can be sent.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 20];
            while stream.read_exact(&mut request).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                stream.write_all(answer).await.unwrap();
            }
        });
        let mut job = job(address, &exactly(b"ok"), 5);
        job.pace = Some(1_000.0);
        let outcome = run(job).await.unwrap();
        assert_eq!((outcome.right, outcome.wrong.count), (5, 0));
        // Due 4 ms after the first, answered 100 ms after it.
        assert!(outcome.latencies_us[4] >= 90_000, "{outcome:?}");
        assert!(outcome.latencies_us[0] >= 20_000);
    }

    #[tokio::test]
    async fn a_held_connection_that_was_not_kept_is_wrong() {
        // Two connections at once; the second is closed after its first answer.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            for requests in [2, 1, 0] {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    for _ in 0..requests {
                        stream.read_exact(&mut [0; 20]).await.unwrap();
                        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                        stream.write_all(answer).await.unwrap();
                    }
                });
            }
        });
        let exchanges = job(address, &exactly(b"ok"), 1).measured;
        let (seen, wrong) = hold(address, exchanges, 2, || Ok(7)).await.unwrap();
        assert_eq!((seen, wrong.count), (7, 1), "{wrong:?}");
    }

    #[tokio::test]
    async fn what_is_kept_keeps_its_place() {
        let address = server(&[
            b"HTTP/1.1 402 Pay\r\nContent-Length: 1\r\n\r\na",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb",
        ])
        .await;
        let outcome = run(job(address, &Expect::Anything, 2)).await.unwrap();
        let kept: Vec<_> = outcome.kept.into_iter().flatten().collect();
        assert_eq!((kept[0].status, &kept[0].body[..]), (402, &b"a"[..]));
        assert_eq!((kept[1].status, &kept[1].body[..]), (200, &b"b"[..]));
    }
}
