//! How much a caller may do in a time (contract §2, "Rate limits").
//!
//! Windows are fixed and begin with a caller's first request. They are counted in Redis, one count
//! for all control planes ([`counts`]), and remembered here: while Redis is away each process counts
//! for itself, from where it last knew the count to be. Redis never fails a request, and a caller
//! who is known to be over her limit is refused without asking it.
//!
//! Memory is bounded: when there are too many callers to remember, windows that are over are dropped
//! first.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use crochet_shared::limit::counted;
use crochet_shared::limit::{self, Kind};
use parking_lot::Mutex;
use uuid::Uuid;

use crate::config::Config;

mod counts;

pub use counts::Counts;

/// Most callers remembered by one limit.
const CALLERS_MAX: usize = 100_000;
/// Windows that end within this of each other are the same one, told twice.
const SAME_WINDOW: Duration = Duration::from_millis(250);

/// The limits of the control plane.
#[derive(Debug)]
pub struct Limits {
    /// Reads, by API key.
    pub reads: Window,
    /// Writes, by API key.
    pub writes: Window,
    /// Sign-in and challenge calls, by address.
    pub sign_in: Window,
    /// Sign-ins to a human account, by a pseudonym of its e-mail address.
    pub email_sign_in: Window,
    /// Unknown keys, by address.
    pub unknown_keys: Window,
    /// New quotes, by buyer.
    pub quotes: Window,
}

impl Limits {
    /// Limits as configured.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        const SECOND: Duration = Duration::from_secs(1);
        const MINUTE: Duration = Duration::from_mins(1);
        let counts = Arc::new(Counts::new(config)?);
        let window =
            |kind, quota, length| Window::new(kind, quota, length, Some(Arc::clone(&counts)));
        let quotas = &config.limits;
        Ok(Self {
            reads: window(Kind::Reads, quotas.key_reads_per_minute, MINUTE),
            writes: window(Kind::Writes, quotas.key_writes_per_minute, MINUTE),
            sign_in: window(Kind::SignIn, quotas.sign_in_per_5_minutes, 5 * MINUTE),
            email_sign_in: window(Kind::EmailSignIn, quotas.email_sign_in_per_minute, MINUTE),
            unknown_keys: window(Kind::UnknownKeys, quotas.unknown_keys_per_minute, MINUTE),
            quotes: window(Kind::Quotes, quotas.quotes_per_second, SECOND),
        })
    }
}

/// Who is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Caller {
    /// A key or a profile.
    Id(Uuid),
    /// An address, or the /64 of an IPv6 one.
    Address(IpAddr),
}

impl From<Uuid> for Caller {
    fn from(id: Uuid) -> Self {
        Self::Id(id)
    }
}

impl From<IpAddr> for Caller {
    fn from(address: IpAddr) -> Self {
        Self::Address(counted(address))
    }
}

/// So many in a time, for each caller.
#[derive(Debug)]
pub struct Window {
    kind: Kind,
    quota: u32,
    length: Duration,
    counts: Option<Arc<Counts>>,
    callers: Mutex<HashMap<Caller, Count>>,
}

/// What is known of a caller's window.
#[derive(Clone, Copy, Debug)]
struct Count {
    ends: Instant,
    used: u32,
}

/// Where a caller stands, as the `RateLimit` headers tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// How many in a window.
    pub quota: u32,
    /// Length of the window, in seconds.
    pub window_seconds: u64,
    /// How many are left.
    pub remaining: u32,
    /// Seconds until the window ends, at least 1.
    pub reset_seconds: u64,
    /// Whether this one was within the limit.
    pub allowed: bool,
}

impl Window {
    /// `quota` in each `length`, counted with others when there are `counts`.
    pub fn new(kind: Kind, quota: u32, length: Duration, counts: Option<Arc<Counts>>) -> Self {
        Self {
            kind,
            quota,
            length,
            counts,
            callers: Mutex::new(HashMap::new()),
        }
    }

    /// Counts one.
    pub async fn take(&self, caller: impl Into<Caller>, now: Instant) -> Standing {
        let caller = caller.into();
        let known = self.known(caller, now);
        if known.used >= self.quota {
            return self.standing(known, now, false);
        }
        if let Some(told) = self.ask(caller, known, now).await {
            // The answer is later than `now` by what asking took.
            let allowed = told.used <= self.quota;
            return self.standing(self.learn(caller, told, now), now, allowed);
        }
        self.take_here(caller, now)
    }

    /// Looks without counting and without asking: whether one more would be allowed, as far as this
    /// process knows. Another may know better; then the next [`Self::take`] tells.
    pub fn look(&self, caller: impl Into<Caller>, now: Instant) -> Standing {
        let known = self.known(caller.into(), now);
        self.standing(known, now, known.used < self.quota)
    }

