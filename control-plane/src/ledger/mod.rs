//! The ledger: transfers between accounts, written once and never changed.
//!
//! Owns every statement that writes a transfer ([`post`]) or a payout ([`payout`]), what buyers and sellers see of them
//! ([`view`]), and the invariants that must hold between ledger and payments ([`audit`]). A transfer
//! is posted in the statement that moves its request's state, so neither is ever seen without the
//! other. It keeps no balances: money that waits stands in clearing, visibly; what is summed of long
//! ledgers is counted behind the calls ([`totals`]).
#![deny(clippy::arithmetic_side_effects)]

pub mod audit;
pub mod entry;
pub mod payout;
pub mod post;
pub mod totals;
pub mod view;

pub use view::routes;
