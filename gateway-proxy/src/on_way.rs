//! What is on its way through this process and held in memory meanwhile: who is cut off where that is too much.
//!
//! It is the one that has cost most: its bytes times how long they have been held, less the time that they take
//! at the pace of a poor network ([`PACE`]). Whoever moves on faster than that has cost nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// The pace at which a body costs nothing, in bytes a second.
pub const PACE: u64 = 1024 * 1024;

/// Bodies on their way.
#[derive(Debug, Default)]
pub struct OnWay {
    bytes: usize,
    last: u64,
    each: HashMap<u64, One>,
}

/// One of them.
#[derive(Debug)]
pub struct One {
    /// How many are held.
    pub bytes: usize,
    /// Since when.
    pub since: Instant,
    /// Told once, when it is cut off.
    pub cut: Arc<Notify>,
}

impl One {
    /// How long its bytes take at [`PACE`].
    const fn due(&self) -> Duration {
        Duration::from_micros(self.bytes as u64 * 1_000_000 / PACE)
    }

    /// How much later it is than that.
    fn late(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
            .saturating_sub(self.due())
    }

    /// When it would have begun, if it were on time now.
    pub fn on_time(&self, now: Instant) -> Instant {
        now.checked_sub(self.due()).unwrap_or(now)
    }
}

impl OnWay {
    /// All bytes that are held.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing is.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.each.is_empty()
    }

    /// One more; its number.
    pub fn add(&mut self, one: One) -> u64 {
        self.last += 1;
        self.bytes += one.bytes;
        self.each.insert(self.last, one);
        self.last
    }

    /// It is counted no more; `None` when it was not.
    pub fn take(&mut self, number: u64) -> Option<One> {
        let one = self.each.remove(&number)?;
        self.bytes -= one.bytes;
        Some(one)
    }

    /// Cuts off the one that has cost most, of those that are later than `spared`; its bytes. It ends at its next
    /// step, which is soon, and is counted no more.
    pub fn cut(&mut self, now: Instant, spared: Option<Duration>) -> Option<usize> {
        let cost = |one: &One| {
            let late = one.late(now);
            let held = now.saturating_duration_since(one.since);
            // Where nobody is late, it is whoever began first.
            (late.as_micros().saturating_mul(one.bytes as u128), held)
        };
        let may = |one: &One| spared.is_none_or(|spared| one.late(now) > spared);
        let (number, _) = (self.each.iter())
            .filter(|(_, one)| may(one))
            .max_by_key(|(_, one)| cost(one))?;
        let one = self.take(*number)?;
        one.cut.notify_one();
        Some(one.bytes)
    }
}
