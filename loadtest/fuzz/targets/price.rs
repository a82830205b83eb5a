//! A price, as JSON or in a query.
#![no_main]

use control_plane::catalog::fuzzed;
use crochet_shared::money::{Micros, PRICE_MAX};

libfuzzer_sys::fuzz_target!(|text: &str| {
    for price in [fuzzed::price(text), Micros::from_dollars(text).ok()]
        .into_iter()
        .flatten()
    {
        assert!((0..=PRICE_MAX.0).contains(&price.0), "{text}: {price:?}");
        assert_eq!(Micros::from_dollars(&price.dollars()), Ok(price), "{text}");
    }
    if let Some(bound) = fuzzed::price_bound(text) {
        assert!(bound.0 >= 0 && bound.0 <= PRICE_MAX.0 + 1, "{text}");
    }
    // What both readings take, both read alike.
    if let (Some(number), Ok(plain)) = (fuzzed::price(text), Micros::from_dollars(text)) {
        assert_eq!(number, plain, "{text}");
    }
});
