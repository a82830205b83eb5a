//! `GET /listings` and `GET /me/listings`.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::State;
use crochet_shared::id::ProfileId;
use crochet_shared::money::PRICE_MIN;
use utoipa::IntoParams;
use uuid::Uuid;

use super::listing::{
    DELIVERY_TYPES, Listing, PRICING_MODELS, PricingModel, Record, STATUSES, Status,
};
use super::price::price_bound;
use super::search::{self, SEARCH_CHARS_MAX, Sought};
use super::store::{self, Filter, Gathered, Place};
use super::write::PRICE_PATTERN;
use crate::answer::Listed;
use crate::app::App;
use crate::describe::{self, schema_type};
use crate::error::ApiError;
use crate::fields;
use crate::identity::Agent;
use crate::paging::{Cursor, Key, Page, Paging, PagingParams, ROWS_MAX};
use crate::query::Query;

/// The filters of `GET /listings`.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by the API document")]
struct BrowseParams {
    /// Words to look for in names, descriptions and tags; a typo still finds.
    #[param(max_length = 200, example = "weather forecast")]
    q: Option<String>,
    /// Id or slug of a category.
    category: Option<String>,
    /// Only what is free, or only what is paid for by the call.
    #[param(value_type = PricingModels, required = false, inline)]
    pricing_model: Option<String>,
    /// Only what is delivered so.
    #[param(value_type = DeliveryTypes, required = false, inline)]
    delivery_type: Option<String>,
    /// Least price of a call, in US dollars.
    #[param(value_type = PriceText, required = false, inline)]
    min_price: Option<String>,
    /// Highest price of a call, in US dollars.
    #[param(value_type = PriceText, required = false, inline)]
    max_price: Option<String>,
    /// Only what this agent sells.
    provider_id: Option<ProfileId>,
    /// The order; `newest` when absent, beside `q` too.
    #[param(value_type = Sorts, required = false, inline)]
    sort: Option<String>,
}

schema_type!(PricingModels = describe::one_of(&PRICING_MODELS));
schema_type!(DeliveryTypes = describe::one_of(&DELIVERY_TYPES));
schema_type!(Sorts = describe::one_of(&SORTS));
schema_type!(Statuses = describe::one_of(&STATUSES));
schema_type!(PriceText = describe::pattern(PRICE_PATTERN, "0.25"));

/// A sort of `GET /listings`: its public name, and the number that its cursors carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sort {
    name: &'static str,
    number: u8,
}

const NEWEST: Sort = Sort {
    name: "newest",
    number: 0,
};

/// Names of [`Sort`]. A number is never used again for another order.
const SORTS: [(&str, Sort); 5] = [
    sort("newest", NEWEST.number),
    sort("popular", 1),
    sort("price_low", 2),
    sort("price_high", 3),
    sort("rating", 4),
];

const fn sort(name: &'static str, number: u8) -> (&'static str, Sort) {
    (name, Sort { name, number })
}

/// What was asked of `GET /listings`.
struct Asked {
    paging: Paging,
    sort: Sort,
    filter: Filter,
    /// Text to look for. Blank text narrows nothing.
    text: Option<String>,
}

/// Browses the active listings, the newest first or as sorted.
#[utoipa::path(get, path = "/listings", tag = "Catalog", operation_id = "listListings",
    params(BrowseParams, PagingParams), responses((status = 200, body = Listed<Listing>)))]
pub async fn browse(State(app): State<Arc<App>>, query: Query) -> Result<Page<Listing>, ApiError> {
    let mut asked = Asked::read(&app, query).await?;
    if asked.filter.is_empty() {
        return asked.page(&app, Vec::new(), 0).await;
    }
    let mut known = None;
    if let Some(text) = asked.text.take() {
        let sought = understand(&app, &text).await?;
        // How many have a word is known; how many of those pass a filter is not.
        known = sought.count().filter(|_| !asked.filter.narrows());
        match sought {
            Sought::Nothing => return asked.page(&app, Vec::new(), 0).await,
            Sought::Listings(meant) => asked.filter.words = meant,
        }
    }
    let Gathered { places, count } = read(&app, &asked, known).await?;
    asked.page(&app, places, count.min(ROWS_MAX)).await
}

