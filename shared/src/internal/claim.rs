//! Claims and the evidence they need.

use serde::{Deserialize, Serialize};

use crate::id::{ListingId, Owner, ProfileId, RequestId};
use crate::money::{FeeRate, Micros};

use super::catalog::Redelivery;

/// Claim one payment for one HTTP call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The payment.
    pub relay_request_id: String,
    /// Who calls.
    pub buyer: ProfileId,
    /// The listing in the path; `None` when there is no such listing, which matches nothing.
    pub listing: Option<ListingId>,
    /// SHA-256 of the exact body.
    #[serde(with = "serde_bytes")]
    pub body_sha256: [u8; 32],
    /// This HTTP call. The same owner asking again is the same claim.
    pub owner: Owner,
    /// Whether the gateway could forward now. If not, a paid request is left as it is.
    pub serve: bool,
}

/// Where a payment stands for this caller, by the contract's table, first match first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClaimAnswer {
    /// Unknown, or not this buyer's.
    Unknown,
    /// Other listing or other body.
    Mismatch,
    /// Delivered before; the answer is stored.
    Delivered {
        /// Ours.
        request_id: RequestId,
    },
    /// Delivered before; the answer is stored no longer.
    NoLongerStored(DeliveredFacts),
    /// Refund due, or refunded.
    Closed {
        /// Ours.
        request_id: RequestId,
    },
    /// Being forwarded, by this or another gateway, or locked at this instant.
    InProgress {
        /// Ours.
        request_id: Option<RequestId>,
        /// When to look again.
        retry_after_seconds: u32,
    },
    /// No evidence of payment is recorded. Ask with [`CHECK`](super::CHECK), then claim again.
    Unevidenced {
        /// Ours.
        request_id: RequestId,
    },
    /// Paid and claimable, and left as it is because `serve` was false.
    Paid {
        /// Ours.
        request_id: RequestId,
    },
    /// Claimed: forward it.
    Claimed(Grant),
    /// Not known: the database failed at this item alone. Ask again with the same owner; until then
    /// nothing may be forwarded.
    Undecided,
}

/// The right to forward one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Ours.
    pub request_id: RequestId,
    /// Which claim of this request it is; settle with it.
    pub epoch: i32,
    /// Which attempt, from 1.
    pub attempt: i32,
    /// How many there may be.
    pub max_attempts: i32,
    /// What was charged.
    pub gross: Micros,
    /// The fee rule of the quote.
    pub fee_rate: FeeRate,
    /// The endpoint's timeout when claimed, in milliseconds: the most that forwarding may take.
    pub timeout_ms: u32,
    /// Length of the lease from its commit, in milliseconds. The gateway counts it from before it
    /// sent the claim.
    pub lease_ms: u32,
    /// The endpoint's rule when claimed.
    pub redelivery: Redelivery,
}

/// What stays known of a delivered call for good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveredFacts {
    /// Ours.
    pub request_id: RequestId,
    /// What was charged.
    pub gross: Micros,
    /// The fee rule.
    pub fee_rate: FeeRate,
    /// What the seller answered.
    pub seller_status: u16,
    /// SHA-256 of the stored envelope.
    #[serde(with = "serde_bytes")]
    pub response_sha256: [u8; 32],
}

/// Ask the provider about one payment and record what it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// The payment.
    pub relay_request_id: String,
    /// Who asks.
    pub buyer: ProfileId,
}

/// What the provider's record says, as recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckAnswer {
    /// Evidence is recorded: claim again.
    Paid,
    /// Not yet successful.
    Pending {
        /// When to look again.
        retry_after_seconds: u32,
    },
    /// The provider failed or refunded it, and never succeeded.
    Failed,
    /// Past its time, and the provider knows no deposit.
    Expired,
    /// Paid otherwise than quoted: refund due.
    Closed,
    /// The provider cannot be asked.
    Unavailable {
        /// When to try again.
        retry_after_seconds: u32,
    },
}
