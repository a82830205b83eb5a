//! The front door by TLS, in HTTP/2 and HTTP/1.1: calls are the same calls, one connection cannot cost
//! more than it may, and a certificate is replaced without anybody noticing.

mod calls;
mod floods;
mod handover;
mod renewal;
mod stage;

/// The tests of the TLS port.
pub(crate) fn trials() -> Vec<libtest_mimic::Trial> {
    [
        renewal::trials(),
        handover::trials(),
        floods::trials(),
        calls::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
