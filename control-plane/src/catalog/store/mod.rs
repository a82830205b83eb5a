//! All SQL of the catalog.

mod browse;
mod by_operator;
mod categories;
mod filter;
mod listing;
mod stats;
mod words;

pub(super) use browse::{
    Gathered, Place, count, count_own, gather, gathered_max, is_dear, own, walk,
};
pub use by_operator::{Withdrawal, give_back, give_back_all_of, withdraw, withdraw_all_of};
pub(super) use categories::{categories, category};
pub(super) use filter::Filter;
#[cfg(test)]
pub(super) use filter::tests::meaning;
pub(super) use listing::{by_id, by_ids, delete, id_of, tell};
pub use listing::{insert, lock, raise_version, replace, suspend};
pub use stats::{Tallies, add_rating, tally};
pub(super) use words::{delete_unused, similar, words};
