//! A review and a summary of reviews, as stored and as shown (contract §6).

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use crochet_shared::clock::rfc3339_millis;
use crochet_shared::id::{ListingId, ProfileId};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::identity::VERIFIED_SCORE;

/// How a list of reviews is sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Newest,
    Highest,
    Lowest,
}

/// Names of [`Sort`].
pub(super) const SORTS: [(&str, Sort); 3] = [
    ("newest", Sort::Newest),
    ("highest", Sort::Highest),
    ("lowest", Sort::Lowest),
];

/// The three ratings of a review, each 1 to 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ratings {
    pub(super) accuracy: i16,
    pub(super) reliability: i16,
    pub(super) value: i16,
}

impl Ratings {
    /// Their sum, 3 to 15: three times the rating.
    pub(super) const fn total(self) -> i16 {
        self.accuracy + self.reliability + self.value
    }

    /// The rating in hundredths, to the nearest one.
    pub(super) fn hundredths(self) -> i64 {
        hundredths(self.total().into(), 3).unwrap_or_default()
    }

    /// The rating to the nearest whole; thirds are never halfway.
    pub(super) const fn nearest(self) -> i16 {
        (self.total() + 1) / 3
    }
}

/// A review as it is stored, with its writer.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) id: Uuid,
    pub(super) listing_id: Uuid,
    pub(super) reviewer_id: Uuid,
    pub(super) display_name: String,
    pub(super) score: i32,
    pub(super) accuracy: i16,
    pub(super) reliability: i16,
    pub(super) value: i16,
    pub(super) title: Option<String>,
    pub(super) comment: Option<String>,
    pub(super) created_at: DateTime<Utc>,
}

/// `Review` (contract §6).
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Review {
    id: Uuid,
    listing_id: ListingId,
    reviewer: Reviewer,
    #[schema(minimum = 1, maximum = 5, example = 5)]
    accuracy_rating: i16,
    #[schema(minimum = 1, maximum = 5, example = 5)]
    reliability_rating: i16,
    #[schema(minimum = 1, maximum = 5, example = 4)]
    value_rating: i16,
    /// The mean of the three, to two decimals.
    #[schema(minimum = 1, maximum = 5, example = 4.67)]
    rating: f64,
    #[schema(example = "Exact")]
    title: Option<String>,
    #[schema(example = "Right to the degree, every time.")]
    comment: Option<String>,
    /// Always: without a delivered call there is no review.
    #[schema(example = true)]
    verified_purchase: bool,
    #[serde(with = "rfc3339_millis")]
    created_at: DateTime<Utc>,
}

/// Who wrote a review.
#[derive(Debug, Serialize, ToSchema)]
struct Reviewer {
    id: ProfileId,
    #[schema(example = "Ada")]
    display_name: String,
    #[schema(example = false)]
    is_verified: bool,
    #[schema(minimum = 0, maximum = 1000, example = 512)]
    score: i32,
}

impl From<Row> for Review {
    fn from(row: Row) -> Self {
        let ratings = Ratings {
            accuracy: row.accuracy,
            reliability: row.reliability,
            value: row.value,
        };
        Self {
            id: row.id,
            listing_id: ListingId(row.listing_id),
            reviewer: Reviewer {
                id: ProfileId(row.reviewer_id),
                display_name: row.display_name,
                is_verified: row.score >= VERIFIED_SCORE,
                score: row.score,
            },
            accuracy_rating: row.accuracy,
            reliability_rating: row.reliability,
            value_rating: row.value,
            rating: two_decimals(ratings.hundredths()),
            title: row.title,
            comment: row.comment,
            verified_purchase: true,
            created_at: row.created_at,
        }
    }
}

/// Sums over a listing's reviews.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) accuracy: i64,
    pub(super) reliability: i64,
    pub(super) value: i64,
    /// Reviews by rating to the nearest whole, 1 to 5.
    pub(super) nearest: [i64; 5],
}

