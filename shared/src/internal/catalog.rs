//! Keys, listings and endpoints, as the gateway may know them.

use serde::{Deserialize, Serialize};

use crate::api_key::KeyDigest;
use crate::id::{ApiKeyId, ListingId, ProfileId};
use crate::money::Micros;
use crate::route::Family;

/// That a key was used at the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyUse {
    /// The key's row.
    pub key_id: ApiKeyId,
    /// Unix milliseconds.
    pub at_ms: i64,
}

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

/// Looks up a key by the digest of its text.
pub type ResolveKey = KeyDigest;
