//! Idle connections of one endpoint URL, and the answer that says which of them may be used.
//!
//! A connection may be used while its address stands in an answer of at most
//! [`ANSWER_AGE_MAX`](super::resolve::ANSWER_AGE_MAX) whose every address was allowed. The most
//! recently used goes first, one made on the caller's own runtime before the others: its wake-ups
//! then stay on the thread that waits for them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::exchange::Connection;
use super::resolve::Answer;

/// How often expired connections are closed while nobody calls.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(super) struct Pool {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    answer: Option<Arc<Answer>>,
    idle: Vec<Idle>,
    sweeping: bool,
}

struct Idle {
    connection: Connection,
    until: Instant,
}

/// What a call finds.
pub(super) enum Found {
    /// A connection to try; it may have been closed meanwhile.
    Idle(Connection),
    /// None: make one, by this answer if it is still fresh.
    Empty(Arc<Answer>),
    /// No answer that is young enough: resolve first.
    Stale,
}

impl Pool {
    /// Sets the answer. Every address in it was allowed.
    pub(super) fn learn(&self, answer: Arc<Answer>) {
        self.inner.lock().answer = Some(answer);
    }

    /// Takes a connection that may be used now.
    pub(super) fn take(&self, now: Instant) -> Found {
        let mut inner = self.inner.lock();
        let answer = match &inner.answer {
            Some(answer) if answer.is_kept(now) => Arc::clone(answer),
            Some(_) | None => return Found::Stale,
        };
        let mut unusable = Vec::new();
        let taken = loop {
            match inner.next() {
                Some(idle) if idle.is_usable(&answer, now) => break Some(idle),
                Some(idle) => unusable.push(idle),
                None => break None,
            }
        };
        // Sockets are closed outside the lock.
        drop(inner);
        drop(unusable);
        taken.map_or(Found::Empty(answer), |idle| Found::Idle(idle.connection))
    }

    /// Keeps a connection for `idle_for`, if there is room: the oldest makes way.
    pub(super) fn put(
        self: &Arc<Self>,
        connection: Connection,
        idle_for: Duration,
        now: Instant,
        limit: usize,
    ) {
        let mut inner = self.inner.lock();
        inner.idle.push(Idle {
            connection,
            until: now + idle_for,
        });
        let excess = inner.idle.len().saturating_sub(limit);
        let closing: Vec<Idle> = inner.idle.drain(..excess).collect();
        let sweep = !std::mem::replace(&mut inner.sweeping, true);
        drop(inner);
        drop(closing);
        if sweep {
            self.spawn_sweep();
        }
    }

    /// Connections have no task that would notice their age, so one task a pool does, and ends when
    /// there is nothing to watch.
    fn spawn_sweep(self: &Arc<Self>) {
        let pool = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(SWEEP_EVERY).await;
                match pool.upgrade() {
                    Some(pool) if pool.sweep(Instant::now()) => {}
                    Some(_) | None => return,
                }
            }
        });
    }

    /// Closes what is too old; `false` when nothing is left to watch.
    pub(super) fn sweep(&self, now: Instant) -> bool {
        let mut inner = self.inner.lock();
        let expired: Vec<Idle> = inner
            .idle
            .extract_if(.., |idle| idle.until <= now)
            .collect();
        inner.sweeping = !inner.idle.is_empty();
        let more = inner.sweeping;
        drop(inner);
        drop(expired);
        more
    }

    #[cfg(test)]
    pub(super) fn idle(&self) -> usize {
        self.inner.lock().idle.len()
    }
}

impl Inner {
    /// The most recently used, of this runtime if there is one.
    fn next(&mut self) -> Option<Idle> {
        let here = Handle::current().id();
        match self
            .idle
            .iter()
            .rposition(|idle| idle.connection.runtime() == here)
        {
            Some(index) => Some(self.idle.remove(index)),
            None => self.idle.pop(),
        }
    }
}

impl Idle {
    fn is_usable(&self, answer: &Answer, now: Instant) -> bool {
        now < self.until && answer.addresses.contains(&self.connection.peer())
    }
}
