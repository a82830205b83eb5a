//! Large answers on their way to buyers, and what they may hold in memory together.
//!
//! A delivered answer is settled before its first byte is sent, so one that does not arrive is not lost: asked
//! for again, it is told from what is stored. So where more is on its way than may be, the answer is cut off that
//! has cost most ([`OnWay`]). Nobody is refused, and whoever reads at the pace of a network is cut off only when
//! everybody does.
//!
//! Replays have a budget of their own ([`replay`](crate::call::replay)), which refuses instead.

use std::future::{Future, pending};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::Counter;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::limits::{FREE_BYTES, OutOfTime, at_once};
use crate::on_way::{OnWay, One};

/// What is on its way.
pub struct Sending {
    most: usize,
    cut_off: Counter,
    on_way: Mutex<OnWay>,
}

/// One that is on its way, until it is dropped.
struct Entered<'a> {
    sending: &'a Sending,
    number: u64,
    cut: Arc<Notify>,
}

impl Sending {
    /// At most so many bytes at once, or one answer that is larger. `cut_off` counts.
    pub fn new(most: usize, cut_off: Counter) -> Self {
        Self {
            most,
            cut_off,
            on_way: Mutex::default(),
        }
    }

    /// Sends an answer in at most so much time, unless it is cut off before. What the kernel takes at once is
    /// on its way no longer than that, and not counted.
    pub async fn within<F: Future>(
        &self,
        bytes: usize,
        time: Duration,
        writing: F,
    ) -> Result<F::Output, OutOfTime> {
        let mut writing = pin!(writing);
        if let Some(written) = at_once(writing.as_mut()).await {
            return Ok(written);
        }
        // What waits is large; in a box it takes no room in every connection that does not.
        let patiently = Box::pin(async move {
            let entered = (bytes > FREE_BYTES).then(|| self.enter(bytes, Instant::now()));
            let cut = async {
                match &entered {
                    Some(entered) => entered.cut.notified().await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                written = tokio::time::timeout(time, writing) => written.map_err(|_| OutOfTime),
                () = cut => Err(OutOfTime),
            }
        });
        patiently.await
    }

    fn enter(&self, bytes: usize, now: Instant) -> Entered<'_> {
        let mut on_way = self.on_way.lock();
        while on_way.bytes() + bytes > self.most {
            let Some(bytes) = on_way.cut(now, None) else {
                break;
            };
            self.cut_off.increment(1);
            tracing::debug!(bytes, "an answer was cut off for others on their way");
        }
        let cut = Arc::<Notify>::default();
        let number = on_way.add(One {
            bytes,
            since: now,
            cut: Arc::clone(&cut),
        });
        drop(on_way);
        Entered {
            sending: self,
            number,
            cut,
        }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        // One that was cut off is not there any more.
        self.sending.on_way.lock().take(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use futures_util::FutureExt as _;

    const LARGE: usize = 2 * FREE_BYTES;
    const MINUTE: Duration = Duration::from_mins(1);

    fn sending(most: usize) -> Sending {
        Sending::new(most, Counter::noop())
    }

    fn bytes(sending: &Sending) -> usize {
        sending.on_way.lock().bytes()
    }

    #[tokio::test]
    async fn what_the_kernel_does_not_take_at_once_is_counted_until_it_is_there_or_given_up() {
        let sending = sending(3 * LARGE);
        let at_once = sending.within(LARGE, MINUTE, async { bytes(&sending) });
        assert_eq!(at_once.await, Ok(0));
        let later = |wanted| {
            sending.within(wanted, MINUTE, async {
                tokio::task::yield_now().await;
                bytes(&sending)
            })
        };
        assert_eq!(later(FREE_BYTES).await, Ok(0), "small ones are not counted");
        assert_eq!(later(LARGE).await, Ok(LARGE));
        assert_eq!(bytes(&sending), 0);
        let mut never = Box::pin(sending.within(LARGE, MINUTE, pending::<()>()));
        assert!((&mut never).now_or_never().is_none());
        assert_eq!(bytes(&sending), LARGE);
        drop(never);
        assert_eq!(bytes(&sending), 0);
        assert!(sending.on_way.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_too_long_is_given_up_counted_or_not() {
        let sending = sending(LARGE);
        for wanted in [0, LARGE] {
            let never = sending.within(wanted, MINUTE, pending::<()>());
            assert_eq!(never.await, Err(OutOfTime));
            assert_eq!(bytes(&sending), 0);
        }
    }

    #[tokio::test]
    async fn the_one_that_has_cost_most_is_cut_off_for_the_next() {
        let sending = sending(4 * LARGE);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let small = sending.enter(LARGE, start);
        let long = sending.enter(2 * LARGE, at(1));
        let late = sending.enter(LARGE, at(8));
        // After nine seconds: nine, sixteen and one.
        let next = sending.enter(LARGE, at(9));
        assert!(long.cut.notified().now_or_never().is_some());
        for kept in [&small, &late, &next] {
            assert!(kept.cut.notified().now_or_never().is_none());
        }
        assert_eq!(bytes(&sending), 3 * LARGE, "it is counted no more");
        drop(long);
        assert_eq!(bytes(&sending), 3 * LARGE, "nor twice");
        let whole = sending.enter(4 * LARGE, at(10));
        for cut in [&small, &late, &next] {
            assert!(cut.cut.notified().now_or_never().is_some());
        }
        assert_eq!(bytes(&sending), 4 * LARGE);
        drop((small, late, next, whole));
        assert_eq!(bytes(&sending), 0);
    }

    #[tokio::test]
    async fn who_reads_at_the_pace_of_a_network_is_spared_beside_many_who_do_not() {
        const MEBIBYTE: usize = 1024 * 1024;
        let sending = sending(16 * MEBIBYTE);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let slow: Vec<_> = (0..8).map(|_| sending.enter(MEBIBYTE, start)).collect();
        let honest = sending.enter(8 * MEBIBYTE, at(2));
        // Seven seconds of eight mebibytes are more than nine of one, and no more than it takes.
        let next = sending.enter(8 * MEBIBYTE, at(9));
        for slow in &slow {
            assert!(slow.cut.notified().now_or_never().is_some());
        }
        assert!(honest.cut.notified().now_or_never().is_none());
        drop((slow, honest, next));
        assert_eq!(bytes(&sending), 0);
    }

    #[tokio::test]
    async fn one_that_is_larger_than_all_there_may_be_is_sent_alone() {
        let sending = sending(LARGE);
        let huge = sending.enter(9 * LARGE, Instant::now());
        assert!(huge.cut.notified().now_or_never().is_none());
        let next = sending.enter(LARGE, Instant::now());
        assert!(huge.cut.notified().now_or_never().is_some());
        drop((huge, next));
        assert_eq!(bytes(&sending), 0);
    }

    #[tokio::test]
    async fn a_write_that_is_cut_off_ends_although_nobody_reads() {
        let sending = sending(LARGE);
        let slow = sending.within(LARGE, MINUTE, pending::<()>());
        let fast = async {
            let written = tokio::task::yield_now();
            sending.within(LARGE, MINUTE, written).await
        };
        let (slow, fast) = tokio::join!(slow, fast);
        assert_eq!((slow, fast), (Err(OutOfTime), Ok(())));
        assert_eq!(bytes(&sending), 0);
    }
}
