//! A limit on calls per second, so that the provider's own limit is never met.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A bucket of one second's calls that refills evenly (GCRA).
#[derive(Debug)]
pub struct Bucket {
    interval: Duration,
    burst: Duration,
    /// When the next call would be due if all came evenly.
    due: Mutex<Option<Instant>>,
}

impl Bucket {
    /// At most `per_second` calls in a second; at least one.
    pub fn per_second(per_second: u32) -> Self {
        Self::new(per_second, Duration::from_secs(1))
    }

    /// At most `calls` calls in `window`; at least one.
    pub fn new(calls: u32, window: Duration) -> Self {
        let calls = calls.max(1);
        let interval = window / calls;
        Self {
            interval,
            burst: window.saturating_sub(interval),
            due: Mutex::new(None),
        }
    }

    /// Takes a call, or says how long until there is one.
    pub fn take(&self, now: Instant) -> Result<(), Duration> {
        let mut due = self.due.lock();
        let at = due.map_or(now, |due| due.max(now));
        let ahead = at.saturating_duration_since(now);
        if ahead > self.burst {
            return Err(ahead.saturating_sub(self.burst));
        }
        *due = Some(at + self.interval);
        Ok(())
    }

    /// Whether it is as full as when it was made, and so need not be kept.
    pub fn is_full(&self, now: Instant) -> bool {
        self.due.lock().is_none_or(|due| due <= now)
    }
}

/// Whole seconds to tell a caller, at least one.
pub fn seconds(wait: Duration) -> u32 {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    u32::try_from(seconds).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holds_its_number_and_refills_evenly() {
        let bucket = Bucket::per_second(10);
        let start = Instant::now();
        for _ in 0..10 {
            assert_eq!(bucket.take(start), Ok(()));
        }
        let wait = bucket.take(start).unwrap_err();
        assert!(wait <= Duration::from_millis(100), "{wait:?}");
        assert_eq!(bucket.take(start + Duration::from_millis(100)), Ok(()));
        assert!(bucket.take(start + Duration::from_millis(100)).is_err());
        assert!(bucket.is_full(start + Duration::from_millis(1_100)));
    }

    #[test]
    fn a_caller_is_told_at_least_a_second() {
        assert_eq!(seconds(Duration::from_millis(1)), 1);
        assert_eq!(seconds(Duration::from_millis(1_001)), 2);
    }
}
