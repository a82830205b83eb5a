//! Relay, the payment provider: its HTTP API, what it says, and its webhook.
//!
//! Nothing here decides about money. A webhook is a hint; a row of `/requests/v3` is the record that
//! [`crate::payments::evidence`] judges.

pub mod bucket;
pub mod client;
pub mod line;
pub mod turns;
pub mod types;
pub mod webhook;

pub use client::{Client, ClientSettings, ProviderError};
pub use turns::Turn;
pub use types::{Moved, Output, ProviderQuote, Record, Status};
