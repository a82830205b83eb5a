//! Authenticated encryption of what leaves a process: values in Redis, secrets in Postgres.
//!
//! XChaCha20-Poly1305 with random 24-byte nonces. A sealed value is bound by its associated data to
//! the place it belongs to, so a value moved to another key, row or column does not open.
//!
//! Two forms. [`Keyring::seal`] encrypts under a named key. [`Keyring::seal_row`] makes a data key
//! for the row and seals that under the named key, so that rotating the named key re-wraps 32 bytes
//! and leaves the secret's own ciphertext alone.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use sha2::{Digest as _, Sha256};

use crate::id;

const FORMAT_DIRECT: u8 = 1;
const FORMAT_ROW: u8 = 2;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
const KEY_BYTES: usize = 32;
const PSEUDONYM_BYTES: usize = 16;
const WRAPPED_BYTES: usize = NONCE_BYTES + KEY_BYTES + TAG_BYTES;
/// Longest name of a key.
const KEY_ID_MAX: usize = 32;

/// A value that does not open: altered, moved, or sealed under a key we no longer hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sealed value does not open")]
pub struct Unsealable;

/// Why a configured keyring is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// No key at all.
    #[error("at least one key is needed, as id:base64 of 32 bytes")]
    Empty,
    /// An entry without `id:`, or with an id that is empty, too long or not `[A-Za-z0-9_-]`.
    #[error("each key must be id:base64, the id 1 to 32 of A-Z a-z 0-9 _ -")]
    Id,
    /// The part after the colon is not base64 of exactly 32 bytes.
    #[error("key {0:?} is not base64 of 32 bytes")]
    Key(String),
    /// Two entries share an id.
    #[error("key id {0:?} stands twice")]
    Twice(String),
}

/// One key under encryption keys in rotation: the first seals, all of them open.
#[derive(Clone)]
pub struct Keyring(Vec<NamedKey>);

#[derive(Clone)]
struct NamedKey {
    id: String,
    cipher: XChaCha20Poly1305,
    /// The key of pseudonyms, apart from the cipher's: what one does tells nothing of the other.
    pseudonyms: [u8; 32],
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_list()
            .entries(self.0.iter().map(|key| &key.id))
            .finish()
    }
}

