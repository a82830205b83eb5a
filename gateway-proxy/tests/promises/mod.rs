//! What Crochet promises about money and calls, each held against the fault it is about.
//!
//! One file a promise, named after it; the names of its tests say it in words. The fault really happens
//! (processes are killed, connections cut, stores emptied), and afterwards the ledger, the seller and the
//! payment provider are asked whether they agree ([`trade`]). In every run the sizes are small; with
//! `cargo dev test --full` they are what `deploy/PROMISES.md` says.

mod acknowledged;
mod balancer;
mod double_send;
mod one_payment;
mod orphans;
mod provider_chaos;
mod replay;
mod restarts;
mod slow_commit;
pub(crate) mod trade;
mod unknown_commit;
mod versions;

/// The tests of all promises, the longest first.
pub(crate) fn trials() -> Vec<libtest_mimic::Trial> {
    [
        acknowledged::trials(),
        restarts::trials(),
        unknown_commit::trials(),
        slow_commit::trials(),
        provider_chaos::trials(),
        one_payment::trials(),
        double_send::trials(),
        replay::trials(),
        versions::trials(),
        orphans::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
