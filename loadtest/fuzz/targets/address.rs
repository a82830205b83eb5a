//! A wallet's address: one spelling, whatever was sent.
#![no_main]

use control_plane::identity::fuzzed;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Some(shown) = fuzzed::address(text) else {
        return;
    };
    assert!(shown.is_ascii() && (32..=44).contains(&shown.len()));
    assert!(
        shown.eq_ignore_ascii_case(text),
        "{text:?} became {shown:?}"
    );
    assert_eq!(fuzzed::address(&shown).as_deref(), Some(shown.as_str()));
});