impl Keyring {
    /// Reads `id:base64,id:base64`, the sealing key first.
    pub fn parse(text: &str) -> Result<Self, KeyringError> {
        let mut keys: Vec<NamedKey> = Vec::new();
        for entry in text
            .split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty())
        {
            let (id, key) = entry.split_once(':').ok_or(KeyringError::Id)?;
            let named = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
            if id.is_empty() || id.len() > KEY_ID_MAX || !id.bytes().all(named) {
                return Err(KeyringError::Id);
            }
            if keys.iter().any(|known| known.id == id) {
                return Err(KeyringError::Twice(id.to_owned()));
            }
            let bytes = STANDARD
                .decode(key)
                .ok()
                .and_then(|bytes| <[u8; KEY_BYTES]>::try_from(bytes).ok())
                .ok_or_else(|| KeyringError::Key(id.to_owned()))?;
            keys.push(NamedKey {
                id: id.to_owned(),
                cipher: cipher(&bytes),
                pseudonyms: pseudonyms(&bytes),
            });
        }
        if keys.is_empty() {
            Err(KeyringError::Empty)
        } else {
            Ok(Self(keys))
        }
    }

    /// The id of the key that seals now.
    pub fn sealing_id(&self) -> &str {
        self.0.first().map_or("", |key| key.id.as_str())
    }

    /// A name for what must not be named in clear: the same for all who hold the sealing key, and
    /// telling nothing to who does not. Changes when the key is rotated.
    pub fn pseudonym(&self, of: &[u8]) -> [u8; PSEUDONYM_BYTES] {
        let key = self.0.first().map_or([0; 32], |key| key.pseudonyms);
        let digest: [u8; 32] = Sha256::new_with_prefix(key)
            .chain_update(of)
            .finalize()
            .into();
        digest.first_chunk().copied().unwrap_or_default()
    }

    /// Seals `plain` for the place named by `aad`.
    pub fn seal(&self, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, Unsealable> {
        let key = self.0.first().ok_or(Unsealable)?;
        let mut out = header(
            FORMAT_DIRECT,
            &key.id,
            NONCE_BYTES + plain.len() + TAG_BYTES,
        );
        encrypt(&key.cipher, aad, plain, &mut out)?;
        Ok(out)
    }

    /// Opens what [`Self::seal`] made for the same place.
    pub fn open(&self, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Unsealable> {
        let (key, rest) = self.read_header(FORMAT_DIRECT, sealed)?;
        decrypt(&key.cipher, aad, rest)
    }

    /// Seals a row's secret under a data key of its own, wrapped by the named key.
    pub fn seal_row(&self, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, Unsealable> {
        let key = self.0.first().ok_or(Unsealable)?;
        let data_key = id::random::<KEY_BYTES>();
        let size = WRAPPED_BYTES + NONCE_BYTES + plain.len() + TAG_BYTES;
        let mut out = header(FORMAT_ROW, &key.id, size);
        encrypt(&key.cipher, aad, &data_key, &mut out)?;
        encrypt(&cipher(&data_key), aad, plain, &mut out)?;
        Ok(out)
    }

    /// Opens what [`Self::seal_row`] made for the same place.
    pub fn open_row(&self, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Unsealable> {
        let (key, rest) = self.read_header(FORMAT_ROW, sealed)?;
        let (wrapped, rest) = rest.split_at_checked(WRAPPED_BYTES).ok_or(Unsealable)?;
        let data_key = decrypt(&key.cipher, aad, wrapped)?;
        let data_key = <[u8; KEY_BYTES]>::try_from(data_key).map_err(|_| Unsealable)?;
        decrypt(&cipher(&data_key), aad, rest)
    }

    /// Which key a sealed value was wrapped under, for rotation.
    pub fn key_id_of(sealed: &[u8]) -> Option<&str> {
        let length = usize::from(*sealed.get(1)?);
        std::str::from_utf8(sealed.get(2..2 + length)?).ok()
    }

    /// What every row that is sealed under the sealing key begins with, so that a query can leave it out.
    pub fn row_prefix(&self) -> Vec<u8> {
        header(FORMAT_ROW, self.sealing_id(), 0)
    }

    /// Wraps a row's data key under the sealing key; the secret's ciphertext stays as it is.
    /// `None` when it is under that key already.
    pub fn rewrap_row(&self, aad: &[u8], sealed: &[u8]) -> Result<Option<Vec<u8>>, Unsealable> {
        if Self::key_id_of(sealed) == Some(self.sealing_id()) {
            return Ok(None);
        }
        let (key, rest) = self.read_header(FORMAT_ROW, sealed)?;
        let (wrapped, rest) = rest.split_at_checked(WRAPPED_BYTES).ok_or(Unsealable)?;
        let data_key = decrypt(&key.cipher, aad, wrapped)?;
        let sealing = self.0.first().ok_or(Unsealable)?;
        let mut out = header(FORMAT_ROW, &sealing.id, WRAPPED_BYTES + rest.len());
        encrypt(&sealing.cipher, aad, &data_key, &mut out)?;
        out.extend_from_slice(rest);
        Ok(Some(out))
    }

    fn read_header<'a>(
        &self,
        format: u8,
        sealed: &'a [u8],
    ) -> Result<(&NamedKey, &'a [u8]), Unsealable> {
        if sealed.first() != Some(&format) {
            return Err(Unsealable);
        }
        let id = Self::key_id_of(sealed).ok_or(Unsealable)?;
        let key = self.0.iter().find(|key| key.id == id).ok_or(Unsealable)?;
        let rest = sealed.get(2 + id.len()..).ok_or(Unsealable)?;
        Ok((key, rest))
    }
}

/// A key for one purpose and a limited time, such as a day's stored answers.
#[derive(Clone)]
pub struct DataKey(XChaCha20Poly1305);

impl std::fmt::Debug for DataKey {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("DataKey([redacted])")
    }
}

impl DataKey {
    /// A new key's bytes, to be wrapped with [`Keyring::seal_row`] and kept.
    pub fn generate() -> [u8; KEY_BYTES] {
        id::random()
    }

    /// Makes the key ready.
    pub fn new(bytes: &[u8]) -> Result<Self, Unsealable> {
        <[u8; KEY_BYTES]>::try_from(bytes)
            .map(|bytes| Self(cipher(&bytes)))
            .map_err(|_| Unsealable)
    }

    /// Seals `plain` for the place named by `aad`: nonce, then ciphertext.
    pub fn seal(&self, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, Unsealable> {
        let mut out = Vec::with_capacity(NONCE_BYTES + plain.len() + TAG_BYTES);
        encrypt(&self.0, aad, plain, &mut out)?;
        Ok(out)
    }

    /// Opens what [`Self::seal`] made for the same place.
    pub fn open(&self, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Unsealable> {
        decrypt(&self.0, aad, sealed)
    }
}

/// The key of pseudonyms, derived from a ring's key.
fn pseudonyms(key: &[u8; KEY_BYTES]) -> [u8; 32] {
    Sha256::new_with_prefix(b"crochet pseudonyms")
        .chain_update(key)
        .finalize()
        .into()
}

fn cipher(key: &[u8; KEY_BYTES]) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&Key::from(*key))
}

fn header(format: u8, id: &str, rest: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 + id.len() + rest);
    out.push(format);
    // Key ids are at most KEY_ID_MAX long, checked when read.
    out.push(u8::try_from(id.len()).unwrap_or(0));
    out.extend_from_slice(id.as_bytes());
    out
}

