//! An API key's text, as a caller sends it.
#![no_main]

use crochet_shared::api_key::{self, KEY_CHARS, PREFIX};
use gateway_proxy::call::head;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let parsed = api_key::parse(text);
    if parsed.is_some() {
        assert!(text.len() == KEY_CHARS && text.starts_with(PREFIX) && text.is_ascii());
    }
    // The header that brings it.
    let Ok(value) = http::HeaderValue::try_from(format!("Bearer {text}")) else {
        return;
    };
    let headers = http::HeaderMap::from_iter([(http::header::AUTHORIZATION, value)]);
    assert!(
        parsed.is_none() || head::credential(&headers).is_ok(),
        "{text}"
    );
});
