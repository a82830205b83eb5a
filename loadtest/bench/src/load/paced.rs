//! An open loop: each request is due at its time, whether earlier ones were answered or not.
//!
//! Its latency counts from the moment it was due, so that waiting for a free connection, or for this very
//! program, is in it: nothing is left out because something slow kept it from being sent.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::os::fd::{AsFd as _, AsRawFd, RawFd};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures_util::future::{join, join_all};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use super::connection::Connection;
use super::{Exchange, Sent, send_due};

/// Requests that are due and not sent yet.
#[derive(Default)]
struct Due {
    queue: RefCell<VecDeque<(usize, Instant)>>,
    more: Notify,
    is_over: Cell<bool>,
}

impl Due {
    fn push(&self, index: usize, at: Instant) {
        self.queue.borrow_mut().push_back((index, at));
        self.more.notify_one();
    }

    fn end(&self) {
        self.is_over.set(true);
        self.more.notify_waiters();
    }

    /// The next; none when there will be no more.
    async fn next(&self) -> Option<(usize, Instant)> {
        loop {
            // Asked for before the queue is looked at, so that an end in between is heard.
            let more = self.more.notified();
            if let Some(due) = self.queue.borrow_mut().pop_front() {
                return Some(due);
            }
            if self.is_over.get() {
                return None;
            }
            more.await;
        }
    }
}

/// Sends every exchange once, `rate` of them a second, on whichever connection is free.
pub(super) async fn send_all(
    connections: &mut [Connection],
    exchanges: &[Exchange],
    rate: f64,
) -> Result<Vec<Sent>> {
    let due = Due::default();
    let timer = Timer::new()?;
    let clock = async {
        let begun = Instant::now();
        let mut told = Ok(());
        for index in 0..exchanges.len() {
            let at = begun + time_of(index, rate);
            told = timer.wait_until(at).await;
            if told.is_err() {
                break;
            }
            due.push(index, at);
        }
        due.end();
        told
    };
    let senders = connections.iter_mut().map(|connection| {
        let due = &due;
        async move {
            let mut sent = Sent::default();
            while let Some((index, at)) = due.next().await {
                if let Some(exchange) = exchanges.get(index) {
                    send_due(connection, index, exchange, at, &mut sent).await;
                }
            }
            sent
        }
    });
    let (told, sent) = join(clock, join_all(senders)).await;
    told.map(|()| sent)
}

/// When the request of this number is due.
fn time_of(index: usize, rate: f64) -> Duration {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a count of requests is far below 2^52"
    )]
    Duration::from_secs_f64(index as f64 / rate.max(f64::MIN_POSITIVE))
}

/// The kernel's timer: tokio's own goes by whole milliseconds, which is as long as what is measured.
struct Timer(AsyncFd<Descriptor>);

struct Descriptor(TimerFd);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Timer {
    fn new() -> Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags).context("making a timer")?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe; the descriptor is open as long as it is watched, for it is owned here"
        )]
        let watched = AsyncFd::with_interest(Descriptor(timer), Interest::READABLE)?;
        Ok(Self(watched))
    }

    /// Returns at once when the moment is past.
    async fn wait_until(&self, at: Instant) -> Result<()> {
        let left = at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        let once = Expiration::OneShot(TimeSpec::from_duration(left));
        let timer = &self.0.get_ref().0;
        timer.set(once, TimerSetTimeFlags::empty())?;
        loop {
            let mut ready = self.0.readable().await?;
            let rung = ready.try_io(|timer| Ok(timer.get_ref().0.wait()?));
            match rung {
                Ok(rung) => return rung.context("waiting for a timer"),
                Err(_would_block) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_at_equal_distances() {
        assert_eq!(time_of(0, 2_000.0), Duration::ZERO);
        assert_eq!(time_of(3, 2_000.0), Duration::from_micros(1_500));
    }

    #[tokio::test]
    async fn a_timer_is_never_early_and_past_moments_do_not_wait() {
        let timer = Timer::new().unwrap();
        for micros in [300, 1_200] {
            let at = Instant::now() + Duration::from_micros(micros);
            timer.wait_until(at).await.unwrap();
            assert!(Instant::now() >= at);
        }
        let past = Instant::now();
        timer.wait_until(past).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_due_is_taken_in_order_and_the_end_is_heard() {
        let due = Due::default();
        let now = Instant::now();
        let taken = RefCell::new(Vec::new());
        let take = async {
            while let Some((index, _)) = due.next().await {
                taken.borrow_mut().push(index);
            }
        };
        let tell = async {
            for index in 0..5 {
                due.push(index, now);
                tokio::task::yield_now().await;
            }
            due.end();
        };
        join(
            join(take, async { while due.next().await.is_some() {} }),
            tell,
        )
        .await;
        let taken = taken.into_inner();
        assert!(taken.is_sorted(), "{taken:?}");
    }
}
