//! What time ends: claims without a settlement, and payments nobody redeemed.

use crochet_shared::id::uuid_v7;
use uuid::Uuid;

use super::model::State;
use crate::app::App;
use crate::ledger::post::{self, LapseRules, Lapsed};
use crate::metrics::names;

/// Ends what has run out among `ids`; tells what was ended.
pub async fn lapse(app: &App, ids: &[Uuid]) -> Result<Vec<Lapsed>, sqlx::Error> {
    let rules = LapseRules {
        max_attempts: app.config.max_attempts,
        grace_seconds: app.config.lease_grace.as_secs_f64(),
    };
    let now = crochet_shared::clock::now();
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.dedup();
    let transfer_ids: Vec<Uuid> = ids.iter().map(|_| uuid_v7(now)).collect();
    let lapsed = post::lapsed(app.db.pool(), &ids, &transfer_ids, rules).await?;
    for lapsed in &lapsed {
        let refund = lapsed.next == State::RefundDue;
        let result = if refund { "refund_due" } else { "paid" };
        metrics::counter!(names::LAPSED.name, "result" => result).increment(1);
        if refund {
            tracing::warn!(request_id = %crochet_shared::id::RequestId(lapsed.id), "a refund is due: time or attempts are over");
        }
    }
    Ok(lapsed)
}