fn encrypt(
    cipher: &XChaCha20Poly1305,
    aad: &[u8],
    plain: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Unsealable> {
    let nonce = id::random::<NONCE_BYTES>();
    let sealed = cipher
        .encrypt(&XNonce::from(nonce), Payload { msg: plain, aad })
        .map_err(|_| Unsealable)?;
    out.extend_from_slice(&nonce);
    out.extend_from_slice(&sealed);
    Ok(())
}

fn decrypt(cipher: &XChaCha20Poly1305, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Unsealable> {
    let (nonce, body) = sealed.split_at_checked(NONCE_BYTES).ok_or(Unsealable)?;
    let nonce = <[u8; NONCE_BYTES]>::try_from(nonce).map_err(|_| Unsealable)?;
    cipher
        .decrypt(&XNonce::from(nonce), Payload { msg: body, aad })
        .map_err(|_| Unsealable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(ids: &[(&str, u8)]) -> Keyring {
        let entries: Vec<String> = ids
            .iter()
            .map(|(id, byte)| format!("{id}:{}", STANDARD.encode([*byte; KEY_BYTES])))
            .collect();
        Keyring::parse(&entries.join(",")).unwrap()
    }

    #[test]
    fn a_value_opens_only_at_its_place_and_unaltered() {
        let ring = ring(&[("a", 1)]);
        let sealed = ring.seal(b"here", b"secret").unwrap();
        assert_eq!(ring.open(b"here", &sealed).unwrap(), b"secret");
        assert_eq!(ring.open(b"there", &sealed), Err(Unsealable));
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert_eq!(ring.open(b"here", &altered), Err(Unsealable), "byte {at}");
            assert_eq!(
                ring.open(b"here", &sealed[..at]),
                Err(Unsealable),
                "cut at {at}"
            );
        }
    }

    #[test]
    fn a_rotated_key_still_opens_until_the_row_is_rewrapped() {
        let old = ring(&[("a", 1)]);
        let both = ring(&[("b", 2), ("a", 1)]);
        let new = ring(&[("b", 2)]);
        let sealed = old.seal_row(b"row", b"secret").unwrap();
        assert_eq!(both.open_row(b"row", &sealed).unwrap(), b"secret");
        assert_eq!(new.open_row(b"row", &sealed), Err(Unsealable));
        let moved = both.rewrap_row(b"row", &sealed).unwrap().unwrap();
        assert_eq!(new.open_row(b"row", &moved).unwrap(), b"secret");
        assert_eq!(both.rewrap_row(b"row", &moved), Ok(None));
        assert!(moved.starts_with(&both.row_prefix()));
        assert!(!sealed.starts_with(&both.row_prefix()));
        assert_eq!(Keyring::key_id_of(&moved), Some("b"));
    }

    #[test]
    fn nonsense_keyrings_are_refused() {
        assert_eq!(Keyring::parse("").unwrap_err(), KeyringError::Empty);
        assert_eq!(Keyring::parse("abc").unwrap_err(), KeyringError::Id);
        assert_eq!(
            Keyring::parse("a:abc").unwrap_err(),
            KeyringError::Key("a".into())
        );
        let key = STANDARD.encode([0_u8; 32]);
        let twice = Keyring::parse(&format!("a:{key},a:{key}")).unwrap_err();
        assert_eq!(twice, KeyringError::Twice("a".into()));
    }
}
