//! `GET /listings/:id`, and the listing an owner wants to change.

use std::sync::Arc;

use axum::extract::{Path, State};
use crochet_shared::code::Code;
use crochet_shared::envelope::Success;
use crochet_shared::id::{ListingId, ProfileId};
use sqlx::PgExecutor;

use super::listing::{Listing, Record, Status, name};
use super::store;
use crate::answer::Data;
use crate::app::App;
use crate::error::ApiError;
use crate::identity::{Agent, MaybeAgent};

/// Shows a listing.
///
/// By its id or slug. Its owner, with her key, also sees it while it is a draft. The private endpoint
/// is never shown.
#[utoipa::path(get, path = "/listings/{id}", tag = "Catalog", operation_id = "getListing",
    security((), ("bearer" = [])),
    params(("id" = String, Path, description = "The listing's id or slug.", example = "weather-forecast")),
    responses((status = 200, body = Success<Listing>)),
    extensions(("x-error-codes" = json!([Code::ListingNotFound]))))]
pub async fn get_listing(
    State(app): State<Arc<App>>,
    MaybeAgent(reader): MaybeAgent,
    Path(text): Path<String>,
) -> Result<Data<Listing>, ApiError> {
    let record = find(app.db.pool(), app.db.pool(), &text).await?;
    let owner = reader.is_some_and(|agent| agent.profile == record.seller);
    if record.content.status == Status::Draft && !owner {
        return Err(Code::ListingNotFound.into());
    }
    Ok(Data(Listing::new(&app, record)))
}

/// The listing of this name, if it is this agent's to change: another's is 403, another's draft 404.
pub async fn owned(app: &App, owner: Agent, text: &str) -> Result<Record, ApiError> {
    let record = find(app.db.pool(), app.db.pool(), text).await?;
    may_change(&record, owner.profile)?;
    Ok(record)
}

/// The listing of this name, whatever its status: whoever asks must not show a draft to others.
pub async fn named(app: &App, text: &str) -> Result<Record, ApiError> {
    find(app.db.pool(), app.db.pool(), text).await
}

/// A listing as it is now.
pub async fn show(app: &App, id: ListingId) -> Result<Listing, ApiError> {
    let record = store::by_id(app.db.pool(), id.0)
        .await?
        .ok_or(Code::ListingNotFound)?;
    Ok(Listing::new(app, record))
}

fn may_change(record: &Record, who: ProfileId) -> Result<(), ApiError> {
    if record.seller == who {
        Ok(())
    } else if record.content.status == Status::Draft {
        Err(Code::ListingNotFound.into())
    } else {
        Err(Code::Forbidden.into())
    }
}

async fn find(
    ids: impl PgExecutor<'_>,
    rows: impl PgExecutor<'_>,
    text: &str,
) -> Result<Record, ApiError> {
    let name = name(text).ok_or(Code::ListingNotFound)?;
    let id = store::id_of(ids, &name)
        .await?
        .ok_or(Code::ListingNotFound)?;
    Ok(store::by_id(rows, id).await?.ok_or(Code::ListingNotFound)?)
}
