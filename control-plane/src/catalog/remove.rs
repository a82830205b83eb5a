//! `DELETE /listings/:id`: a draft goes; what was active is suspended, and its history stays.

use std::sync::Arc;

use axum::extract::{Path, State};
use crochet_shared::code::Code;
use crochet_shared::envelope::Success;
use crochet_shared::id::ListingId;
use serde::Serialize;
use utoipa::ToSchema;

use super::{read, store};
use crate::answer::Data;
use crate::app::App;
use crate::db::work;
use crate::error::ApiError;
use crate::identity::Agent;

/// What became of the listing.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Removed {
    /// It was never active, and is gone.
    Deleted {
        /// Which.
        id: ListingId,
        /// Always true.
        #[schema(example = true)]
        deleted: bool,
    },
    /// It is withdrawn.
    Suspended {
        /// Which.
        id: ListingId,
        /// Always `suspended`.
        #[schema(example = "suspended")]
        status: &'static str,
    },
}

/// Deletes a draft, or suspends a listing.
///
/// What was never active is deleted; what was is suspended, and its history stays. A second time
/// answers the same of a suspended one.
#[utoipa::path(delete, path = "/listings/{id}", tag = "Catalog", operation_id = "deleteListing",
    security(("bearer" = [])),
    params(("id" = String, Path, description = "The listing's id or slug.", example = "weather-forecast")),
    responses((status = 200, body = Success<Removed>)),
    extensions(("x-error-codes" = json!([Code::ListingNotFound, Code::Forbidden]))))]
pub async fn remove(
    State(app): State<Arc<App>>,
    owner: Agent,
    Path(text): Path<String>,
) -> Result<Data<Removed>, ApiError> {
    let id = read::owned(&app, owner, &text).await?.id;
    let now = crochet_shared::clock::now();
    let removed = app
        .db
        .run("catalog.remove", |tx| {
            work(async move {
                let was_active = store::lock(tx, id)
                    .await?
                    .ok_or(Code::ListingNotFound)?
                    .was_active;
                if !was_active {
                    store::delete(tx, id.0).await?;
                    store::tell(tx, id.0).await?;
                    return Ok(Removed::Deleted { id, deleted: true });
                }
                if store::suspend(tx, id.0, now).await? {
                    store::tell(tx, id.0).await?;
                }
                Ok::<_, ApiError>(Removed::Suspended {
                    id,
                    status: "suspended",
                })
            })
        })
        .await?;
    Ok(Data(removed))
}
