//! What comes in the provider's name: its webhook, a quote, records.
#![no_main]

use control_plane::payments::relay::types::Page;
use control_plane::payments::relay::{ProviderQuote, webhook};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // The first half may be a header, the second a body; all of it is tried as both.
    let (header, body) = bytes.split_at(bytes.len() / 2);
    for (signature, body) in [(header, body), (bytes, bytes), (&[][..], bytes)] {
        assert!(!webhook::is_genuine(
            b"a key that nobody has",
            header,
            body,
            signature
        ));
        if let Some(id) = webhook::request_id(body) {
            assert!(crochet_shared::header::is_relay_request_id(id.as_bytes()));
        }
        let _ = ProviderQuote::read(body, 1_000_000);
        if let Some(page) = Page::read(body) {
            for record in page.records {
                assert!(crochet_shared::header::is_relay_request_id(
                    record.id.as_bytes()
                ));
            }
        }
    }
});
