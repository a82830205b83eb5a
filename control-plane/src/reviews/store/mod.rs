//! All SQL of reviews and scores.

pub(super) mod evidence;
pub(super) mod review;
pub(super) mod snapshot;
