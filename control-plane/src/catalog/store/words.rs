//! Words: what a search is made of, and what listings have.

use sqlx::PgExecutor;

use crate::catalog::search::{Similar, Word};

/// Words of the catalog that are looked at for one misspelled word.
const SIMILAR_MAX: i32 = 20;

/// The words of a search, each with how many listings have it.
pub(in crate::catalog) async fn words(
    db: impl PgExecutor<'_>,
    text: &str,
) -> Result<Vec<Word>, sqlx::Error> {
    // A word of plain letters and digits has one stem, or none.
    sqlx::query_as!(
        Word,
        r#"select taken.word as "written!", stem.word as "stem?",
                  coalesce(found_by_stem.listings, 0) as "stem_listings!",
                  coalesce(found.listings, 0) as "listings!"
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
        r#"select sought.word as "written!", found.word as "word!", found.listings as "listings!"
           from unnest($1::text[]) with ordinality as sought (word, place)
           cross join lateral similar_words(sought.word, $2) with ordinality as found (word, listings, place)
           order by sought.place, found.place"#,
        unknown,
        SIMILAR_MAX,
    )
    .fetch_all(db)
    .await
}
