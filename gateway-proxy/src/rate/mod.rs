//! Calls in a minute, counted by all gateways together without asking anybody on the way.
//!
//! A hit is one compare-and-swap on this process's own count. What the others have counted is told
//! by Redis in the background ([`exchange`]), a few times a second and only of windows that were hit
//! meanwhile; with it comes how far this process may count before the next exchange: its share of
//! what is left of the quota, by its part of the traffic, and good for a moment only. So all gateways
//! together stay within the quota but for a little room for traffic that moves (contract §2: ≤ 10 %
//! over).
//!
//! Where the share is used up and the quota is not, the call waits for the next exchange instead of
//! being refused. While Redis is away, or there is one gateway, this process counts for itself. A
//! gateway that has just started takes it that there is another, and is not ready
//! ([`Rates::is_known`]) before the others know of it.

pub mod doubt;
mod exchange;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

pub use exchange::run;

/// Length of a window, in seconds. It begins with its first hit anywhere.
pub const WINDOW_SECONDS: u32 = 60;
const WINDOW_MS: u32 = WINDOW_SECONDS * 1_000;
/// Percent of the quota that all gateways together may count before they are told anything.
const ROOM_PERCENT: u64 = 8;
/// Which part of that room a gateway has whose share is used up or out of date.
const ROOM_LATER: u32 = 8;
/// How long a share is good, in milliseconds: others may have used it since.
const SHARE_MS: u32 = 200;
/// Longest that a call waits to be told whether there is quota left: as long as Redis may take to
/// answer. Whoever is told nothing by then counts for itself, as when Redis is away.
const PATIENCE: Duration = Duration::from_millis(300);
/// Gateways there are as long as nobody has told: this one, and perhaps another.
const GATEWAYS_PRESUMED: u32 = 2;

/// What all windows of this process share.
#[derive(Debug)]
pub struct Rates {
    /// Gateways that count together, this one included; 1 while Redis is away.
    gateways: AtomicU32,
    /// Whether all gateways know of this one, or cannot.
    known: AtomicBool,
    /// Windows that were hit since their last exchange, each once.
    active: Mutex<Vec<Arc<Window>>>,
    /// An exchange is wanted now.
    wanted: Notify,
    /// An exchange is done.
    done: Notify,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            gateways: AtomicU32::new(GATEWAYS_PRESUMED),
            known: AtomicBool::new(false),
            active: Mutex::default(),
            wanted: Notify::new(),
            done: Notify::new(),
        }
    }
}

/// One caller's hits in a window that begins with the first of them.
///
/// One word holds both the millisecond it began (upper half) and the count (lower half). Times are
/// milliseconds of a clock that only needs to move forward; it may wrap.
#[derive(Debug)]
pub struct Window {
    /// In Redis.
    name: String,
    limit: u32,
    word: AtomicU64,
    /// Which window `view` is of, by when it began.
    of: AtomicU32,
    /// As told last: the others' hits (upper half), and this process's share of what is left (lower
    /// half).
    view: AtomicU64,
    /// As told last: own hits then (upper half), and when that was (lower half).
    since: AtomicU64,
    /// Whether it stands in [`Rates::active`].
    queued: AtomicBool,
    /// Whether somebody waits for its exchange.
    urgent: AtomicBool,
    told: Mutex<exchange::Told>,
}

/// Where a window stands after a hit that it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Hits left in the window.
    pub remaining: u32,
    /// Seconds until the window ends.
    pub reset_seconds: u32,
}

/// The window is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// Seconds until it ends, at least 1.
    pub retry_after_seconds: u32,
}

/// What became of a hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hit {
    Taken(Usage),
    Full(Full),
    /// This process's share is used up, and the quota is not, as far as it knows.
    Unsure,
}

impl Rates {
    /// Whether the other gateways know of this one by now, or cannot be told because Redis is away.
    /// Until then they count as if it were not there.
    pub fn is_known(&self) -> bool {
        self.known.load(Ordering::Relaxed)
    }

    /// Takes one hit of a window, unless its quota is used up.
    pub async fn take(&self, window: &Arc<Window>, now: u32) -> Result<Usage, Full> {
        let mut hit = self.hit(window, now);
        if hit == Hit::Unsure {
            // An exchange that is under way may have left without this window.
            let told = async {
                while hit == Hit::Unsure {
                    let mut done = std::pin::pin!(self.done.notified());
                    done.as_mut().enable();
                    self.want(window);
                    done.await;
                    hit = self.hit(window, now);
                }
            };
            // Not told in time: what is known must do.
            if tokio::time::timeout(PATIENCE, told).await.is_err() {
                hit = window.hit(now, u32::MAX);
            }
        }
        match hit {
            Hit::Taken(usage) => Ok(usage),
            Hit::Full(full) => Err(full),
            Hit::Unsure => Err(window.full(now)),
        }
    }

