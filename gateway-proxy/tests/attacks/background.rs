//! Where attackers run: in threads that give way to everybody else.
//!
//! Attackers and attacked share a machine here, as they never do outside. What an attack costs whoever is
//! attacked is what it makes Crochet do; what the attackers themselves cost would hide it.

use std::future::Future;
use std::sync::LazyLock;

use demo_agent::Api;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

use crate::harness::{Door, is_full};

/// The lowest priority that there is (`setpriority(2)`).
const NICE: i32 = 19;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("attacker")
        .on_thread_start(|| {
            // In a long run, which compares times. In an ordinary one a dozen tests beside would leave them nothing.
            if is_full() {
                // Linux counts niceness by thread; elsewhere the whole process gives way, and figures are worth less.
                let _ = rustix::process::setpriority_process(None, NICE);
            }
        })
        .enable_all()
        .build()
        .expect("a runtime")
});

/// What connections of attackers live on.
pub(super) fn handle() -> &'static Handle {
    RUNTIME.handle()
}

/// The first gateway, by connections of theirs.
pub(super) fn api(door: &Door) -> Api {
    Api::new(door.apis[0].base_url()).unwrap()
}

/// Does something there.
pub(super) fn spawn<F>(attack: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    handle().spawn(attack)
}
