//! Large answers being read, and what they may hold in memory together (architecture, "Memory").
//!
//! An answer of more than [`FREE_BYTES`](crate::limits::FREE_BYTES) takes of the answers' budget what it is, as it
//! comes in: what is only announced costs nothing. Where none is left, it waits, and nothing more is read of it.
//!
//! - Those who hold a part each must not wait for one another for ever: one at a time goes on without room, in
//!   the order in which they came to wait.
//! - Nobody must keep others waiting by answering slowly, which costs nothing: for those who wait, the
//!   answer is cut off that has cost most ([`OnWay`]), once it is later than [`SPARED`]. Its attempt has failed, as
//!   at its deadline, of which the breaker is not told. Time spent waiting here makes nobody late.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::limits::{Budget, Share};
use crate::on_way::{OnWay, One};

/// What is taken at a time, in bytes: about what is read at once.
const STEP_BYTES: usize = 64 * 1024;
/// How much later than at a network's pace an answer may be while others wait.
pub(super) const SPARED: Duration = Duration::from_secs(1);
/// How often whoever waits looks for room, and for whom to cut off.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The answers that are being read.
pub struct Reading {
    budget: Budget,
    /// For the one that goes on without room.
    turn: Arc<Semaphore>,
    on_way: Mutex<OnWay>,
    waiting: AtomicUsize,
    /// When somebody was last cut off, or nobody found.
    looked: Mutex<Instant>,
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("Reading")
    }
}

/// One of them, until it is dropped or read.
pub(super) struct Held<'a> {
    reading: &'a Reading,
    number: u64,
    cut: Arc<Notify>,
    kept: Kept,
}

/// What an answer that was read holds until it is settled.
#[derive(Debug, Default)]
pub struct Kept {
    /// Of the answers' budget.
    pub share: Share,
    /// That of the one that went on without room.
    pub turn: Option<OwnedSemaphorePermit>,
}

impl Reading {
    /// Answers that draw on this budget.
    pub fn new(budget: Budget) -> Self {
        Self {
            budget,
            turn: Arc::new(Semaphore::new(1)),
            on_way: Mutex::default(),
            waiting: AtomicUsize::new(0),
            looked: Mutex::new(Instant::now()),
        }
    }

    /// One more, that holds nothing yet.
    pub(super) fn begin(&self, now: Instant) -> Held<'_> {
        let cut = Arc::<Notify>::default();
        let one = One {
            bytes: 0,
            since: now,
            cut: Arc::clone(&cut),
        };
        Held {
            reading: self,
            number: self.on_way.lock().add(one),
            cut,
            kept: Kept::default(),
        }
    }

    /// At most one in a while, however many wait: what it held is free only when it has ended.
    fn cut_late(&self, now: Instant) {
        {
            let mut looked = self.looked.lock();
            if now.saturating_duration_since(*looked) < LOOK_EVERY {
                return;
            }
            *looked = now;
        }
        if let Some(bytes) = self.on_way.lock().cut(now, Some(SPARED)) {
            tracing::debug!(bytes, "a seller's answer was cut off for others");
        }
    }
}

impl Held<'_> {
    /// Waits for room for so many bytes in all.
    pub(super) async fn grow(&mut self, bytes: usize) {
        if bytes <= self.kept.share.bytes() {
            return;
        }
        let counted = self.reading.on_way.lock().take(self.number);
        // Cut off: whoever reads on is told so.
        let Some(mut one) = counted else {
            return;
        };
        let more = bytes.saturating_sub(self.kept.share.bytes());
        let more = more.next_multiple_of(STEP_BYTES);
        one.bytes = bytes;
        if !self.goes_on(more) {
            let began = Instant::now();
            self.wait(more).await;
            let now = Instant::now();
            one.since += now.saturating_duration_since(began);
            if self.kept.turn.is_some() {
                // Others wait for this one alone: what came quickly before is no licence to come slowly now.
                one.since = one.since.min(one.on_time(now));
            }
        }
        self.number = self.reading.on_way.lock().add(one);
    }

    /// Whether it goes on at once: without room, or with room that there is besides for those who wait.
    fn goes_on(&mut self, more: usize) -> bool {
        if self.kept.turn.is_some() {
            // The rest is taken too where it is free, and the turn another's.
            if self.takes(more) {
                self.kept.turn = None;
            }
            return true;
        }
        // What they are about to take is left to those who wait.
        let theirs = self.reading.waiting.load(Ordering::Relaxed) * 2 * STEP_BYTES;
        self.reading.budget.left() >= theirs.saturating_add(more) && self.takes(more)
    }

    /// Until there is room, or it may go on without.
    async fn wait(&mut self, more: usize) {
        let _waiting = Waiting::new(&self.reading.waiting);
        let mut turn = Box::pin(Arc::clone(&self.reading.turn).acquire_owned());
        loop {
            let turn = tokio::time::timeout(LOOK_EVERY, &mut turn).await;
            if self.takes(more) {
                return;
            }
            match turn {
                Ok(turn) => {
                    self.kept.turn = turn.ok();
                    return;
                }
                Err(_) => self.reading.cut_late(Instant::now()),
            }
        }
    }

    fn takes(&mut self, more: usize) -> bool {
        let taken = self.reading.budget.take(more);
        taken.map(|share| self.kept.share.join(share)).is_some()
    }

    /// What comes of `work`; `None` when this answer is cut off before.
    pub(super) async fn unless_cut<F: Future>(&self, work: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            () = self.cut.notified() => None,
            done = work => Some(done),
        }
    }

    /// It is read, and has so many bytes.
    pub(super) fn read(mut self, bytes: usize) -> Kept {
        self.kept.share.keep(bytes);
        std::mem::take(&mut self.kept)
    }
}

