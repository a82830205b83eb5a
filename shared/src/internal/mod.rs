//! The internal API: what a gateway asks of the control plane, and the answers.
//!
//! MessagePack with named fields, so that a field can be added while both versions run. `POST` to
//! the paths below with the bearer secret; never reachable through the front door.
//!
//! Quotes (find), claims and settlements come in batches: `Vec` in, `Vec` out, in the order asked.
//! Nothing in a batch waits for the network: an item that needs the provider says so, and the
//! gateway asks for it alone ([`CREATE_QUOTE`], [`CHECK`]).

mod catalog;
mod claim;
mod probe;
mod quote;
mod settlement;

pub use catalog::{
    EndpointRecord, KeyRecord, KeyUse, ListingStatus, Redelivery, ResolveKey, RouteName,
    RouteRecord,
};
pub use claim::{Check, CheckAnswer, Claim, ClaimAnswer, DeliveredFacts, Grant};
pub use probe::ProbeReport;
pub use quote::{
    CreateQuote, Quote, QuoteCreated, QuoteFound, QuoteIdentity, QuoteRefusal, REUSE_MS_MAX,
    REUSE_REMAINING_MS_MIN,
};
pub use settlement::{Delivery, Outcome, ReadAnswer, Settle, SettleAnswer, StoredAnswer};

/// [`KeyDigest`](crate::api_key::KeyDigest) → `Option<`[`KeyRecord`]`>`.
pub const RESOLVE_KEY: &str = "/internal/v1/keys";
/// `Vec<`[`KeyUse`]`>`, at most [`BATCH_ITEMS_MAX`] → `()`.
pub const KEYS_USED: &str = "/internal/v1/keys/used";
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

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    use crate::id::{ListingId, Owner, ProfileId, RequestId, uuid_v7};
    use crate::route::OriginCurrency;

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
