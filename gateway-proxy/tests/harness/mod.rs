//! What the tests stand on: stacks, markets in them, scripted sellers, and the checks every test makes.
//!
//! All tests share one runtime, because the shared stack's HTTP connections live on the runtime that
//! opened them.

mod between;
mod check;
mod market;
mod names;
mod service;
mod wire;
mod world;

use std::fmt::Write as _;
use std::future::Future;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use crochet_dev::{Build, Options};

pub(crate) use between::{Between, Mischief};
pub(crate) use check::{manners, ok, pending, refused, text};
pub(crate) use fault_proxy::http1::Message;
pub(crate) use market::{Market, fee_of};
pub(crate) use names::Names;
pub(crate) use service::{Arrival, Gate, Reply, Service, free_port, tls_service};
pub(crate) use wire::{Wire, request};
pub(crate) use world::{Door, World, close, operator, shared};

/// The longest one test may take, its wait for a stack of its own included; a hang fails with the test's name.
const TEST_LIMIT: Duration = Duration::from_mins(6);
/// The same of a test in its long form.
const LONG_TEST_LIMIT: Duration = Duration::from_hours(1);
/// The longest a condition may take to come true where nothing else is said.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// Between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(15);

static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
});

/// One test, by the path of its function.
pub(crate) fn trial<F, Fut>(path: &str, test: F) -> libtest_mimic::Trial
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = ()>,
{
    let name = path
        .split_once("::")
        .map_or(path, |(_, name)| name)
        .to_owned();
    libtest_mimic::Trial::test(name, move || {
        let limit = sized(TEST_LIMIT, LONG_TEST_LIMIT);
        let outcome =
            RUNTIME.block_on(async { tokio::time::timeout(limit, Box::pin(test())).await });
        outcome.map_err(|_| format!("still running after {limit:?}").into())
    })
}

/// Whether tests run in their long form (`cargo dev test --full`).
pub(crate) fn is_full() -> bool {
    std::env::var_os("CROCHET_TEST_FULL").is_some()
}

/// `full` in a long run, else `ordinary`.
pub(crate) fn sized<T>(ordinary: T, full: T) -> T {
    if is_full() { full } else { ordinary }
}

/// The kind of a test with a long form: in an ordinary run it is none.
pub(crate) fn long_form(beside: &str) -> &str {
    sized("", beside)
}

/// A stack of the release build in a long run, whose figures are of what is shipped.
pub(crate) fn measured(options: Options) -> Options {
    if is_full() {
        options.build(Build::Release)
    } else {
        options
    }
}

/// Lowercase hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// Names the tests of a module for `main`. A test left out is dead code, which the compiler says.
///
/// What has a long form says how much may run beside it then: `=> few` of its like, or nothing, where it is
/// `alone` because it measures.
macro_rules! trials {
    ($($name:ident $(=> $beside:ident)?),* $(,)?) => {
        /// The tests of this module.
        pub(crate) fn trials() -> Vec<libtest_mimic::Trial> {
            vec![$(
                crate::harness::trial(concat!(module_path!(), "::", stringify!($name)), $name)
                    $(.with_kind(crate::harness::long_form(stringify!($beside))))?
            ),*]
        }
    };
}
pub(crate) use trials;

/// Waits until `look` finds what it looks for; panics with the condition's name when it does not within `limit`.
pub(crate) async fn until_within<T, F, Fut>(condition: &str, limit: Duration, mut look: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(
            begun.elapsed() < limit,
            "waited {limit:?} in vain until {condition}"
        );
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The same within [`SOON`].
pub(crate) async fn until<T, F, Fut>(condition: &str, look: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    until_within(condition, SOON, look).await
}
