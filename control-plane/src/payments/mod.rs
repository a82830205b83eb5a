//! Payments: from a quote to a settled, stored answer.
//!
//! Owns `gateway_request` and what hangs on it, the provider's client, and the gateway's side of the
//! internal API ([`quote`], [`claim`], [`evidence`], [`settle`], [`answers`]). It never forwards a
//! call and never believes a webhook. Invariants: a quote is durable before it is shown; a payment is
//! claimable only with evidence; one owner holds a claim, under an epoch that only rises; state and
//! ledger move in one statement; no network call stands inside a transaction; a success once
//! recorded is never taken back.

pub mod answers;
mod background;
pub mod claim;
pub mod delivered;
pub mod evidence;
pub mod halving;
pub mod history;
pub mod lapse;
pub mod model;
pub mod outcomes;
pub mod quote;
pub mod reconcile;
pub mod relay;
mod requirements;
pub mod settle;
pub mod store;
mod sweep;
mod terms;
mod webhook;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::config::Config;

pub use background::run as background;
pub use quote::open_quote;
pub(crate) use requirements::Requirements;

/// What this room keeps in memory. Nothing of it is needed to be right; all of it is lost at a stop.
#[derive(Debug)]
pub struct State {
    /// Opened keys of the days' stored answers.
    day_keys: answers::DayKeys,
    /// Quotes being made.
    quotes: quote::Desk,
    /// Questions to the provider being collected.
    checks: evidence::Collector,
    /// Readers that wait for news.
    waiters: tokio::sync::Semaphore,
}

impl State {
    /// Empty.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        Ok(Self {
            day_keys: answers::DayKeys::default(),
            quotes: quote::Desk::new(config),
            checks: evidence::Collector::default(),
            waiters: tokio::sync::Semaphore::new(history::WAITERS_MAX),
        })
    }

    /// How many questions to the provider wait.
    pub fn checks_waiting(&self) -> usize {
        self.checks.waiting()
    }
}

/// Public routes.
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::default()
        .routes(routes!(history::list))
        .routes(routes!(history::one))
        .routes(routes!(history::response))
        .routes(routes!(history::payment))
        .routes(routes!(webhook::receive))
}
