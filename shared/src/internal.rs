//! The internal API: what a gateway asks of the control plane, and the answers.
//!
//! MessagePack with named fields, so that a field can be added while both versions run. `POST` to
//! the paths below with the bearer secret; never reachable through the front door.
//!
//! Quotes (find), claims and settlements come in batches: `Vec` in, `Vec` out, in the order asked.
//! Nothing in a batch waits for the network: an item that needs the provider says so, and the
//! gateway asks for it alone ([`CREATE_QUOTE`], [`CHECK`]).

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::api_key::KeyDigest;
use crate::id::{ApiKeyId, ListingId, Owner, ProfileId, RequestId};
use crate::money::{FeeRate, Micros};
use crate::outcome::SellerFailure;
use crate::route::{Family, OriginCurrency};

/// [`KeyDigest`] → `Option<`[`KeyRecord`]`>`.
pub const RESOLVE_KEY: &str = "/internal/v1/keys";
/// [`RouteName`] → `Option<`[`RouteRecord`]`>`.
pub const RESOLVE_ROUTE: &str = "/internal/v1/routes";
/// `Vec<`[`QuoteIdentity`]`>` → `Vec<`[`QuoteFound`]`>`.
pub const FIND_QUOTES: &str = "/internal/v1/quotes";
/// [`CreateQuote`] → [`QuoteCreated`].
pub const CREATE_QUOTE: &str = "/internal/v1/quotes/create";
/// `Vec<`[`Claim`]`>` → `Vec<`[`ClaimAnswer`]`>`.
pub const CLAIMS: &str = "/internal/v1/claims";
/// [`Check`] → [`CheckAnswer`].
pub const CHECK: &str = "/internal/v1/check";
/// `Vec<`[`Settle`]`>` → `Vec<`[`SettleAnswer`]`>`.
pub const SETTLEMENTS: &str = "/internal/v1/settlements";
/// [`ReadAnswer`] → [`StoredAnswer`].
pub const ANSWERS: &str = "/internal/v1/answers";
/// [`ProbeReport`] → `()`.
pub const PROBES: &str = "/internal/v1/probes";

/// Content type of both directions.
pub const CONTENT_TYPE: &str = "application/msgpack";
/// Most items in one batch.
pub const BATCH_ITEMS_MAX: usize = 64;

// --- keys and routes ---------------------------------------------------------------------------

/// An API key as the gateway may know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// The key's row.
    pub key_id: ApiKeyId,
    /// Whose key it is: the buyer.
    pub profile_id: ProfileId,
    /// Unix milliseconds after which it is refused.
    pub expires_at_ms: Option<i64>,
    /// Whether it was revoked; a revoked key stays known, so that its refusal is cached too.
    pub revoked: bool,
    /// Family of the default payment wallet.
    pub default_family: Option<Family>,
    /// Whether an active EVM wallet is linked.
    pub has_evm: bool,
    /// Whether an active Solana wallet is linked.
    pub has_solana: bool,
}

/// How a caller names a listing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RouteName {
    /// By id.
    Id(ListingId),
    /// By slug.
    Slug(String),
}

/// Where a listing stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ListingStatus {
    /// Never published; only its owner sees it.
    Draft,
    /// In the catalog.
    Active,
    /// Withdrawn, by its owner or an operator.
    Suspended,
}

/// A listing as the gateway needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteRecord {
    /// The listing.
    pub listing_id: ListingId,
    /// Its slug.
    pub slug: String,
    /// Who sells.
    pub seller_id: ProfileId,
    /// Where it stands.
    pub status: ListingStatus,
    /// Price of a call; zero and no endpoint when the listing is free.
    pub price: Micros,
    /// The seller's endpoint: present exactly when the listing is `per_call`.
    pub endpoint: Option<EndpointRecord>,
    /// Rises with every change of the listing or its endpoint.
    pub version: i64,
}

