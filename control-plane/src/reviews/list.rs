//! `GET /reviews/:listingId`

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use crochet_shared::code::Code;
use http::StatusCode;
use serde::Serialize;

use super::review::{Review, Row, SORTS, Sort, Summary};
use super::store::review as store;
use crate::answer::json;
use crate::app::App;
use crate::catalog::{self, Status};
use crate::error::ApiError;
use crate::paging::{Pagination, Paging, ROWS_MAX};
use crate::query::Query;

/// A page of reviews, and the summary of all of them beside it.
#[derive(Debug, Serialize)]
pub(super) struct Reviews {
    success: bool,
    data: Vec<Review>,
    pagination: Pagination,
    summary: Summary,
}

impl IntoResponse for Reviews {
    fn into_response(self) -> Response {
        json(StatusCode::OK, &self)
    }
}

/// `GET /reviews/:listingId`, the newest first unless asked otherwise.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Path(listing): Path<String>,
    mut query: Query,
) -> Result<Reviews, ApiError> {
    let paging = Paging::read(&mut query);
    let sort = query.one_of("sort", &SORTS).unwrap_or(Sort::Newest);
    query.finish()?;
    let listing = catalog::named(&app, &listing).await?;
    if listing.content.status == Status::Draft {
        return Err(Code::ListingNotFound.into());
    }
    let pool = app.db.pool();
    let total =
        match paging.after().filter(|_| sort != Sort::Newest) {
            Some(id) => {
                let total = store::total_of(pool, listing.id, id).await?;
                Some(total.ok_or_else(|| {
                    ApiError::field("cursor", "must be a next_cursor of this list")
                })?)
            }
            None => None,
        };
    let ids = store::ids(pool, listing.id, sort, &paging, total).await?;
    let rows = store::by_ids(pool, &ids).await?;
    let sums = store::summary(pool, listing.id).await?;
    let counted = paging.counts().then(|| sums.count().min(ROWS_MAX));
    let page = paging.page(rows, counted, |row: &Row| row.id, Review::from)?;
    Ok(Reviews {
        success: true,
        data: page.items,
        pagination: page.pagination,
        summary: sums.into(),
    })
}
