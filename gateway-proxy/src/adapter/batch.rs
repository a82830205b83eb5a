//! Many askers, few requests: items wait while a batch is on its way and leave together.
//!
//! There is no timer. A batch leaves as soon as none is on its way, so a lone item waits for nobody,
//! and under load the batches make themselves; a second one leaves beside it ([`IN_FLIGHT_MAX`]) when
//! many wait ([`DEEP_QUEUE`]), or when the first is slow ([`SLOW_AFTER`]).
//!
//! Invariants: a batch has at most `BATCH_ITEMS_MAX` items and, unless it is a single one, at most
//! `BATCH_BYTES_MAX` bytes. Every asker gets exactly one answer or learns that hers was lost. A
//! batch that was *answered with a failure* is halved until the item at fault stands alone; one
//! whose reply never came is lost for all, because asking again is theirs to decide. An asker who
//! went away costs nothing but her item's place.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crochet_shared::internal::BATCH_ITEMS_MAX;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::metrics::BatchCounts;

/// Batches on their way at once.
pub const IN_FLIGHT_MAX: usize = 2;
/// While one batch is on its way, another leaves only when this many items wait: when it is full. Large items fill
/// one sooner, and wait for the first to be back, or slow.
///
/// Much of what a batch costs here, in the control plane and in Postgres (a plan, ten constraint sets,
/// a commit) does not depend on how many items it has, and two half-empty batches cost twice that.
/// Measured with 64 connections, CPU of the whole machine for a paid call: 310 µs when a second batch
/// always left, 305 µs (of it the gateway 66) when it left for 16 items, 285 µs (64) with this.
pub const DEEP_QUEUE: usize = BATCH_ITEMS_MAX;
/// A batch that has been away for longer holds nobody up: the next leaves beside it at once.
pub const SLOW_AFTER: Duration = Duration::from_millis(25);
/// Bytes of items in one batch, as the items weigh themselves. Whoever comes next waits until they are written
/// and committed, and twice as much is held meanwhile: no more than saves a batch its fixed cost.
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// Why an asker has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// Too many wait already; the item was not taken.
    #[error("too many wait")]
    Full,
    /// Certainly not received by the other side.
    #[error("the other side cannot be reached")]
    Unreachable,
    /// The reply did not come: the item may have been dealt with or not.
    #[error("the reply was lost")]
    Lost,
    /// The other side answered that it could not deal with this.
    #[error("the other side failed")]
    Failed,
}

/// Sends a batch and gives the answers in the order asked, and the items back.
pub type Send<I, O> = Box<
    dyn Fn(Vec<I>) -> BoxFuture<'static, (Vec<I>, Result<Vec<O>, Unanswered>)>
        + std::marker::Send
        + Sync,
>;

/// Collects items into batches.
pub struct Batcher<I, O>(Arc<Inner<I, O>>);

struct Inner<I, O> {
    queue: Mutex<Queue<I, O>>,
    waiting_max: usize,
    weigh: fn(&I) -> usize,
    send: Send<I, O>,
    counts: BatchCounts,
}

struct Queue<I, O> {
    waiting: VecDeque<Asked<I, O>>,
    in_flight: usize,
    /// Those of them that have been away for longer than [`SLOW_AFTER`].
    slow: usize,
}

impl<I, O> Queue<I, O> {
    /// Whether what waits may leave now; takes the place if so.
    fn leave(&mut self) -> bool {
        let leave = !self.waiting.is_empty()
            && self.in_flight < IN_FLIGHT_MAX
            && !self.may_wait_for(self.in_flight);
        self.in_flight += usize::from(leave);
        leave
    }

    /// Whether what waits is too little for a batch of its own while `others` are away: one of them
    /// that is not slow will be back soon and take it along.
    fn may_wait_for(&self, others: usize) -> bool {
        others > self.slow && self.waiting.len() < DEEP_QUEUE
    }
}

struct Asked<I, O> {
    item: I,
    asker: oneshot::Sender<Result<O, Unanswered>>,
}

impl<I, O> Clone for Batcher<I, O> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<I, O> std::fmt::Debug for Batcher<I, O> {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let queue = self.0.queue.lock();
        to.debug_struct("Batcher")
            .field("waiting", &queue.waiting.len())
            .field("in_flight", &queue.in_flight)
            .finish()
    }
}

impl<I, O> Batcher<I, O>
where
    I: std::marker::Send + 'static,
    O: std::marker::Send + 'static,
{
    /// At most `waiting_max` items wait; `counts` records how many leave together and are refused.
    pub fn new(
        waiting_max: usize,
        weigh: fn(&I) -> usize,
        counts: BatchCounts,
        send: Send<I, O>,
    ) -> Self {
        Self(Arc::new(Inner {
            queue: Mutex::new(Queue {
                waiting: VecDeque::new(),
                in_flight: 0,
                slow: 0,
            }),
            waiting_max,
            weigh,
            send,
            counts,
        }))
    }

    /// How many wait, and how many may.
    pub fn waiting(&self) -> (usize, usize) {
        (self.0.queue.lock().waiting.len(), self.0.waiting_max)
    }

    /// Asks one item, in a batch with whatever else waits.
    pub async fn ask(&self, item: I) -> Result<O, Unanswered> {
        let (asker, answer) = oneshot::channel();
        let leave = {
            let mut queue = self.0.queue.lock();
            if queue.waiting.len() >= self.0.waiting_max {
                self.0.counts.full.increment(1);
                return Err(Unanswered::Full);
            }
            queue.waiting.push_back(Asked { item, asker });
            queue.leave()
        };
        if leave {
            spawn(&self.0);
        }
        answer.await.unwrap_or(Err(Unanswered::Lost))
    }
}

