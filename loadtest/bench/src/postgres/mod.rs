//! What a path asks of Postgres: the log it writes, the round trips it makes, and what one commit takes.
//!
//! Never inside a measured window: positions are read before and after it, round trips are counted in
//! a pass of their own.

mod commit;
mod conversation;
#[cfg(test)]
mod server;
mod wal;
mod wire;

pub(crate) use commit::Commits;
pub(crate) use conversation::Tally;
pub(crate) use wal::{Each, Kind, Log, Position};
pub(crate) use wire::Wire;
