//! All SQL of the catalog.

mod browse;
mod categories;
mod listing;
mod stats;

pub(super) use browse::{Filter, count, ids};
pub(super) use categories::{categories, category};
pub(super) use listing::{by_id, by_ids, delete, id_of, suspend, tell};
pub use listing::{insert, lock, raise_version, replace};
pub use stats::add_rating;
