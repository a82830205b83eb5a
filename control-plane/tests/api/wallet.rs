//! Wallets as a stranger's client has them: from the chains' own definitions, not from our code.

use std::fmt::Write as _;

use ed25519_dalek::Signer as _;
use k256::ecdsa::SigningKey as EvmKey;
use serde_json::{Value, json};
use sha2::Sha256;
use sha3::{Digest as _, Keccak256};

/// A wallet of either chain.
pub(crate) enum Wallet {
    Evm(EvmKey),
    Solana(ed25519_dalek::SigningKey),
}

impl Wallet {
    pub(crate) fn evm() -> Self {
        let key = EvmKey::from_slice(&crochet_shared::id::random::<32>()).unwrap();
        Self::Evm(key)
    }

    pub(crate) fn solana() -> Self {
        Self::Solana(ed25519_dalek::SigningKey::from_bytes(
            &crochet_shared::id::random::<32>(),
        ))
    }

    /// EVM in lower case, as many clients send it.
    pub(crate) fn address(&self) -> String {
        match self {
            Self::Evm(key) => {
                let point = key.verifying_key().to_sec1_point(false);
                let digest = Keccak256::digest(&point.as_bytes()[1..]);
                format!("0x{}", hex(&digest[12..]))
            }
            Self::Solana(key) => bs58::encode(key.verifying_key().to_bytes()).into_string(),
        }
    }

    pub(crate) fn sign(&self, message: &str) -> String {
        match self {
            Self::Evm(key) => {
                let (rs, v) = evm_signature(key, message);
                format!("0x{}{:02x}", hex(&rs), 27 + v)
            }
            Self::Solana(key) => {
                bs58::encode(key.sign(message.as_bytes()).to_bytes()).into_string()
            }
        }
    }

    /// The same signature with the other s, which recovers the same address.
    pub(crate) fn sign_malleably(&self, message: &str) -> String {
        let Self::Evm(key) = self else {
            panic!("only EVM signatures have another s");
        };
        let (rs, v) = evm_signature(key, message);
        let signature = k256::ecdsa::Signature::from_slice(&rs).unwrap();
        let (r, s) = signature.split_scalars();
        let high = -*s;
        let other = k256::ecdsa::Signature::from_scalars(r.to_bytes(), high.to_bytes()).unwrap();
        format!("0x{}{:02x}", hex(&other.to_bytes()), 27 + (1 - v))
    }
}

fn evm_signature(key: &EvmKey, message: &str) -> (Vec<u8>, u8) {
    let text = format!("\x19Ethereum Signed Message:\n{}{message}", message.len());
    let digest = Keccak256::digest(text.as_bytes());
    let (signature, id) = key.sign_prehash_recoverable(&digest);
    (signature.to_bytes().to_vec(), id.to_byte())
}

/// Solves what an answer's `pow` asks.
pub(crate) fn solve(pow: &Value) -> String {
    let challenge = pow["challenge"].as_str().unwrap();
    let zeros = "0".repeat(usize::try_from(pow["difficulty"].as_u64().unwrap()).unwrap());
    (0..u64::MAX)
        .map(|n| n.to_string())
        .find(|nonce| hex(&Sha256::digest(format!("{challenge}{nonce}"))).starts_with(&zeros))
        .unwrap()
}

/// The proof that `POST /register` wants of a challenge.
pub(crate) fn proof(wallet: &Wallet, challenge: &Value) -> Value {
    json!({
        "wallet_address": wallet.address(),
        "nonce": challenge["nonce"],
        "pow_nonce": solve(&challenge["pow"]),
        "signature": wallet.sign(challenge["message"].as_str().unwrap()),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}
