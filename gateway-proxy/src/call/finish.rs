//! A call that is finished although nobody waits for its end any more.
//!
//! While the buyer's connection lasts, the call runs inside that connection's own task: a task of
//! its own would cost an allocation of the whole call and two hand-overs, every time, for what
//! rarely happens. Only when the waiting is given up does the rest of the call become a task.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;

/// Runs a future to its end, wherever that is.
///
/// Dropped before the end, it hands the rest to the runtime. A future that panicked is not handed
/// on; what it held has been dropped by then.
#[derive(Debug)]
pub struct Finish<F: Future<Output: Send> + Send + 'static>(Option<Pin<Box<F>>>);

impl<F: Future<Output: Send> + Send + 'static> Finish<F> {
    /// Nothing of it runs before the first poll; dropped before that, it runs all the same.
    pub fn new(call: F) -> Self {
        Self(Some(Box::pin(call)))
    }
}

impl<F: Future<Output: Send> + Send + 'static> Future for Finish<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // Taken out while it runs: if it panics, it is gone, and is not polled again.
        let Some(mut call) = self.0.take() else {
            return Poll::Pending;
        };
        let polled = call.as_mut().poll(cx);
        if polled.is_pending() {
            self.0 = Some(call);
        }
        polled
    }
}

impl<F: Future<Output: Send> + Send + 'static> Drop for Finish<F> {
    fn drop(&mut self) {
        // Without a runtime the process is ending, and the sweep takes the lease back.
        if let Some(call) = self.0.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(call);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::AssertUnwindSafe;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt as _;
    use tokio::sync::{Notify, oneshot};

    #[tokio::test]
    async fn a_call_nobody_waits_for_any_more_is_finished() {
        let (go, done) = (Arc::new(Notify::new()), oneshot::channel());
        let gate = Arc::clone(&go);
        let mut call = Finish::new(async move {
            gate.notified().await;
            let _ = done.0.send(7);
        });
        assert!((&mut call).now_or_never().is_none(), "it waits");
        drop(call);
        go.notify_one();
        assert_eq!(done.1.await, Ok(7));
    }

    #[tokio::test]
    async fn a_call_that_ended_or_panicked_does_not_run_again() {
        let runs = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&runs);
        assert_eq!(
            Finish::new(async move { count.fetch_add(1, Ordering::Relaxed) }).await,
            0
        );
        let count = Arc::clone(&runs);
        let mut panics = Finish::new(async move {
            count.fetch_add(1, Ordering::Relaxed);
            panic!("a fault of ours");
        });
        let caught = AssertUnwindSafe(&mut panics).catch_unwind().await;
        assert!(caught.is_err());
        drop(panics);
        tokio::task::yield_now().await;
        assert_eq!(runs.load(Ordering::Relaxed), 2);
    }
}
