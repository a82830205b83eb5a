//! The sandbox over HTTP, each on its own free port: every promise of its README.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

mod harness;
mod payments;
mod quotes;
mod requests;
mod restarts;
mod webhooks;
