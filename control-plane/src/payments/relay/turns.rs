//! Turns at the provider: its limit, shared fairly by those who wait for it.
//!
//! A turn is taken before anything is locked, held while what it is for is looked at again, and counts
//! for a second from when its question is known to have arrived; one that is not used goes to the next.
//! While there are turns enough nobody waits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

use super::bucket::Bucket;
use super::line::{Line, Standing, Ticket};

/// Longest wait for a turn.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// Most who wait in a process, however many turns there are in that time.
const WAITING_MAX: usize = 256;

/// The turns of one endpoint of the provider.
#[derive(Debug)]
pub struct Turns {
    bucket: Bucket,
    line: Mutex<Line>,
    /// The line is another one now: whoever stood behind may be next.
    moved: Notify,
}

/// Leave to ask the provider once.
#[derive(Debug)]
pub struct Turn {
    turns: Arc<Turns>,
    /// Until when the question counts, once it is asked.
    counts_until: Option<Instant>,
}

impl Turns {
    /// At most `per_second` in any second; at least one.
    pub fn per_second(per_second: u32) -> Arc<Self> {
        // Nobody waits who could not be served in time.
        let in_time = u64::from(per_second) * WAIT_MAX.as_secs();
        let places = usize::try_from(in_time).map_or(WAITING_MAX, |places| places.min(WAITING_MAX));
        Arc::new(Self {
            bucket: Bucket::per_second(per_second),
            line: Mutex::new(Line::new(places)),
            moved: Notify::new(),
        })
    }

    /// A turn for a buyer now, when there is one that nobody waits for.
    pub fn at_once(self: &Arc<Self>, buyer: Uuid, now: Instant) -> Option<Turn> {
        let mut line = self.line.lock();
        if !line.is_empty() || self.bucket.hold(now).is_err() {
            return None;
        }
        line.serve(buyer, now);
        drop(line);
        Some(Turn::new(self))
    }

    /// Whether a buyer would have a place among those who wait; or after what time to try again.
    pub fn has_place(&self, buyer: Uuid, now: Instant) -> Result<(), Duration> {
        if self.line.lock().has_place(buyer, now) {
            Ok(())
        } else {
            Err(self.bucket.wait(now))
        }
    }

    /// A turn for a buyer when she is next; or after what time to try again.
    pub async fn wait(self: &Arc<Self>, buyer: Uuid) -> Result<Turn, Duration> {
        let came = Instant::now();
        let joined = self.line.lock().join(buyer, came);
        let ticket = joined.ok_or_else(|| self.bucket.wait(came))?;
        // Whoever joins may be next, or have put another out.
        self.moved.notify_waiters();
        let place = Place {
            turns: self,
            buyer,
            ticket,
        };
        let until = came + WAIT_MAX;
        loop {
            let mut moved = std::pin::pin!(self.moved.notified());
            moved.as_mut().enable();
            let now = Instant::now();
            let next_look = match place.look(now) {
                Look::Turn(turn) => return Ok(turn),
                Look::Full(wait) => now + wait,
                Look::Behind => until,
                Look::Out => return Err(self.bucket.wait(now)),
            };
            if now >= until {
                return Err(self.bucket.wait(now));
            }
            tokio::select! {
                () = moved => {}
                () = tokio::time::sleep_until(next_look.min(until).into()) => {}
            }
        }
    }
}

impl Turn {
    fn new(turns: &Arc<Turns>) -> Self {
        Self {
            turns: Arc::clone(turns),
            counts_until: None,
        }
    }

    /// The provider is asked now; it has answered when the turn is dropped.
    pub fn ask(&mut self, now: Instant) {
        self.counts_until = Some(self.turns.bucket.spend(now));
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        match self.counts_until {
            Some(until) => self.turns.bucket.answered(until, Instant::now()),
            None => self.turns.bucket.give_back(),
        }
        self.turns.moved.notify_waiters();
    }
}

/// A place in the line, given up however its holder ends.
struct Place<'a> {
    turns: &'a Arc<Turns>,
    buyer: Uuid,
    ticket: Ticket,
}

enum Look {
    Turn(Turn),
    /// She is next, and there is no turn for so long.
    Full(Duration),
    Behind,
    Out,
}

impl Place<'_> {
    fn look(&self, now: Instant) -> Look {
        let mut line = self.turns.line.lock();
        match line.standing(self.ticket, now) {
            Standing::Next => match self.turns.bucket.hold(now) {
                Ok(()) => {
                    line.serve(self.buyer, now);
                    Look::Turn(Turn::new(self.turns))
                }
                Err(wait) => Look::Full(wait),
            },
            Standing::Behind => Look::Behind,
            Standing::Out => Look::Out,
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.turns.line.lock().leave(self.ticket);
        self.turns.moved.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Uuid = Uuid::from_u128(1);
    const TWO: Uuid = Uuid::from_u128(2);

    #[tokio::test]
    async fn a_turn_that_is_not_used_goes_to_the_next() {
        let turns = Turns::per_second(1);
        let held = turns.at_once(ONE, Instant::now()).unwrap();
        let mut waiting = std::pin::pin!(turns.wait(TWO));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        drop(held);
        let mut turn = waiting.await.unwrap();
        turn.ask(Instant::now());
        assert!(turns.at_once(ONE, Instant::now()).is_none());
        assert!(turns.line.lock().is_empty());
    }

    #[tokio::test]
    async fn nobody_takes_a_turn_before_those_who_wait() {
        let turns = Turns::per_second(1);
        let held = turns.at_once(ONE, Instant::now()).unwrap();
        let mut waiting = std::pin::pin!(turns.wait(TWO));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        drop(held);
        assert!(turns.at_once(ONE, Instant::now()).is_none());
        assert!(waiting.await.is_ok());
        assert!(turns.at_once(ONE, Instant::now()).is_some());
    }

    #[tokio::test]
    async fn whoever_is_put_out_or_has_no_place_is_told_at_once_when_to_come() {
        let turns = Turns::per_second(1);
        let mut turn = turns.at_once(ONE, Instant::now()).unwrap();
        turn.ask(Instant::now());
        drop(turn);
        let mut first = std::pin::pin!(turns.wait(ONE));
        let mut second = std::pin::pin!(turns.wait(ONE));
        assert!(futures_util::poll!(first.as_mut()).is_pending());
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        assert!(turns.wait(ONE).await.unwrap_err() > Duration::ZERO);
        let mut other = std::pin::pin!(turns.wait(TWO));
        assert!(futures_util::poll!(other.as_mut()).is_pending());
        assert!(second.await.unwrap_err() > Duration::ZERO);
        assert!(other.await.is_ok());
    }
}
