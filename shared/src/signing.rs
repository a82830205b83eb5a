//! Signatures on calls to sellers: the Standard Webhooks scheme, symmetric variant.
//!
//! `v1,` + base64 of HMAC-SHA256, keyed with the decoded part of `whsec_…`, over
//! `id.timestamp.body` (contract §5). Any Standard Webhooks library verifies it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;

/// What every signing secret begins with.
pub const SECRET_PREFIX: &str = "whsec_";
/// Random bytes in a secret we make; the scheme allows 24 to 64.
const SECRET_BYTES: usize = 32;
/// Characters of a secret that are shown again (contract §4, `signing_secret_prefix`).
pub const SHOWN_CHARS: usize = 10;
/// Base64 characters of a SHA-256.
const DIGEST_CHARS: usize = 44;

/// Text that is not a signing secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a signing secret: whsec_ and base64 of 24 to 64 bytes")]
pub struct InvalidSecret;

/// A new signing secret.
pub fn generate_secret() -> SecretString {
    let bytes = crate::id::random::<SECRET_BYTES>();
    SecretString::from(format!("{SECRET_PREFIX}{}", STANDARD.encode(bytes)))
}

/// A secret made ready to sign: the HMAC is keyed once, and each signature starts from a copy.
#[derive(Clone)]
pub struct Signer(Hmac<Sha256>);

impl std::fmt::Debug for Signer {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("Signer([redacted])")
    }
}

impl Signer {
    /// Reads `whsec_…`.
    pub fn new(secret: &SecretString) -> Result<Self, InvalidSecret> {
        let text = secret
            .expose_secret()
            .strip_prefix(SECRET_PREFIX)
            .ok_or(InvalidSecret)?;
        let key = STANDARD.decode(text).map_err(|_| InvalidSecret)?;
        if !(24..=64).contains(&key.len()) {
            return Err(InvalidSecret);
        }
        Hmac::new_from_slice(&key)
            .map(Self)
            .map_err(|_| InvalidSecret)
    }

    /// Appends `v1,<base64>` over `id.timestamp.body` to `out`.
    pub fn sign_into(&self, id: &str, timestamp: &str, body: &[u8], out: &mut String) {
        let mut mac = self.0.clone();
        mac.update(id.as_bytes());
        mac.update(b".");
        mac.update(timestamp.as_bytes());
        mac.update(b".");
        mac.update(body);
        out.push_str("v1,");
        STANDARD.encode_string(mac.finalize().into_bytes(), out);
    }
}

/// The value of `webhook-signature`: one signature for each secret in force, separated by spaces.
pub fn signature(signers: &[Signer], id: &str, timestamp: &str, body: &[u8]) -> String {
    let mut value = String::with_capacity(signers.len() * (DIGEST_CHARS + 4));
    for signer in signers {
        if !value.is_empty() {
            value.push(' ');
        }
        signer.sign_into(id, timestamp, body, &mut value);
    }
    value
}

/// The value of `Content-Digest` (RFC 9530) for a SHA-256: `sha-256=:<base64>:`.
pub fn content_digest(sha256: &[u8; 32]) -> String {
    let mut value = String::with_capacity(DIGEST_CHARS + 10);
    value.push_str("sha-256=:");
    STANDARD.encode_string(sha256, &mut value);
    value.push(':');
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_example_of_the_scheme_verifies() {
        // The example of the Standard Webhooks specification, "Verifying webhooks".
        let secret = SecretString::from("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let signer = Signer::new(&secret).unwrap();
        let value = signature(
            std::slice::from_ref(&signer),
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(value, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let both = signature(&[signer.clone(), signer], "a", "1", b"");
        assert_eq!(both.split(' ').count(), 2);
    }

    #[test]
    fn a_made_secret_can_sign_and_does_not_show_itself() {
        let secret = generate_secret();
        let signer = Signer::new(&secret).unwrap();
        assert_eq!(format!("{signer:?}"), "Signer([redacted])");
        for bad in ["whsec_", "whsec_AAAA", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] {
            assert!(Signer::new(&SecretString::from(bad)).is_err());
        }
    }
}
