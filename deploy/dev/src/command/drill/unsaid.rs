//! What nobody says: what becomes of a deposit, and until when everything was told.

use anyhow::Result;
use serde_json::json;

use super::faults::Fault;
use super::stage::Stage;

/// A deposit that the provider never fills, made older than it is.
pub(super) async fn undecided(mut fault: Fault<'_>, stage: &mut Stage) -> Result<()> {
    let stuck = stage.quote().await?;
    let id = &stuck.quote.relay_request_id;
    let sandbox = stage.stack.sandbox();
    let told = |outcome: &str| json!({ "requestId": id, "outcome": outcome });
    sandbox.scenario(&told("stuck")).await?;
    sandbox.deposit(&[id]).await?;
    stage.wait_for_state(&stuck.quote, "quoted").await?;
    let set = "update gateway_request set deposit_seen_at = now() - interval '2 hours' where relay_request_id = $1";
    stage.change(set, &stuck.quote).await?;
    fault.fires().await?;
    sandbox.scenario(&told("success")).await?;
    let set = "update gateway_request set deposit_seen_at = now() where relay_request_id = $1";
    stage.change(set, &stuck.quote).await
}

/// Nothing is published, and so nobody says until when everything was told.
pub(super) async fn untold(mut fault: Fault<'_>, stage: &mut Stage) -> Result<()> {
    stage
        .statements("alter table outbox rename to drill_outbox")
        .await?;
    let fired = fault.fires().await;
    stage
        .statements("alter table drill_outbox rename to outbox")
        .await?;
    fired?;
    stage.wait_until_told().await
}
