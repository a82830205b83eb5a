//! Stands between two processes and loses what passes, at the moment that hurts most: the request has
//! been passed on and acted upon, the reply is cut off with its connection.
//!
//! - [`FaultProxy::http`] understands HTTP/1.1 exchanges, so a test says of each what becomes of it;
//! - [`FaultProxy::postgres`] understands where a reply of Postgres ends, and loses a [`Share`] of them;
//! - [`http1`] reads the messages, for whoever else must see the bytes as they are.

pub mod http1;
mod postgres;
mod proxy;
mod share;

pub use proxy::{Fate, FaultProxy, Rewrite};
pub use share::Share;
