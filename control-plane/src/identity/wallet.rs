//! Wallet addresses and what proves them. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crochet_shared::route::Family;
use ed25519_dalek::VerifyingKey as SolanaKey;
use k256::ecdsa::{RecoveryId, Signature as EvmSignature, VerifyingKey as EvmKey};
use sha3::{Digest as _, Keccak256};

use crate::fields::Problem;

/// Longest text that can be a signature.
const SIGNATURE_CHARS_MAX: usize = 200;
const EVM_SIGNATURE_BYTES: usize = 65;
const SOLANA_SIGNATURE_BYTES: usize = 64;

/// A wallet's address in its one spelling; the chain is told from it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Address {
    pub(super) family: Family,
    /// EIP-55 for EVM, base58 for Solana.
    pub(super) text: String,
}

/// What an address looks like. A Solana address is not wholly told by its letters: they stand for 32
/// bytes.
pub(super) const ADDRESS_PATTERN: &str = r"^\s*(0x[0-9a-fA-F]{40}|[1-9A-HJ-NP-Za-km-z]{32,44})\s*$";

impl Address {
    /// Reads either kind.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Some(text) = evm_address(text) {
            return Some(Self {
                family: Family::Evm,
                text,
            });
        }
        let bytes = solana_bytes(text)?;
        // One spelling for one key: base58 has no other for the same bytes.
        (bs58::encode(bytes).into_string() == text).then(|| Self {
            family: Family::Solana,
            text: text.to_owned(),
        })
    }

    /// Reads a field.
    pub(super) fn from_field(raw: &serde_json::value::RawValue) -> Result<Self, Problem> {
        Self::parse(crate::fields::any_text(raw)?.trim()).ok_or_else(|| {
            "must be an EVM address (0x and 40 hex digits) or a Solana address (base58 of 32 bytes)"
                .into()
        })
    }

    /// Whether `signature` is this wallet's over exactly `message`.
    pub(super) fn signed(&self, message: &str, signature: &str) -> bool {
        if signature.len() > SIGNATURE_CHARS_MAX {
            return false;
        }
        let verified = match self.family {
            Family::Evm => evm_signer(message, signature).map(|signer| signer == self.text),
            Family::Solana => solana_signed(&self.text, message, signature),
        };
        verified == Some(true)
    }
}

/// An EVM address in EIP-55 form, or `None` when the text is not `0x` and 40 hex digits.
pub fn evm_address(text: &str) -> Option<String> {
    let hex = text.strip_prefix("0x")?;
    if hex.len() != 40 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    Some(checksummed(&hex.to_ascii_lowercase()))
}

/// EIP-55: a letter is upper case where the same digit of the hash is 8 or more.
fn checksummed(lower_hex: &str) -> String {
    let digest = Keccak256::digest(lower_hex.as_bytes());
    let nibbles = digest.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let mut out = String::with_capacity(42);
    out.push_str("0x");
    for (digit, nibble) in lower_hex.chars().zip(nibbles) {
        out.push(if nibble >= 8 {
            digit.to_ascii_uppercase()
        } else {
            digit
        });
    }
    out
}

/// Who signed `message` by EIP-191 `personal_sign`.
///
/// Only the low-s form counts: for each signature the other s would recover the same address, and a
/// proof must have one spelling.
fn evm_signer(message: &str, signature: &str) -> Option<String> {
    let bytes: [u8; EVM_SIGNATURE_BYTES] = unhex(signature.strip_prefix("0x")?)?;
    let (rs, v) = bytes.split_at_checked(64)?;
    let parity = match v.first()? {
        0 | 27 => 0,
        1 | 28 => 1,
        _ => return None,
    };
    let signature = EvmSignature::from_slice(rs).ok()?;
    if signature.normalize_s() != signature {
        return None;
    }
    let mut hash = Keccak256::new();
    hash.update(b"\x19Ethereum Signed Message:\n");
    hash.update(message.len().to_string().as_bytes());
    hash.update(message.as_bytes());
    let digest = hash.finalize();
    let id = RecoveryId::from_byte(parity)?;
    let key = EvmKey::recover_from_prehash(digest.as_slice(), &signature, id).ok()?;
    let point = key.to_sec1_point(false);
    // An address is the end of the hash of the point's two coordinates, without the SEC1 tag.
    let digest = Keccak256::digest(point.as_bytes().get(1..)?);
    Some(checksummed(&crochet_shared::redis_key::hex(
        digest.as_slice().get(12..)?,
    )))
}

