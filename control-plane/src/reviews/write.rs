//! `POST /reviews/:listingId`

use std::sync::Arc;

use axum::extract::{Path, State};
use crochet_shared::code::Code;
use crochet_shared::envelope::Success;
use crochet_shared::id::uuid_v7;
use sqlx::PgConnection;
use utoipa::ToSchema;

use super::fold::REST;
use super::review::{Ratings, Review};
use super::store::evidence;
use super::store::review::{self as store, NewReview};
use crate::answer::Created;
use crate::app::App;
use crate::catalog::{self, Status};
use crate::db::{OnConstraint as _, work};
use crate::error::ApiError;
use crate::extract::AppJson;
use crate::fields::{self, Fields, FromFields};
use crate::identity::Agent;

/// Longest title, in characters (contract, head).
const TITLE_CHARS_MAX: usize = 120;
/// Longest comment, in characters (contract, head).
const COMMENT_CHARS_MAX: usize = 4000;
/// Least and highest rating.
const RATINGS: [i64; 2] = [1, 5];
/// The constraint that makes reviews one a buyer and listing.
const ONCE: &str = "review_once";

/// The body of `POST /reviews/:listingId`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the API document")]
struct WriteReview {
    #[schema(example = 5, extensions(("x-range" = json!(RATINGS))))]
    accuracy_rating: i64,
    #[schema(example = 5, extensions(("x-range" = json!(RATINGS))))]
    reliability_rating: i64,
    #[schema(example = 4, extensions(("x-range" = json!(RATINGS))))]
    value_rating: i64,
    #[schema(example = "Exact", extensions(("x-name" = json!([0, TITLE_CHARS_MAX]))))]
    title: Option<String>,
    #[schema(example = "Right to the degree, every time.", extensions(("x-text" = json!([0, COMMENT_CHARS_MAX]))))]
    comment: Option<String>,
}

/// What [`WriteReview`] describes, read.
#[derive(Debug)]
pub(super) struct Write {
    ratings: Ratings,
    title: Option<String>,
    comment: Option<String>,
}

impl FromFields for Write {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let accuracy = rating(fields, "accuracy_rating");
        let reliability = rating(fields, "reliability_rating");
        let value = rating(fields, "value_rating");
        let title = fields.optional("title", fields::name(0, TITLE_CHARS_MAX));
        let comment = fields.optional("comment", fields::text(0, COMMENT_CHARS_MAX));
        Some(Self {
            ratings: Ratings {
                accuracy: accuracy?,
                reliability: reliability?,
                value: value?,
            },
            title: title.filter(|text| !text.is_empty()),
            comment: comment.filter(|text| !text.is_empty()),
        })
    }
}

fn rating(fields: &mut Fields<'_>, name: &'static str) -> Option<i16> {
    let [least, highest] = RATINGS;
    let whole = fields::integer(least, highest);
    fields.required(name, |raw| {
        whole(raw).and_then(|rating| i16::try_from(rating).map_err(|_| "is too large".into()))
    })
}

/// Reviews a listing.
///
/// Needs a delivered call on it within the last 30 days. One review for each buyer and listing. A
/// listing withdrawn since the purchase can still be reviewed.
#[utoipa::path(post, path = "/reviews/{listingId}", tag = "Reviews", operation_id = "createReview",
    security(("bearer" = [])),
    params(("listingId" = String, Path, description = "The listing's id or slug.", example = "weather-forecast")),
    request_body = WriteReview, responses((status = 201, body = Success<Review>)),
    extensions(("x-error-codes" = json!([Code::ListingNotFound, Code::CannotReviewOwnListing,
        Code::NoQualifyingPurchase, Code::ReviewAlreadyExists]))))]
pub(super) async fn write(
    State(app): State<Arc<App>>,
    Path(listing): Path<String>,
    reviewer: Agent,
    AppJson(write): AppJson<Write>,
) -> Result<Created<Review>, ApiError> {
    let listing = catalog::named(&app, &listing).await?;
    if listing.seller == reviewer.profile {
        return Err(Code::CannotReviewOwnListing.into());
    }
    if listing.content.status == Status::Draft {
        return Err(Code::ListingNotFound.into());
    }
    let has_purchase = evidence::has_purchase(
        app.db.pool(),
        listing.id.0,
        listing.seller.0,
        reviewer.profile.0,
        app.config.review_window.as_secs_f64(),
    )
    .await?;
    if !has_purchase {
        // What is true for good is said before what another purchase would mend.
        let again = store::has_reviewed(app.db.pool(), listing.id, reviewer.profile).await?;
        let code = if again {
            Code::ReviewAlreadyExists
        } else {
            Code::NoQualifyingPurchase
        };
        return Err(code.into());
    }
    let now = crochet_shared::clock::now();
    let new = &NewReview {
        id: uuid_v7(now),
        listing: listing.id,
        reviewer: reviewer.profile,
        seller: listing.seller,
        ratings: write.ratings,
        title: write.title.as_deref(),
        comment: write.comment.as_deref(),
        created_at: now,
    };
    app.db
        .run("reviews.write", |tx| work(keep(tx, new)))
        .await?;
    let row = store::by_ids(app.db.pool(), &[new.id])
        .await?
        .pop()
        .ok_or_else(|| ApiError::internal(anyhow::anyhow!("a review was written and is gone")))?;
    Ok(Created {
        // A review has no address of its own: it is read among its listing's.
        location: format!("{}/reviews/{}", crate::router::API, listing.id),
        data: row.into(),
    })
}

/// The review and everything that is summed over reviews.
async fn keep(tx: &mut PgConnection, new: &NewReview<'_>) -> Result<(), ApiError> {
    store::insert(tx, new)
        .await
        .on_constraint(ONCE, ApiError::from(Code::ReviewAlreadyExists))?;
    store::add_to_summary(tx, new.listing, new.ratings).await?;
    store::add_to_reputation(tx, new.seller, new.ratings, REST.as_secs_f64()).await?;
    catalog::add_rating(tx, new.listing, new.ratings.hundredths()).await?;
    Ok(())
}
