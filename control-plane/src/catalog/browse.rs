//! `GET /listings` and `GET /me/listings`.

use std::sync::Arc;

use axum::extract::State;
use crochet_shared::id::ProfileId;
use crochet_shared::money::Micros;
use utoipa::IntoParams;
use utoipa::openapi::schema::Schema;

use super::listing::{
    DELIVERY_TYPES, Listing, PRICING_MODELS, PricingModel, Record, STATUSES, Status,
};
use super::price::price_of_text;
use super::store::{self, Filter};
use super::write::PRICE_PATTERN;
use crate::answer::Listed;
use crate::app::App;
use crate::describe;
use crate::error::ApiError;
use crate::identity::Agent;
use crate::paging::{Page, Paging, PagingParams};
use crate::query::Query;

/// The filters of `GET /listings`.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by the API document")]
struct BrowseParams {
    /// Id or slug of a category.
    category: Option<String>,
    #[param(schema_with = pricing_models)]
    pricing_model: Option<String>,
    #[param(schema_with = delivery_types)]
    delivery_type: Option<String>,
    /// Least price of a call, in US dollars.
    #[param(schema_with = price_bound)]
    min_price: Option<String>,
    /// Highest price of a call, in US dollars.
    #[param(schema_with = price_bound)]
    max_price: Option<String>,
    /// Only what this agent sells.
    provider_id: Option<ProfileId>,
    #[param(schema_with = sorts)]
    sort: Option<String>,
}

const SORTS: [(&str, ()); 1] = [("newest", ())];

fn pricing_models() -> Schema {
    describe::one_of(&PRICING_MODELS)
}

fn delivery_types() -> Schema {
    describe::one_of(&DELIVERY_TYPES)
}

fn sorts() -> Schema {
    describe::one_of(&SORTS)
}

fn statuses() -> Schema {
    describe::one_of(&STATUSES)
}

fn price_bound() -> Schema {
    describe::pattern(PRICE_PATTERN, "0.25")
}

/// Browses the active listings.
#[utoipa::path(get, path = "/listings", tag = "Catalog", operation_id = "listListings",
    params(BrowseParams, PagingParams), responses((status = 200, body = Listed<Listing>)))]
pub async fn browse(
    State(app): State<Arc<App>>,
    mut query: Query,
) -> Result<Page<Listing>, ApiError> {
    let paging = Paging::read(&mut query);
    let category = query.text("category").map(str::to_owned);
    let category = match category {
        None => None,
        Some(text) => {
            let found = store::category(app.db.pool(), &text).await?;
            if found.is_none() {
                query.refuse("category", "must be the id or slug of a category");
            }
            found
        }
    };
    let filter = Filter {
        seller: query.parsed("provider_id", "must be an agent's id"),
        status: Some("active"),
        category,
        pricing_model: query
            .one_of("pricing_model", &PRICING_MODELS)
            .map(PricingModel::as_str),
        delivery_type: query.one_of("delivery_type", &DELIVERY_TYPES),
        min_price: bound(&mut query, "min_price"),
        max_price: bound(&mut query, "max_price"),
    };
    query.one_of("sort", &SORTS);
    if query.text("q").is_some() {
        query.refuse("q", "is not offered yet");
    }
    query.finish()?;
    page(&app, &paging, &filter).await
}

/// The filter of `GET /me/listings`.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by the API document")]
struct MineParams {
    #[param(schema_with = statuses)]
    status: Option<String>,
}

/// Lists your own listings, drafts and suspended ones too.
#[utoipa::path(get, path = "/me/listings", tag = "Catalog", operation_id = "listMyListings",
    security(("bearer" = [])), params(MineParams, PagingParams),
    responses((status = 200, body = Listed<Listing>)))]
pub(super) async fn mine(
    State(app): State<Arc<App>>,
    seller: Agent,
    mut query: Query,
) -> Result<Page<Listing>, ApiError> {
    let paging = Paging::read(&mut query);
    let filter = Filter {
        seller: Some(seller.profile),
        status: query.one_of("status", &STATUSES).map(Status::as_str),
        ..Filter::default()
    };
    query.finish()?;
    page(&app, &paging, &filter).await
}

async fn page(app: &App, paging: &Paging, filter: &Filter) -> Result<Page<Listing>, ApiError> {
    let total = if paging.counts() {
        Some(store::count(app.db.pool(), filter).await?)
    } else {
        None
    };
    let ids = store::ids(app.db.pool(), filter, paging).await?;
    let rows = store::by_ids(app.db.pool(), &ids).await?;
    paging.page(
        rows,
        total,
        |row: &Record| row.id.0,
        |row| Listing::new(app, row),
    )
}

fn bound(query: &mut Query, name: &'static str) -> Option<Micros> {
    let price = price_of_text(query.text(name)?);
    if price.is_none() {
        query.refuse(name, "must be US dollars as a decimal number");
    }
    price
}
