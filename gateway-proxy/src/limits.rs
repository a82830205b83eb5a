//! Limits of this process: bytes held, requests under way, time.
//!
//! Invariant: taking is one atomic operation, and what was taken comes back on drop.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Answers up to this many bytes draw on no budget: about what the kernel holds of a connection anyway.
pub const FREE_BYTES: usize = 64 * 1024;

/// Bytes of bodies that may be held at once.
#[derive(Clone, Debug)]
pub struct Budget {
    left: Arc<Semaphore>,
    bytes: usize,
}

/// A part of the budget, given back on drop.
#[derive(Debug, Default)]
pub struct Share(Option<OwnedSemaphorePermit>);

impl Budget {
    /// A budget of so many bytes.
    pub fn new(bytes: usize) -> Self {
        let bytes = bytes.min(Semaphore::MAX_PERMITS);
        Self {
            left: Arc::new(Semaphore::new(bytes)),
            bytes,
        }
    }

    /// Half for requests' bodies, and half for sellers' large answers. An answer waits for room while
    /// a request does not: with one budget those who wait would take all that comes free, and every
    /// request with a body be refused meanwhile.
    pub fn halves(bytes: usize) -> (Self, Self) {
        (Self::new(bytes / 2), Self::new(bytes / 2))
    }

    /// Takes `bytes`, or nothing.
    pub fn take(&self, bytes: usize) -> Option<Share> {
        if bytes == 0 {
            return Some(Share(None));
        }
        let permits = u32::try_from(bytes).ok()?;
        let permit = Arc::clone(&self.left)
            .try_acquire_many_owned(permits)
            .ok()?;
        Some(Share(Some(permit)))
    }

    /// All its bytes, taken or not.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes not taken.
    pub fn left(&self) -> usize {
        self.left.available_permits()
    }
}

impl Share {
    /// How many bytes it is.
    pub fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }

    /// Gives back all but so many bytes.
    pub fn keep(&mut self, bytes: usize) {
        let excess = self.bytes().saturating_sub(bytes);
        drop(self.0.as_mut().and_then(|permit| permit.split(excess)));
    }

    /// Joins another part of the same budget to this one.
    pub fn join(&mut self, other: Self) {
        match (&mut self.0, other.0) {
            (Some(mine), Some(more)) => mine.merge(more),
            (None, more) => self.0 = more,
            (Some(_), None) => {}
        }
    }
}

/// At most so much time for what is nearly always done at once: only what has to wait is given a clock.
pub async fn within<F: Future>(time: Duration, work: F) -> Result<F::Output, OutOfTime> {
    let mut work = pin!(work);
    match at_once(work.as_mut()).await {
        Some(done) => Ok(done),
        None => tokio::time::timeout(time, work)
            .await
            .map_err(|_| OutOfTime),
    }
}

/// What comes of work at its first step, if that is its last.
pub async fn at_once<F: Future>(mut work: Pin<&mut F>) -> Option<F::Output> {
    let first = poll_fn(|cx| {
        Poll::Ready(match work.as_mut().poll(cx) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        })
    });
    first.await
}

/// The time was over first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfTime;

/// Requests and claimed calls under way: what a stopping process waits for.
#[derive(Clone, Debug, Default)]
pub struct Underway(Arc<UnderwayInner>);

#[derive(Debug, Default)]
struct UnderwayInner {
    count: AtomicUsize,
    /// Nothing new is let in.
    closed: AtomicBool,
    none: Notify,
}

/// One of them.
#[derive(Debug)]
pub struct UnderwayGuard(Underway);

impl Underway {
    /// One more, of those that are under way already.
    pub fn begin(&self) -> UnderwayGuard {
        self.0.count.fetch_add(1, Ordering::SeqCst);
        UnderwayGuard(self.clone())
    }

    /// One more from outside, unless nothing is let in any more. It is counted first, and then looks; who closes
    /// does it in the other order, so that one of the two sees the other.
    pub fn enter(&self) -> Option<UnderwayGuard> {
        let guard = self.begin();
        (!self.0.closed.load(Ordering::SeqCst)).then_some(guard)
    }