/// A seller's endpoint, secrets in clear: this record only travels sealed or over the internal API.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointRecord {
    /// The private URL.
    pub url: String,
    /// The seller's own header, name and value.
    pub auth_header: Option<(String, String)>,
    /// Signing secrets in force, newest first, each with the Unix milliseconds at which it ends.
    pub secrets: Vec<(String, Option<i64>)>,
    /// Total time for one call, in milliseconds.
    pub timeout_ms: u32,
    /// Largest request body.
    pub max_request_bytes: u32,
    /// Largest answer body.
    pub max_response_bytes: u32,
    /// Calls at once, per gateway process.
    pub max_concurrency: u32,
    /// What may happen after a failure that may have reached the seller.
    pub redelivery: Redelivery,
    /// Whether the seller paused it.
    pub paused: bool,
}

impl std::fmt::Debug for EndpointRecord {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("EndpointRecord")
            .field("timeout_ms", &self.timeout_ms)
            .field("paused", &self.paused)
            .finish_non_exhaustive()
    }
}

/// Whether a request that may have reached the seller may be sent again (contract §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Redelivery {
    /// Again with the same request id and a higher attempt.
    SameRequestId,
    /// Never, unless the seller answered completely.
    Never,
}

// --- quotes ------------------------------------------------------------------------------------

/// What makes two quote requests the same purchase (contract §5).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct QuoteIdentity {
    /// Who buys.
    pub buyer: ProfileId,
    /// What.
    pub listing: ListingId,
    /// Paid in.
    pub currency: OriginCurrency,
    /// SHA-256 of the exact body.
    #[serde(with = "serde_bytes")]
    pub body_sha256: [u8; 32],
    /// The buyer's `Idempotency-Key`.
    pub idempotency_key: Option<String>,
}

impl QuoteIdentity {
    /// One digest of all five, each field of fixed length or last.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.buyer.0.as_bytes());
        hash.update(self.listing.0.as_bytes());
        hash.update(self.body_sha256);
        hash.update([match self.currency {
            OriginCurrency::Sol => 1,
            OriginCurrency::UsdcSol => 2,
            OriginCurrency::Eth => 3,
            OriginCurrency::Usdc => 4,
        }]);
        match &self.idempotency_key {
            None => hash.update([0]),
            Some(key) => {
                hash.update([1]);
                hash.update(key.as_bytes());
            }
        }
        hash.finalize().into()
    }
}

/// A quote that can be paid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quote {
    /// The provider's id.
    pub relay_request_id: String,
    /// Ours.
    pub request_id: RequestId,
    /// The price it was made at.
    pub price: Micros,
    /// Paid in.
    pub currency: OriginCurrency,
    /// The `requirements` object, as JSON text.
    pub requirements: String,
    /// Unix milliseconds at which it was made.
    pub made_at_ms: i64,
    /// Unix milliseconds until which it may be paid.
    pub expires_at_ms: i64,
}

/// Quote made this long ago, in milliseconds, is given again without an idempotency key.
pub const REUSE_MS_MAX: i64 = 60_000;
/// With an idempotency key, a quote is given again while this much of its life remains.
pub const REUSE_REMAINING_MS_MIN: i64 = 300_000;

impl Quote {
    /// Whether this open quote, with no deposit known, is given again to the same identity.
    pub fn is_reusable(&self, price: Micros, with_key: bool, now_ms: i64) -> bool {
        let remaining = self.expires_at_ms.saturating_sub(now_ms);
        let age = now_ms.saturating_sub(self.made_at_ms);
        self.price == price
            && remaining > 0
            && if with_key {
                remaining >= REUSE_REMAINING_MS_MIN
            } else {
                age <= REUSE_MS_MAX
            }
    }
}

