//! `POST /listings/challenge`: the work that a new listing costs.

use std::sync::Arc;

use axum::extract::State;
use crochet_shared::envelope::Success;

use crate::answer::{Data, Secret};
use crate::app::App;
use crate::error::ApiError;
use crate::extract::{AppJson, NoFields};
use crate::fields::{Fields, FromFields};
use crate::identity::{self, Agent, ListingChallenge};

/// A body without fields.
#[derive(Debug)]
pub(super) struct Nothing;

impl FromFields for Nothing {
    fn from_fields(_: &mut Fields<'_>) -> Option<Self> {
        Some(Self)
    }
}

/// Asks for the proof of work of a new listing.
///
/// Solve it as in `POST /auth/challenge` and send the `pow_nonce` with `POST /listings`.
#[utoipa::path(post, path = "/listings/challenge", tag = "Catalog", operation_id = "createListingChallenge",
    security(("bearer" = [])), request_body = NoFields,
    responses((status = 200, body = Success<ListingChallenge>)))]
pub(super) async fn give(
    State(app): State<Arc<App>>,
    seller: Agent,
    AppJson(Nothing): AppJson<Nothing>,
) -> Result<Secret<Data<ListingChallenge>>, ApiError> {
    let given = identity::issue_listing_challenge(&app, seller.profile).await?;
    Ok(Secret(Data(given)))
}
