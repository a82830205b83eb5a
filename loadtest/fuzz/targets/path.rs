//! A request's path: one spelling, or refused.
#![no_main]

use gateway_proxy::path::{self, Place};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(normal) = path::normalise(text) else {
        return;
    };
    assert!(
        normal.starts_with('/') && normal.is_ascii() && !normal.contains("//"),
        "{text}"
    );
    assert!(
        !normal
            .split('/')
            .any(|segment| matches!(segment, "." | "..")),
        "{text}"
    );
    assert!(
        !normal.contains(['\\', ' ', '?', '\r', '\n']) || text.contains('?'),
        "{text}"
    );
    let again = path::normalise(&normal).expect("what is normal stays so");
    assert_eq!(again, normal, "{text}");
    assert_eq!(path::place(&again), path::place(&normal));
    // Nobody reaches the internal API by another spelling.
    let decoded = normal.to_ascii_lowercase();
    if decoded.starts_with("/internal/") || decoded == "/internal" {
        assert_eq!(path::place(&normal), Place::Internal, "{text}");
    }
});
