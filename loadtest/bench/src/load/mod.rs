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
#[cfg(test)]
mod tests;

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
