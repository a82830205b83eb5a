//! `GET /categories`.

use std::sync::Arc;

use axum::extract::State;
use crochet_shared::envelope::Success;
use crochet_shared::id::CategoryId;
use serde::Serialize;
use utoipa::ToSchema;

use super::store;
use crate::answer::Data;
use crate::app::App;
use crate::error::ApiError;
use crate::fields::Findings;

/// A category and how much is in it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Category {
    pub(super) id: CategoryId,
    #[schema(example = "Data")]
    pub(super) name: String,
    #[schema(example = "data")]
    pub(super) slug: String,
    #[schema(example = "Facts, feeds and look-ups.")]
    pub(super) description: String,
    /// Active listings.
    #[schema(example = 17)]
    pub(super) listing_count: i64,
}

/// Lists the categories.
#[utoipa::path(get, path = "/categories", tag = "Catalog", operation_id = "listCategories",
    responses((status = 200, body = Success<Vec<Category>>)))]
pub(super) async fn list(State(app): State<Arc<App>>) -> Result<Data<Vec<Category>>, ApiError> {
    Ok(Data(store::categories(app.db.pool()).await?))
}

/// The category that a seller named by id or slug; one that is none is found to be bad.
pub async fn find_category(
    app: &App,
    text: &str,
    findings: &mut Findings,
) -> Result<Option<CategoryId>, ApiError> {
    let found = store::category(app.db.pool(), text).await?;
    if found.is_none() {
        findings.refuse("category", "must be the id or slug of a category");
    }
    Ok(found)
}
