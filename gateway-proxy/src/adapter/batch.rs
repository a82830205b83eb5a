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
/// While one batch is on its way, another leaves only when this many items wait: when it is full.
///
/// Much of what a batch costs here, in the control plane and in Postgres (a plan, ten constraint sets,
/// a commit) does not depend on how many items it has, and two half-empty batches cost twice that.
/// Measured with 64 connections, CPU of the whole machine for a paid call: 310 µs when a second batch
/// always left, 305 µs (gateway 72.6, against a bare pingora's 54.1) when it left for 16 items, 285 µs
/// (70.0, against 53.6) with this.
pub const DEEP_QUEUE: usize = BATCH_ITEMS_MAX;
/// A batch that has been away for longer holds nobody up: the next leaves beside it at once.
pub const SLOW_AFTER: Duration = Duration::from_millis(25);
/// Bytes of items in one batch, as the items weigh themselves.
pub const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

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
    tokio::spawn(Leaving::new(Arc::clone(inner)).run());
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
        while let Some(batch) = self.next_batch() {
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
mod tests {
    use super::*;
    use futures_util::future::{FutureExt as _, join_all};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Semaphore;

    type Sizes = Arc<Mutex<Vec<usize>>>;

    /// A batcher whose other side waits for leave to answer, doubles numbers, and fails on 13.
    fn doubling(waiting_max: usize) -> (Batcher<u32, u32>, Sizes, Arc<Semaphore>) {
        let sizes = Sizes::default();
        let gate = Arc::new(Semaphore::new(0));
        let (seen, leave) = (Arc::clone(&sizes), Arc::clone(&gate));
        let send: Send<u32, u32> = Box::new(move |items| {
            let (seen, leave) = (Arc::clone(&seen), Arc::clone(&leave));
            async move {
                seen.lock().push(items.len());
                leave.acquire().await.unwrap().forget();
                let answers = if items.contains(&13) {
                    Err(Unanswered::Failed)
                } else if items.contains(&14) {
                    Err(Unanswered::Lost)
                } else {
                    Ok(items.iter().map(|item| item * 2).collect())
                };
                (items, answers)
            }
            .boxed()
        });
        let batcher = Batcher::new(waiting_max, |_| 1, BatchCounts::noop(), send);
        (batcher, sizes, gate)
    }

    async fn until(condition: impl Fn() -> bool) {
        while !condition() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_lone_item_leaves_at_once_and_load_makes_batches() {
        let (batcher, sizes, gate) = doubling(1000);
        let asked = ask_all(&batcher, 100..230);
        until(|| batcher.0.queue.lock().waiting.len() + sizes.lock().iter().sum::<usize>() == 130)
            .await;
        gate.add_permits(100);
        for (item, answer) in (100..230).zip(join_all(asked).await) {
            assert_eq!(answer.unwrap(), Ok(item * 2));
        }
        let sizes = sizes.lock();
        assert!(sizes.iter().all(|size| *size <= BATCH_ITEMS_MAX));
        assert!(sizes.len() < 10, "{sizes:?}");
        assert_eq!(batcher.0.queue.lock().in_flight, 0);
    }

    #[tokio::test]
    async fn the_item_at_fault_stands_alone() {
        let (batcher, _, gate) = doubling(1000);
        let asked = ask_all(&batcher, 0..30);
        // 14 shares a batch with others at first; alone, only its reply is lost.
        gate.add_permits(200);
        let answers = join_all(asked).await;
        assert_eq!(answers[13].as_ref().unwrap(), &Err(Unanswered::Failed));
        assert_eq!(answers[0].as_ref().unwrap(), &Ok(0));
    }

    #[tokio::test]
    async fn a_lost_reply_is_told_and_the_next_batch_leaves() {
        let (batcher, sizes, gate) = doubling(1000);
        gate.add_permits(10);
        assert_eq!(batcher.ask(14).await, Err(Unanswered::Lost));
        assert_eq!(batcher.ask(7).await, Ok(14));
        assert_eq!(*sizes.lock(), [1, 1]);
    }

    /// Asks for these items at once.
    fn ask_all(
        batcher: &Batcher<u32, u32>,
        items: std::ops::Range<u32>,
    ) -> Vec<tokio::task::JoinHandle<Result<u32, Unanswered>>> {
        items
            .map(|item| {
                let batcher = batcher.clone();
                tokio::spawn(async move { batcher.ask(item).await })
            })
            .collect()
    }

    fn waiting(batcher: &Batcher<u32, u32>) -> usize {
        batcher.0.queue.lock().waiting.len()
    }

    #[tokio::test]
    async fn a_second_batch_leaves_when_many_wait_and_gives_way_when_few_do() {
        let (batcher, sizes, gate) = doubling(1000);
        let mut asked = ask_all(&batcher, 100..101);
        until(|| sizes.lock().len() == 1).await;
        let few = u32::try_from(DEEP_QUEUE).unwrap() - 1;
        asked.extend(ask_all(&batcher, 200..200 + few));
        until(|| waiting(&batcher) == DEEP_QUEUE - 1).await;
        assert_eq!(*sizes.lock(), [1], "few wait for the first to come back");
        asked.extend(ask_all(&batcher, 300..301));
        until(|| sizes.lock().len() == 2).await;
        assert_eq!(*sizes.lock(), [1, DEEP_QUEUE]);
        asked.extend(ask_all(&batcher, 400..403));
        until(|| waiting(&batcher) == 3).await;
        gate.add_permits(1);
        until(|| batcher.0.queue.lock().in_flight == 1).await;
        assert_eq!(
            waiting(&batcher),
            3,
            "the batch that is still away takes them"
        );
        gate.add_permits(100);
        assert!(
            join_all(asked)
                .await
                .into_iter()
                .all(|a| a.unwrap().is_ok())
        );
        assert_eq!(*sizes.lock(), [1, DEEP_QUEUE, 3]);
        assert_eq!(batcher.0.queue.lock().in_flight, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_batch_holds_nobody_up() {
        let (batcher, sizes, gate) = doubling(1000);
        let mut asked = ask_all(&batcher, 100..101);
        until(|| sizes.lock().len() == 1).await;
        asked.extend(ask_all(&batcher, 200..201));
        until(|| waiting(&batcher) == 1).await;
        tokio::time::advance(SLOW_AFTER * 2).await;
        until(|| sizes.lock().len() == 2).await;
        asked.extend(ask_all(&batcher, 300..301));
        until(|| waiting(&batcher) == 1).await;
        assert_eq!(*sizes.lock(), [1, 1], "the second is not slow yet");
        gate.add_permits(100);
        assert!(
            join_all(asked)
                .await
                .into_iter()
                .all(|a| a.unwrap().is_ok())
        );
        let queue = batcher.0.queue.lock();
        assert_eq!((queue.in_flight, queue.slow), (0, 0));
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_a_panic_gives_the_place_back() {
        let (batcher, sizes, gate) = doubling(1);
        let mut asked = ask_all(&batcher, 0..1);
        until(|| sizes.lock().len() == 1).await;
        asked.extend(ask_all(&batcher, 1..2));
        until(|| waiting(&batcher) == 1).await;
        assert_eq!(batcher.ask(9).await, Err(Unanswered::Full));
        gate.add_permits(10);
        assert!(
            join_all(asked)
                .await
                .into_iter()
                .all(|a| a.unwrap().is_ok())
        );

        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let send: Send<u32, u32> = Box::new(move |items| {
            let first = counted.fetch_add(1, Ordering::Relaxed) == 0;
            async move {
                assert!(!first, "a fault of ours");
                let answers = Ok(items.clone());
                (items, answers)
            }
            .boxed()
        });
        let batcher = Batcher::new(10, |_| 1, BatchCounts::noop(), send);
        assert_eq!(batcher.ask(1).await, Err(Unanswered::Lost));
        until(|| batcher.0.queue.lock().in_flight == 0).await;
        assert_eq!(batcher.ask(2).await, Ok(2));
    }

    #[test]
    fn heavy_items_travel_in_smaller_batches() {
        let send: Send<usize, ()> = Box::new(|items| {
            async move {
                let answers = Ok(vec![(); items.len()]);
                (items, answers)
            }
            .boxed()
        });
        let batcher = Batcher::new(10, |bytes| *bytes, BatchCounts::noop(), send);
        {
            let mut queue = batcher.0.queue.lock();
            for bytes in [BATCH_BYTES_MAX * 2, BATCH_BYTES_MAX, 1, 1] {
                let (asker, answer) = oneshot::channel();
                std::mem::forget(answer);
                queue.waiting.push_back(Asked { item: bytes, asker });
            }
            queue.in_flight = 1;
        }
        let mut leaving = Leaving::new(Arc::clone(&batcher.0));
        let sizes: Vec<_> = std::iter::from_fn(|| leaving.next_batch().map(|b| b.len())).collect();
        assert_eq!(sizes, [1, 1, 2]);
    }
}
