//! Makes the listings: by the thousand in plain SQL, which the database follows as it follows any.

use anyhow::{Context as _, Result};
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, PgPool};

/// Sellers; a few have most of the listings.
const SELLERS: i32 = 1_000;
/// Listings of one statement.
const CHUNK: u32 = 25_000;
/// Statements at once.
const WRITERS: u32 = 2;

const VOCABULARY: &str = include_str!("vocabulary.sql");
const SEED: &str = include_str!("seed.sql");
/// What listings are made by.
pub(crate) const RECIPE: &str = concat!(include_str!("vocabulary.sql"), include_str!("seed.sql"));

/// The indexes that are not rules: made again when all is written, which is many times faster.
const INDEXES: &str = "select indexrelid::regclass::text, pg_get_indexdef(indexrelid) from pg_index
    where indrelid in ('listing'::regclass, 'listing_search'::regclass, 'listing_stats'::regclass) and not indisunique";

/// Fills a fresh database with `size` active listings, their calls and their ratings.
pub(crate) async fn seed(url: &str, size: u32) -> Result<()> {
    let pool = PgPoolOptions::new()
        .max_connections(WRITERS)
        .connect(url)
        .await
        .context("connecting to the database to be filled")?;
    run(&pool, VOCABULARY).await?;
    run(
        &pool,
        &format!(
            "insert into profile (id, account_type, display_name)
             select ('0190b000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'agent', 'Seller ' || n
             from generate_series(0, {SELLERS}) n"
        ),
    )
    .await?;
    let indexes: Vec<(String, String)> = sqlx::query_as(INDEXES).fetch_all(&pool).await?;
    for (name, _) in &indexes {
        run(&pool, &format!("drop index {name}")).await?;
    }
    write(&pool, size).await?;
    run(
        &pool,
        "update listing_stats set calls_30d = floor(power(100000, random())) where random() < 0.3;
         update listing_stats set review_count = reviews, rating_sum = reviews * (200 + floor(300 * random()))::bigint
         from (select listing_id as id, 1 + floor(20 * random())::integer as reviews from listing_stats
               where random() < 0.2) rated
         where listing_id = rated.id",
    )
    .await?;
    for (_, definition) in &indexes {
        run(&pool, definition).await?;
    }
    // All that is still to be written is written now, and not beside what is measured.
    run(&pool, "vacuum analyze").await?;
    run(&pool, "checkpoint").await?;
    pool.close().await;
    Ok(())
}

async fn write(pool: &PgPool, size: u32) -> Result<()> {
    let chunks: Vec<(u32, u32)> = (0..size.div_ceil(CHUNK))
        .map(|chunk| (chunk * CHUNK + 1, size.min((chunk + 1) * CHUNK)))
        .collect();
    let writer = async |turn: usize| {
        for (first, last) in chunks.iter().skip(turn).step_by(WRITERS as usize) {
            sqlx::query(SEED)
                .bind(i32::try_from(*first)?)
                .bind(i32::try_from(*last)?)
                .execute(pool)
                .await
                .context("writing listings")?;
        }
        Ok::<_, anyhow::Error>(())
    };
    tokio::try_join!(writer(0), writer(1))?;
    Ok(())
}

async fn run(pool: &PgPool, sql: &str) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(pool)
        .await
        .with_context(|| format!("running {sql}"))?;
    Ok(())
}
