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

/// An ed25519 signature with the group's order added to its second half: the same point equation
/// holds, and a verifier that does not insist on the least spelling takes it.
pub(crate) fn not_canonical(signature: &str) -> String {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut bytes = bs58::decode(signature).into_vec().unwrap();
    let mut carry = 0_u16;
    for (byte, order) in bytes[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = (sum & 0xff) as u8;
        carry = sum >> 8;
    }
    assert_eq!(carry, 0);
    bs58::encode(bytes).into_string()
}

fn evm_signature(key: &EvmKey, message: &str) -> (Vec<u8>, u8) {
    let text = format!("\x19Ethereum Signed Message:\n{}{message}", message.len());
    let digest = Keccak256::digest(text.as_bytes());
    let (signature, id) = key.sign_prehash_recoverable(&digest);
    (signature.to_bytes().to_vec(), id.to_byte())
}

/// Solves what an answer's `pow` asks.
pub(crate) fn solve(pow: &Value) -> String {
    nonce(pow, true)
}

/// What does not solve it: at a test's low difficulty one in sixteen texts would.
pub(crate) fn mistake(pow: &Value) -> String {
    nonce(pow, false)
}

fn nonce(pow: &Value, solves: bool) -> String {
    let challenge = pow["challenge"].as_str().unwrap();
    let zeros = "0".repeat(usize::try_from(pow["difficulty"].as_u64().unwrap()).unwrap());
    (0..u64::MAX)
        .map(|n| n.to_string())
        .find(|nonce| {
            let digest = hex(&Sha256::digest(format!("{challenge}{nonce}")));
            digest.starts_with(&zeros) == solves
        })
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
