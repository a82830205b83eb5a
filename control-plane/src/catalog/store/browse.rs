//! Pages of lists.
//!
//! A statement here serves every filter and sort. It is planned anew for each call (see
//! [`crate::db::Db::browsing`]): then Postgres knows which filters there are, the conditions of
//! absent ones fall away, and the order is that of an index.
//!
//! A page is read in one of two ways, so that it costs the same among a thousand listings and among a
//! million. Few that pass the filter are gathered, then sorted. Many stand close together in the
//! order of the sort, so that order is walked until the page is full.

use crochet_shared::id::ProfileId;
use sqlx::PgExecutor;
use uuid::Uuid;

use super::filter::Filter;
use crate::catalog::search::Meaning;
use crate::paging::{Paging, ROWS_MAX};

/// Listings that are gathered and sorted; among more of them the order is walked.
const GATHERED_MAX: i64 = 2_000;
/// The same on the first page of a search, whose walk passes by all that lacks the words.
const FOUND_GATHERED_MAX: i64 = 3_000;
/// Rows that a first page reads, as a rule.
const FIRST_PAGE: i64 = 21;
/// Rows that are read of a search that may be remembered, from its first on: five pages, and one more.
const FIRST_ROWS: i64 = 101;
/// Nanoseconds of an entry of a word's list in the index of words: to read it,
const ENTRY_READ_NS: i64 = 5;
/// and to meet it with the rarest word's, for each word.
const ENTRY_MET_NS: i64 = 15;
/// Nanoseconds of a listing that is gathered.
const GATHERED_NS: i64 = 600;
/// Nanoseconds from which on a search is dear.
const DEAR_NS: i64 = 1_000_000;

/// A listing's place in a sorted list.
#[derive(Clone, Copy, Debug)]
pub(in crate::catalog) struct Place {
    pub(in crate::catalog) id: Uuid,
    /// What it is sorted by; 0 among the newest, whose ids are in the order of time.
    pub(in crate::catalog) value: i64,
}

/// Places of a page, and how many pass the filter on all pages.
#[derive(Debug)]
pub(in crate::catalog) struct Gathered {
    pub(in crate::catalog) places: Vec<Place>,
    pub(in crate::catalog) count: i64,
}

/// Listings that are rather gathered than walked for. The further a page of a search is, the longer the
/// walk to it, and the more of them are.
pub(in crate::catalog) fn gathered_max(filter: &Filter, paging: &Paging) -> i64 {
    if filter.words.is_empty() {
        return GATHERED_MAX;
    }
    // A walk grows with the pages and shrinks with what is found; gathering grows with what is found.
    let pages = paging.end() / FIRST_PAGE;
    FOUND_GATHERED_MAX * pages.max(1).isqrt()
}

/// Whether a search that `count` listings match is dear to gather: all that the index lists of each word is met with one
/// another, and each match is visited.
pub(in crate::catalog) fn is_dear(filter: &Filter, count: i64) -> bool {
    let rarest = filter.words.first().map_or(0, |meaning| meaning.listings);
    let listed = |meaning: &Meaning| meaning.listings * ENTRY_READ_NS + rarest * ENTRY_MET_NS;
    filter.words.iter().map(listed).sum::<i64>() + count * GATHERED_NS >= DEAR_NS
}

/// Rows that [`gather`] reads: on the way to be remembered, more than the page shows.
fn fetched(filter: &Filter, paging: &Paging) -> i64 {
    if paging.is_first() && filter.is_words_alone() {
        FIRST_ROWS.max(paging.fetch())
    } else {
        paging.fetch()
    }
}