/// One that waits, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // One that was cut off is not there any more.
        self.reading.on_way.lock().take(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    fn reading(steps: usize) -> Reading {
        Reading::new(Budget::new(steps * STEP_BYTES))
    }

    /// Holds so many steps, since then.
    fn holds(reading: &Reading, steps: usize, since: Instant) -> Held<'_> {
        let mut held = reading.begin(since);
        held.grow(steps * STEP_BYTES)
            .now_or_never()
            .expect("room at once");
        held
    }

    /// Goes on without any.
    async fn holds_without(reading: &Reading, since: Instant) -> Held<'_> {
        let mut held = reading.begin(since);
        held.grow(STEP_BYTES).await;
        assert!(held.kept.turn.is_some());
        held
    }

    #[tokio::test]
    async fn room_is_taken_as_bytes_come_and_given_back_when_they_are_settled() {
        let reading = reading(4);
        let mut held = reading.begin(Instant::now());
        assert_eq!(reading.budget.left(), 4 * STEP_BYTES);
        held.grow(1).await;
        held.grow(STEP_BYTES).await;
        assert_eq!(reading.budget.left(), 3 * STEP_BYTES);
        held.grow(2 * STEP_BYTES + 1).await;
        assert_eq!(reading.budget.left(), STEP_BYTES);
        let kept = held.read(2 * STEP_BYTES + 1);
        assert!(reading.on_way.lock().is_empty());
        assert_eq!(reading.budget.left(), 2 * STEP_BYTES - 1);
        drop(kept);
        assert_eq!(reading.budget.left(), 4 * STEP_BYTES);
    }

    #[tokio::test]
    async fn one_at_a_time_goes_on_without_room_until_it_is_settled() {
        let reading = reading(2);
        let (mut one, mut two) = (reading.begin(Instant::now()), reading.begin(Instant::now()));
        one.grow(STEP_BYTES).await;
        two.grow(STEP_BYTES).await;
        one.grow(9 * STEP_BYTES).await;
        let mut waiting = Box::pin(two.grow(2 * STEP_BYTES));
        assert!((&mut waiting).now_or_never().is_none(), "one at a time");
        let kept = one.read(9 * STEP_BYTES);
        assert!((&mut waiting).now_or_never().is_none(), "it is held still");
        drop(kept);
        waiting.await;
        assert_eq!(reading.budget.left(), 0);
        drop(two);
        assert_eq!(reading.budget.left(), 2 * STEP_BYTES);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_late_and_holds_most_is_cut_off_for_whoever_waits() {
        let reading = reading(4);
        let now = Instant::now();
        let long_ago = now.checked_sub(Duration::from_mins(1)).unwrap();
        let (late, later) = (holds(&reading, 1, long_ago), holds(&reading, 2, long_ago));
        let prompt = holds(&reading, 1, now);
        let mut first = reading.begin(now);
        first.grow(STEP_BYTES).await;
        assert!(first.kept.turn.is_some(), "nobody is cut off for a turn");
        let mut next = reading.begin(now);
        let waiting = next.grow(STEP_BYTES);
        // It ends when it is told so, and what it held is free.
        let ending = async {
            assert!(
                later
                    .unless_cut(std::future::pending::<()>())
                    .await
                    .is_none()
            );
            drop(later);
        };
        tokio::join!(waiting, ending);
        assert!(next.kept.turn.is_none(), "there is room");
        for kept in [&late, &prompt, &first] {
            assert!(kept.cut.notified().now_or_never().is_none());
        }
    }

    #[tokio::test]
    async fn for_many_who_wait_one_is_cut_off_at_a_time() {
        let reading = reading(8);
        let now = Instant::now();
        let long_ago = now.checked_sub(Duration::from_mins(1)).unwrap();
        let late: Vec<_> = (0..8).map(|_| holds(&reading, 1, long_ago)).collect();
        let at = |looks: u32| *reading.looked.lock() + LOOK_EVERY * looks;
        let (first, second) = (at(1), at(2));
        for moment in [first, first, second, second] {
            reading.cut_late(moment);
        }
        let cut = |held: &&Held<'_>| held.cut.notified().now_or_never().is_some();
        assert_eq!(late.iter().filter(cut).count(), 2);
    }

    #[tokio::test]
    async fn a_wait_that_is_given_up_leaves_nothing_behind() {
        let reading = reading(1);
        let now = Instant::now();
        let (mut one, mut two) = (holds(&reading, 1, now), reading.begin(now));
        one.grow(2 * STEP_BYTES).await;
        assert!(two.grow(STEP_BYTES).now_or_never().is_none());
        assert_eq!(reading.waiting.load(Ordering::Relaxed), 0);
        drop((one, two));
        assert!(reading.on_way.lock().is_empty());
        assert_eq!(reading.budget.left(), STEP_BYTES);
        assert_eq!(reading.turn.available_permits(), 1);
    }

    #[tokio::test]
    async fn whoever_goes_on_without_room_is_late_from_there_on() {
        let reading = reading(64);
        let since = Instant::now();
        let mut quick = holds(&reading, 64, since);
        quick.grow(65 * STEP_BYTES).await;
        assert!(quick.kept.turn.is_some());
        // Four seconds' worth came at once, and count for nothing.
        assert_eq!(
            reading
                .on_way
                .lock()
                .cut(since + Duration::from_millis(900), Some(SPARED)),
            None
        );
        let later = since + Duration::from_secs(3);
        assert!(reading.on_way.lock().cut(later, Some(SPARED)).is_some());
    }

    #[tokio::test]
    async fn room_that_those_who_wait_will_not_take_is_anybodys() {
        let reading = reading(8);
        let spent = reading.budget.take(8 * STEP_BYTES);
        let now = Instant::now();
        let mut first = holds_without(&reading, now).await;
        let mut second = reading.begin(now);
        let mut waiting = Box::pin(second.grow(STEP_BYTES));
        assert!((&mut waiting).now_or_never().is_none());
        let another_goes_on = || {
            let mut another = reading.begin(now);
            another.grow(STEP_BYTES).now_or_never().is_some()
        };
        assert!(!another_goes_on(), "there is none");
        drop(spent);
        let left = reading.budget.take(6 * STEP_BYTES);
        assert!(!another_goes_on(), "it is theirs");
        drop(left);
        assert!(another_goes_on());
        waiting.await;
        first.grow(2 * STEP_BYTES).await;
        assert!(first.kept.turn.is_none());
    }

    #[tokio::test]
    async fn a_turn_is_given_back_when_there_is_room() {
        let reading = reading(2);
        let mut one = holds(&reading, 1, Instant::now());
        let spent = reading.budget.take(STEP_BYTES);
        one.grow(2 * STEP_BYTES).await;
        assert!(one.kept.turn.is_some());
        drop(spent);
        one.grow(2 * STEP_BYTES).await;
        assert!(one.kept.turn.is_none());
        assert_eq!(reading.budget.left(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_room_is_not_late_by_that() {
        let reading = reading(1);
        let start = Instant::now();
        let spent = reading.budget.take(STEP_BYTES);
        let mut first = reading.begin(start);
        first.grow(STEP_BYTES).await;
        let mut second = reading.begin(start);
        let mut waiting = Box::pin(second.grow(STEP_BYTES));
        assert!((&mut waiting).now_or_never().is_none());
        // The clock of a thread that sleeps is the one that lateness is told by.
        std::thread::sleep(Duration::from_millis(30));
        drop(spent);
        waiting.await;
        let since = reading.on_way.lock().take(second.number).unwrap().since;
        assert!(since.duration_since(start) >= Duration::from_millis(30));
        drop((first, second));
    }
}
