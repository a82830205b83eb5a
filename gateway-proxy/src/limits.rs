//! Local limits: calls in a minute, bytes held, requests under way.
//!
//! Invariant: taking is one atomic operation, and what was taken comes back on drop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Length of a rate window, in seconds.
pub const WINDOW_SECONDS: u32 = 60;

/// Counts hits in a window that begins with its first hit.
///
/// One word holds both the second it began (upper half) and the count (lower half), so a hit is one
/// compare-and-swap and no lock.
#[derive(Debug, Default)]
pub struct Window(AtomicU64);

/// Where a window stands after a hit that it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Hits left in the window.
    pub remaining: u32,
    /// Seconds until the window ends.
    pub reset_seconds: u32,
}

/// The window is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// Seconds until it ends, at least 1.
    pub retry_after_seconds: u32,
}

impl Window {
    /// Takes one hit if fewer than `limit` stand. `now` is in whole seconds of a clock that only
    /// needs to move forward.
    pub fn hit(&self, now: u32, limit: u32) -> Result<Usage, Full> {
        let mut full = None;
        let taken = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
                let (began, count) = split(word, now);
                full = (count >= limit).then_some(began);
                (count < limit).then(|| join(began, count + 1))
            });
        if let Some(began) = full {
            return Err(Full {
                retry_after_seconds: left(began, now).max(1),
            });
        }
        let (began, count) = split(taken.unwrap_or_default(), now);
        Ok(Usage {
            remaining: limit.saturating_sub(count + 1),
            reset_seconds: left(began, now),
        })
    }

    /// Whether `limit` hits stand, without taking one.
    pub fn check(&self, now: u32, limit: u32) -> Result<(), Full> {
        let (began, count) = split(self.0.load(Ordering::Relaxed), now);
        if count >= limit {
            return Err(Full {
                retry_after_seconds: left(began, now).max(1),
            });
        }
        Ok(())
    }
}

/// The window that holds at `now`: the one in the word, or a new one.
fn split(word: u64, now: u32) -> (u32, u32) {
    let began = u32::try_from(word >> 32).unwrap_or(0);
    let count = u32::try_from(word & u64::from(u32::MAX)).unwrap_or(0);
    if count == 0 || now.wrapping_sub(began) >= WINDOW_SECONDS {
        (now, 0)
    } else {
        (began, count)
    }
}

fn join(began: u32, count: u32) -> u64 {
    (u64::from(began) << 32) | u64::from(count)
}

fn left(began: u32, now: u32) -> u32 {
    WINDOW_SECONDS.saturating_sub(now.wrapping_sub(began))
}

/// Bytes of bodies that may be held at once: requests' and, above a size, sellers' answers.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Semaphore>);

/// A part of the budget, given back on drop.
#[derive(Debug)]
pub struct Share(Option<OwnedSemaphorePermit>);

impl Budget {
    /// A budget of so many bytes.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))))
    }

    /// Takes `bytes`, or nothing.
    pub fn take(&self, bytes: usize) -> Option<Share> {
        if bytes == 0 {
            return Some(Share(None));
        }
        let permits = u32::try_from(bytes).ok()?;
        let permit = Arc::clone(&self.0).try_acquire_many_owned(permits).ok()?;
        Some(Share(Some(permit)))
    }

    /// Bytes not taken.
    pub fn left(&self) -> usize {
        self.0.available_permits()
    }

    /// The same budget, one permit a byte, for the room that waits for it.
    pub fn semaphore(&self) -> Arc<Semaphore> {
        Arc::clone(&self.0)
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
    fn a_window_takes_its_limit_and_opens_again_a_minute_later() {
        let window = Window::default();
        assert_eq!(window.hit(100, 2).unwrap().remaining, 1);
        assert_eq!(
            window.hit(130, 2),
            Ok(Usage {
                remaining: 0,
                reset_seconds: 30
            })
        );
        assert_eq!(
            window.hit(131, 2),
            Err(Full {
                retry_after_seconds: 29
            })
        );
        assert!(window.check(131, 2).is_err());
        assert!(window.check(160, 2).is_ok());
        assert_eq!(window.hit(160, 2).unwrap().remaining, 1);
        assert!(Window::default().hit(0, 0).is_err());
    }

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
