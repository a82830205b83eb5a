//! What a seller's answer means for money.

use serde::{Deserialize, Serialize};

/// Whether a status is a call the seller handled, and so bills.
///
/// 2xx and 4xx are handled, except the six 4xx that say "not now" or "not like this" about the
/// connection between Crochet and the seller rather than about the buyer's request (contract §5).
pub const fn is_billable(status: u16) -> bool {
    match status {
        401 | 407 | 408 | 421 | 425 | 429 => false,
        200..=299 | 400..=499 => true,
        _ => false,
    }
}

/// How a seller failed. Each kind knows its public code and whether the seller can have acted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SellerFailure {
    /// A complete answer whose status is not billable: 3xx, 5xx and the six of [`is_billable`].
    Status,
    /// DNS, connect or TLS: nothing was sent, so no attempt is used.
    Unreachable,
    /// No complete answer by the deadline.
    Timeout,
    /// The answer is over the endpoint's `max_response_bytes`.
    TooLarge,
    /// Malformed or truncated HTTP.
    Invalid,
    /// The claim ran out without a settlement: the gateway died, or lost its way to us.
    LeaseExpired,
}

impl SellerFailure {
    /// Whether the seller answered completely: then even `redelivery: never` may try again.
    ///
    /// The contract (§5) names 3xx and 5xx there, and makes "any other failure after the first byte
    /// (timeout, broken answer, crash)" a refund. The six 4xx of [`is_billable`] are not among what
    /// it lists as other: they are complete answers too, and say more surely than a 500 does that
    /// the seller has not acted ("not now", "not like this"). What `never` guards against, a call
    /// that is carried out twice, cannot come of trying them again; so they are as good as a 5xx.
    pub const fn answered(self) -> bool {
        matches!(self, Self::Status)
    }

    /// Whether the failure counts as an attempt: all but those before the first byte was sent.
    pub const fn uses_attempt(self) -> bool {
        !matches!(self, Self::Unreachable)
    }

    /// The name stored in the attempt journal and used as a metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::TooLarge => "too_large",
            Self::Invalid => "invalid",
            Self::LeaseExpired => "lease_expired",
        }
    }
}

/// How `seller_response` carries the seller's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoding {
    /// The bytes are JSON and stand as they are.
    Json,
    /// The bytes are UTF-8 text and stand as a JSON string.
    Text,
    /// Anything else, as standard base64.
    Base64,
}

impl Encoding {
    /// Decides by parsing, not by content type. Bytes under a `Content-Encoding` are not undone, so
    /// they are base64 whatever they look like. An empty answer is JSON `null`.
    pub fn of(body: &[u8], content_encoded: bool) -> Self {
        if body.is_empty() {
            return Self::Json;
        }
        if content_encoded {
            return Self::Base64;
        }
        if crate::json::check(body).is_ok() {
            return Self::Json;
        }
        if simdutf8::basic::from_utf8(body).is_ok() {
            Self::Text
        } else {
            Self::Base64
        }
    }

    /// The public name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Text => "text",
            Self::Base64 => "base64",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_4xx_and_all_3xx_and_5xx_are_failures() {
        for status in 0..=999 {
            let handled = matches!(status, 200..=299 | 400..=499)
                && ![401, 407, 408, 421, 425, 429].contains(&status);
            assert_eq!(is_billable(status), handled, "{status}");
        }
    }

    #[test]
    fn encoding_is_decided_by_the_bytes() {
        assert_eq!(Encoding::of(b"", false), Encoding::Json);
        assert_eq!(Encoding::of(br#" {"a":1}"#, false), Encoding::Json);
        assert_eq!(Encoding::of(b"hello", false), Encoding::Text);
        assert_eq!(Encoding::of(b"{\"a\":", false), Encoding::Text);
        assert_eq!(Encoding::of(b"\xff", false), Encoding::Base64);
        assert_eq!(Encoding::of(b"{}", true), Encoding::Base64);
        assert_eq!(Encoding::of(b"", true), Encoding::Json);
        let deep = "[".repeat(129) + &"]".repeat(129);
        assert_eq!(Encoding::of(deep.as_bytes(), false), Encoding::Text);
    }
}
