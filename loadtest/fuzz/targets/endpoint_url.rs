//! An endpoint's URL: what passes is public, and is what another reader of it would connect to.
#![no_main]

use crochet_shared::egress::{Egress, Target, TargetHost, is_public};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let strict = Egress::default();
    let Ok(target) = strict.check_url(text) else {
        return;
    };
    assert!(target.tls && target.port == 443, "{text}");
    if let TargetHost::Address(ip) = target.host {
        assert!(is_public(ip), "{text}: {ip}");
    }
    let again = format!("https://{}{}", target.authority, target.path_and_query);
    let same: Target = strict
        .check_url(&again)
        .expect("what passes passes as it is shown");
    assert_eq!(
        (same.host, same.port, same.authority),
        (target.host, target.port, target.authority),
        "{text}"
    );
    assert!(
        !target.path_and_query.contains([' ', '\r', '\n', '#']),
        "{text}"
    );
});
