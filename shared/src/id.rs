//! Typed identifiers. All are UUIDv7, so they sort by creation and index well.
//!
//! Two of them carry a prefix in public: a gateway request is `gw_req_` and a ledger entry `led_`,
//! each followed by the 32 lowercase hex digits of its UUID (contract §3). The others are shown as
//! plain UUIDs.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::{Builder, Uuid};

/// Text that is not an id of the wanted kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an id of this kind")]
pub struct InvalidId;

/// A new UUIDv7 for this instant: 48 bits of milliseconds, then 74 random bits (RFC 9562 §5.7).
pub fn uuid_v7(now: DateTime<Utc>) -> Uuid {
    let millis = u64::try_from(now.timestamp_millis()).unwrap_or(0);
    let mut random = [0_u8; 10];
    fill_random(&mut random);
    Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

/// Fills `bytes` from the operating system's random source.
///
/// # Panics
/// Never on a running system: the source fails only where the kernel offers none, and a server
/// without randomness must not go on.
#[expect(
    clippy::expect_used,
    reason = "no key, nonce or id may be made without randomness"
)]
pub fn fill_random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the operating system gives random bytes");
}

/// Random bytes from the operating system.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0_u8; N];
    fill_random(&mut bytes);
    bytes
}

macro_rules! plain_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new id, made at `now`.
            pub fn new(now: DateTime<Utc>) -> Self {
                Self(uuid_v7(now))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, to)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, to)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                plain_uuid(text).map(Self)
            }
        }
    };
}

macro_rules! prefixed_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $shown:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub Uuid);

        impl $name {
            /// What the public form begins with.
            pub const PREFIX: &str = $prefix;

            /// A new id, made at `now`.
            pub fn new(now: DateTime<Utc>) -> Self {
                Self(uuid_v7(now))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str(Self::PREFIX)?;
                fmt::Display::fmt(self.0.as_simple(), to)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, to)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                let hex = text.strip_prefix(Self::PREFIX).ok_or(InvalidId)?;
                let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
                if hex.len() != 32 || !hex.bytes().all(lower_hex) {
                    return Err(InvalidId);
                }
                Uuid::try_parse(hex).map(Self).map_err(|_| InvalidId)
            }
        }

        #[cfg(feature = "schema")]
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                use utoipa::openapi::schema::{ObjectBuilder, Type};
                ObjectBuilder::new()
                    .schema_type(Type::String)
                    .description(Some($shown))
                    .pattern(Some(concat!("^", $prefix, "[0-9a-f]{32}$")))
                    .examples([concat!($prefix, "01890a5dac96774bbcceb302099a8057")])
                    .into()
            }
        }

        #[cfg(feature = "schema")]
        impl utoipa::ToSchema for $name {}

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                if to.is_human_readable() {
                    to.collect_str(self)
                } else {
                    self.0.serialize(to)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                if from.is_human_readable() {
                    let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
                    text.parse().map_err(serde::de::Error::custom)
                } else {
                    Uuid::deserialize(from).map(Self)
                }
            }
        }
    };
}

/// Only the hyphenated form is an id in a URL: one spelling, so caches and logs agree.
fn plain_uuid(text: &str) -> Result<Uuid, InvalidId> {
    if text.len() != 36 {
        return Err(InvalidId);
    }
    Uuid::try_parse(text).map_err(|_| InvalidId)
}

plain_id! {
    /// A profile: an agent or a human.
    ProfileId
}
plain_id! {
    /// A wallet linked to a profile.
    WalletId
}
plain_id! {
    /// An API key's row; never the key's text.
    ApiKeyId
}
plain_id! {
    /// A category of the catalog.
    CategoryId
}
plain_id! {
    /// A listing.
    ListingId
}
prefixed_id! {
    /// One purchase, from its quote to its settlement: the id that buyer, seller and operator share.
    RequestId, "gw_req_", "One purchase, from its quote to its settlement."
}
prefixed_id! {
    /// One transfer in the ledger.
    EntryId, "led_", "One entry of the ledger."
}

/// A fresh token for one HTTP call that claims a payment: who owns the claim (architecture, "claim").
///
/// Never per process: two calls of one gateway are two owners.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Owner(#[serde(with = "serde_bytes")] pub [u8; 16]);

impl Owner {
    /// One that is nobody else's: a random beginning of this process, and a number. It need not be hard to guess,
    /// only gateways name one; and to ask the operating system for every call would be a system call of each.
    pub fn new() -> Self {
        static PROCESS: LazyLock<[u8; 8]> = LazyLock::new(random);
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut owner = [0; 16];
        let (process, rest) = owner.split_at_mut(PROCESS.len());
        process.copy_from_slice(&*PROCESS);
        rest.copy_from_slice(&number.to_be_bytes());
        Self(owner)
    }
}

impl Default for Owner {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_each_another() {
        let owners: std::collections::HashSet<[u8; 16]> =
            (0..1_000).map(|_| Owner::new().0).collect();
        assert_eq!(owners.len(), 1_000);
    }

    #[test]
    fn a_request_id_reads_back_and_refuses_other_spellings() {
        let id = RequestId::new(crate::clock::now());
        let text = id.to_string();
        assert!(text.starts_with("gw_req_") && text.len() == 39);
        assert_eq!(text.parse(), Ok(id));
        assert_eq!(text.to_uppercase().parse::<RequestId>(), Err(InvalidId));
        assert_eq!(
            text.replace("gw_req_", "led_").parse::<RequestId>(),
            Err(InvalidId)
        );
        assert_eq!(
            format!("gw_req_{}", id.0).parse::<RequestId>(),
            Err(InvalidId)
        );
    }

    #[test]
    fn ids_sort_by_creation() {
        let early = DateTime::from_timestamp_millis(1_000).unwrap();
        let late = DateTime::from_timestamp_millis(1_001).unwrap();
        assert!(ListingId::new(early) < ListingId::new(late));
        assert_eq!(ListingId::new(late).0.get_version_num(), 7);
    }
}
