//! A wallet's signature over a message, in any spelling: no text but a signature signs.
#![no_main]

use control_plane::identity::fuzzed;

/// An EVM wallet's and a Solana wallet's, whose keys nobody here has.
const WALLETS: [&str; 2] = [
    "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23",
    "4Nd1mYvZ8kT4nM5t6qUWcR1uBfPq7xYzA2bCdEfGhJkL",
];
/// The one signature that is known of the first (web3.js documentation, `accounts.sign`).
const SIGNED: (&str, &str) = (
    "Some data",
    "0xb91467e570a6466aa9e9876cbcd013baba02900b8979d43fe208a4a4f339f5fd6007e74cd82e037b800186422fc2da167c747ef045e5d18a5f5d4300f8e1a0291c",
);

libfuzzer_sys::fuzz_target!(|signature: &str| {
    for wallet in WALLETS {
        for message in [SIGNED.0, ""] {
            if !fuzzed::signed(wallet, message, signature) {
                continue;
            }
            // Hex digits have two cases and the parity two numbers; there is no other spelling.
            let lower = signature.to_ascii_lowercase();
            let old = SIGNED.1.strip_suffix("1c").map(|text| format!("{text}01"));
            assert_eq!(message, SIGNED.0);
            assert!(lower == SIGNED.1 || Some(lower) == old, "{signature}");
        }
    }
});
