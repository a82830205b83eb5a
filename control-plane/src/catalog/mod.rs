//! Catalog: what is sold, as everyone may see it.
//!
//! Owns `category`, `listing` and what browsing reads of it: `listing_stats`, `listing_search`,
//! `search_word`, `call_tally`. It never sees a private endpoint: that is [`crate::endpoints`]' room, which also makes
//! listings, since a `per_call` one is made together with its endpoint.
//!
//! Invariants:
//! - A price is exact: read from its text, kept in micro-dollars.
//! - A slug never changes, and never looks like an id.
//! - What was active once never becomes a draft, and is suspended instead of deleted.
//! - What browsing reads follows `listing` by triggers, so an operator's own statement is followed too.
//! - Ended calls and reviews reach a listing's stats from their own rooms, through [`tally`] and
//!   [`add_rating`]; nothing of a listing's stats is computed when it is read.
//! - Every change of a listing raises its version and stands in the outbox, in one transaction.

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

mod browse;
mod categories;
mod challenge;
mod listing;
mod memory;
mod price;
mod read;
mod remove;
mod search;
mod slug;
mod stats;
mod store;
mod words;
mod write;

pub use categories::find_category;
pub use listing::{
    DELIVERY_TYPES, Listing, PRICING_MODELS, PricingModel, Record, STATUSES, Status, name,
};
pub use memory::Memory;
pub use read::{named, owned, show};
pub use remove::{__path_remove, remove};
pub use slug::made_of;
pub use store::{
    Tallies, Withdrawal, add_rating, give_back, give_back_all_of, insert, lock, raise_version,
    replace, suspend, tally, withdraw, withdraw_all_of,
};
pub use words::Walk;
pub use write::{Change, Content, DESCRIPTION_CHARS_MAX, ListingContent, NAME_CHARS_MAX, Price};

/// What `loadtest/fuzz` reaches of this room.
#[cfg(fuzzing)]
pub mod fuzzed {
    use crochet_shared::money::Micros;
    use serde_json::value::RawValue;

    /// A price as it stands in a body.
    pub fn price(json: &str) -> Option<Micros> {
        let raw: &RawValue = serde_json::from_str(json).ok()?;
        super::price::price(raw).ok()
    }

    /// A price as it stands in a query.
    pub fn price_bound(text: &str) -> Option<Micros> {
        super::price::price_bound(text)
    }
}

/// `/categories`, `/listings/challenge`, `GET /listings`, `GET /me/listings`.
///
/// The routes of one listing are put together in [`crate::endpoints`], where writing them belongs.
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::default()
        .routes(routes!(categories::list))
        .routes(routes!(challenge::give))
        .routes(routes!(browse::mine))
}

/// `GET /listings`, with its description.
pub use browse::{__path_browse, browse};
/// `GET /listings/:id`, with its description.
pub use read::{__path_get_listing, get_listing};
