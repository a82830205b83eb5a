//! Settlements, and the answers they store.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::id::{Owner, ProfileId, RequestId};
use crate::outcome::SellerFailure;

use super::claim::DeliveredFacts;

/// End one claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settle {
    /// Ours.
    pub request_id: RequestId,
    /// The claim's epoch.
    pub epoch: i32,
    /// The claim's owner.
    pub owner: Owner,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a claimed call ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The seller handled it: bill, and store the answer.
    Delivered(Delivery),
    /// The seller failed after the first byte was sent.
    Failed {
        /// How.
        failure: SellerFailure,
        /// What the seller answered, when it did.
        seller_status: Option<u16>,
        /// From first byte sent to the verdict, in milliseconds.
        seller_latency_ms: u32,
    },
    /// Nothing was sent: the attempt is given back.
    Unsent {
        /// Why, for the journal: [`SellerFailure::Unreachable`] or a want of time.
        failure: Option<SellerFailure>,
    },
}

/// A handled call and the answer the buyer gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The exact bytes the buyer gets, now and on every replay.
    pub envelope: Bytes,
    /// Their SHA-256.
    #[serde(with = "serde_bytes")]
    pub envelope_sha256: [u8; 32],
    /// What the seller answered.
    pub seller_status: u16,
    /// From first byte sent to last byte read, in milliseconds.
    pub seller_latency_ms: u32,
    /// From the call's arrival to this settlement, in milliseconds.
    pub latency_ms: u32,
}

/// Whether a settlement holds. The same settlement asked again gets the same answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SettleAnswer {
    /// Durable: delivered, ledger written, answer stored.
    Delivered,
    /// Durable: back to paid.
    Released {
        /// Attempts used so far.
        attempts: i32,
        /// Attempts left.
        attempts_remaining: i32,
    },
    /// Durable: attempts or time used up, or never to be redelivered; a refund is due.
    RefundDue {
        /// Attempts used.
        attempts: i32,
    },
    /// This epoch and owner do not hold the claim: it ended without them, and nothing was written.
    NotOwner,
    /// Not known: the database failed at this item alone. Settle it again, the same way.
    Undecided,
}

/// Read a stored answer again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadAnswer {
    /// Ours.
    pub request_id: RequestId,
    /// Who asks.
    pub buyer: ProfileId,
}

/// A stored answer, or what is left of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StoredAnswer {
    /// The exact bytes.
    Stored(Bytes),
    /// Only the facts.
    NoLongerStored(DeliveredFacts),
    /// No delivered answer of this buyer by that id.
    Unknown,
}
