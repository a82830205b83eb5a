//! The whole of Crochet as it runs: two gateways, the control plane, Redis, Postgres, the Relay sandbox,
//! and sellers scripted byte by byte.
//!
//! Each test asserts the answer, the ledger of both sides and how often the seller was called. One stack
//! serves all tests that break nothing; a test that kills, cuts or flushes starts its own. After the last
//! test the invariants of the shared stack's database are audited, and a test that broke a stack audits its own.
//!
//! The suite has a `main` of its own (not `#[test]`) because a stack outlives a test and must still be
//! stopped and audited at the end. `cargo test -p crochet-gateway-proxy --test main [FILTER]` runs it.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on says so by panicking"
)]

mod attacks;
mod auth_matrix;
mod bad_input;
mod bad_listings;
mod breaker;
mod canary;
mod closing;
mod crashes;
mod egress;
mod envelopes;
mod failures;
mod front_door;
mod harness;
mod idempotency;
mod lost_replies;
mod manners;
mod money;
mod operator;
mod passing_on;
mod pressure;
mod promises;
mod provider;
mod quotes;
mod rates;
mod recovery;
mod redis_cluster;
mod refusals;
mod reviews;
mod revocation;
mod rewrap;
mod sellers_view;
mod states;
#[cfg(target_os = "linux")]
mod syscalls;
mod test_calls;
mod tls;
mod traces;
mod two_ways;
mod waiting;

use std::process::ExitCode;

/// Tests by how much may run beside them (`trials!`), and how many of a kind run at once. Ordinary ones wait far
/// more than they work, so there are more of them than cores.
const AT_ONCE: [(&str, usize); 3] = [("alone", 1), ("few", 3), ("", 10)];

fn main() -> ExitCode {
    let arguments = libtest_mimic::Arguments::from_args();
    let trials = [
        // The longest first, so that nothing is waited for at the end.
        promises::trials(),
        crashes::trials(),
        attacks::trials(),
        tls::trials(),
        traces::trials(),
        two_ways::trials(),
        pressure::trials(),
        passing_on::trials(),
        rates::trials(),
        redis_cluster::trials(),
        revocation::trials(),
        lost_replies::trials(),
        provider::trials(),
        rewrap::trials(),
        egress::trials(),
        failures::trials(),
        closing::trials(),
        states::trials(),
        #[cfg(target_os = "linux")]
        syscalls::trials(),
        waiting::trials(),
        quotes::trials(),
        idempotency::trials(),
        refusals::trials(),
        reviews::trials(),
        breaker::trials(),
        envelopes::trials(),
        sellers_view::trials(),
        test_calls::trials(),
        money::trials(),
        operator::trials(),
        manners::trials(),
        front_door::trials(),
        recovery::trials(),
        canary::trials(),
        auth_matrix::trials(),
        bad_input::trials(),
        bad_listings::trials(),
    ];
    let mut trials: Vec<_> = trials.into_iter().flatten().collect();
    let mut has_failed = false;
    for (kind, at_once) in AT_ONCE {
        let (of_kind, others) = trials.into_iter().partition(|trial| trial.kind() == kind);
        trials = others;
        if !Vec::is_empty(&of_kind) {
            let mut arguments = arguments.clone();
            let at_most = arguments.test_threads.unwrap_or(at_once);
            arguments.test_threads = Some(if kind == "alone" { at_once } else { at_most });
            has_failed |= libtest_mimic::run(&arguments, of_kind).has_failed();
        }
    }
    if arguments.list {
        return ExitCode::SUCCESS;
    }
    let violations = harness::close();
    if let Some(violations) = &violations {
        eprintln!("\nafter the last test of the shared stack:\n{violations}");
    }
    if has_failed || violations.is_some() {
        ExitCode::from(101)
    } else {
        ExitCode::SUCCESS
    }
}
