//! The provider's webhook: verified, then believed no further than "look at this request".

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;

use crochet_shared::header::is_relay_request_id;

/// Header with the Unix milliseconds that are signed along.
pub const TIMESTAMP_HEADER: &str = "x-signature-timestamp";
/// Header with the hex HMAC-SHA256 of `timestamp.body`.
pub const SIGNATURE_HEADER: &str = "x-signature-sha256";
/// Largest webhook that is read.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// Whether `signature` is the provider's over `timestamp.body`, compared in constant time.
///
/// Age does not matter: a replayed hint makes us look, and nothing more.
pub fn is_genuine(api_key: &[u8], timestamp: &[u8], body: &[u8], signature: &[u8]) -> bool {
    let Some(signature) = unhex(signature) else {
        return false;
    };
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(api_key) else {
        return false;
    };
    mac.update(timestamp);
    mac.update(b".");
    mac.update(body);
    mac.verify_slice(&signature).is_ok()
}

/// Which request a webhook speaks of.
pub fn request_id(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let id = body.pointer("/data/requestId")?.as_str()?;
    is_relay_request_id(id.as_bytes()).then(|| id.to_owned())
}

fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    pairs
        .iter()
        .map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crochet_shared::redis_key::hex;

    fn sign(key: &[u8], text: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
        mac.update(text);
        hex(&mac.finalize().into_bytes())
    }

    #[test]
    fn only_the_signed_bytes_under_the_key_pass() {
        let good = sign(b"key", b"17.{}");
        assert!(is_genuine(b"key", b"17", b"{}", good.as_bytes()));
        assert!(is_genuine(
            b"key",
            b"17",
            b"{}",
            good.to_uppercase().as_bytes()
        ));
        assert!(!is_genuine(b"key", b"18", b"{}", good.as_bytes()));
        assert!(!is_genuine(b"key", b"17", b"{ }", good.as_bytes()));
        assert!(!is_genuine(b"yek", b"17", b"{}", good.as_bytes()));
        assert!(!is_genuine(b"key", b"17", b"{}", &good.as_bytes()[..62]));
        assert!(!is_genuine(b"key", b"17", b"{}", b""));
        assert!(!is_genuine(b"key", b"17", b"{}", b"zz"));
    }

    #[test]
    fn a_webhook_names_its_request() {
        let body = br#"{"event":"x","data":{"requestId":"0xab"}}"#;
        assert_eq!(request_id(body).as_deref(), Some("0xab"));
        assert_eq!(request_id(b"{"), None);
        assert_eq!(request_id(br#"{"data":{"requestId":"a b"}}"#), None);
    }
}
