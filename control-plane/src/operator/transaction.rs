//! Transactions on chain, by their hash in one spelling.

use std::fmt;
use std::str::FromStr;

/// Bytes of a transaction's hash on an EVM chain.
const EVM_BYTES: usize = 32;
/// Bytes of a Solana transaction's signature, by which it is known.
const SOLANA_BYTES: usize = 64;

/// A transaction's hash: `0x` and 64 lowercase hex digits, or a Solana signature in base58.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxHash(String);

/// Text that is no transaction's hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a transaction: expected 0x and 64 hex digits, or a Solana signature in base58")]
pub struct NoTransaction;

impl TxHash {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The family of chains it is of, as wallets name it.
    pub fn chain(&self) -> &'static str {
        if self.0.starts_with("0x") {
            "evm"
        } else {
            "solana"
        }
    }
}

impl fmt::Display for TxHash {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&self.0)
    }
}

impl FromStr for TxHash {
    type Err = NoTransaction;

    fn from_str(text: &str) -> Result<Self, NoTransaction> {
        let text = text.trim();
        if let Some(hex) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            let is_hash = hex.len() == 2 * EVM_BYTES && hex.bytes().all(|b| b.is_ascii_hexdigit());
            return if is_hash {
                Ok(Self(format!("0x{}", hex.to_ascii_lowercase())))
            } else {
                Err(NoTransaction)
            };
        }
        let bytes = bs58::decode(text).into_vec().map_err(|_| NoTransaction)?;
        if bytes.len() == SOLANA_BYTES {
            Ok(Self(text.to_owned()))
        } else {
            Err(NoTransaction)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_has_one_spelling() {
        let upper = format!("0X{}", "AB".repeat(EVM_BYTES));
        let hash: TxHash = upper.parse().unwrap();
        assert_eq!(hash.as_str(), format!("0x{}", "ab".repeat(EVM_BYTES)));
        assert_eq!(hash.chain(), "evm");
        let solana = bs58::encode([7; SOLANA_BYTES]).into_string();
        let hash: TxHash = solana.parse().unwrap();
        assert_eq!((hash.as_str(), hash.chain()), (solana.as_str(), "solana"));
    }

    #[test]
    fn what_is_no_hash_is_refused() {
        for text in [
            "",
            "0x",
            "0xab",
            "hello",
            &"0".repeat(64),
            &format!("0x{}", "g".repeat(64)),
        ] {
            assert_eq!(text.parse::<TxHash>(), Err(NoTransaction), "{text}");
        }
    }
}