/// A page of the active listings that pass the filter, and how many these are, counted as far as
/// `most`: a page of more of them is not the right one. `sort` is a public name of a sort.
///
/// All of them are read once, to be counted as well as sorted: with words out of `listing_search`. The first page of a
/// search by words alone comes with rows of those that follow, to be remembered.
pub(in crate::catalog) async fn gather(
    db: impl PgExecutor<'_>,
    filter: &Filter,
    sort: &str,
    paging: &Paging,
    most: i64,
) -> Result<Gathered, sqlx::Error> {
    let rows = sqlx::query!(
        r#"with found as materialized (
               select id, value from (
                   select s.listing_id as id,
                       case $1::text when 'popular' then s.calls_30d when 'rating' then s.rating_order
                           when 'newest' then 0 else s.price_micros end as value
                   from listing_stats s
                   where $11::text is null and s.active
                       and ($2::uuid is null or s.seller_id = $2)
                       and ($3::uuid is null or s.category_id = $3)
                       and ($4::text is null or s.delivery_type = $4)
                       and ($5::int8 is null or s.price_micros >= $5)
                       and ($6::int8 is null or s.price_micros <= $6)
                   union all
                   select l.listing_id,
                       case $1::text when 'popular' then l.calls_30d when 'rating' then l.rating_order
                           when 'newest' then 0 else l.price_micros end
                   from listing_search l
                   where l.words @@ $11::text::tsquery
                       and ($12::text is null or l.words @@ $12::text::tsquery)
                       and ($5::int8 is null or l.price_micros >= $5)
                       and ($6::int8 is null or l.price_micros <= $6)
               ) either limit $13
           ), page as (
               select id, value from found
               where $7::uuid is null or case $1 when 'price_low'
                   then (value, id) > ($8::int8, $7) else (value, id) < ($8::int8, $7) end
               order by
                   case $1 when 'price_low' then value end,
                   case $1 when 'price_low' then id end,
                   value desc, id desc
               offset $9 limit $10
           )
           select counted.count as "count!", page.id as "id?", page.value as "value?"
           from (select count(*) as count from found) counted left join page on true
           order by
               case $1 when 'price_low' then value end,
               case $1 when 'price_low' then id end,
               value desc, id desc"#,
        sort,
        filter.seller.map(|id| id.0),
        filter.category.map(|id| id.0),
        filter.delivery_type,
        filter.min_price,
        filter.max_price,
        paging.after(),
        paging.after_key(),
        paging.offset(),
        fetched(filter, paging),
        filter.rarest(),
        filter.beside_rarest(),
        most,
    )
    .fetch_all(db)
    .await?;
    Ok(Gathered {
        count: rows.first().map_or(0, |row| row.count),
        places: rows
            .into_iter()
            .filter_map(|row| row.id.zip(row.value))
            .map(|(id, value)| Place { id, value })
            .collect(),
    })
}

/// A page of the active listings that pass the filter, read in the order of `sort` from where the page
/// begins. With words, only those that have the marks of the two rarest are looked at.
pub(in crate::catalog) async fn walk(
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
               and ($11::text is null or s.marks & word_marks($13::text[]) <> 0::bit(256))
               and ($14::text[] is null or s.marks & word_marks($14::text[]) <> 0::bit(256))
               and ($11::text is null or exists (
                   select from listing_search l where l.listing_id = s.listing_id
                       and l.words @@ $11::text::tsquery
                       and ($12::text is null or l.words @@ $12::text::tsquery)
                   offset 0))
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
        filter.rarest(),
        filter.beside_rarest(),
        filter.marks(0),
        filter.marks(1),
    )
    .fetch_all(db)
    .await
}

/// How many active listings pass a filter without words, counted as far as `most` in an index.
pub(in crate::catalog) async fn count(
    db: impl PgExecutor<'_>,
    filter: &Filter,
    most: i64,
) -> Result<i64, sqlx::Error> {
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
    use crate::catalog::store::meaning;
    use crate::paging::Start;

    #[test]
    fn the_further_a_page_of_a_search_is_the_more_are_gathered() {
        let mut filter = Filter::default();
        let at = |filter: &Filter, page| {
            let start = Start::Page(page);
            gathered_max(filter, &Paging { limit: 20, start })
        };
        assert_eq!(at(&filter, 40), GATHERED_MAX);
        filter.words.push(meaning(&["a"], 1));
        assert_eq!(at(&filter, 1), FOUND_GATHERED_MAX);
        assert_eq!(at(&filter, 40), 6 * FOUND_GATHERED_MAX);
    }

    #[test]
    fn a_search_of_long_lists_or_many_matches_is_dear() {
        let of = |words: &[Meaning]| Filter {
            words: words.to_vec(),
            ..Filter::default()
        };
        assert!(is_dear(&of(&[meaning(&["a", "b"], 1_700)]), 1_650));
        assert!(!is_dear(&of(&[meaning(&["a", "b"], 1_200)]), 1_200));
        let common = [meaning(&["a"], 30_000), meaning(&["b"], 30_000)];
        assert!(is_dear(&of(&common), 1));
        let beside_rare = [meaning(&["a"], 30), meaning(&["b"], 30_000)];
        assert!(!is_dear(&of(&beside_rare), 30));
    }
}
