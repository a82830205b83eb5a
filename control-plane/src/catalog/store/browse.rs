//! Pages of lists.
//!
//! A statement here serves every filter and sort. It is planned anew for each call (see
//! [`crate::db::Db::browsing`]): then Postgres knows which filters there are, the conditions of
//! absent ones fall away, and the order is that of an index.
//!
//! A page is read in one of two ways, so that it costs the same among a thousand listings and among a
//! million. Few that pass the filter are gathered, then sorted. Many stand close together in the
//! order of the sort, so that order is walked until the page is full.

use crochet_shared::id::{CategoryId, ProfileId};
use sqlx::PgExecutor;
use uuid::Uuid;

use crate::paging::{Paging, ROWS_MAX};

/// Listings that are gathered and sorted; among more of them the order is walked.
pub(in crate::catalog) const GATHERED_MAX: i64 = 2_000;

/// What of the catalog is wanted. `None` does not narrow.
#[derive(Debug, Default)]
pub(in crate::catalog) struct Filter {
    pub(in crate::catalog) seller: Option<ProfileId>,
    pub(in crate::catalog) category: Option<CategoryId>,
    pub(in crate::catalog) delivery_type: Option<&'static str>,
    /// Lowest price in micro-dollars, inclusive. Above 0 it leaves out what is free.
    pub(in crate::catalog) min_price: Option<i64>,
    /// Highest price in micro-dollars, inclusive.
    pub(in crate::catalog) max_price: Option<i64>,
    /// A `tsquery`.
    pub(in crate::catalog) words: Option<String>,
}

impl Filter {
    /// Whether anything but the words narrows.
    pub(in crate::catalog) fn narrows(&self) -> bool {
        self.seller.is_some()
            || self.category.is_some()
            || self.delivery_type.is_some()
            || self.min_price.is_some()
            || self.max_price.is_some()
    }

    /// Whether no listing can pass.
    pub(in crate::catalog) fn is_empty(&self) -> bool {
        matches!((self.min_price, self.max_price), (Some(min), Some(max)) if min > max)
    }

    /// The words, and of the rest what a listing is found by beside them (`listing_words`).
    fn found_by(&self) -> Option<String> {
        let mut parts = vec![format!("({})", self.words.as_deref()?)];
        if let Some(id) = self.category {
            parts.push(format!("'/c/{id}'"));
        }
        if let Some(name) = self.delivery_type {
            parts.push(format!("'/d/{name}'"));
        }
        match (self.min_price, self.max_price) {
            (_, Some(0)) => parts.push("'/p/free'".to_owned()),
            (Some(min), _) if min > 0 => parts.push("'/p/per_call'".to_owned()),
            _ => {}
        }
        Some(parts.join(" & "))
    }

    /// The lowest price, unless [`Self::found_by`] says it: 1 is the lowest there is.
    fn min_price_beside_words(&self) -> Option<i64> {
        self.min_price.filter(|min| *min > 1)
    }

    /// The highest price, unless [`Self::found_by`] says it.
    fn max_price_beside_words(&self) -> Option<i64> {
        self.max_price.filter(|max| *max != 0)
    }
}

/// A listing's place in a sorted list.
#[derive(Clone, Copy, Debug)]
pub(in crate::catalog) struct Place {
    pub(in crate::catalog) id: Uuid,
    /// What it is sorted by; 0 among the newest, whose ids are in the order of time.
    pub(in crate::catalog) value: i64,
}

/// The active listings of a page. `sort` is a public name of a sort; `count` is how many pass the
/// filter, as far as that is known.
pub(in crate::catalog) async fn places(
    db: impl PgExecutor<'_>,
    filter: &Filter,
    sort: &str,
    paging: &Paging,
    count: i64,
) -> Result<Vec<Place>, sqlx::Error> {
    match (filter.found_by(), count <= GATHERED_MAX) {
        (None, true) => gather(db, filter, sort, paging).await,
        (None, false) => walk(db, filter, sort, paging).await,
        (Some(words), true) => gather_by_words(db, filter, sort, paging, &words).await,
        (Some(words), false) => walk_for_words(db, filter, sort, paging, &words).await,
    }
}