fn solana_signed(address: &str, message: &str, signature: &str) -> Option<bool> {
    let key = SolanaKey::from_bytes(&solana_bytes(address)?).ok()?;
    let signature = solana_signature(signature)?;
    let signature = ed25519_dalek::Signature::from_bytes(&signature);
    // Strict: small-order keys and points that other verifiers would judge otherwise are refused.
    Some(key.verify_strict(message.as_bytes(), &signature).is_ok())
}

fn solana_bytes(address: &str) -> Option<[u8; 32]> {
    // 32 bytes are 32 to 44 base58 digits; longer text is not worth decoding.
    if !(32..=44).contains(&address.len()) {
        return None;
    }
    bs58::decode(address).into_vec().ok()?.try_into().ok()
}

/// Base58, or base64 for clients that only have that. 64 bytes are 64 to 88 base58 digits, and 88
/// base64 digits ending in `==`, which base58 has not.
fn solana_signature(text: &str) -> Option<[u8; SOLANA_SIGNATURE_BYTES]> {
    let base58 = bs58::decode(text).into_vec().ok();
    let bytes = base58.or_else(|| STANDARD.decode(text).ok())?;
    bytes.try_into().ok()
}

fn unhex<const N: usize>(hex: &str) -> Option<[u8; N]> {
    let digits: Option<Vec<u8>> = hex
        .chars()
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    let digits = digits?;
    let pairs = digits.as_chunks::<2>();
    if !pairs.1.is_empty() {
        return None;
    }
    let bytes: Vec<u8> = pairs.0.iter().map(|[high, low]| high << 4 | low).collect();
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_have_one_spelling() {
        // EIP-55's own examples.
        for address in [
            "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
            "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
            "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
        ] {
            let lower = address.to_ascii_lowercase();
            assert_eq!(evm_address(&lower).as_deref(), Some(address));
            assert_eq!(Address::parse(address).unwrap().family, Family::Evm);
        }
        for bad in [
            "",
            "0x",
            "0X5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
            "5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
            "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeg",
            "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed0",
            "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq",
            "11111111111111111111111111111110",
            "0OIl1111111111111111111111111111",
        ] {
            assert_eq!(Address::parse(bad), None, "{bad}");
        }
        let system_program = "11111111111111111111111111111111";
        assert_eq!(
            Address::parse(system_program).unwrap().family,
            Family::Solana
        );
    }

    #[test]
    fn a_known_personal_sign_recovers() {
        // web3.js documentation, accounts.recover.
        let signature = "0xb91467e570a6466aa9e9876cbcd013baba02900b8979d43fe208a4a4f339f5fd6007e74cd82e037b800186422fc2da167c747ef045e5d18a5f5d4300f8e1a0291c";
        let address = Address::parse("0x2c7536E3605D9C16a7a3D7b1898e529396a65c23").unwrap();
        assert!(address.signed("Some data", signature));
        assert!(!address.signed("Some datA", signature));
        assert!(!address.signed("Some data", signature.strip_prefix("0x").unwrap()));
        assert!(!address.signed("Some data", &signature[..signature.len() - 2]));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,210}", message in ".{0,40}") {
            let _ = Address::parse(&text);
            for address in ["0x2c7536E3605D9C16a7a3D7b1898e529396a65c23", "11111111111111111111111111111111"] {
                prop_assert!(!Address::parse(address).unwrap().signed(&message, &text));
            }
        }
    }
}
