//! The demo seller over bare sockets, each on its own free port: every promise of its README.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod answers;
mod calls;
mod connections;
mod harness;
