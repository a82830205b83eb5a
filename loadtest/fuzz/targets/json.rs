//! A body: JSON or not, without a tree, as a parser with a tree would say.
#![no_main]

use crochet_shared::json::{self, JsonError};
use crochet_shared::outcome::Encoding;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let verdict = json::check(bytes);
    let tree = serde_json::from_slice::<&serde_json::value::RawValue>(bytes);
    match verdict {
        Ok(text) => {
            assert_eq!(text.as_bytes(), bytes);
            assert!(tree.is_ok());
        }
        Err(JsonError::NotUtf8) => assert!(std::str::from_utf8(bytes).is_err()),
        Err(JsonError::Malformed) => assert!(tree.is_err()),
        Err(JsonError::TooDeep) => {}
    }
    let encoding = Encoding::of(bytes, false);
    assert_eq!(
        encoding == Encoding::Base64,
        std::str::from_utf8(bytes).is_err()
    );
    let expected = if bytes.is_empty() {
        Encoding::Json
    } else {
        Encoding::Base64
    };
    assert_eq!(Encoding::of(bytes, true), expected);
});
