//! Reviews: what buyers say of what they bought, and the Crochet Score that follows from evidence.
//!
//! Owns `review`, its summaries, and `reputation` with what is folded into it. It never moves money
//! and never stands in a call's way: payments write nothing for it, and what they write anyway is
//! read behind them ([`fold`]).
//!
//! Invariants:
//! - A review has a delivered call behind it, is not the seller's, and is the only one of its buyer
//!   for its listing; the database refuses a second.
//! - Summaries move in the transaction of the review.
//! - Each finished call counts once: the cursor moves in the transaction that counts it.
//! - A score is a pure function of evidence ([`model`]); without evidence it is 500.

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;

mod background;
mod fold;
mod list;
pub mod model;
mod review;
mod score;
mod snapshot;
mod store;
mod write;

pub use background::run as background;
pub use fold::{FOLD_MARGIN, fold};
pub use snapshot::recompute;

/// `/reviews/:listingId`, `/agents/:id/score`
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::default()
        .routes(routes!(list::list, write::write))
        .routes(routes!(score::get))
}