/// `summary` (contract §6). Averages are `null` without a review.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ReviewSummary)]
pub(super) struct Summary {
    #[schema(example = 12)]
    count: i64,
    #[schema(minimum = 1, maximum = 5, example = 4.67)]
    average: Option<f64>,
    #[schema(minimum = 1, maximum = 5, example = 4.75)]
    accuracy_average: Option<f64>,
    #[schema(minimum = 1, maximum = 5, example = 4.67)]
    reliability_average: Option<f64>,
    #[schema(minimum = 1, maximum = 5, example = 4.58)]
    value_average: Option<f64>,
    /// Reviews by their rating to the nearest whole, `"1"` to `"5"`.
    #[schema(value_type = BTreeMap<String, i64>, example = json!({"1": 0, "2": 0, "3": 1, "4": 2, "5": 9}))]
    distribution: BTreeMap<i64, i64>,
}

impl Sums {
    /// How many reviews there are.
    pub(super) fn count(&self) -> i64 {
        self.nearest.iter().sum()
    }
}

impl From<Sums> for Summary {
    fn from(sums: Sums) -> Self {
        let count = sums.count();
        let all = sums.accuracy + sums.reliability + sums.value;
        Self {
            count,
            average: average(all, count * 3),
            accuracy_average: average(sums.accuracy, count),
            reliability_average: average(sums.reliability, count),
            value_average: average(sums.value, count),
            distribution: (1..).zip(sums.nearest).collect(),
        }
    }
}

/// A mean to two decimals; `None` of nothing.
pub(super) fn average(sum: i64, count: i64) -> Option<f64> {
    hundredths(sum, count).map(two_decimals)
}

/// A mean of what is not negative in hundredths, rounded half up.
fn hundredths(sum: i64, count: i64) -> Option<i64> {
    (sum * 200 + count).checked_div(count * 2)
}

/// Hundredths of a rating as the number they are; a rating's are few.
fn two_decimals(hundredths: i64) -> f64 {
    f64::from(i32::try_from(hundredths).unwrap_or(i32::MAX)) / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rating_is_the_mean_to_two_decimals() {
        for (ratings, mean, nearest) in [
            ((5, 5, 5), 5.0, 5),
            ((1, 1, 1), 1.0, 1),
            ((5, 4, 4), 4.33, 4),
            ((5, 5, 4), 4.67, 5),
            ((1, 2, 1), 1.33, 1),
            ((1, 2, 2), 1.67, 2),
        ] {
            let (accuracy, reliability, value) = ratings;
            let ratings = Ratings {
                accuracy,
                reliability,
                value,
            };
            assert_eq!(
                serde_json::to_string(&two_decimals(ratings.hundredths())).unwrap(),
                serde_json::to_string(&mean).unwrap()
            );
            assert_eq!(ratings.nearest(), nearest);
        }
    }

    #[test]
    fn a_summary_of_nothing_has_no_averages_and_all_five_counts() {
        let shown = serde_json::to_value(Summary::from(Sums::default())).unwrap();
        assert_eq!(
            shown,
            serde_json::json!({
                "count": 0, "average": null, "accuracy_average": null, "reliability_average": null,
                "value_average": null, "distribution": { "1": 0, "2": 0, "3": 0, "4": 0, "5": 0 },
            })
        );
    }

    #[test]
    fn averages_are_of_the_exact_sums() {
        // Two reviews of 4.33 and 4.67: the mean of the exact thirds is 4.5.
        let sums = Sums {
            accuracy: 9,
            reliability: 9,
            value: 9,
            nearest: [0, 0, 0, 1, 1],
        };
        let shown = serde_json::to_value(Summary::from(sums)).unwrap();
        assert_eq!(
            (&shown["average"], &shown["accuracy_average"]),
            (&4.5.into(), &4.5.into())
        );
    }
}