async fn walk(
    db: impl PgExecutor<'_>,
    filter: &Filter,
    sort: &str,
    paging: &Paging,
) -> Result<Vec<Place>, sqlx::Error> {
    sqlx::query_as!(
        Place,
        r#"select s.listing_id as id,
               case $1::text when 'popular' then s.calls_30d when 'rating' then s.rating_order
                   when 'newest' then 0 else s.price_micros end as "value!"
           from listing_stats s
           where s.active
               and ($2::uuid is null or s.seller_id = $2)
               and ($3::uuid is null or s.category_id = $3)
               and ($4::text is null or s.delivery_type = $4)
               and ($5::int8 is null or s.price_micros >= $5)
               and ($6::int8 is null or s.price_micros <= $6)
               and ($7::uuid is null or case $1
                   when 'newest' then s.listing_id < $7
                   when 'popular' then (s.calls_30d, s.listing_id) < ($8, $7)
                   when 'rating' then (s.rating_order, s.listing_id) < ($8, $7)
                   when 'price_high' then (s.price_micros, s.listing_id) < ($8, $7)
                   else (s.price_micros, s.listing_id) > ($8, $7) end)
           order by
               case $1 when 'price_low' then s.price_micros end,
               case $1 when 'price_low' then s.listing_id end,
               case $1 when 'popular' then s.calls_30d when 'rating' then s.rating_order
                   when 'price_high' then s.price_micros end desc,
               case $1 when 'price_low' then null else s.listing_id end desc
           offset $9 limit $10"#,
        sort,
        filter.seller.map(|id| id.0),
        filter.category.map(|id| id.0),
        filter.delivery_type,
        filter.min_price,
        filter.max_price,
        paging.after(),
        paging.after_key(),
        paging.offset(),
        paging.fetch(),
    )
    .fetch_all(db)
    .await
}

/// As [`walk`], behind a fence that has the filter go first.
async fn gather(
    db: impl PgExecutor<'_>,
    filter: &Filter,
    sort: &str,
    paging: &Paging,
) -> Result<Vec<Place>, sqlx::Error> {
    sqlx::query_as!(
        Place,
        r#"select s.listing_id as id,
               case $1::text when 'popular' then s.calls_30d when 'rating' then s.rating_order
                   when 'newest' then 0 else s.price_micros end as "value!"
           from (
               select * from listing_stats s where s.active
                   and ($2::uuid is null or s.seller_id = $2)
                   and ($3::uuid is null or s.category_id = $3)
                   and ($4::text is null or s.delivery_type = $4)
                   and ($5::int8 is null or s.price_micros >= $5)
                   and ($6::int8 is null or s.price_micros <= $6)
               offset 0
           ) s
           where ($7::uuid is null or case $1
                   when 'newest' then s.listing_id < $7
                   when 'popular' then (s.calls_30d, s.listing_id) < ($8, $7)
                   when 'rating' then (s.rating_order, s.listing_id) < ($8, $7)
                   when 'price_high' then (s.price_micros, s.listing_id) < ($8, $7)
                   else (s.price_micros, s.listing_id) > ($8, $7) end)
           order by
               case $1 when 'price_low' then s.price_micros end,
               case $1 when 'price_low' then s.listing_id end,
               case $1 when 'popular' then s.calls_30d when 'rating' then s.rating_order
                   when 'price_high' then s.price_micros end desc,
               case $1 when 'price_low' then null else s.listing_id end desc
           offset $9 limit $10"#,
        sort,
        filter.seller.map(|id| id.0),
        filter.category.map(|id| id.0),
        filter.delivery_type,
        filter.min_price,
        filter.max_price,
        paging.after(),
        paging.after_key(),
        paging.offset(),
        paging.fetch(),
    )
    .fetch_all(db)
    .await
}

