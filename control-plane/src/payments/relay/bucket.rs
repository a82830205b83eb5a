//! A limit on calls in any second, so that the provider's own limit is never met.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The second that the provider counts in.
const SECOND: Duration = Duration::from_secs(1);
/// How much longer ours is: calls that left so far apart may arrive closer together.
const MARGIN: Duration = Duration::from_millis(50);

/// How long a call is thought to take to arrive while nothing is known of it: a busy machine may keep
/// it. Once it is answered it is known to have arrived.
const ON_ITS_WAY: Duration = Duration::from_millis(250);

/// The calls of the last second. Not a bucket that refills evenly: one that is full and refills lets
/// almost twice its number through in the second after a pause, and the provider counts them all.
#[derive(Debug)]
pub struct Bucket {
    calls: usize,
    counted: Mutex<Counted>,
}

/// Together never more than may be made.
#[derive(Debug, Default)]
struct Counted {
    /// Until when each call counts.
    recent: Vec<Instant>,
    /// Those that somebody has leave to make.
    held: usize,
    /// Those that wait and have waited long enough.
    pressing: usize,
}

/// Work that can wait and has waited long enough: one call is kept for it.
#[derive(Debug)]
pub struct Pressing<'a>(&'a Bucket);

impl Drop for Pressing<'_> {
    fn drop(&mut self) {
        self.0.counted.lock().pressing -= 1;
    }
}

impl Bucket {
    /// At most `per_second` calls in any second; at least one.
    pub fn per_second(per_second: u32) -> Self {
        Self {
            calls: usize::try_from(per_second).unwrap_or(usize::MAX).max(1),
            counted: Mutex::default(),
        }
    }

    /// A call that is made at once: gives until when it counts unless it is [answered](Self::answered), or says
    /// how long until there is one.
    pub fn take(&self, now: Instant) -> Result<Instant, Duration> {
        self.hold(now)?;
        Ok(self.spend(now))
    }

    /// The same for work that can wait: a quarter of all calls is left for what cannot. Or says after what time to
    /// try again, when others have had a chance.
    pub fn take_spare(&self, now: Instant) -> Result<Instant, Duration> {
        let spare = self.calls - self.calls.div_ceil(4);
        self.take_one_of(spare.max(1), now)
    }

    /// Keeps a call for work that has waited long enough. More than others leave it may take.
    pub fn press(&self) -> Pressing<'_> {
        self.counted.lock().pressing += 1;
        Pressing(self)
    }

    /// The one that was kept.
    pub fn take_pressing(
        &self,
        now: Instant,
        _pressing: &Pressing<'_>,
    ) -> Result<Instant, Duration> {
        self.take_one_of(self.calls, now)
    }

    fn take_one_of(&self, calls: usize, now: Instant) -> Result<Instant, Duration> {
        let held = self.hold_one_of(calls, now);
        held.map_err(|wait| wait + SECOND / u32::try_from(self.calls).unwrap_or(u32::MAX))?;
        Ok(self.spend(now))
    }

    /// Holds a call that is made later, or says how long until there is one. It counts as long as it
    /// is held, and then from when it arrives: however late that is, no second holds too many.
    pub fn hold(&self, now: Instant) -> Result<(), Duration> {
        let pressing = self.counted.lock().pressing.min(1);
        self.hold_one_of((self.calls - pressing).max(1), now)
    }

    fn hold_one_of(&self, calls: usize, now: Instant) -> Result<(), Duration> {
        let mut counted = self.counted.lock();
        counted.recent.retain(|until| *until > now);
        if counted.recent.len() + counted.held >= calls {
            return Err(counted.wait(now));
        }
        counted.held += 1;
        Ok(())
    }

    /// A held call is made, and arrives soon. Gives until when it counts.
    pub fn spend(&self, now: Instant) -> Instant {
        let until = now + ON_ITS_WAY + SECOND + MARGIN;
        let mut counted = self.counted.lock();
        counted.held = counted.held.saturating_sub(1);
        counted.recent.push(until);
        until
    }

    /// A call that would count until then was answered: it arrived before.
    pub fn answered(&self, until: Instant, now: Instant) {
        let mut counted = self.counted.lock();
        if let Some(call) = counted.recent.iter_mut().find(|call| **call == until) {
            *call = until.min(now + SECOND + MARGIN);
        }
    }

    /// A held call is not made.
    pub fn give_back(&self) {
        let mut counted = self.counted.lock();
        counted.held = counted.held.saturating_sub(1);
    }

    /// How long until the first of the calls counts no more.
    pub fn wait(&self, now: Instant) -> Duration {
        self.counted.lock().wait(now)
    }
}

