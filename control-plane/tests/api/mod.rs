//! The public API, route by route. Modules mirror the URLs; the router is driven in-process.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets what it does not expect is to fail, there and then"
)]

mod agents;
mod agents_claim;
mod api_keys;
mod auth_challenge;
mod auth_recover;
mod bad_input;
mod browse;
mod categories;
pub(crate) mod client;
mod documented;
mod endpoint;
mod humans;
mod internal;
mod limits;
mod listing;
mod listings;
mod manners;
mod me;
mod me_wallets;
mod publishing;
pub(crate) mod redis_server;
mod refused;
mod register;
mod reviews;
mod score;
mod search;
mod unread;
mod wallet;
