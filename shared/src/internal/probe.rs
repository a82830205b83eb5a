//! Outcomes of signed test requests.

use serde::{Deserialize, Serialize};

use crate::id::ListingId;

/// The outcome of a signed test request, stored as the endpoint's `last_test`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeReport {
    /// The listing whose endpoint was tested.
    pub listing: ListingId,
    /// Whether the seller's answer would have been billable.
    pub ok: bool,
    /// What the seller answered.
    pub status_code: Option<u16>,
    /// One of the contract's coarse outcomes.
    pub outcome: String,
    /// How long it took, in milliseconds.
    pub latency_ms: u32,
}