async fn walk_for_words(
    db: impl PgExecutor<'_>,
    filter: &Filter,
    sort: &str,
    paging: &Paging,
    words: &str,
) -> Result<Vec<Place>, sqlx::Error> {
    sqlx::query_as!(
        Place,
        r#"select s.listing_id as id,
               case $1::text when 'popular' then s.calls_30d when 'rating' then s.rating_order
                   when 'newest' then 0 else s.price_micros end as "value!"
           from listing_stats s
           join listing l on l.id = s.listing_id and l.status = 'active' and l.words @@ $11::text::tsquery
           where s.active
               and ($2::uuid is null or s.seller_id = $2)
               and ($3::uuid is null or s.category_id = $3)
               and ($4::text is null or s.delivery_type = $4)
               and ($5::int8 is null or s.price_micros >= $5)
               and ($6::int8 is null or s.price_micros <= $6)
               and ($7::uuid is null or case $1
                   when 'newest' then s.listing_id < $7
                   when 'popular' then (s.calls_30d, s.listing_id) < ($8, $7)
                   when 'rating' then (s.rating_order, s.listing_id) < ($8, $7)
                   when 'price_high' then (s.price_micros, s.listing_id) < ($8, $7)
                   else (s.price_micros, s.listing_id) > ($8, $7) end)
           order by
               case $1 when 'price_low' then s.price_micros end,
               case $1 when 'price_low' then s.listing_id end,
               case $1 when 'popular' then s.calls_30d when 'rating' then s.rating_order
                   when 'price_high' then s.price_micros end desc,
               case $1 when 'price_low' then null else s.listing_id end desc
           offset $9 limit $10"#,
        sort,
        filter.seller.map(|id| id.0),
        filter.category.map(|id| id.0),
        filter.delivery_type,
        filter.min_price,
        filter.max_price,
        paging.after(),
        paging.after_key(),
        paging.offset(),
        paging.fetch(),
        words,
    )
    .fetch_all(db)
    .await
}

/// As [`walk_for_words`], behind a fence that has the words go first.
async fn gather_by_words(
    db: impl PgExecutor<'_>,
    filter: &Filter,
    sort: &str,
    paging: &Paging,
    words: &str,
) -> Result<Vec<Place>, sqlx::Error> {
    sqlx::query_as!(
        Place,
        r#"select s.listing_id as id,
               case $1::text when 'popular' then s.calls_30d when 'rating' then s.rating_order
                   when 'newest' then 0 else s.price_micros end as "value!"
           from (
               select id from listing where status = 'active' and words @@ $11::text::tsquery offset 0
           ) l
           join listing_stats s on s.listing_id = l.id
           where s.active
               and ($2::uuid is null or s.seller_id = $2)
               and ($3::uuid is null or s.category_id = $3)
               and ($4::text is null or s.delivery_type = $4)
               and ($5::int8 is null or s.price_micros >= $5)
               and ($6::int8 is null or s.price_micros <= $6)
               and ($7::uuid is null or case $1
                   when 'newest' then s.listing_id < $7
                   when 'popular' then (s.calls_30d, s.listing_id) < ($8, $7)
                   when 'rating' then (s.rating_order, s.listing_id) < ($8, $7)
                   when 'price_high' then (s.price_micros, s.listing_id) < ($8, $7)
                   else (s.price_micros, s.listing_id) > ($8, $7) end)
           order by
               case $1 when 'price_low' then s.price_micros end,
               case $1 when 'price_low' then s.listing_id end,
               case $1 when 'popular' then s.calls_30d when 'rating' then s.rating_order
                   when 'price_high' then s.price_micros end desc,
               case $1 when 'price_low' then null else s.listing_id end desc
           offset $9 limit $10"#,
        sort,
        filter.seller.map(|id| id.0),
        filter.category.map(|id| id.0),
        filter.delivery_type,
        filter.min_price,
        filter.max_price,
        paging.after(),
        paging.after_key(),
        paging.offset(),
        paging.fetch(),
        words,
    )
    .fetch_all(db)
    .await
}

