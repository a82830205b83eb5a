//! `GET /listings` and `GET /me/listings`.

use std::sync::Arc;

use axum::extract::State;
use crochet_shared::money::Micros;

use super::listing::{
    DELIVERY_TYPES, Listing, PRICING_MODELS, PricingModel, Record, STATUSES, Status,
};
use super::price::price_of_text;
use super::store::{self, Filter};
use crate::app::App;
use crate::error::ApiError;
use crate::identity::Agent;
use crate::paging::{Page, Paging};
use crate::query::Query;

/// `GET /listings`: what is active, the newest first.
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
    query.one_of("sort", &[("newest", ())]);
    if query.text("q").is_some() {
        query.refuse("q", "is not offered yet");
    }
    query.finish()?;
    page(&app, &paging, &filter).await
}

/// `GET /me/listings`: all of one's own.
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
