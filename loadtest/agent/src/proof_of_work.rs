//! The work a challenge asks for before it may be answered.

use sha2::{Digest as _, Sha256};

/// The first counter whose SHA-256 of `challenge` + counter begins with `difficulty` hexadecimal zeros.
///
/// The default difficulty of 4 takes some 65,000 hashes; the caller decides on which thread.
pub fn proof_of_work(challenge: &str, difficulty: u32) -> String {
    let begun = Sha256::new_with_prefix(challenge.as_bytes());
    let mut counter = 0_u64;
    loop {
        let text = counter.to_string();
        if begins_with_zeros(
            &begun.clone().chain_update(text.as_bytes()).finalize(),
            difficulty,
        ) {
            return text;
        }
        counter += 1;
    }
}

fn begins_with_zeros(digest: &[u8], nibbles: u32) -> bool {
    digest
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .take(nibbles as usize)
        .all(|nibble| nibble == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_begins_with_the_zeros_asked_for() {
        for difficulty in [0, 1, 3] {
            let solution = proof_of_work("a challenge", difficulty);
            let hash = crate::hex(&Sha256::digest(format!("a challenge{solution}")));
            assert!(hash.starts_with(&"0".repeat(difficulty as usize)), "{hash}");
        }
        assert_eq!(proof_of_work("any", 0), "0", "no work asked for, none done");
    }
}