    /// Runs `work` beside, counted from now on, rather than from its own first step: whoever hands over the rest
    /// of a call may be the last that is counted.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let guard = self.begin();
        tokio::spawn(async move {
            work.await;
            drop(guard);
        });
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.0.count.load(Ordering::SeqCst)
    }

    /// Lets nothing in from now on.
    pub fn shut(&self) {
        self.0.closed.store(true, Ordering::SeqCst);
    }

    /// Resolves when none is left and none can come.
    pub async fn close(&self) {
        self.none().await;
        self.shut();
        // What came in just before.
        self.none().await;
    }

    /// Resolves when none is left.
    pub async fn none(&self) {
        loop {
            let mut notified = std::pin::pin!(self.0.none.notified());
            // Registered before the count is read, so that the last one's notice is not missed.
            notified.as_mut().enable();
            if self.count() == 0 {
                return;
            }
            notified.await;
        }
    }
}

impl Drop for UnderwayGuard {
    fn drop(&mut self) {
        if self.0.0.count.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.0.none.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[test]
    fn a_budget_gets_back_what_was_taken() {
        let budget = Budget::new(100);
        let mut share = budget.take(60).unwrap();
        assert!(budget.take(41).is_none());
        share.join(budget.take(40).unwrap());
        share.join(budget.take(0).unwrap());
        assert!(budget.take(1).is_none());
        assert_eq!(budget.left(), 0);
        drop(share);
        assert_eq!(budget.left(), 100);
    }

    #[tokio::test]
    async fn what_is_done_at_once_is_in_time_and_what_waits_too_long_is_not() {
        assert_eq!(within(Duration::ZERO, async { 1 }).await, Ok(1));
        let soon = tokio::task::yield_now();
        assert_eq!(within(Duration::from_mins(1), soon).await, Ok(()));
        let never = std::future::pending::<()>();
        assert_eq!(
            within(Duration::from_millis(1), never).await,
            Err(OutOfTime)
        );
    }

    #[tokio::test]
    async fn waiting_for_none_ends_with_the_last() {
        let underway = Underway::default();
        underway.none().await;
        let guard = underway.begin();
        let waiting = tokio::spawn({
            let underway = underway.clone();
            async move { underway.none().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(guard);
        waiting.await.unwrap();
    }

    #[tokio::test]
    async fn what_comes_in_while_it_closes_is_waited_for_or_turned_away() {
        for _ in 0..1_000 {
            let (underway, stopped) = (Underway::default(), Arc::new(AtomicBool::new(false)));
            let (inside, ended) = (underway.clone(), Arc::clone(&stopped));
            let calls = std::thread::spawn(move || {
                // Nothing is under way when the stop looks, and then something may be.
                while let Some(call) = inside.enter() {
                    assert!(!ended.load(Ordering::SeqCst), "a call began after the stop");
                    drop(call);
                }
            });
            underway.close().await;
            stopped.store(true, Ordering::SeqCst);
            assert_eq!(underway.enter().map(drop), None);
            calls.join().unwrap();
        }
    }

    #[tokio::test]
    async fn closing_waits_for_what_is_under_way_and_lets_in_what_comes_meanwhile() {
        let underway = Underway::default();
        let call = underway.begin();
        let mut closing = Box::pin(underway.close());
        assert!((&mut closing).now_or_never().is_none());
        let next = underway.enter();
        assert!(next.is_some(), "there is time while another is waited for");
        drop(call);
        assert!((&mut closing).now_or_never().is_none());
        drop(next);
        closing.await;
        assert!(underway.enter().is_none());
    }

    #[tokio::test]
    async fn work_is_counted_before_its_first_step() {
        let underway = Underway::default();
        underway.spawn(async {});
        assert_eq!(underway.count(), 1);
        underway.none().await;
    }
}
