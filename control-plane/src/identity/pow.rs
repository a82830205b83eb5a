//! Proof of work: what makes a thousand registrations cost something. Pure.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

/// Longest `pow_nonce`, in characters.
pub(super) const NONCE_CHARS_MAX: usize = 128;

/// What a client has to solve, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Pow {
    /// Always `sha256`.
    #[schema(example = "sha256")]
    algorithm: &'static str,
    /// Find a `pow_nonce` such that the lowercase hex of SHA-256(`challenge` + `pow_nonce`) begins
    /// with `difficulty` zeros.
    #[schema(example = "9f86d081884c7d659a2feaa0c55ad015")]
    challenge: String,
    /// Leading zeros, in hex digits.
    #[schema(example = 4)]
    difficulty: u32,
}

impl Pow {
    pub(super) fn new(challenge: String, difficulty: u32) -> Self {
        Self {
            algorithm: "sha256",
            challenge,
            difficulty,
        }
    }
}

/// Whether the lowercase hex of SHA-256(`challenge` + `nonce`) begins with `difficulty` zeros.
pub(super) fn solves(challenge: &str, nonce: &str, difficulty: u32) -> bool {
    let mut hash = Sha256::new();
    hash.update(challenge.as_bytes());
    hash.update(nonce.as_bytes());
    let zeros: u32 = hash
        .finalize()
        .iter()
        .map(|byte| byte.leading_zeros())
        .scan(true, |whole, zeros| {
            let counted = whole.then_some(zeros);
            *whole = *whole && zeros == 8;
            counted
        })
        .sum();
    zeros / 4 >= difficulty
}

/// Challenges given per minute, from which each further step of difficulty begins.
const STEPS: [u32; 3] = [600, 3_000, 12_000];
const MINUTE: Duration = Duration::from_mins(1);

/// How hard work is now: a step harder for each [`STEPS`] that the last minute's challenges passed.
#[derive(Debug)]
pub struct Difficulty {
    base: u32,
    pinned: bool,
    minute: Mutex<Minute>,
}

#[derive(Debug)]
struct Minute {
    began: Instant,
    given: u32,
    given_before: u32,
}

impl Difficulty {
    /// From `base`; `pinned` stays there whatever the load.
    pub fn new(base: u32, pinned: bool, now: Instant) -> Self {
        Self {
            base,
            pinned,
            minute: Mutex::new(Minute {
                began: now,
                given: 0,
                given_before: 0,
            }),
        }
    }

    /// The difficulty of one more challenge.
    pub fn next(&self, now: Instant) -> u32 {
        let mut minute = self.minute.lock();
        let passed = now.duration_since(minute.began);
        if passed >= MINUTE {
            minute.given_before = if passed < 2 * MINUTE { minute.given } else { 0 };
            minute.given = 0;
            minute.began = now;
        }
        minute.given = minute.given.saturating_add(1);
        if self.pinned {
            return self.base;
        }
        let load = minute.given.max(minute.given_before);
        let steps = STEPS.iter().filter(|step| load > **step).count();
        self.base + u32::try_from(steps).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_counted_in_hex_digits() {
        // SHA-256("a" + "") begins with ca; every text solves difficulty 0.
        assert!(solves("a", "", 0) && !solves("a", "", 1));
        let found = (0..200_000_u32)
            .map(|n| n.to_string())
            .find(|nonce| {
                let hex = crochet_shared::redis_key::hex(&Sha256::digest(format!("abc{nonce}")));
                hex.starts_with("000") && !hex.starts_with("0000")
            })
            .unwrap();
        assert!(solves("abc", &found, 3) && !solves("abc", &found, 4));
    }

    #[test]
    fn load_raises_the_difficulty_and_quiet_lowers_it() {
        let start = Instant::now();
        let difficulty = Difficulty::new(4, false, start);
        let last = (0..601).map(|_| difficulty.next(start)).last();
        assert_eq!(last, Some(5));
        assert_eq!(difficulty.next(start + MINUTE), 5, "the last minute counts");
        assert_eq!(difficulty.next(start + 4 * MINUTE), 4);
        let pinned = Difficulty::new(4, true, start);
        assert_eq!((0..601).map(|_| pinned.next(start)).last(), Some(4));
    }
}
