//! Quotes: what makes two the same purchase, and what is known of one.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::id::{ListingId, ProfileId, RequestId};
use crate::money::Micros;
use crate::route::{Family, OriginCurrency};

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
