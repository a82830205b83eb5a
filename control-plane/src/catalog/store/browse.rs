//! Pages of lists.

use crochet_shared::id::{CategoryId, ProfileId};
use crochet_shared::money::Micros;
use sqlx::PgExecutor;
use uuid::Uuid;

use crate::paging::{Paging, ROWS_MAX};

/// What of a list is wanted. `None` does not narrow.
#[derive(Default)]
pub(in crate::catalog) struct Filter {
    pub(in crate::catalog) seller: Option<ProfileId>,
    pub(in crate::catalog) status: Option<&'static str>,
    pub(in crate::catalog) category: Option<CategoryId>,
    pub(in crate::catalog) pricing_model: Option<&'static str>,
    pub(in crate::catalog) delivery_type: Option<&'static str>,
    pub(in crate::catalog) min_price: Option<Micros>,
    pub(in crate::catalog) max_price: Option<Micros>,
}

/// Ids of a page, the newest first.
pub(in crate::catalog) async fn ids(
    db: impl PgExecutor<'_>,
    filter: &Filter,
    paging: &Paging,
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        "select id from listing
         where ($1::uuid is null or seller_id = $1)
           and ($2::text is null or status = $2)
           and ($3::uuid is null or category_id = $3)
           and ($4::text is null or pricing_model = $4)
           and ($5::text is null or delivery_type = $5)
           and ($6::bigint is null or price_micros >= $6)
           and ($7::bigint is null or price_micros <= $7)
           and ($8::uuid is null or id < $8)
         order by id desc
         offset $9 limit $10",
        filter.seller.map(|id| id.0),
        filter.status,
        filter.category.map(|id| id.0),
        filter.pricing_model,
        filter.delivery_type,
        filter.min_price.map(|price| price.0),
        filter.max_price.map(|price| price.0),
        paging.after(),
        paging.offset(),
        paging.fetch(),
    )
    .fetch_all(db)
    .await
}

/// How many there are, counted as far as numbered pages reach.
pub(in crate::catalog) async fn count(
    db: impl PgExecutor<'_>,
    filter: &Filter,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select count(*) as "count!" from (
             select 1 from listing
             where ($1::uuid is null or seller_id = $1)
               and ($2::text is null or status = $2)
               and ($3::uuid is null or category_id = $3)
               and ($4::text is null or pricing_model = $4)
               and ($5::text is null or delivery_type = $5)
               and ($6::bigint is null or price_micros >= $6)
               and ($7::bigint is null or price_micros <= $7)
             limit $8) counted"#,
        filter.seller.map(|id| id.0),
        filter.status,
        filter.category.map(|id| id.0),
        filter.pricing_model,
        filter.delivery_type,
        filter.min_price.map(|price| price.0),
        filter.max_price.map(|price| price.0),
        ROWS_MAX,
    )
    .fetch_one(db)
    .await
}