    fn hit(&self, window: &Arc<Window>, now: u32) -> Hit {
        let hit = window.hit(now, self.room(window.limit));
        if !window.queued.load(Ordering::Relaxed) && matches!(hit, Hit::Taken(_)) {
            self.queue(window);
            // A window that begins here may have begun elsewhere long ago.
            if !window.is_told(now) && self.gateways() > 1 {
                self.want(window);
            }
        }
        hit
    }

    /// Hits that this process may count in a window of which it was not told anything.
    fn room(&self, limit: u32) -> u32 {
        let gateways = self.gateways();
        if gateways <= 1 {
            return u32::MAX;
        }
        let room = u64::from(limit) * ROOM_PERCENT / 100 / u64::from(gateways);
        u32::try_from(room).unwrap_or(u32::MAX).max(1)
    }

    fn gateways(&self) -> u32 {
        self.gateways.load(Ordering::Relaxed)
    }

    fn queue(&self, window: &Arc<Window>) {
        if !window.queued.swap(true, Ordering::AcqRel) {
            self.active.lock().push(Arc::clone(window));
        }
    }

    fn want(&self, window: &Arc<Window>) {
        window.urgent.store(true, Ordering::Release);
        self.queue(window);
        self.wanted.notify_one();
    }
}

impl Window {
    /// A window of so many hits, by its name in Redis.
    pub fn new(name: String, limit: u32) -> Self {
        Self {
            name,
            limit,
            word: AtomicU64::new(0),
            of: AtomicU32::new(0),
            view: AtomicU64::new(0),
            since: AtomicU64::new(0),
            queued: AtomicBool::new(false),
            urgent: AtomicBool::new(false),
            told: Mutex::default(),
        }
    }

    /// Whether its quota is used up, without taking a hit.
    pub fn check(&self, now: u32) -> Result<(), Full> {
        if self.left(now) == 0 {
            return Err(self.full(now));
        }
        Ok(())
    }

    /// How many hits it has left, as far as is known here.
    pub fn left(&self, now: u32) -> u32 {
        let (began, count) = self.standing(now);
        let (others, _) = self.view(began).unwrap_or_default();
        self.limit.saturating_sub(count.saturating_add(others))
    }

    /// How many hits it takes.
    pub const fn limit(&self) -> u32 {
        self.limit
    }

    fn hit(&self, now: u32, room: u32) -> Hit {
        let mut refused = Hit::Unsure;
        let taken = self
            .word
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
                let (began, count) = split(word, now);
                let others = self.view(began).map_or(0, |(others, _)| others);
                if count >= self.limit.saturating_sub(others) {
                    let retry_after_seconds = seconds_left(began, now).max(1);
                    refused = Hit::Full(Full {
                        retry_after_seconds,
                    });
                    return None;
                }
                refused = Hit::Unsure;
                (count < self.most(began, now, room)).then(|| join(began, count + 1))
            });
        let Ok(word) = taken else {
            return refused;
        };
        let (began, count) = split(word, now);
        let (others, _) = self.view(began).unwrap_or_default();
        Hit::Taken(Usage {
            remaining: self.limit.saturating_sub(others).saturating_sub(count + 1),
            reset_seconds: seconds_left(began, now),
        })
    }

    /// The count up to which this process may go before it is told again.
    fn most(&self, began: u32, now: u32, room: u32) -> u32 {
        let Some((_, share)) = self.view(began) else {
            return room;
        };
        let (hits, at) = halves(self.since.load(Ordering::Relaxed));
        let later = (room / ROOM_LATER).max(1);
        let good = if room == u32::MAX {
            room
        } else if now.wrapping_sub(at) < SHARE_MS {
            share
        } else {
            share.min(later)
        };
        hits.saturating_add(good)
    }

    fn full(&self, now: u32) -> Full {
        let (began, _) = self.standing(now);
        Full {
            retry_after_seconds: seconds_left(began, now).max(1),
        }
    }

    /// When the window that holds now began, and its count here.
    fn standing(&self, now: u32) -> (u32, u32) {
        split(self.word.load(Ordering::Relaxed), now)
    }

    /// The others' hits and this process's share, if it was told of the window that began then.
    fn view(&self, began: u32) -> Option<(u32, u32)> {
        (self.of.load(Ordering::Acquire) == began)
            .then(|| halves(self.view.load(Ordering::Relaxed)))
            .filter(|view| *view != (0, 0))
    }

    /// Whether it was told lately what others have counted.
    fn is_told(&self, now: u32) -> bool {
        let (_, at) = halves(self.since.load(Ordering::Relaxed));
        self.view(self.standing(now).0).is_some() && now.wrapping_sub(at) < SHARE_MS
    }
}