/// How many active listings there are, counted as far as `most`.
pub(in crate::catalog) async fn count(
    db: impl PgExecutor<'_>,
    filter: &Filter,
    most: i64,
) -> Result<i64, sqlx::Error> {
    if let Some(words) = filter.found_by() {
        return count_by_words(db, filter, &words, most).await;
    }
    sqlx::query_scalar!(
        r#"select count(*) as "count!" from (
             select from listing_stats s
             where s.active
                 and ($1::uuid is null or s.seller_id = $1)
                 and ($2::uuid is null or s.category_id = $2)
                 and ($3::text is null or s.delivery_type = $3)
                 and ($4::int8 is null or s.price_micros >= $4)
                 and ($5::int8 is null or s.price_micros <= $5)
             limit $6) counted"#,
        filter.seller.map(|id| id.0),
        filter.category.map(|id| id.0),
        filter.delivery_type,
        filter.min_price,
        filter.max_price,
        most,
    )
    .fetch_one(db)
    .await
}

/// Without a seller or a price, nothing but the index of words is read.
async fn count_by_words(
    db: impl PgExecutor<'_>,
    filter: &Filter,
    words: &str,
    most: i64,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select count(*) as "count!" from (
             select from listing
             where status = 'active' and words @@ $1::text::tsquery
                 and ($2::uuid is null or seller_id = $2)
                 and ($3::int8 is null or price_micros >= $3)
                 and ($4::int8 is null or price_micros <= $4)
             limit $5) counted"#,
        words,
        filter.seller.map(|id| id.0),
        filter.min_price_beside_words(),
        filter.max_price_beside_words(),
        most,
    )
    .fetch_one(db)
    .await
}

/// Ids of a page of a seller's own listings, the newest first.
pub(in crate::catalog) async fn own(
    db: impl PgExecutor<'_>,
    seller: ProfileId,
    status: Option<&str>,
    paging: &Paging,
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        "select id from listing
         where seller_id = $1 and ($2::text is null or status = $2) and ($3::uuid is null or id < $3)
         order by id desc
         offset $4 limit $5",
        seller.0,
        status,
        paging.after(),
        paging.offset(),
        paging.fetch(),
    )
    .fetch_all(db)
    .await
}

/// How many of her own a seller has, counted as far as numbered pages reach.
pub(in crate::catalog) async fn count_own(
    db: impl PgExecutor<'_>,
    seller: ProfileId,
    status: Option<&str>,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select count(*) as "count!" from (
             select from listing where seller_id = $1 and ($2::text is null or status = $2)
             limit $3) counted"#,
        seller.0,
        status,
        ROWS_MAX,
    )
    .fetch_one(db)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_beside_the_words_is_said_once() {
        let mut filter = Filter {
            delivery_type: Some("api"),
            min_price: Some(1),
            ..Filter::default()
        };
        assert_eq!(filter.found_by(), None);
        filter.words = Some("'a' | 'b'".to_owned());
        assert_eq!(
            filter.found_by().as_deref(),
            Some("('a' | 'b') & '/d/api' & '/p/per_call'")
        );
        assert_eq!(filter.min_price_beside_words(), None);
        filter.min_price = Some(5);
        assert_eq!(filter.min_price_beside_words(), Some(5));
        (filter.min_price, filter.max_price) = (None, Some(0));
        assert_eq!(
            filter.found_by().as_deref(),
            Some("('a' | 'b') & '/d/api' & '/p/free'")
        );
        assert_eq!(filter.max_price_beside_words(), None);
    }
}
