//! `GET /categories`.

use std::sync::Arc;

use axum::extract::State;
use crochet_shared::id::CategoryId;
use serde::Serialize;

use super::store;
use crate::answer::Data;
use crate::app::App;
use crate::error::ApiError;
use crate::fields::Findings;

/// A category and how much is in it.
#[derive(Debug, Serialize)]
pub(super) struct Category {
    pub(super) id: CategoryId,
    pub(super) name: String,
    pub(super) slug: String,
    pub(super) description: String,
    /// Active listings.
    pub(super) listing_count: i64,
}

/// `GET /categories`
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
