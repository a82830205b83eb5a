//! What stays of a call in this process: numbers. The attempt itself was journalled durably by the
//! settlement.

use super::Arrival;
use crate::error::Reply;
use crate::gateway::Gateway;
use crate::metrics::Route;

/// Counts an answer that was written.
pub fn record(gateway: &Gateway, route: Route, reply: &Reply, arrival: Arrival) {
    let took = arrival.at.elapsed();
    gateway
        .metrics
        .answered(route, reply.kind, took, reply.seller);
}
