//! Names of headers, and what may stand in them.

/// The retry after payment names the payment with this (seed).
pub const RELAY_REQUEST_ID: &str = "x-crochet-relay-request-id";
/// Which currency the buyer wants to pay in.
pub const ORIGIN_CURRENCY: &str = "x-crochet-origin-currency";
/// Makes a purchase distinct and repeatable.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// On an answer that was given before.
pub const IDEMPOTENT_REPLAYED: &str = "idempotent-replayed";
/// On every response: the id of this HTTP exchange.
pub const REQUEST_ID: &str = "x-request-id";
/// On gateway answers and on calls to sellers: the purchase, `gw_req_…`.
pub const CROCHET_REQUEST_ID: &str = "x-crochet-request-id";
/// To sellers: the same value as `webhook-signature`.
pub const CROCHET_SIGNATURE: &str = "x-crochet-signature";
/// To sellers: the same value as `webhook-timestamp`.
pub const CROCHET_TIMESTAMP: &str = "x-crochet-timestamp";
/// To sellers: the listing that was called.
pub const CROCHET_LISTING_ID: &str = "x-crochet-listing-id";
/// To sellers: the profile that pays.
pub const CROCHET_BUYER_ID: &str = "x-crochet-buyer-id";
/// To sellers: which delivery attempt this is, from 1.
pub const CROCHET_ATTEMPT: &str = "x-crochet-attempt";
/// To sellers, on test requests only: `true`.
pub const CROCHET_TEST: &str = "x-crochet-test";
/// Standard Webhooks: the message's id.
pub const WEBHOOK_ID: &str = "webhook-id";
/// Standard Webhooks: Unix seconds.
pub const WEBHOOK_TIMESTAMP: &str = "webhook-timestamp";
/// Standard Webhooks: `v1,<base64>`, a space-separated list.
pub const WEBHOOK_SIGNATURE: &str = "webhook-signature";

/// A person's session over TLS: browsers keep it to this host, to TLS and to the path `/`.
pub const SESSION_COOKIE_TLS: &str = "__Host-crochet_session";
/// The same without TLS, where browsers refuse the prefix.
pub const SESSION_COOKIE: &str = "crochet_session";

/// Longest `Idempotency-Key`, in characters.
pub const IDEMPOTENCY_KEY_MAX: usize = 255;
/// Longest relay request id that can be one: the provider's are 66 characters.
pub const RELAY_REQUEST_ID_MAX: usize = 128;
/// Longest name of an endpoint's own auth header.
pub const AUTH_HEADER_NAME_MAX: usize = 64;
/// Longest value of an endpoint's own auth header.
pub const AUTH_HEADER_VALUE_MAX: usize = 4096;

/// Whether a client's `X-Request-Id` is one we repeat: 8–128 of `[A-Za-z0-9_-]` (contract §2).
pub fn is_request_id(value: &[u8]) -> bool {
    (8..=128).contains(&value.len())
        && value
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

/// Whether a value can be that of a session's cookie: 16 bytes in base64url.
pub fn is_session_id(value: &[u8]) -> bool {
    value.len() == 22
        && value
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

/// Whether a value can be an `Idempotency-Key`: 1–255 printable ASCII characters.
pub fn is_idempotency_key(value: &[u8]) -> bool {
    (1..=IDEMPOTENCY_KEY_MAX).contains(&value.len())
        && value.iter().all(|b| (0x20..=0x7e).contains(b))
}

/// Whether a value can be a provider's request id. Anything else is unknown without a look-up.
pub fn is_relay_request_id(value: &[u8]) -> bool {
    (1..=RELAY_REQUEST_ID_MAX).contains(&value.len())
        && value
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

/// Whether a seller may name her auth header so: an RFC 9110 token of at most 64 characters that is
/// none of the headers Crochet or HTTP itself owns (contract §4).
pub fn is_endpoint_auth_header_name(name: &str) -> bool {
    const REFUSED: [&str; 12] = [
        "host",
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "expect",
        "cookie",
        "forwarded",
        "user-agent",
        "accept-encoding",
    ];
    const REFUSED_PREFIXES: [&str; 5] = [
        "x-forwarded-",
        "proxy-",
        "content-",
        "webhook-",
        "x-crochet-",
    ];
    let lower = name.to_ascii_lowercase();
    (1..=AUTH_HEADER_NAME_MAX).contains(&name.len())
        && name.bytes().all(is_token_byte)
        && !REFUSED.contains(&lower.as_str())
        && !REFUSED_PREFIXES
            .iter()
            .any(|prefix| lower.starts_with(prefix))
}

/// Whether a value can be an endpoint's auth header value: 1–4096 visible ASCII characters and
/// spaces, with no space at either end, where HTTP would drop it.
pub fn is_endpoint_auth_header_value(value: &str) -> bool {
    (1..=AUTH_HEADER_VALUE_MAX).contains(&value.len())
        && value.bytes().all(|b| (0x20..=0x7e).contains(&b))
        && !value.starts_with(' ')
        && !value.ends_with(' ')
}

/// Whether a byte may stand in a name: `tchar` of RFC 9110 §5.6.2.
pub const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seller_cannot_set_headers_that_are_ours() {
        for name in ["Authorization", "X-Api-Key", "x_token"] {
            assert!(is_endpoint_auth_header_name(name), "{name}");
        }
        for name in [
            "Host",
            "TE",
            "te",
            "Content-Type",
            "X-Forwarded-For",
            "Proxy-Authorization",
            "webhook-id",
            "X-Crochet-Attempt",
            "a b",
            "",
            "naïve",
            "x:y",
            "User-Agent",
        ] {
            assert!(!is_endpoint_auth_header_name(name), "{name}");
        }
        assert!(is_endpoint_auth_header_value("Bearer abc"));
        for value in ["", "a\r\nb", "a\0", "é", " a", "a "] {
            assert!(!is_endpoint_auth_header_value(value), "{value:?}");
        }
    }
}
