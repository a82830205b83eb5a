//! Payments and ledger, from a quote to a settled answer.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test that meets what it does not expect is to fail, there and then"
)]

mod audit;
mod books;
mod claims;
pub(crate) mod evidence;
pub(crate) mod history;
mod internal;
mod machine;
mod once;
mod outcomes;
mod quotes;
mod refusals;
mod settlements;
pub(crate) mod stage;
mod sweep;
mod totals;
