//! Fills a database: listings as for browsing, keys, and the calls that a ledger is made of.

use std::time::Instant;

use anyhow::{Context as _, Result};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool};

use super::room;
use super::size::Size;
use crate::browse;
use crate::report::thousands;

/// Rows of one statement: what it holds in memory, and how often progress can be told.
const CHUNK: u32 = 25_000;
/// Statements at once.
const WRITERS: u32 = 2;
/// Progress is told this many times.
const TOLD: u32 = 10;

const KEYS: &str = include_str!("keys.sql");
const LEDGER: &str = include_str!("ledger.sql");
const FOLDED: &str = include_str!("folded.sql");
const SETTLED: &str =
    "vacuum analyze profile, api_key, gateway_request, payment_evidence, transfer, ledger_hour";

/// What a database was filled with: two that were filled by the same have the same rows.
pub(super) fn recipe(size: Size) -> String {
    [&format!("{size:?}"), browse::RECIPE, KEYS, LEDGER, FOLDED].join("\n")
}

/// Whether the last call of all is there.
pub(super) async fn is_there(url: &str, size: Size) -> Result<bool> {
    let mut connection = PgConnection::connect(url).await?;
    let is_there = sqlx::query_scalar(
        "select exists (select from gateway_request where relay_request_id = '0x' || encode(sha256($1::text::bytea), 'hex'))",
    )
    .bind(size.calls().to_string())
    .fetch_one(&mut connection)
    .await?;
    connection.close().await?;
    Ok(is_there)
}

/// Fills a fresh database that nobody else uses meanwhile.
pub(super) async fn seed(url: &str, size: Size) -> Result<()> {
    let begun = Instant::now();
    // Foreign keys are not checked, row by row, for rows that are right by how they are made; the audit at the end
    // of a run looks at them all. A row that a crash loses is made again with all others.
    let options: PgConnectOptions = url.parse().context("the database's URL")?;
    let options = options.options([
        ("session_replication_role", "replica"),
        ("synchronous_commit", "off"),
        // The sums by hour are made at once.
        ("work_mem", "256MB"),
    ]);
    let pool = PgPoolOptions::new()
        .max_connections(WRITERS)
        .connect_with(options)
        .await
        .context("connecting to the database to be filled")?;
    room::check(&pool, size).await?;
    eprintln!("Making {} listings", thousands(size.listings));
    browse::seed(url, size.listings).await?;
    eprintln!("  after {:.0} s", begun.elapsed().as_secs_f64());
    write(&pool, "keys", KEYS, size.keys, begun).await?;
    write(&pool, "delivered calls", LEDGER, size.calls(), begun).await?;
    for statement in [FOLDED, SETTLED, "checkpoint"] {
        run(&pool, statement).await?;
    }
    let bytes: i64 = sqlx::query_scalar("select pg_database_size(current_database())")
        .fetch_one(&pool)
        .await?;
    pool.close().await;
    eprintln!(
        "Filled in {:.0} s: {} rows of the ledger, {:.1} GB in all",
        begun.elapsed().as_secs_f64(),
        thousands(size.calls() * Size::TRANSFERS_A_CALL),
        room::gigabytes(u64::try_from(bytes)?)
    );
    Ok(())
}

/// Rows 1 to `count` by a statement that makes those from `$1` to `$2`.
async fn write(pool: &PgPool, what: &str, sql: &str, count: u32, begun: Instant) -> Result<()> {
    let sql = sql.replace(":calls", &count.to_string());
    let chunks: Vec<(u32, u32)> = (0..count.div_ceil(CHUNK))
        .map(|chunk| (chunk * CHUNK + 1, count.min((chunk + 1) * CHUNK)))
        .collect();
    let step = count.div_ceil(TOLD).max(CHUNK);
    let writer = async |turn: usize| {
        for (first, last) in chunks.iter().skip(turn).step_by(WRITERS as usize) {
            sqlx::query(AssertSqlSafe(sql.clone()))
                .bind(i32::try_from(*first)?)
                .bind(i32::try_from(*last)?)
                .execute(pool)
                .await
                .with_context(|| format!("writing {what}"))?;
            if last / step > (first - 1) / step || *last == count {
                let (last, count) = (thousands(*last), thousands(count));
                let seconds = begun.elapsed().as_secs_f64();
                eprintln!("  {last} of {count} {what} after {seconds:.0} s");
            }
        }
        Ok::<_, anyhow::Error>(())
    };
    tokio::try_join!(writer(0), writer(1))?;
    Ok(())
}

async fn run(pool: &PgPool, sql: &'static str) -> Result<()> {
    sqlx::raw_sql(sql)
        .execute(pool)
        .await
        .with_context(|| format!("running {sql}"))?;
    Ok(())
}
