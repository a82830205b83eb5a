//! How many replies are lost, and a count of what was.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// A share of replies, in thousandths, that can be changed while the proxy runs; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Share(Arc<Counted>);

#[derive(Debug, Default)]
struct Counted {
    per_mille: AtomicU32,
    passed: AtomicUsize,
    lost: AtomicUsize,
}

impl Share {
    /// So many replies of a thousand.
    pub fn of(per_mille: u32) -> Self {
        let share = Self::default();
        share.set(per_mille);
        share
    }

    /// From now on so many of a thousand; none is peace.
    pub fn set(&self, per_mille: u32) {
        self.0.per_mille.store(per_mille, Ordering::Relaxed);
    }

    /// Whether the reply that stands here now is lost.
    pub fn falls(&self) -> bool {
        let per_mille = self.0.per_mille.load(Ordering::Relaxed);
        let falls = per_mille > 0 && getrandom::u32().is_ok_and(|drawn| drawn % 1000 < per_mille);
        let count = if falls { &self.0.lost } else { &self.0.passed };
        count.fetch_add(1, Ordering::Relaxed);
        falls
    }

    /// How many were lost so far.
    pub fn lost(&self) -> usize {
        self.0.lost.load(Ordering::Relaxed)
    }

    /// How many were passed on so far.
    pub fn passed(&self) -> usize {
        self.0.passed.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_all_none_and_some() {
        assert!((0..50).all(|_| Share::of(1000).falls()));
        let share = Share::of(100);
        for _ in 0..2_000 {
            share.falls();
        }
        assert!((100..400).contains(&share.lost()), "{share:?}");
        share.set(0);
        assert!((0..50).all(|_| !share.falls()));
        assert_eq!(share.lost() + share.passed(), 2_050);
    }
}
