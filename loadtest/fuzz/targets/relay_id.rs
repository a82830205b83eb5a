//! Ids in paths and headers: the provider's, our own, a listing's name.
#![no_main]

use crochet_shared::header;
use crochet_shared::id::{ListingId, RequestId};
use crochet_shared::internal::RouteName;
use gateway_proxy::cache::routes;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if header::is_relay_request_id(text.as_bytes()) {
        assert!(text.is_ascii() && !text.is_empty() && !text.contains(['/', '.', '?', '%', ' ']));
    }
    if let Ok(id) = text.parse::<RequestId>() {
        assert_eq!(id.to_string().parse::<RequestId>().ok(), Some(id));
    }
    if let Ok(id) = text.parse::<ListingId>() {
        assert_eq!(id.to_string().parse::<ListingId>().ok(), Some(id));
    }
    if let Some(RouteName::Slug(slug)) = routes::parse_name(text) {
        assert_eq!(slug, text);
    }
    let _ = header::is_request_id(text.as_bytes());
    let _ = header::is_idempotency_key(text.as_bytes());
    let _ = header::is_endpoint_auth_header_name(text);
});
