//! What stays of a call in this process: numbers. The attempt itself was journalled durably by the
//! settlement.

use super::Arrival;
use crate::error::Reply;
use crate::gateway::Gateway;
use crate::metrics::Metrics;

/// Counts an answer that was written.
pub fn record(gateway: &Gateway, reply: &Reply, arrival: Arrival) {
    gateway.metrics.count(reply.kind);
    Metrics::took(&gateway.metrics.total, arrival.at.elapsed());
}
