//! Limits of this process: bytes held, requests under way, time.
//!
//! Invariant: taking is one atomic operation, and what was taken comes back on drop.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Bytes of bodies that may be held at once.
#[derive(Clone, Debug)]
pub struct Budget {
    left: Arc<Semaphore>,
    bytes: usize,
}

/// A part of the budget, given back on drop.
#[derive(Debug)]
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

    /// Half for requests' bodies, and half for sellers' answers above a size. An answer waits for room while
    /// a request does not: with one budget an answer that waits would take all that comes free, and every
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

    /// The same budget, one permit a byte, for the room that waits for it.
    pub fn semaphore(&self) -> Arc<Semaphore> {
        Arc::clone(&self.left)
    }
}

impl Share {
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
    let first = poll_fn(|cx| {
        Poll::Ready(match work.as_mut().poll(cx) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => None,
        })
    });
    match first.await {
        Some(done) => Ok(done),
        None => tokio::time::timeout(time, work)
            .await
            .map_err(|_| OutOfTime),
    }
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
    none: Notify,
}

/// One of them.
#[derive(Debug)]
pub struct UnderwayGuard(Underway);

impl Underway {
    /// One more.
    pub fn begin(&self) -> UnderwayGuard {
        self.0.count.fetch_add(1, Ordering::AcqRel);
        UnderwayGuard(self.clone())
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.0.count.load(Ordering::Acquire)
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
        if self.0.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.0.none.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