/// The window that holds at `now`: the one in the word, or a new one.
fn split(word: u64, now: u32) -> (u32, u32) {
    let (began, count) = halves(word);
    if count == 0 || since(began, now) >= WINDOW_MS {
        (now, 0)
    } else {
        (began, count)
    }
}

fn halves(word: u64) -> (u32, u32) {
    let upper = u32::try_from(word >> 32).unwrap_or(0);
    let lower = u32::try_from(word & u64::from(u32::MAX)).unwrap_or(0);
    (upper, lower)
}

fn join(upper: u32, lower: u32) -> u64 {
    (u64::from(upper) << 32) | u64::from(lower)
}

/// Milliseconds since the window began; none for a hit that came a moment before and is counted only now.
fn since(began: u32, now: u32) -> u32 {
    let since = now.wrapping_sub(began);
    if since > u32::MAX / 2 { 0 } else { since }
}

fn ms_left(began: u32, now: u32) -> u32 {
    WINDOW_MS.saturating_sub(since(began, now))
}

fn seconds_left(began: u32, now: u32) -> u32 {
    ms_left(began, now).div_ceil(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u32 = 1_000;

    #[test]
    fn a_window_takes_its_limit_and_opens_again_a_minute_later() {
        let window = Window::new("w".into(), 2);
        let first = window.hit(100 * SECOND, u32::MAX);
        assert!(matches!(first, Hit::Taken(usage) if usage.remaining == 1));
        let expected = Usage {
            remaining: 0,
            reset_seconds: 30,
        };
        assert_eq!(window.hit(130 * SECOND, u32::MAX), Hit::Taken(expected));
        let full = Full {
            retry_after_seconds: 29,
        };
        assert_eq!(window.hit(131 * SECOND, u32::MAX), Hit::Full(full));
        assert_eq!(window.check(131 * SECOND), Err(full));
        assert!(window.check(160 * SECOND).is_ok());
        let next = window.hit(160 * SECOND, u32::MAX);
        assert!(matches!(next, Hit::Taken(usage) if usage.remaining == 1));
        let none = Window::new("w".into(), 0);
        assert!(matches!(none.hit(0, u32::MAX), Hit::Full(_)));
    }

    #[test]
    fn a_hit_from_just_before_its_window_is_counted_in_it() {
        let window = Window::new("w".into(), 2);
        assert!(matches!(window.hit(100 * SECOND, u32::MAX), Hit::Taken(_)));
        assert!(matches!(
            window.hit(100 * SECOND - 1, u32::MAX),
            Hit::Taken(usage) if usage.remaining == 0
        ));
        assert!(matches!(
            window.hit(100 * SECOND + 1, u32::MAX),
            Hit::Full(_)
        ));
    }

    #[test]
    fn a_clock_that_wraps_makes_no_window_endless() {
        let window = Window::new("w".into(), 1);
        assert!(matches!(window.hit(u32::MAX - 10, u32::MAX), Hit::Taken(_)));
        assert!(matches!(window.hit(10, u32::MAX), Hit::Full(_)));
        assert!(matches!(window.hit(WINDOW_MS, u32::MAX), Hit::Taken(_)));
    }

    #[tokio::test]
    async fn one_gateway_counts_alone_and_exactly() {
        let rates = Rates::default();
        rates.gateways.store(1, Ordering::Relaxed);
        let window = Arc::new(Window::new("w".into(), 3));
        for left in [2, 1, 0] {
            assert_eq!(rates.take(&window, 5).await.unwrap().remaining, left);
        }
        assert!(rates.take(&window, 5).await.is_err());
    }

    #[tokio::test]
    async fn a_share_that_is_used_up_is_not_a_refusal_when_nobody_tells() {
        // As it starts, a gateway takes it that there is another.
        let rates = Rates::default();
        let window = Arc::new(Window::new("w".into(), 100));
        let room = rates.room(100);
        assert_eq!(room, 4);
        for _ in 0..room {
            assert!(matches!(rates.hit(&window, 0), Hit::Taken(_)));
        }
        assert_eq!(rates.hit(&window, 0), Hit::Unsure);
        assert!(rates.take(&window, 0).await.is_ok());
    }
}