/// What is known of an identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum QuoteFound {
    /// Nothing to reuse: make one.
    None,
    /// Open and reusable.
    Open(Quote),
    /// A deposit is known, the call not delivered: 202.
    Paid {
        /// The provider's id.
        relay_request_id: String,
        /// Ours.
        request_id: RequestId,
    },
    /// Being forwarded: 409.
    InProgress {
        /// The provider's id.
        relay_request_id: String,
        /// Ours.
        request_id: RequestId,
        /// When to look again.
        retry_after_seconds: u32,
    },
    /// Delivered under this idempotency key: the stored answer.
    Delivered {
        /// The provider's id.
        relay_request_id: String,
        /// Ours.
        request_id: RequestId,
    },
    /// The idempotency key stands for another listing, currency or body: 422.
    KeyReused,
}

/// Make a quote, or find that one was made meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CreateQuote {
    /// For a call without a relay id.
    New {
        /// What is bought.
        identity: QuoteIdentity,
        /// Length of the body.
        request_bytes: u32,
    },
    /// In place of a payment that failed at the provider (402 `PAYMENT_FAILED`).
    After {
        /// Who asks.
        buyer: ProfileId,
        /// The failed one.
        relay_request_id: String,
    },
}

/// The outcome of [`CreateQuote`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum QuoteCreated {
    /// Made now, durable.
    New(Quote),
    /// Found instead.
    Found(QuoteFound),
    /// Not to be had.
    Refused(QuoteRefusal),
}

/// Why no quote was made. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum QuoteRefusal {
    /// The listing is gone or a draft.
    ListingNotFound,
    /// The listing is suspended.
    ListingNotActive,
    /// The listing is free.
    ListingNotPerCall,
    /// The buyer sells it.
    OwnListing,
    /// The currency is not offered.
    CurrencyUnsupported,
    /// The buyer has no active wallet of the currency's family.
    WalletRequired(Family),
    /// The price is below the route's minimum.
    BelowMinimum,
    /// The provider refuses this route to this buyer (sanctions).
    RouteRestricted,
    /// The provider cannot be asked, or not now.
    ProviderUnavailable {
        /// When to try again.
        retry_after_seconds: u32,
    },
    /// The buyer asks for too many quotes.
    RateLimited {
        /// When to try again.
        retry_after_seconds: u32,
    },
}

// --- claims ------------------------------------------------------------------------------------

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
    /// No evidence of payment is recorded. Ask with [`CHECK`], then claim again.
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

// --- settlements -------------------------------------------------------------------------------

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
}

// --- stored answers ----------------------------------------------------------------------------

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

// --- endpoint tests ----------------------------------------------------------------------------

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

/// Looks up a key by the digest of its text.
pub type ResolveKey = KeyDigest;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::uuid_v7;

    #[test]
    fn each_part_of_an_identity_changes_its_digest() {
        let now = crate::clock::now();
        let identity = QuoteIdentity {
            buyer: ProfileId(uuid_v7(now)),
            listing: ListingId(uuid_v7(now)),
            currency: OriginCurrency::Sol,
            body_sha256: [1; 32],
            idempotency_key: None,
        };
        let mut others = vec![identity.clone(); 5];
        others[0].buyer = ProfileId(uuid_v7(now));
        others[1].listing = ListingId(uuid_v7(now));
        others[2].currency = OriginCurrency::Usdc;
        others[3].body_sha256 = [2; 32];
        others[4].idempotency_key = Some(String::new());
        for other in others {
            assert_ne!(identity.digest(), other.digest());
        }
    }

    #[test]
    fn messages_survive_the_wire() {
        let settle = Settle {
            request_id: RequestId(uuid_v7(crate::clock::now())),
            epoch: 3,
            owner: Owner::new(),
            outcome: Outcome::Delivered(Delivery {
                envelope: Bytes::from_static(b"{}"),
                envelope_sha256: [7; 32],
                seller_status: 200,
                seller_latency_ms: 1,
                latency_ms: 2,
            }),
        };
        let bytes = rmp_serde::to_vec_named(&settle).unwrap();
        assert_eq!(rmp_serde::from_slice::<Settle>(&bytes).unwrap(), settle);
    }
}
