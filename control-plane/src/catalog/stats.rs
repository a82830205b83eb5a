//! How a listing has done lately. Pure.

use serde::Serialize;
use utoipa::ToSchema;

/// What is counted of a listing, as it is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stats {
    /// Calls delivered in the last 30 days.
    pub(super) calls: i64,
    /// Attempts in the last 30 days that failed at the seller.
    pub(super) failures: i64,
    /// The latency, in milliseconds, that 95 % of those calls kept within.
    pub(super) p95_latency_ms: Option<i32>,
    /// Sum of the reviews' ratings, in hundredths.
    pub(super) rating_sum: i64,
    /// Reviews.
    pub(super) reviews: i32,
}

/// `stats` of a listing (contract §4).
#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = ListingStats)]
pub(super) struct StatsShown {
    /// Delivered calls of the last 30 days.
    #[schema(example = 1_204)]
    calls_30d: i64,
    /// Share of the calls that was delivered.
    #[schema(minimum = 0, maximum = 1, example = 0.998)]
    success_rate_30d: Option<f64>,
    #[schema(example = 410)]
    p95_latency_ms_30d: Option<i32>,
    #[schema(minimum = 1, maximum = 5, example = 4.67)]
    rating_average: Option<f64>,
    #[schema(example = 12)]
    review_count: i32,
}

impl Stats {
    /// As everyone may see it. Rates are to four decimals, the rating to two.
    pub(super) fn show(self) -> StatsShown {
        StatsShown {
            calls_30d: self.calls,
            success_rate_30d: ratio(self.calls, self.calls + self.failures, 10_000),
            p95_latency_ms_30d: self.p95_latency_ms,
            rating_average: ratio(self.rating_sum, i64::from(self.reviews) * 100, 100),
            review_count: self.reviews,
        }
    }
}

/// `part / whole` to the nearest of so many steps in one; `None` of nothing.
fn ratio(part: i64, whole: i64, steps: u32) -> Option<f64> {
    if whole <= 0 {
        return None;
    }
    let (part, whole, steps_wide) = (i128::from(part), i128::from(whole), i128::from(steps));
    let nearest = (2 * part * steps_wide + whole) / (2 * whole);
    // Ratings and rates are small: five at most, in hundredths.
    let nearest = u32::try_from(nearest).ok()?;
    Some(f64::from(nearest) / f64::from(steps))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_counted_is_unknown_rather_than_zero() {
        let shown = Stats::default().show();
        assert_eq!(shown.success_rate_30d, None);
        assert_eq!(shown.rating_average, None);
        assert_eq!((shown.calls_30d, shown.review_count), (0, 0));
    }

    #[test]
    fn rates_and_ratings_are_rounded_to_the_nearest_step() {
        let shown = Stats {
            calls: 2,
            failures: 1,
            p95_latency_ms: Some(40),
            rating_sum: 433 + 467 + 500,
            reviews: 3,
        }
        .show();
        assert_eq!(shown.success_rate_30d, Some(0.6667));
        assert_eq!(shown.rating_average, Some(4.67));
    }
}
