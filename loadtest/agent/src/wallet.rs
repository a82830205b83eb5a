//! The two kinds of wallet an agent may own, and how each signs a challenge.

use anyhow::{Context as _, Result};
use ed25519_dalek::Signer as _;
use sha3::{Digest as _, Keccak256};

use crate::random::{hex, random_bytes};

/// The family of chains a wallet belongs to; the server tells it from the address alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chain {
    /// Ethereum and its like: secp256k1, addresses of 20 bytes in EIP-55 form.
    Evm,
    /// Solana: ed25519, addresses are the public key in base58.
    Solana,
}

impl Chain {
    /// As the API spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Evm => "evm",
            Self::Solana => "solana",
        }
    }
}

/// A private key with its address. It holds no funds; the sandbox pays for everybody.
#[derive(Clone)]
pub struct Wallet {
    key: Key,
    address: String,
}

#[derive(Clone)]
enum Key {
    Evm(k256::ecdsa::SigningKey),
    Solana(ed25519_dalek::SigningKey),
}

impl std::fmt::Debug for Wallet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wallet")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Wallet {
    /// A new wallet of `chain` from the system's random source.
    pub fn random(chain: Chain) -> Result<Self> {
        Self::from_secret(chain, &random_bytes()?)
    }

    /// A new EVM wallet.
    pub fn evm() -> Result<Self> {
        Self::random(Chain::Evm)
    }

    /// A new Solana wallet.
    pub fn solana() -> Result<Self> {
        Self::random(Chain::Solana)
    }

    /// The wallet of a known 32-byte secret.
    pub fn from_secret(chain: Chain, secret: &[u8; 32]) -> Result<Self> {
        Ok(match chain {
            Chain::Evm => {
                let key =
                    k256::ecdsa::SigningKey::from_slice(secret).context("not a secp256k1 key")?;
                let address = evm_address(key.verifying_key());
                Self {
                    key: Key::Evm(key),
                    address,
                }
            }
            Chain::Solana => {
                let key = ed25519_dalek::SigningKey::from_bytes(secret);
                let address = bs58::encode(key.verifying_key().as_bytes()).into_string();
                Self {
                    key: Key::Solana(key),
                    address,
                }
            }
        })
    }

    /// Which family this wallet belongs to.
    pub const fn chain(&self) -> Chain {
        match self.key {
            Key::Evm(_) => Chain::Evm,
            Key::Solana(_) => Chain::Solana,
        }
    }

    /// The address as the API shows it: EIP-55 or base58.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Signs the exact `message`: EIP-191 `personal_sign` as `0x` and 65 bytes of hex, or ed25519 in base58.
    pub fn sign(&self, message: &str) -> String {
        match &self.key {
            Key::Evm(key) => {
                let (signature, recovery) = key.sign_prehash_recoverable(&eip191_digest(message));
                format!(
                    "0x{}{:02x}",
                    hex(&signature.to_bytes()),
                    27 + recovery.to_byte()
                )
            }
            Key::Solana(key) => bs58::encode(key.sign(message.as_bytes()).to_bytes()).into_string(),
        }
    }
}

/// What `personal_sign` hashes: a prefix no transaction can begin with, the length in bytes, the text.
fn eip191_digest(message: &str) -> [u8; 32] {
    let mut hasher = Keccak256::new();
    hasher.update(format!("\x19Ethereum Signed Message:\n{}", message.len()));
    hasher.update(message);
    hasher.finalize().into()
}

/// The last 20 bytes of the Keccak-256 of the uncompressed public key, in EIP-55 form.
fn evm_address(key: &k256::ecdsa::VerifyingKey) -> String {
    let point = key.to_sec1_point(false);
    let digest = Keccak256::digest(point.as_bytes().get(1..).unwrap_or_default());
    eip55(&hex(digest.get(12..).unwrap_or_default()))
}

/// EIP-55: a letter is a capital where the hash of the lowercase address has a nibble of 8 or more.
fn eip55(lowercase: &str) -> String {
    let digest = hex(&Keccak256::digest(lowercase.as_bytes()));
    let letters = lowercase
        .chars()
        .zip(digest.chars())
        .map(|(letter, nibble)| {
            if nibble >= '8' {
                letter.to_ascii_uppercase()
            } else {
                letter
            }
        });
    std::iter::once('0')
        .chain(std::iter::once('x'))
        .chain(letters)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(hex: &str) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[index * 2..index * 2 + 2], 16).unwrap();
        }
        bytes
    }

    /// The vector of the web3.js documentation (`eth.accounts.sign`): key, message, address, signature.
    #[test]
    fn an_evm_wallet_signs_the_known_vector() {
        let wallet = Wallet::from_secret(
            Chain::Evm,
            &secret("4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318"),
        )
        .unwrap();
        assert_eq!(
            wallet.address(),
            "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23"
        );
        assert_eq!(
            hex(&eip191_digest("Some data")),
            "1da44b586eb0729ff70a73c326926f6ed5a25f5b056e7f47fbc6e58d86871655"
        );
        assert_eq!(
            wallet.sign("Some data"),
            "0xb91467e570a6466aa9e9876cbcd013baba02900b8979d43fe208a4a4f339f5fd6007e74cd82e037b800186422fc2da167c747ef045e5d18a5f5d4300f8e1a0291c"
        );
    }

    /// The addresses of the EIP-55 document.
    #[test]
    fn addresses_are_shown_in_eip_55_form() {
        for address in [
            "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
            "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
            "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
            "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
            "0x52908400098527886E0F7030069857D2E4169EE7",
        ] {
            assert_eq!(eip55(&address[2..].to_lowercase()), address);
        }
    }

    #[test]
    fn an_evm_signature_recovers_to_its_address() {
        let wallet = Wallet::evm().unwrap();
        let signature = secret_bytes(&wallet.sign("héllo\nworld")[2..]);
        let recovered = k256::ecdsa::VerifyingKey::recover_from_prehash(
            &eip191_digest("héllo\nworld"),
            &k256::ecdsa::Signature::from_slice(&signature[..64]).unwrap(),
            k256::ecdsa::RecoveryId::from_byte(signature[64] - 27).unwrap(),
        )
        .unwrap();
        assert_eq!(evm_address(&recovered), wallet.address());
    }

    fn secret_bytes(hex: &str) -> Vec<u8> {
        (0..hex.len() / 2)
            .map(|index| u8::from_str_radix(&hex[index * 2..index * 2 + 2], 16).unwrap())
            .collect()
    }

    /// RFC 8032, section 7.1, test 1: the public key of its secret; and a signature that verifies.
    #[test]
    fn a_solana_wallet_is_the_known_vector_and_verifies() {
        let wallet = Wallet::from_secret(
            Chain::Solana,
            &secret("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"),
        )
        .unwrap();
        let public = bs58::decode(wallet.address()).into_vec().unwrap();
        assert_eq!(
            hex(&public),
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        );
        assert_eq!(
            hex(&bs58::decode(wallet.sign("")).into_vec().unwrap()),
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
        );
    }
}
