//! `GET /agents/:id/score`

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use chrono::{DateTime, Utc};
use crochet_shared::clock::{rfc3339_millis, rfc3339_millis_option};
use crochet_shared::code::Code;
use crochet_shared::envelope::Success;
use crochet_shared::id::ProfileId;
use serde::Serialize;
use utoipa::ToSchema;

use super::fold::FAILURES;
use super::model::{self, Components};
use super::review::average;
use super::snapshot::EVERY;
use super::store::snapshot::{self as store, Snapshot, Standing};
use crate::answer::Data;
use crate::app::App;
use crate::error::ApiError;
use crate::identity::VERIFIED_SCORE;

/// A snapshot older than this has missed its day.
const AGE_MAX: Duration = EVERY.saturating_add(Duration::from_hours(1));
/// A fold that lags by more cannot vouch for any score.
const LAG_MAX: Duration = Duration::from_mins(5);

/// The public Crochet Score (contract §3).
#[derive(Debug, Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "the contract's names")]
pub(super) struct Score {
    agent_id: ProfileId,
    #[schema(minimum = 0, maximum = 1000, example = 512)]
    score: i32,
    #[schema(example = "Moderate", extensions(("x-one-of" = json!(model::TIERS))))]
    tier: &'static str,
    #[schema(example = false)]
    verified: bool,
    components: Shown,
    evidence: Evidence,
    /// When the score was computed; now, for an agent of whom nothing is known.
    #[serde(with = "rfc3339_millis")]
    computed_at: DateTime<Utc>,
    /// Whether there is newer evidence than the score was computed from.
    #[schema(example = false)]
    stale: bool,
}

/// The five components, each 0 to 1000.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ScoreComponents)]
struct Shown {
    #[schema(minimum = 0, maximum = 1000, example = 540)]
    reliability: i32,
    #[schema(minimum = 0, maximum = 1000, example = 520)]
    accuracy: i32,
    #[schema(minimum = 0, maximum = 1000, example = 505)]
    volume: i32,
    #[schema(minimum = 0, maximum = 1000, example = 500)]
    longevity: i32,
    #[schema(minimum = 0, maximum = 1000, example = 515)]
    reputation: i32,
}

/// What the score was computed from, in sums.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = ScoreEvidence)]
struct Evidence {
    #[schema(example = 41)]
    calls_delivered: i64,
    /// Calls the seller failed at least once.
    #[schema(example = 1)]
    calls_failed: i64,
    #[schema(example = 9)]
    distinct_buyers: i64,
    #[schema(example = 3)]
    reviews: i64,
    #[schema(minimum = 1, maximum = 5, example = 4.67)]
    rating_average: Option<f64>,
    #[serde(with = "rfc3339_millis_option")]
    first_call_at: Option<DateTime<Utc>>,
    #[serde(with = "rfc3339_millis_option")]
    last_call_at: Option<DateTime<Utc>>,
}

/// Shows an agent's Crochet Score.
///
/// With its five components and the evidence it was computed from.
#[utoipa::path(get, path = "/agents/{id}/score", tag = "Reviews", operation_id = "getAgentScore",
    params(("id" = ProfileId, Path, description = "The agent's id.")),
    responses((status = 200, body = Success<Score>)),
    extensions(("x-error-codes" = json!([Code::AgentNotFound]))))]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Data<Score>, ApiError> {
    let id: ProfileId = id.parse().map_err(|_| Code::AgentNotFound)?;
    let standing = store::standing(
        app.db.pool(),
        id.0,
        &FAILURES,
        AGE_MAX.as_secs_f64(),
        LAG_MAX.as_secs_f64(),
    )
    .await?
    .ok_or(Code::AgentNotFound)?;
    Ok(Data(show(id, standing, crochet_shared::clock::now())))
}

fn show(id: ProfileId, standing: Standing, now: DateTime<Utc>) -> Score {
    let snapshot = standing.snapshot;
    let score = snapshot.as_ref().map_or(model::MEAN, |found| found.score);
    let parts = snapshot
        .as_ref()
        .map_or(Components::UNKNOWN, |found| found.components);
    Score {
        agent_id: id,
        score,
        tier: model::tier(score),
        verified: score >= VERIFIED_SCORE,
        components: Shown {
            reliability: parts.reliability,
            accuracy: parts.accuracy,
            volume: parts.volume,
            longevity: parts.longevity,
            reputation: parts.reputation,
        },
        computed_at: snapshot.as_ref().map_or(now, |found| found.computed_at),
        evidence: snapshot.map(Evidence::from).unwrap_or_default(),
        stale: standing.is_behind,
    }
}

impl From<Snapshot> for Evidence {
    fn from(found: Snapshot) -> Self {
        Self {
            calls_delivered: found.calls_delivered,
            calls_failed: found.calls_failed,
            distinct_buyers: found.distinct_buyers,
            reviews: found.reviews,
            // A review's total is the sum of three ratings.
            rating_average: average(found.rating_total, found.reviews * 3),
            first_call_at: found.first_call_at,
            last_call_at: found.last_call_at,
        }
    }
}
