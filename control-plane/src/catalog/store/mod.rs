//! All SQL of the catalog.

mod browse;
mod categories;
mod listing;
mod stats;
mod words;

pub(super) use browse::{Filter, GATHERED_MAX, Place, count, count_own, own, places};
pub(super) use categories::{categories, category};
pub(super) use listing::{by_id, by_ids, delete, id_of, suspend, tell};
pub use listing::{insert, lock, raise_version, replace};
pub use stats::{Tallies, add_rating, tally};
pub(super) use words::{similar, words};