    /// The caller's window that holds now; a new one when none does.
    fn known(&self, caller: Caller, now: Instant) -> Count {
        let known = self.callers.lock().get(&caller).copied();
        known.filter(|count| count.ends > now).unwrap_or(Count {
            ends: now + self.length,
            used: 0,
        })
    }

    async fn ask(&self, caller: Caller, known: Count, now: Instant) -> Option<Count> {
        let counts = self.counts.as_ref()?;
        let name = match caller {
            Caller::Id(id) => limit::by_id(self.kind, id),
            Caller::Address(address) => counts.name(self.kind, address),
        };
        let left = known.ends.duration_since(now);
        let (used, left) = counts.count(&name, known.used, left).await?;
        Some(Count {
            // Never a window longer than ours, whatever Redis says.
            ends: now + left.min(self.length),
            used,
        })
    }

    /// Remembers what was told. Answers overtake each other: within a window the highest count holds.
    fn learn(&self, caller: Caller, told: Count, now: Instant) -> Count {
        let mut callers = self.callers.lock();
        make_room(&mut callers, now);
        let known = callers.entry(caller).or_insert(told);
        if told.ends > known.ends + SAME_WINDOW || known.ends <= now {
            *known = told;
        } else {
            known.ends = known.ends.min(told.ends);
            known.used = known.used.max(told.used);
        }
        Count {
            used: told.used,
            ends: known.ends,
        }
    }

    fn take_here(&self, caller: Caller, now: Instant) -> Standing {
        let known = self.known(caller, now);
        let allowed = known.used < self.quota;
        let used = known.used.saturating_add(u32::from(allowed));
        let count = Count { used, ..known };
        let mut callers = self.callers.lock();
        make_room(&mut callers, now);
        callers.insert(caller, count);
        drop(callers);
        self.standing(count, now, allowed)
    }

    fn standing(&self, count: Count, now: Instant, allowed: bool) -> Standing {
        let left = count.ends.saturating_duration_since(now);
        let seconds = u64::from(left.subsec_nanos() > 0) + left.as_secs();
        Standing {
            quota: self.quota,
            window_seconds: self.length.as_secs(),
            remaining: self.quota.saturating_sub(count.used),
            reset_seconds: seconds.max(1),
            allowed,
        }
    }
}

fn make_room(callers: &mut HashMap<Caller, Count>, now: Instant) {
    if callers.len() < CALLERS_MAX {
        return;
    }
    callers.retain(|_, count| count.ends > now);
    if callers.len() >= CALLERS_MAX {
        // So many in one window is an attack; forgetting them all is the lesser harm than growing
        // without end.
        callers.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Caller = Caller::Id(Uuid::from_u128(1));
    const TWO: Caller = Caller::Id(Uuid::from_u128(2));

    fn alone(quota: u32) -> Window {
        Window::new(Kind::Reads, quota, Duration::from_mins(1), None)
    }

    #[tokio::test]
    async fn a_window_refuses_beyond_its_quota_until_it_ends() {
        let window = alone(2);
        let start = Instant::now();
        assert_eq!(window.take(ONE, start).await.remaining, 1);
        assert!(window.take(ONE, start).await.allowed);
        let refused = window.take(ONE, start + Duration::from_secs(20)).await;
        assert!(!refused.allowed && refused.remaining == 0);
        assert_eq!(refused.reset_seconds, 40);
        assert!(
            window.take(TWO, start).await.allowed,
            "another caller is not touched"
        );
        let after = start + Duration::from_mins(1);
        assert!(window.take(ONE, after).await.allowed);
    }

    #[test]
    fn the_highest_count_of_a_window_holds_and_a_later_window_begins_anew() {
        let window = alone(10);
        let now = Instant::now();
        let told = |used, seconds| Count {
            used,
            ends: now + Duration::from_secs(seconds),
        };
        window.learn(ONE, told(7, 30), now);
        window.learn(ONE, told(5, 30), now);
        assert_eq!(window.look(ONE, now).remaining, 3);
        window.learn(ONE, told(1, 60), now);
        assert_eq!(window.look(ONE, now).remaining, 9);
        assert_eq!(window.look(ONE, now).reset_seconds, 60);
    }

    #[tokio::test]
    async fn what_was_told_holds_when_nobody_can_be_asked() {
        let window = alone(10);
        let now = Instant::now();
        let ends = now + Duration::from_secs(30);
        window.learn(ONE, Count { used: 9, ends }, now);
        assert!(window.take(ONE, now).await.allowed);
        let refused = window.take(ONE, now).await;
        assert!(!refused.allowed);
        assert_eq!(refused.reset_seconds, 30);
    }
}
