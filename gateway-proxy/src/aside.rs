//! Work on a large body, done where nobody else waits for it.
//!
//! Hashing, judging or encoding 8 MiB takes tens of milliseconds. On an event loop every other call of
//! that thread would wait for it; handed aside, the loop goes on in another thread meanwhile. Small
//! bodies are worked on in place: handing over costs more than they do.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Bodies above this are worked on aside: a quarter of a millisecond of hashing.
pub const LARGE_BYTES: usize = 256 * 1024;

/// Does `work` on so many bytes, in place or aside.
pub fn aside<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    if bytes > LARGE_BYTES && may_hand_over() {
        tokio::task::block_in_place(work)
    } else {
        work()
    }
}

/// A runtime of one thread has nobody to hand its other tasks to, and tokio would panic.
fn may_hand_over() -> bool {
    Handle::try_current()
        .is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    #[test]
    fn other_tasks_of_the_only_worker_go_on_meanwhile() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let done = runtime.block_on(async {
            tokio::spawn(async {
                let (told, heard) = channel();
                tokio::spawn(async move { told.send(()).unwrap() });
                aside(LARGE_BYTES + 1, move || {
                    heard.recv_timeout(Duration::from_secs(20)).is_ok()
                })
            })
            .await
        });
        assert!(done.unwrap(), "the other task ran while this one worked");
    }

    #[tokio::test]
    async fn where_nobody_can_take_over_the_work_is_done_in_place() {
        assert_eq!(aside(LARGE_BYTES + 1, || 7), 7);
        assert_eq!(
            std::thread::spawn(|| aside(LARGE_BYTES + 1, || 8))
                .join()
                .unwrap(),
            8
        );
    }
}