/// The places of the page, and how many pass the filter: as far as numbered pages reach or, on the way
/// of a cursor, as far as it decides how the page is read.
///
/// What is dear to find out of common words is remembered (`memory`).
async fn read(app: &App, asked: &Asked, known: Option<i64>) -> Result<Gathered, sqlx::Error> {
    let (filter, paging, sort) = (&asked.filter, &asked.paging, asked.sort.name);
    let db = app.db.browsing();
    let gathered_max = store::gathered_max(filter, paging);
    let most = if paging.counts() {
        ROWS_MAX
    } else {
        gathered_max + 1
    };
    if let Some(remembered) = app.catalog.page(filter, sort, paging) {
        return Ok(remembered);
    }
    let mut count = match known {
        Some(known) => known,
        None if app.catalog.is_beyond_reach(filter) => {
            let places = store::walk(db, filter, sort, paging).await?;
            return Ok(Gathered {
                places,
                count: most,
            });
        }
        None if filter.words.is_empty() => store::count(db, filter, most).await?,
        // It is counted as it is gathered.
        None => 0,
    };
    if count <= gathered_max {
        // One more, which tells whether these are all.
        let bound = count.max(most) + 1;
        let gathered = store::gather(db, filter, sort, paging, bound).await?;
        if gathered.count < bound {
            if paging.is_first() && store::is_dear(filter, gathered.count) {
                app.catalog.remember_first(filter, sort, &gathered);
            }
            return Ok(gathered);
        }
        count = gathered.count;
    }
    if known.is_none() && count >= ROWS_MAX {
        app.catalog.remember_beyond_reach(filter);
    }
    let places = store::walk(db, filter, sort, paging).await?;
    Ok(Gathered { places, count })
}

/// The filter of `GET /me/listings`.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by the API document")]
struct MineParams {
    /// Only what stands so.
    #[param(value_type = Statuses, required = false, inline)]
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
    let status = query.one_of("status", &STATUSES).map(Status::as_str);
    query.finish()?;
    let db = app.db.browsing();
    let total = if paging.counts() {
        Some(store::count_own(db, seller.profile, status).await?)
    } else {
        None
    };
    let ids = store::own(db, seller.profile, status, &paging).await?;
    filled(&app, paging.page(ids, total, |id| *id, |id| id)?).await
}

impl Asked {
    async fn read(app: &App, mut query: Query) -> Result<Self, ApiError> {
        let category = match query.text("category").map(str::to_owned) {
            None => None,
            Some(text) => {
                let found = store::category(app.db.pool(), &text).await?;
                if found.is_none() {
                    query.refuse("category", "must be the id or slug of a category");
                }
                found
            }
        };
        let sort = query.one_of("sort", &SORTS).unwrap_or(NEWEST);
        let paging = Paging::read_sorted(&mut query, Some(sort.number));
        let (min_price, max_price) = prices(&mut query);
        let asked = Self {
            filter: Filter {
                seller: query.parsed("provider_id", "must be an agent's id"),
                category,
                delivery_type: query.one_of("delivery_type", &DELIVERY_TYPES),
                min_price,
                max_price,
                words: Vec::new(),
            },
            text: text(&mut query),
            sort,
            paging,
        };
        query.finish()?;
        Ok(asked)
    }

    /// Shows the listings at these places.
    async fn page(
        &self,
        app: &App,
        places: Vec<Place>,
        total: i64,
    ) -> Result<Page<Listing>, ApiError> {
        let cursor = |place: &Place| Cursor {
            key: Some(Key {
                sort: self.sort.number,
                value: place.value,
            }),
            id: place.id,
        };
        let total = Some(total).filter(|_| self.paging.counts());
        let page = self
            .paging
            .page_sorted(places, total, cursor, |place| place.id)?;
        filled(app, page).await
    }
}

/// `min_price` and `max_price`, and `pricing_model`, which says whether a price is zero.
fn prices(query: &mut Query) -> (Option<i64>, Option<i64>) {
    let mut bound = |name| {
        let price = price_bound(query.text(name)?);
        if price.is_none() {
            query.refuse(name, "must be US dollars as a decimal number");
        }
        price.map(|price| price.0)
    };
    let (min, max) = (bound("min_price"), bound("max_price"));
    match query.one_of("pricing_model", &PRICING_MODELS) {
        None => (min, max),
        Some(PricingModel::Free) => (min, Some(0)),
        Some(PricingModel::PerCall) => (Some(min.unwrap_or(0).max(PRICE_MIN.0)), max),
    }
}

/// `q`, unless it is blank.
fn text(query: &mut Query) -> Option<String> {
    match fields::bounded(query.text("q")?, 0, SEARCH_CHARS_MAX) {
        Ok(text) => Some(text).filter(|text| !text.is_empty()),
        Err(problem) => {
            query.refuse("q", problem);
            None
        }
    }
}

async fn understand(app: &App, text: &str) -> Result<Sought, sqlx::Error> {
    let words = store::words(app.db.browsing(), text).await?;
    let similar = match search::unknown(&words) {
        None => return Ok(Sought::Nothing),
        Some(unknown) if unknown.is_empty() => Vec::new(),
        Some(unknown) => store::similar(app.db.browsing(), &unknown).await?,
    };
    Ok(search::sought(&words, &similar))
}

/// A page of ids as a page of listings. One that went in this moment is left out.
async fn filled(app: &App, page: Page<Uuid>) -> Result<Page<Listing>, ApiError> {
    let rows = store::by_ids(app.db.browsing(), &page.items).await?;
    let mut rows: HashMap<Uuid, Record> = rows.into_iter().map(|row| (row.id.0, row)).collect();
    Ok(page.filled(|id| Some(Listing::new(app, rows.remove(&id)?))))
}
