//! The Crochet Score: pure functions from evidence to five components, and from these to one number.
//!
//! Every component begins at [`MEAN`] and is drawn away from it by evidence alone, so an agent of whom
//! nothing is known stands at 500 in all of them, and little evidence moves little. What one party can
//! bring about by itself is bounded: however often one buyer calls, she counts as at most two calls for
//! reliability and as one buyer for volume; however many reviews she writes, she has one voice.
//!
//! Floating point stands in this file only: decay has no exact integer form. Components are rounded once,
//! at the end, and the score is made of the rounded components in integers, so anyone can check it by hand.

use std::collections::BTreeMap;

use uuid::Uuid;

#[cfg(test)]
mod tests;

/// Where every component stands without evidence, and the default of `profile.score`.
pub const MEAN: i32 = 500;
/// Highest of a component and of the score.
pub const MAX: i32 = 1000;
/// Length of a period in which calls are counted together, in days.
pub const PERIOD_DAYS: i32 = 30;
/// Periods that are read: older evidence has decayed below a hundredth.
pub const PERIODS_READ: i32 = 24;

/// What each component weighs, in thousandths of the score.
#[derive(Clone, Copy, Debug)]
pub struct Weights {
    /// Above all a call is to be answered.
    pub reliability: i32,
    /// What buyers say of the answers' quality.
    pub accuracy: i32,
    /// That many strangers buy is hard to fake.
    pub volume: i32,
    /// Time passes for cheats too: least.
    pub longevity: i32,
    /// What buyers say on the whole; less than what calls show by themselves.
    pub reputation: i32,
}

/// The constants of the score, each with its reason.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// See [`Weights`]; together 1000.
    pub weights: Weights,
    /// Calls, half of them failed, that every seller is taken to have had: some thirty buyers must have
    /// been served before reliability is more her own than the mean.
    pub prior_calls: f64,
    /// Most that one buyer's calls count for in reliability, in calls: two, so that a ring of a few
    /// friends, or one enemy who sends what makes the seller fail, moves little.
    pub buyer_calls_max: f64,
    /// Calls of one buyer at which she counts for half of that. With 1, her first call counts as one.
    pub buyer_calls_half: f64,
    /// Delivered calls of one buyer at which she is half a buyer for volume: less than one, since a
    /// buyer who came once is nearly as much of a buyer as one who came often.
    pub buyer_half: f64,
    /// Distinct buyers at which volume is halfway from the mean to the top.
    pub volume_half: f64,
    /// Days between first and last delivery at which longevity is halfway: half a year.
    pub longevity_half_days: f64,
    /// Distinct buyers at which a long time counts for half: one friend who calls once a year shows nothing.
    pub longevity_buyers_half: f64,
    /// Half-life of calls, in days: a seller is what she was in the last quarter.
    pub calls_half_life_days: f64,
    /// Half-life of reviews, in days: they are rarer, and each buyer has one a listing.
    pub reviews_half_life_days: f64,
    /// Full voices (reviewers with the highest score) that say the mean, which every seller is taken to
    /// have had.
    pub prior_voices: f64,
}

/// The rules in force.
pub const RULES: Rules = Rules {
    weights: Weights {
        reliability: 350,
        accuracy: 200,
        volume: 200,
        longevity: 100,
        reputation: 150,
    },
    prior_calls: 30.0,
    buyer_calls_max: 2.0,
    buyer_calls_half: 1.0,
    buyer_half: 0.25,
    volume_half: 20.0,
    longevity_half_days: 180.0,
    longevity_buyers_half: 5.0,
    calls_half_life_days: 90.0,
    reviews_half_life_days: 365.0,
    prior_voices: 8.0,
};

const _: () = assert!(
    RULES.weights.reliability
        + RULES.weights.accuracy
        + RULES.weights.volume
        + RULES.weights.longevity
        + RULES.weights.reputation
        == 1000,
    "the score is a weighted mean"
);

/// How one buyer's calls ended in one period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calls {
    /// Who bought.
    pub buyer: Uuid,
    /// How many periods ago; 0 is the current one.
    pub periods_ago: i32,
    /// Delivered calls.
    pub delivered: i32,
    /// Calls the seller failed.
    pub failed: i32,
}

/// What one review says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opinion {
    /// Who wrote it.
    pub reviewer: Uuid,
    /// Her own score now: what her voice weighs.
    pub reviewer_score: i32,
    /// Its age.
    pub days_ago: i32,
    /// `accuracy_rating`, 1 to 5.
    pub accuracy: i32,
    /// Sum of the three ratings, 3 to 15.
    pub total: i32,
}

/// All that a score is computed from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Calls by buyer and period, each pair once.
    pub calls: Vec<Calls>,
    /// Reviews of her listings.
    pub opinions: Vec<Opinion>,
    /// Days from the first delivery to the last.
    pub served_days: i32,
    /// Days since the last delivery.
    pub idle_days: i32,
}

/// The five components, each 0 to 1000 (contract §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Components {
    /// Calls that were answered.
    pub reliability: i32,
    /// Ratings of accuracy.
    pub accuracy: i32,
    /// Distinct buyers.
    pub volume: i32,
    /// Time in service.
    pub longevity: i32,
    /// Ratings on the whole.
    pub reputation: i32,
}