impl Counted {
    fn wait(&self, now: Instant) -> Duration {
        let first = self.recent.iter().min().copied();
        first.map_or(SECOND + MARGIN, |first| {
            first.saturating_duration_since(now)
        })
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

    /// A call that is answered in no time.
    fn answered(bucket: &Bucket, now: Instant) -> Result<(), Duration> {
        bucket.take(now).map(|until| bucket.answered(until, now))
    }

    #[test]
    fn work_that_can_wait_leaves_a_quarter_of_the_calls() {
        let now = Instant::now();
        for (calls, spare) in [(20, 15), (4, 3), (3, 2), (2, 1), (1, 1)] {
            let bucket = Bucket::per_second(calls);
            let taken = (0..100).take_while(|_| bucket.take_spare(now).is_ok());
            assert_eq!(taken.count(), spare, "of {calls}");
            let left = (0..100).take_while(|_| bucket.take(now).is_ok());
            assert_eq!(spare + left.count(), calls as usize);
        }
    }

    #[test]
    fn work_that_has_waited_long_has_a_call_that_nobody_else_takes() {
        let (bucket, mut now) = (Bucket::per_second(4), Instant::now());
        let others = |now| {
            (0..100)
                .take_while(|_| answered(&bucket, now).is_ok())
                .count()
        };
        assert_eq!(others(now), 4);
        let pressing = bucket.press();
        assert!(bucket.take_pressing(now, &pressing).is_err());
        now += SECOND + MARGIN;
        assert_eq!(others(now), 3);
        assert!(bucket.take_spare(now).is_err());
        bucket.take_pressing(now, &pressing).unwrap();
        drop(pressing);
        now += 2 * SECOND;
        assert_eq!(others(now), 4);
    }

    #[test]
    fn no_second_holds_more_than_its_number_however_it_is_laid() {
        let bucket = Bucket::per_second(10);
        let start = Instant::now();
        // Asked every 7 ms, with a pause in between, after which all ten are there again.
        let asked = (0..600_u64).filter(|step| !(200..400).contains(step));
        let taken: Vec<Duration> = asked
            .map(|step| Duration::from_millis(step * 7))
            .filter(|at| answered(&bucket, start + *at).is_ok())
            .collect();
        assert!(taken.len() >= 30, "{taken:?}");
        for (index, from) in taken.iter().enumerate() {
            let within = taken
                .iter()
                .skip(index)
                .take_while(|at| **at < *from + SECOND);
            assert!(within.count() <= 10, "from {from:?}: {taken:?}");
        }
    }

    #[test]
    fn who_comes_too_early_is_told_when_to_come() {
        let bucket = Bucket::per_second(2);
        let start = Instant::now();
        assert_eq!(answered(&bucket, start), Ok(()));
        let half = start + SECOND / 2;
        assert_eq!(answered(&bucket, half), Ok(()));
        let wait = bucket.take(half).unwrap_err();
        assert!(bucket.take(half + wait.saturating_sub(MARGIN / 2)).is_err());
        assert_eq!(answered(&bucket, half + wait), Ok(()));
    }

    #[test]
    fn a_call_held_counts_until_it_is_made_and_a_second_from_its_arrival() {
        let bucket = Bucket::per_second(1);
        let start = Instant::now();
        assert_eq!(bucket.hold(start), Ok(()));
        let later = start + SECOND * 3;
        assert!(bucket.hold(later).is_err());
        let until = bucket.spend(later);
        assert!(bucket.hold(later + SECOND + MARGIN).is_err(), "on its way");
        bucket.answered(until, later + MARGIN);
        assert!(bucket.hold(later + SECOND + MARGIN).is_err());
        let after = later + SECOND + MARGIN * 2;
        assert_eq!(bucket.hold(after), Ok(()));
        bucket.give_back();
        assert_eq!(answered(&bucket, after), Ok(()));
    }

    #[test]
    fn a_call_made_at_once_may_arrive_late_until_it_is_answered() {
        let bucket = Bucket::per_second(1);
        let start = Instant::now();
        let until = bucket.take(start).unwrap();
        let late = start + SECOND + MARGIN;
        assert!(bucket.take(late).is_err(), "it may have arrived just now");
        bucket.answered(until, start + MARGIN);
        assert!(bucket.take(late).is_err());
        assert!(bucket.take(late + MARGIN).is_ok());
    }

    #[test]
    fn a_caller_is_told_at_least_a_second() {
        assert_eq!(seconds(Duration::from_millis(1)), 1);
        assert_eq!(seconds(Duration::from_millis(1_001)), 2);
    }
}
