//! Tells the control plane which keys were used here, for their owners to see (`last_used_at`).
//!
//! Off the path of calls, of which most ask the control plane nothing about their key. What is told is a use a minute of each
//! key at most, and what this process noted last goes with it when it dies.

use std::sync::Arc;
use std::time::Duration;

use crochet_shared::internal::BATCH_ITEMS_MAX;

use crate::adapter::batch::Unanswered;
use crate::gateway::Gateway;

/// Between two reports.
const EVERY: Duration = Duration::from_secs(5);

/// Reports for as long as the process lives.
pub async fn report(gateway: Arc<Gateway>) {
    loop {
        tokio::time::sleep(EVERY).await;
        let uses = gateway.keys.take_uses();
        let mut parts = uses.chunks(BATCH_ITEMS_MAX);
        for part in parts.by_ref() {
            match gateway.control_plane.keys_used(part).await {
                // One that cannot deal with it will not the next time either.
                Ok(()) | Err(Unanswered::Failed) => {}
                Err(_) => {
                    gateway.keys.note(part.iter().copied());
                    break;
                }
            }
        }
        for part in parts {
            gateway.keys.note(part.iter().copied());
        }
    }
}