impl Components {
    /// Without evidence.
    pub const UNKNOWN: Self = Self {
        reliability: MEAN,
        accuracy: MEAN,
        volume: MEAN,
        longevity: MEAN,
        reputation: MEAN,
    };

    /// What the evidence shows.
    pub fn of(evidence: &Evidence) -> Self {
        let (reliability, buyers) = calls(&evidence.calls);
        let (accuracy, reputation) = voices(&evidence.opinions);
        Self {
            reliability,
            accuracy,
            volume: above_mean(share(buyers, RULES.volume_half)),
            longevity: longevity(evidence, buyers),
            reputation,
        }
    }

    /// The score: the weighted mean, rounded half up.
    pub const fn score(self) -> i32 {
        let weights = RULES.weights;
        let sum = self.reliability * weights.reliability
            + self.accuracy * weights.accuracy
            + self.volume * weights.volume
            + self.longevity * weights.longevity
            + self.reputation * weights.reputation;
        (sum + 500) / 1000
    }
}

/// Every [`tier`], from the lowest.
pub const TIERS: [&str; 5] = ["Low", "Moderate", "Trusted", "Elite", "Exceptional"];

/// The tier of a score (contract §3).
pub const fn tier(score: i32) -> &'static str {
    match score {
        ..400 => "Low",
        400..700 => "Moderate",
        700..800 => "Trusted",
        800..900 => "Elite",
        900.. => "Exceptional",
    }
}

/// Reliability, and how many distinct buyers the calls amount to.
fn calls(rows: &[Calls]) -> (i32, f64) {
    let mut by_buyer: BTreeMap<Uuid, (f64, f64)> = BTreeMap::new();
    for row in rows {
        let days = f64::from(row.periods_ago.max(0)) * f64::from(PERIOD_DAYS);
        let weight = decay(days, RULES.calls_half_life_days);
        let (delivered, failed) = by_buyer.entry(row.buyer).or_default();
        *delivered += weight * f64::from(row.delivered.max(0));
        *failed += weight * f64::from(row.failed.max(0));
    }
    let (mut answered, mut counted, mut buyers) = (0.0, 0.0, 0.0);
    for (delivered, failed) in by_buyer.into_values() {
        // Divided among the buyer's calls: one more delivered never lowers `answered`, and never raises
        // what failed.
        let each = RULES.buyer_calls_max / (delivered + failed + RULES.buyer_calls_half);
        answered += delivered * each;
        counted += (delivered + failed) * each;
        buyers += share(delivered, RULES.buyer_half);
    }
    let rate = (answered + RULES.prior_calls / 2.0) / (counted + RULES.prior_calls);
    (rounded(rate * f64::from(MAX)), buyers)
}

/// Accuracy and reputation: means over reviewers, each with one voice that weighs her own score.
fn voices(opinions: &[Opinion]) -> (i32, i32) {
    let mut reviews_of: BTreeMap<Uuid, u32> = BTreeMap::new();
    for opinion in opinions {
        *reviews_of.entry(opinion.reviewer).or_default() += 1;
    }
    let prior = RULES.prior_voices * f64::from(MEAN);
    let (mut weights, mut accuracy, mut rating) = (RULES.prior_voices, prior, prior);
    for opinion in opinions {
        let reviews = reviews_of.get(&opinion.reviewer).copied().unwrap_or(1);
        let days = f64::from(opinion.days_ago.max(0));
        let weight = f64::from(opinion.reviewer_score.clamp(0, MAX)) / f64::from(MAX)
            * decay(days, RULES.reviews_half_life_days)
            / f64::from(reviews);
        weights += weight;
        accuracy += weight * f64::from((opinion.accuracy.clamp(1, 5) - 1) * MAX) / 4.0;
        rating += weight * f64::from((opinion.total.clamp(3, 15) - 3) * MAX) / 12.0;
    }
    (rounded(accuracy / weights), rounded(rating / weights))
}

fn longevity(evidence: &Evidence, buyers: f64) -> i32 {
    let served = share(
        f64::from(evidence.served_days.max(0)),
        RULES.longevity_half_days,
    );
    let idle = decay(
        f64::from(evidence.idle_days.max(0)),
        RULES.calls_half_life_days,
    );
    above_mean(served * idle * share(buyers, RULES.longevity_buyers_half))
}

/// 0 for nothing, towards 1 with diminishing returns; a half at `half`.
fn share(amount: f64, half: f64) -> f64 {
    amount / (amount + half)
}

/// What is left of evidence of this age.
fn decay(days: f64, half_life: f64) -> f64 {
    (-days / half_life).exp2()
}

/// A share of the way from the mean to the top.
fn above_mean(share: f64) -> i32 {
    rounded(f64::from(MEAN) + share * f64::from(MAX - MEAN))
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "clamped to 0 to 1000 before; a value that is no number becomes 0"
)]
fn rounded(value: f64) -> i32 {
    value.round().clamp(0.0, f64::from(MAX)) as i32
}
