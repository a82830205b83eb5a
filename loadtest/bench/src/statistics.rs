//! Medians and spreads of few values.

use serde::Serialize;

/// The middle of a handful of values, and how far they lie apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Summary {
    /// Half of the values lie below, half above.
    pub(crate) median: f64,
    /// The smallest.
    pub(crate) min: f64,
    /// The largest.
    pub(crate) max: f64,
}

impl Summary {
    /// Of any number of values; all zero when there is none.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let at = |index: usize| sorted.get(index).copied().unwrap_or_default();
        let median = if sorted.len().is_multiple_of(2) && middle > 0 {
            f64::midpoint(at(middle - 1), at(middle))
        } else {
            at(middle)
        };
        Self {
            median,
            min: at(0),
            max: sorted.last().copied().unwrap_or_default(),
        }
    }

    /// In another unit.
    pub(crate) fn times(self, factor: f64) -> Self {
        Self {
            median: self.median * factor,
            min: self.min * factor,
            max: self.max * factor,
        }
    }

    /// Of `a/b`, round by round: what both met in the same round cancels out.
    pub(crate) fn of_ratios(a: &[f64], b: &[f64]) -> Self {
        Self::of(
            a.iter()
                .zip(b)
                .filter(|(_, b)| **b > 0.0)
                .map(|(a, b)| a / b),
        )
    }
}

/// The value below which `share` (0 to 1) of the sorted values lie, by nearest rank; zero when there is none.
pub(crate) fn quantile(sorted: &[u32], share: f64) -> u32 {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank among at most millions of values, from a share between 0 and 1"
    )]
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted
        .get(rank.saturating_sub(1))
        .or(sorted.last())
        .copied()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_the_two_middles() {
        let odd = Summary::of([3.0, 1.0, 2.0]);
        assert_eq!((odd.median, odd.min, odd.max), (2.0, 1.0, 3.0));
        let summary = |median, min, max| Summary { median, min, max };
        assert_eq!(Summary::of([4.0, 1.0, 2.0, 3.0]), summary(2.5, 1.0, 4.0));
        assert_eq!(Summary::of([7.0]), summary(7.0, 7.0, 7.0));
        assert_eq!(Summary::of([]), Summary::default());
    }

    #[test]
    fn ratios_pair_the_values_of_a_round() {
        // The second round was twice as slow for both: the ratio does not move.
        let ratios = Summary::of_ratios(&[10.0, 20.0, 12.0], &[5.0, 10.0, 6.0]);
        assert_eq!((ratios.median, ratios.min, ratios.max), (2.0, 2.0, 2.0));
        assert_eq!(Summary::of_ratios(&[1.0], &[0.0]), Summary::default());
    }

    #[test]
    fn a_quantile_is_one_of_the_values() {
        let values: Vec<u32> = (1..=100).collect();
        assert_eq!(quantile(&values, 0.5), 50);
        assert_eq!(quantile(&values, 0.99), 99);
        assert_eq!(quantile(&values, 1.0), 100);
        assert_eq!(quantile(&[9], 0.5), 9);
        assert_eq!(quantile(&[], 0.5), 0);
    }
}
