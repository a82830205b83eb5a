//! Names in Redis, and the form of what stands under them.
//!
//! Redis is a cache that anyone who reaches it may have written to. Every value is sealed under the
//! gateway cache key, bound to its own name, and carries the time it was made; a value that does not
//! open, or is older than [`RECORD_SECONDS_MAX`], is a miss.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::api_key::KeyDigest;
use crate::id::ListingId;
use crate::seal::{Keyring, Unsealable};

/// Longest that a record in Redis may be believed, in seconds. Bounds what a replay of an old,
/// rightly sealed value can do.
pub const RECORD_SECONDS_MAX: i64 = 60;
/// How often [`Change::Told`] is said, in milliseconds.
pub const TOLD_EVERY_MS: i64 = 500;
/// The channel on which changes are told.
pub const CHANGES_CHANNEL: &str = "crochet:changes";

/// The record of an API key. The digest is not the key, and cannot be used as one.
pub fn key(digest: &KeyDigest) -> String {
    let mut name = String::with_capacity(12 + 64);
    name.push_str("crochet:key:");
    push_hex(&digest.0, &mut name);
    name
}

/// The record of a listing's route, by id.
pub fn route(id: ListingId) -> String {
    format!("crochet:route:{id}")
}

/// The record of a listing's route, by slug.
pub fn slug(slug: &str) -> String {
    format!("crochet:slug:{slug}")
}

/// The open quote of an identity (see [`crate::internal::QuoteIdentity::digest`]).
pub fn quote(identity: &[u8; 32]) -> String {
    let mut name = String::with_capacity(14 + 64);
    name.push_str("crochet:quote:");
    push_hex(identity, &mut name);
    name
}

/// What changed, told on [`CHANGES_CHANNEL`]. A hint to look again, never the news itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// A key was made, revoked, or its profile's wallets changed.
    Key(KeyDigest),
    /// A listing or its endpoint changed.
    Route {
        /// The listing.
        id: ListingId,
        /// Its slug, which never changes.
        slug: String,
    },
    /// A quote is no longer open: paid, seen, failed or expired.
    Quote(#[serde(with = "serde_bytes")] [u8; 32]),
    /// Nothing new: every change of a key or a listing from before this time, in Unix milliseconds,
    /// stands in Redis and was told. Said every [`TOLD_EVERY_MS`] by each who publishes; a gateway that
    /// no longer hears it believes no record in Redis, for one from before a change may stand there.
    Told(i64),
}

/// Writes a record only over an older one, and gives it its life.
///
/// `KEYS[1]` the name, `ARGV[1]` what [`seal`] made, `ARGV[2]` its life in seconds. The first eight
/// bytes of a record are its version, big-endian, so comparing text compares versions. Two writers
/// may race; the later version stays.
pub const PUT_IF_NEWER: &str = r"
local standing = redis.call('GET', KEYS[1])
if standing and string.sub(standing, 1, 8) > string.sub(ARGV[1], 1, 8) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
";

const VERSION_BYTES: usize = 8;

/// A sealed value and when it was made.
#[derive(Serialize, Deserialize)]
struct Stamped<T> {
    /// Unix milliseconds.
    at: i64,
    value: T,
}

/// Seals a value for its name and version: the version in clear, bound by the seal.
///
/// A version is drawn from the database's `cache_version` sequence *before* the record is read, so
/// a higher one was never read earlier than the change it must show. `now_ms` is a time before the reading
/// too: a record shows all that was written before its seal's time.
pub fn seal<T: Serialize>(
    keys: &Keyring,
    name: &str,
    version: i64,
    value: &T,
    now_ms: i64,
) -> Result<Vec<u8>, Unsealable> {
    let stamped = Stamped { at: now_ms, value };
    let plain = rmp_serde::to_vec_named(&stamped).map_err(|_| Unsealable)?;
    let version = version.to_be_bytes();
    let mut out = version.to_vec();
    out.extend(keys.seal(&place(name, version), &plain)?);
    Ok(out)
}

/// Opens a value that stands under its name, if it is ours, unaltered and young enough, with the Unix
/// milliseconds of its seal.
pub fn open<T: DeserializeOwned>(
    keys: &Keyring,
    name: &str,
    sealed: &[u8],
    now_ms: i64,
) -> Result<(T, i64), Unsealable> {
    let (version, sealed) = sealed
        .split_first_chunk::<VERSION_BYTES>()
        .ok_or(Unsealable)?;
    let plain = keys.open(&place(name, *version), sealed)?;
    let stamped: Stamped<T> = rmp_serde::from_slice(&plain).map_err(|_| Unsealable)?;
    let age = now_ms.saturating_sub(stamped.at);
    // A little ahead of us is a clock that differs, not a forgery.
    if (-RECORD_SECONDS_MAX * 1000..=RECORD_SECONDS_MAX * 1000).contains(&age) {
        Ok((stamped.value, stamped.at))
    } else {
        Err(Unsealable)
    }
}

/// What a seal is bound to.
fn place(name: &str, version: [u8; VERSION_BYTES]) -> Vec<u8> {
    [name.as_bytes(), version.as_slice()].concat()
}

/// Appends bytes as lowercase hex.
pub fn push_hex(bytes: &[u8], out: &mut String) {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
    ];
    for byte in bytes {
        for nibble in [byte >> 4, byte & 15] {
            out.push(DIGITS.get(usize::from(nibble)).copied().unwrap_or('0'));
        }
    }
}

/// Bytes as lowercase hex.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    push_hex(bytes, &mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_under_another_name_or_too_old_is_a_miss() {
        let keys = Keyring::parse("k:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap();
        let sealed = seal(&keys, "a", 1, &7_u32, 1_000).unwrap();
        assert_eq!(open::<u32>(&keys, "a", &sealed, 60_999), Ok((7, 1_000)));
        assert_eq!(open::<u32>(&keys, "b", &sealed, 1_000), Err(Unsealable));
        assert_eq!(open::<u32>(&keys, "a", &sealed, 61_001), Err(Unsealable));
        let mut raised = sealed;
        raised[7] = 2;
        assert_eq!(open::<u32>(&keys, "a", &raised, 1_000), Err(Unsealable));
        assert_eq!(hex(&[0, 255, 16]), "00ff10");
    }
}
