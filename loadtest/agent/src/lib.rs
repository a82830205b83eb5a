//! A stranger's client of Crochet, written from the public contract alone.
//!
//! The demo, the tests and the bench buy and sell through it, so it deliberately does not depend on
//! `crochet-shared`: what both sides got wrong in the same way would otherwise never be noticed.
//!
//! - [`Wallet`] signs a challenge (EVM or Solana), [`proof_of_work`] solves one;
//! - [`Api`] sends any request and gives back the whole [`Answer`];
//! - [`Agent`] is a registered profile with its key: it lists, quotes, calls and reads its history;
//! - [`PaidCall`] is one call worth paying for; [`Agent::buy`] takes it from the 402 to the answer;
//! - [`Sandbox`] and [`DemoSeller`] are the two stand-ins a development stack runs.

mod agent;
mod api;
mod listing;
mod paid_call;
mod proof_of_work;
mod random;
mod stand_in;
mod wallet;

pub use agent::Agent;
pub use api::{Answer, Api, client};
pub use listing::{Listing, NewListing};
pub use paid_call::{Bought, PaidCall, Patience, Quote};
pub use proof_of_work::proof_of_work;
pub use random::{hex, random_bytes, random_hex};
pub use reqwest::Method;
pub use stand_in::{DemoSeller, Sandbox};
pub use wallet::{Chain, Wallet};
