//! Is this text JSON that we take? Judged without building a tree.
//!
//! The gateway passes a buyer's and a seller's bytes on unchanged, so it only needs a verdict.
//! `serde_json`'s `IgnoredAny` gives it in one pass, with two gaps that are closed here: it does not
//! check that strings are UTF-8, and it skips nesting iteratively, to any depth.

use serde::de::IgnoredAny;

/// How deep arrays and objects may nest (contract §5).
pub const DEPTH_MAX: usize = 128;

/// Why bytes are not JSON that we take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not UTF-8.
    #[error("the body is not UTF-8")]
    NotUtf8,
    /// Not one JSON value (RFC 8259).
    #[error("the body is not valid JSON")]
    Malformed,
    /// Nested deeper than [`DEPTH_MAX`].
    #[error("the body nests deeper than 128 levels")]
    TooDeep,
}

/// Checks that `bytes` are exactly one JSON value in UTF-8, nested at most [`DEPTH_MAX`] deep, and
/// gives them back as text.
pub fn check(bytes: &[u8]) -> Result<&str, JsonError> {
    let text = simdutf8::basic::from_utf8(bytes).map_err(|_| JsonError::NotUtf8)?;
    if deeper_than(text.as_bytes(), DEPTH_MAX) {
        return Err(JsonError::TooDeep);
    }
    serde_json::from_str::<IgnoredAny>(text).map_err(|_| JsonError::Malformed)?;
    Ok(text)
}

/// Whether brackets outside strings nest deeper than `max`. Right for valid JSON; for anything else
/// the answer does not matter, because the parser refuses it.
fn deeper_than(bytes: &[u8], max: usize) -> bool {
    // Most bodies cannot be that deep at all: every level needs an opening byte, and counting those
    // is many times cheaper than following strings and escapes.
    if bytes.len() <= max || memchr::memchr2_iter(b'[', b'{', bytes).nth(max).is_none() {
        return false;
    }
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut escaped = false;
    for byte in bytes {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth += 1;
                if depth > max {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nested(depth: usize) -> String {
        format!("{}{}", "[".repeat(depth), "]".repeat(depth))
    }

    #[test]
    fn depth_128_is_the_last_that_passes() {
        assert!(check(nested(128).as_bytes()).is_ok());
        assert_eq!(check(nested(129).as_bytes()), Err(JsonError::TooDeep));
        assert_eq!(check(nested(10_000).as_bytes()), Err(JsonError::TooDeep));
        let brackets_in_a_string = format!("\"\\\"{}\"", "[".repeat(500));
        assert!(check(brackets_in_a_string.as_bytes()).is_ok());
    }

    #[test]
    fn strings_must_be_utf8() {
        assert_eq!(check(b"\"\xff\""), Err(JsonError::NotUtf8));
        assert_eq!(check(b""), Err(JsonError::Malformed));
        assert_eq!(check(b"{} {}"), Err(JsonError::Malformed));
        assert!(check(br#"{"lone":"\ud800","big":1e999}"#).is_ok());
    }

    proptest! {
        #[test]
        fn what_serde_json_parses_passes(depth in 0_usize..140, tail in any::<Vec<u8>>()) {
            let _ = check(&tail);
            let text = nested(depth.max(1));
            prop_assert_eq!(check(text.as_bytes()).is_ok(), depth <= 128);
        }
    }
}
