//! Work on a large body, done where nobody else waits for it.
//!
//! Hashing, judging or encoding 8 MiB takes tens of milliseconds. On an event loop every other call of
//! that thread would wait for it; handed aside, the loop goes on meanwhile. Small bodies are worked on in
//! place: handing over costs more than they do.

use std::future::{Future, pending};
use std::panic::resume_unwind;

use tokio::task::JoinError;

/// Bodies above this are worked on aside: a quarter of a millisecond of hashing.
const LARGE_BYTES: usize = 256 * 1024;

/// Whether work on so many bytes is done aside.
pub const fn is_large(bytes: usize) -> bool {
    bytes > LARGE_BYTES
}

/// Does `work` on so many bytes: in place and now, or aside, where it goes on when nobody waits for it any
/// more. What is waited for holds what was done or a handle to it, not what it is done with, so that the
/// calls of small bodies are no larger.
pub fn aside<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = T> + Send {
    let done = if is_large(bytes) {
        Err(tokio::task::spawn_blocking(work))
    } else {
        Ok(work())
    };
    async move {
        match done {
            Ok(done) => done,
            Err(aside) => match aside.await.map_err(JoinError::try_into_panic) {
                Ok(done) => done,
                // So does the call, as it would have in place.
                Err(Ok(panic)) => resume_unwind(panic),
                // Nobody aborts it: the process ends.
                Err(Err(_)) => pending().await,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    #[tokio::test]
    async fn other_tasks_of_the_only_thread_go_on_meanwhile() {
        let (told, heard) = channel();
        tokio::spawn(async move { told.send(()) });
        let went_on = aside(LARGE_BYTES + 1, move || {
            heard.recv_timeout(Duration::from_secs(20)).is_ok()
        });
        assert!(went_on.await, "the other task ran while this one worked");
    }

    #[tokio::test]
    async fn small_work_is_done_in_place() {
        let here = std::thread::current().id();
        let at = |bytes| aside(bytes, || std::thread::current().id());
        assert_eq!(at(LARGE_BYTES).await, here);
        assert_ne!(at(LARGE_BYTES + 1).await, here);
    }

    #[tokio::test]
    #[should_panic(expected = "as in place")]
    async fn a_panic_aside_is_the_callers() {
        aside(LARGE_BYTES + 1, || panic!("as in place")).await;
    }
}
