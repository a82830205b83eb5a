//! Ids, addresses and transaction hashes as the chains would give them, out of random bytes.

use std::fmt::Write;

use crate::currency::SOLANA;

/// The operating system gave no randomness: nothing that needs an id can be answered.
#[derive(Debug)]
pub(crate) struct NoRandomness;

/// Random bytes.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

/// An address nobody else has, on this chain.
pub(crate) fn address(chain_id: u64) -> Result<String, NoRandomness> {
    if chain_id == SOLANA {
        Ok(bs58::encode(bytes::<32>()?).into_string())
    } else {
        Ok(hex(&bytes::<20>()?))
    }
}

/// A transaction of this chain, out of 32 bytes nobody else has and their digest.
pub(crate) fn transaction(chain_id: u64, seed: &[u8], digest: &[u8]) -> String {
    if chain_id == SOLANA {
        bs58::encode([seed, digest].concat()).into_string()
    } else {
        hex(digest)
    }
}

/// `0x` and lowercase hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 + bytes.len() * 2);
    text.push_str("0x");
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
