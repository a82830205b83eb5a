//! The outside: the control plane's internal API, batched, and Redis.
//!
//! Nothing here decides. An adapter says what it learned, or that it did not learn it; whether a
//! lost reply is asked again is the step's business, because only the step knows what is idempotent.

pub mod again;
pub mod batch;
pub mod control_plane;
pub mod redis;