fn spawn<I, O>(inner: &Arc<Inner<I, O>>)
where
    I: std::marker::Send + 'static,
    O: std::marker::Send + 'static,
{
    // Boxed, because a runtime moves what it runs, and this holds all of a question on its way.
    tokio::spawn(Box::pin(Leaving::new(Arc::clone(inner)).run()));
}

/// One of the batches that may be on their way; gives its place back even if it panics.
struct Leaving<I, O> {
    inner: Arc<Inner<I, O>>,
    holds_place: bool,
}

impl<I, O> Leaving<I, O>
where
    I: std::marker::Send + 'static,
    O: std::marker::Send + 'static,
{
    const fn new(inner: Arc<Inner<I, O>>) -> Self {
        Self {
            inner,
            holds_place: true,
        }
    }

    /// Sends batch after batch until nothing waits.
    async fn run(mut self) {
        loop {
            // Whoever is ready to ask asks first, and leaves along: a fifth more in a batch, for a look at what
            // has come meanwhile. A full one has nothing to wait for, and an empty one nobody to wait with.
            let waiting = self.inner.queue.lock().waiting.len();
            if (1..BATCH_ITEMS_MAX).contains(&waiting) {
                tokio::task::yield_now().await;
            }
            let Some(batch) = self.next_batch() else {
                return;
            };
            #[expect(clippy::cast_precision_loss, reason = "a batch has at most 64 items")]
            self.inner.counts.items.record(batch.len() as f64);
            self.deliver(batch).await;
        }
    }

    /// Takes what leaves together. `None` gives the place back, under the same lock that an asker
    /// takes to see whether there is one: nothing can be left waiting.
    fn next_batch(&mut self) -> Option<Vec<Asked<I, O>>> {
        let mut queue = self.inner.queue.lock();
        let mut batch = Vec::new();
        let mut bytes = 0_usize;
        let others = queue.in_flight.saturating_sub(1);
        let wait = queue.may_wait_for(others);
        while let Some(next) = queue.waiting.front().filter(|_| !wait) {
            if next.asker.is_closed() {
                queue.waiting.pop_front();
                continue;
            }
            bytes = bytes.saturating_add((self.inner.weigh)(&next.item));
            let fits = batch.is_empty() || bytes <= BATCH_BYTES_MAX;
            if batch.len() >= BATCH_ITEMS_MAX || !fits {
                break;
            }
            batch.extend(queue.waiting.pop_front());
        }
        if batch.is_empty() {
            queue.in_flight = queue.in_flight.saturating_sub(1);
            self.holds_place = false;
            return None;
        }
        Some(batch)
    }

    /// Sends one part; if it stays away for long, what waits may leave without it.
    async fn send(&self, items: Vec<I>) -> (Vec<I>, Result<Vec<O>, Unanswered>) {
        let mut sending = (self.inner.send)(items);
        if let Ok(sent) = tokio::time::timeout(SLOW_AFTER, &mut sending).await {
            return sent;
        }
        let slow = Slow::new(&self.inner);
        if self.inner.queue.lock().leave() {
            spawn(&self.inner);
        }
        let sent = sending.await;
        drop(slow);
        sent
    }

    async fn deliver(&self, batch: Vec<Asked<I, O>>) {
        let mut parts = vec![batch];
        while let Some(part) = parts.pop() {
            let (items, askers): (Vec<_>, Vec<_>) = part
                .into_iter()
                .map(|asked| (asked.item, asked.asker))
                .unzip();
            let asked = items.len();
            let (items, answers) = self.send(items).await;
            match answers {
                Ok(answers) if answers.len() == asked => {
                    for (asker, answer) in askers.into_iter().zip(answers) {
                        // An asker who went away has no use for it.
                        let _ = asker.send(Ok(answer));
                    }
                }
                Err(Unanswered::Failed) if asked > 1 => {
                    let mut first: Vec<_> = items
                        .into_iter()
                        .zip(askers)
                        .map(|(item, asker)| Asked { item, asker })
                        .collect();
                    let second = first.split_off(asked / 2);
                    parts.push(second);
                    parts.push(first);
                }
                Ok(_) => tell(askers, Unanswered::Lost),
                Err(why) => tell(askers, why),
            }
        }
    }
}

impl<I, O> Drop for Leaving<I, O> {
    fn drop(&mut self) {
        if self.holds_place {
            let mut queue = self.inner.queue.lock();
            queue.in_flight = queue.in_flight.saturating_sub(1);
        }
    }
}

/// A batch counted as slow for as long as it is away, however it ends.
struct Slow<'a, I, O>(&'a Inner<I, O>);

impl<'a, I, O> Slow<'a, I, O> {
    fn new(inner: &'a Inner<I, O>) -> Self {
        inner.queue.lock().slow += 1;
        Self(inner)
    }
}

impl<I, O> Drop for Slow<'_, I, O> {
    fn drop(&mut self) {
        let mut queue = self.0.queue.lock();
        queue.slow = queue.slow.saturating_sub(1);
    }
}

fn tell<O>(askers: Vec<oneshot::Sender<Result<O, Unanswered>>>, why: Unanswered) {
    for asker in askers {
        let _ = asker.send(Err(why));
    }
}

#[cfg(test)]
mod tests;
