//! The text of an API key: `am_k_`, 30 random base62 characters, 6 base62 characters of CRC-32.
//!
//! The checksum lets a gateway refuse a typo without asking anyone (contract §3). Only the SHA-256
//! of the whole text is stored; 30 base62 characters are 178 bits, so no slow hash is needed.

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// What every key begins with.
pub const PREFIX: &str = "am_k_";
/// Characters of the whole key.
pub const KEY_CHARS: usize = 41;
/// Characters of the part that is shown in listings of keys.
pub const SHOWN_CHARS: usize = 12;
const RANDOM_CHARS: usize = 30;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// SHA-256 of a key's text: how a key is stored, cached and looked up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct KeyDigest(#[serde(with = "serde_bytes")] pub [u8; 32]);

/// A new key: its text, shown once, and what is stored of it.
#[derive(Debug)]
pub struct NewKey {
    /// The whole key.
    pub text: SecretString,
    /// Its first [`SHOWN_CHARS`] characters.
    pub shown: String,
    /// What is stored.
    pub digest: KeyDigest,
}

/// Makes a key from `random`, of which each byte below 248 gives one character; the caller passes a
/// source because tests need known keys.
pub fn generate(mut random: impl FnMut() -> u8) -> NewKey {
    let mut text = String::with_capacity(KEY_CHARS);
    text.push_str(PREFIX);
    while text.len() < PREFIX.len() + RANDOM_CHARS {
        let byte = random();
        // 248 is the largest multiple of 62 in a byte: above it the draw would be biased.
        if byte < 248 {
            text.push(base62(u32::from(byte) % 62));
        }
    }
    push_checksum(&mut text);
    let shown = text.chars().take(SHOWN_CHARS).collect();
    NewKey {
        digest: digest(&text),
        shown,
        text: SecretString::from(text),
    }
}

/// The digest of a well-formed key, or `None` when the text cannot be a key we issued.
pub fn parse(text: &str) -> Option<KeyDigest> {
    if text.len() != KEY_CHARS || !text.starts_with(PREFIX) {
        return None;
    }
    let body = text.get(..PREFIX.len() + RANDOM_CHARS)?;
    if !body
        .bytes()
        .skip(PREFIX.len())
        .all(|b| b.is_ascii_alphanumeric())
    {
        return None;
    }
    let mut expected = String::with_capacity(KEY_CHARS);
    expected.push_str(body);
    push_checksum(&mut expected);
    (expected == text).then(|| digest(text))
}

fn digest(text: &str) -> KeyDigest {
    KeyDigest(Sha256::digest(text.as_bytes()).into())
}

fn push_checksum(text: &mut String) {
    let mut crc = crc32fast::hash(text.as_bytes());
    let mut digits = [0_u32; 6];
    for digit in digits.iter_mut().rev() {
        *digit = crc % 62;
        crc /= 62;
    }
    text.extend(digits.into_iter().map(base62));
}

fn base62(digit: u32) -> char {
    usize::try_from(digit)
        .ok()
        .and_then(|digit| BASE62.get(digit))
        .map_or('0', |byte| char::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use secrecy::ExposeSecret as _;

    fn key(seed: u8) -> NewKey {
        let mut next = seed;
        generate(move || {
            next = next.wrapping_mul(31).wrapping_add(17);
            next
        })
    }

    #[test]
    fn a_key_is_41_characters_and_known_again() {
        let key = key(7);
        let text = key.text.expose_secret();
        assert_eq!(text.len(), KEY_CHARS);
        assert_eq!(key.shown, text[..SHOWN_CHARS]);
        assert_eq!(parse(text), Some(key.digest));
    }

    #[test]
    fn every_single_character_typo_is_refused() {
        let key = key(9);
        let text = key.text.expose_secret();
        for at in PREFIX.len()..KEY_CHARS {
            for other in BASE62.iter().map(|b| char::from(*b)) {
                let mut typo: Vec<char> = text.chars().collect();
                if typo[at] == other {
                    continue;
                }
                typo[at] = other;
                assert_eq!(parse(&typo.into_iter().collect::<String>()), None);
            }
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,60}") {
            prop_assert_eq!(parse(&text), None);
        }
    }
}
