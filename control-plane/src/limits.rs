//! How much a caller may do in a time, counted in this process (contract §2, "Rate limits").
//!
//! Windows are fixed and begin with a caller's first request. Memory is bounded: when there are too
//! many callers to remember, windows that are over are dropped first.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use uuid::Uuid;

use crate::config::Limits as Settings;

/// Most callers remembered by one limit.
const CALLERS_MAX: usize = 100_000;
/// IPv6 clients are counted by this much of their address: what one customer is given.
const IPV6_PREFIX_BITS: u32 = 64;

/// The limits of the control plane.
#[derive(Debug)]
pub struct Limits {
    /// Reads, by API key.
    pub reads: Window<Uuid>,
    /// Writes, by API key.
    pub writes: Window<Uuid>,
    /// Sign-in and challenge calls, by address.
    pub sign_in: Window<IpAddr>,
    /// Sign-ins to a human account, by the digest of its e-mail address.
    pub email_sign_in: Window<Uuid>,
    /// Unknown keys, by address.
    pub unknown_keys: Window<IpAddr>,
}

impl Limits {
    /// Limits as configured.
    pub fn new(settings: &Settings) -> Self {
        const MINUTE: Duration = Duration::from_mins(1);
        Self {
            reads: Window::new(settings.key_reads_per_minute, MINUTE),
            writes: Window::new(settings.key_writes_per_minute, MINUTE),
            sign_in: Window::new(settings.sign_in_per_5_minutes, 5 * MINUTE),
            email_sign_in: Window::new(settings.email_sign_in_per_minute, MINUTE),
            unknown_keys: Window::new(settings.unknown_keys_per_minute, MINUTE),
        }
    }
}

/// So many in a time, for each caller.
#[derive(Debug)]
pub struct Window<K> {
    quota: u32,
    length: Duration,
    callers: Mutex<HashMap<K, Count>>,
}

#[derive(Clone, Copy, Debug)]
struct Count {
    began: Instant,
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

impl<K: Eq + Hash + Copy> Window<K> {
    /// `quota` in each `length`.
    pub fn new(quota: u32, length: Duration) -> Self {
        Self {
            quota,
            length,
            callers: Mutex::new(HashMap::new()),
        }
    }

    /// Counts one.
    pub fn take(&self, caller: K, now: Instant) -> Standing {
        let mut callers = self.callers.lock();
        self.make_room(&mut callers, now);
        let count = callers.entry(caller).or_insert(Count {
            began: now,
            used: 0,
        });
        if now.duration_since(count.began) >= self.length {
            *count = Count {
                began: now,
                used: 0,
            };
        }
        let allowed = count.used < self.quota;
        count.used = count.used.saturating_add(u32::from(allowed));
        let count = *count;
        drop(callers);
        self.standing(count, now, allowed)
    }

    /// Looks without counting: whether one more would be allowed.
    pub fn look(&self, caller: K, now: Instant) -> Standing {
        let count = self
            .callers
            .lock()
            .get(&caller)
            .copied()
            .filter(|count| now.duration_since(count.began) < self.length)
            .unwrap_or(Count {
                began: now,
                used: 0,
            });
        self.standing(count, now, count.used < self.quota)
    }

    fn standing(&self, count: Count, now: Instant, allowed: bool) -> Standing {
        let left = self.length.saturating_sub(now.duration_since(count.began));
        Standing {
            quota: self.quota,
            window_seconds: self.length.as_secs(),
            remaining: self.quota.saturating_sub(count.used),
            reset_seconds: u64::from(left.subsec_nanos() > 0) + left.as_secs(),
            allowed,
        }
    }

    fn make_room(&self, callers: &mut HashMap<K, Count>, now: Instant) {
        if callers.len() < CALLERS_MAX {
            return;
        }
        callers.retain(|_, count| now.duration_since(count.began) < self.length);
        if callers.len() >= CALLERS_MAX {
            // So many in one window is an attack; forgetting them all is the lesser harm than
            // growing without end.
            callers.clear();
        }
    }
}

/// What of an address is counted.
pub fn counted(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or_else(
            || {
                let kept = u128::MAX << (128 - IPV6_PREFIX_BITS);
                IpAddr::V6((u128::from(v6) & kept).into())
            },
            IpAddr::V4,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_refuses_beyond_its_quota_until_it_ends() {
        let window = Window::new(2, Duration::from_mins(1));
        let start = Instant::now();
        assert_eq!(window.take(1, start).remaining, 1);
        assert!(window.take(1, start).allowed);
        let refused = window.take(1, start + Duration::from_secs(20));
        assert!(!refused.allowed && refused.remaining == 0);
        assert_eq!(refused.reset_seconds, 40);
        assert!(
            window.take(2, start).allowed,
            "another caller is not touched"
        );
        assert!(window.take(1, start + Duration::from_mins(1)).allowed);
    }

    #[test]
    fn ipv6_clients_are_counted_by_64_bits() {
        let a = counted("2001:db8::1".parse().unwrap());
        assert_eq!(a, counted("2001:db8::ffff:1".parse().unwrap()));
        assert_ne!(a, counted("2001:db8:0:1::1".parse().unwrap()));
        assert_eq!(
            counted("::ffff:1.2.3.4".parse().unwrap()),
            "1.2.3.4".parse::<IpAddr>().unwrap()
        );
    }
}
