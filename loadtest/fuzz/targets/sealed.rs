//! What stands in Redis, and what is told over it: nothing opens that was not sealed.
#![no_main]

use std::sync::LazyLock;

use crochet_shared::internal::{KeyRecord, Quote, RouteRecord};
use crochet_shared::redis_key::{self, Change};
use crochet_shared::seal::Keyring;

static KEYS: LazyLock<Keyring> = LazyLock::new(|| {
    Keyring::parse("k:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").expect("a key")
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    assert!(redis_key::open::<KeyRecord>(&KEYS, "crochet:key:x", bytes, 0).is_err());
    assert!(redis_key::open::<RouteRecord>(&KEYS, "crochet:route:x", bytes, 0).is_err());
    assert!(redis_key::open::<Quote>(&KEYS, "crochet:quote:x", bytes, 0).is_err());
    assert!(redis_key::open::<Change>(&KEYS, redis_key::CHANGES_CHANNEL, bytes, 0).is_err());
    assert!(KEYS.open_row(b"x", bytes).is_err());
    // What says that it is under the key already is left as it is, unopened.
    assert!(!matches!(KEYS.rewrap_row(b"x", bytes), Ok(Some(_))));
    let _ = Keyring::key_id_of(bytes);
    // The same bytes sealed are opened as they were.
    let sealed = redis_key::seal(&KEYS, "x", 1, &bytes, 0).expect("sealed");
    assert_eq!(
        redis_key::open::<Vec<u8>>(&KEYS, "x", &sealed, 0),
        Ok((bytes.to_vec(), 0))
    );
});
