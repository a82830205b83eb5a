//! What an attacker may try, a promise a file, each in a small size in the ordinary run and in its
//! full one under `CROCHET_TEST_FULL` (`cargo dev test --full`). `deploy/PROMISES.md` lists them.

mod ambiguous;
mod background;
mod blast;
mod bombs;
mod challenge;
mod flood;
mod poison;
mod signature;
mod smuggling;
mod spellings;
mod ssrf;
mod victim;

/// The tests of all promises.
pub(crate) fn trials() -> Vec<libtest_mimic::Trial> {
    [
        bombs::trials(),
        flood::trials(),
        poison::trials(),
        ssrf::trials(),
        signature::trials(),
        smuggling::trials(),
        challenge::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
