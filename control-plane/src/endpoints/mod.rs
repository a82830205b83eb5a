//! Endpoints: where a `per_call` listing is served, and how its seller is sure that we call.
//!
//! Owns `endpoint`, and the making and changing of listings, which a `per_call` listing and its
//! endpoint are made and changed together. It never connects to an endpoint: the gateway does, with
//! the [`route_record`] given here.
//!
//! Invariants:
//! - A private URL, an auth header's value and a signing secret are sealed at rest, each bound to its
//!   row and column; none of them is in any answer but the one that makes a signing secret.
//! - A `per_call` listing has an endpoint; every address of its host was allowed when it was saved.
//! - A replaced secret signs beside its successors until its own overlap is over; none is dropped early,
//!   so at most five are, and a further rotation is refused (429) until the first has ended.

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::catalog;

mod change;
mod model;
mod rewrap;
mod rotate;
mod route;
mod sell;
mod settings;
mod store;

pub use rewrap::{Rewrapped, rewrap, under_other_keys};
pub use route::route_record;

/// `/listings`, `/listings/:id`, `/listings/:id/endpoint` and what is below it.
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::default()
        .routes(routes!(catalog::browse, sell::sell))
        .routes(routes!(
            catalog::get_listing,
            change::change,
            catalog::remove
        ))
        .routes(routes!(settings::get, settings::put))
        .routes(routes!(rotate::rotate))
}
