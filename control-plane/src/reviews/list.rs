//! `GET /reviews/:listingId`

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use crochet_shared::code::Code;
use crochet_shared::envelope::always;
use http::StatusCode;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::review::{Review, Row, SORTS, Sort, Summary};
use super::store::review as store;
use crate::answer::json;
use crate::app::App;
use crate::catalog::{self, Status};
use crate::describe::{self, schema_type};
use crate::error::ApiError;
use crate::paging::{Pagination, Paging, PagingParams, ROWS_MAX};
use crate::query::Query;

/// A page of reviews, and the summary of all of them beside it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Reviews {
    #[schema(schema_with = always)]
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

/// The parameter of `GET /reviews/:listingId`.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by the API document")]
struct SortParams {
    /// `newest` when absent.
    #[param(value_type = Sorts, required = false, inline)]
    sort: Option<String>,
}

schema_type!(Sorts = describe::one_of(&SORTS));

/// Lists a listing's reviews.
///
/// The newest first unless asked otherwise, with a summary of all of them.
#[utoipa::path(get, path = "/reviews/{listingId}", tag = "Reviews", operation_id = "listReviews",
    params(("listingId" = String, Path, description = "The listing's id or slug.", example = "weather-forecast"),
        SortParams, PagingParams),
    responses((status = 200, body = Reviews)),
    extensions(("x-error-codes" = json!([Code::ListingNotFound]))))]
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
