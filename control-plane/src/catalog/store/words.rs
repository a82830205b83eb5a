//! Words: what a search is made of, and what listings have.

use sqlx::PgExecutor;

use crate::catalog::search::{Similar, Word};

/// Words of the catalog that are looked at for one misspelled word.
const SIMILAR_MAX: i32 = 20;

/// The words of a search, each with how many listings have it, and which transaction last changed which do.
pub(in crate::catalog) async fn words(
    db: impl PgExecutor<'_>,
    text: &str,
) -> Result<Vec<Word>, sqlx::Error> {
    // A word of plain letters and digits has one stem, or none.
    sqlx::query_as!(
        Word,
        r#"select taken.word as "written!", stem.word as "stem?",
                  coalesce(found_by_stem.listings, 0) as "stem_listings!",
                  coalesce(found_by_stem.xmin::text::bigint, 0) as "stem_change!",
                  coalesce(found.listings, 0) as "listings!",
                  coalesce(found.xmin::text::bigint, 0) as "change!"
           from unnest(to_tsvector('pg_catalog.simple', plain_words($1))) as taken (word, positions, weights)
           left join lateral unnest(to_tsvector('pg_catalog.english', taken.word))
               as stem (word, positions, weights) on true
           left join search_word found_by_stem on found_by_stem.word = stem.word
           left join search_word found on found.word = taken.word
           order by taken.word"#,
        text,
    )
    .fetch_all(db)
    .await
}

/// Words of the catalog spelled like these, of each the likest first.
pub(in crate::catalog) async fn similar(
    db: impl PgExecutor<'_>,
    unknown: &[String],
) -> Result<Vec<Similar>, sqlx::Error> {
    sqlx::query_as!(
        Similar,
        r#"select sought.word as "spelled!", found.word as "word!", found.listings as "listings!",
                  coalesce((select w.xmin::text::bigint from search_word w where w.word = found.word), 0)
                      as "change!"
           from unnest($1::text[]) with ordinality as sought (word, place)
           cross join lateral similar_words(sought.word, $2) with ordinality as found (word, listings, place)
           order by sought.place, found.place"#,
        unknown,
        SIMILAR_MAX,
    )
    .fetch_all(db)
    .await
}

/// How one look for unused words ended.
#[derive(Debug)]
pub(in crate::catalog) struct Look {
    /// The last word looked at; `None` when there was none behind the place.
    pub(in crate::catalog) last: Option<String>,
    /// How many words were deleted.
    pub(in crate::catalog) deleted: i64,
}

/// Deletes those of the next `most` words behind `place` that no active listing has. One that a listing's
/// change holds at this moment is left for the next time round; one that is used again is written anew.
pub(in crate::catalog) async fn delete_unused(
    db: impl PgExecutor<'_>,
    place: &str,
    most: i64,
) -> Result<Look, sqlx::Error> {
    sqlx::query_as!(
        Look,
        r#"with step as materialized (
               select word from search_word where word > $1 order by word limit $2
           ), unused as materialized (
               select w.word from search_word w join step using (word)
               where w.listings <= 0 for update of w skip locked
           ), deleted as (
               delete from search_word w using unused u where w.word = u.word returning w.word
           )
           select (select max(word) from step) as last, (select count(*) from deleted) as "deleted!""#,
        place,
        most,
    )
    .fetch_one(db)
    .await
}
