//! The control plane: the only process with Postgres and with provider credentials.
//!
//! Rooms import leftwards only: `identity ← catalog ← endpoints ← ledger ← payments ← reviews`, through
//! each other's `mod.rs`; `tests/rooms/mod.rs` enforces it. Around them stands the foundation, which every
//! room may use: [`app`], [`config`], [`db`], [`error`], [`answer`], [`extract`], [`fields`],
//! [`query`], [`paging`], [`describe`], [`limits`], [`vault`], [`resolve`]. [`docs`] describes the
//! whole from above, [`operator`] looks after it, and [`program`] is how all of it is run.

pub mod answer;
pub mod app;
pub mod catalog;
pub mod config;
pub mod db;
pub mod describe;
pub mod docs;
pub mod endpoints;
pub mod error;
pub mod extract;
pub mod fields;
mod health;
pub mod identity;
pub mod internal;
pub mod ledger;
pub mod limits;
pub mod metrics;
pub mod operator;
pub mod paging;
pub mod payments;
pub mod program;
pub mod publish;
pub mod query;
pub mod resolve;
pub mod reviews;
pub mod router;
pub mod serve;
mod unread;
pub mod vault;
