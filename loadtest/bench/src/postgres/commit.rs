//! One durable commit of a single row: what a disk and a Postgres take at the least.

use std::time::Instant;

use anyhow::{Context as _, Result};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};

/// Where any server lets a table be made that is nobody's.
const DATABASE: &str = "postgres";
/// About as long as a row of the ledger.
const FILLER: &str = "................................................................................................";

/// A table to insert into, one row after the other, each a transaction of its own.
#[derive(Debug)]
pub(crate) struct Commits {
    connection: PgConnection,
}

impl Commits {
    /// Makes the table on the server of `database_url`, and first drops what a run left that was killed.
    pub(crate) async fn open(database_url: &str) -> Result<Self> {
        let options: PgConnectOptions = database_url.parse().context("the database's URL")?;
        let mut connection = options.database(DATABASE).connect().await?;
        sqlx::raw_sql(
            "drop table if exists bench_commit;
             create table bench_commit (id bigint generated always as identity primary key, filler text)",
        )
        .execute(&mut connection)
        .await
        .context("making a table to commit into")?;
        Ok(Self { connection })
    }

    /// Commits `count` rows one by one; how long each took, in microseconds, sorted.
    pub(crate) async fn time(&mut self, count: usize) -> Result<Vec<u32>> {
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let begun = Instant::now();
            sqlx::query("insert into bench_commit (filler) values ($1)")
                .bind(FILLER)
                .execute(&mut self.connection)
                .await
                .context("committing a row")?;
            times.push(u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX));
        }
        times.sort_unstable();
        Ok(times)
    }

    /// Drops the table.
    pub(crate) async fn end(mut self) -> Result<()> {
        sqlx::raw_sql("drop table bench_commit")
            .execute(&mut self.connection)
            .await?;
        self.connection.close().await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::server::Server;

    #[tokio::test]
    async fn each_row_is_a_commit_and_the_table_goes() {
        let server = Server::start("commit").await;
        let mut other = PgConnection::connect(&server.url()).await.unwrap();
        let mut commits = Commits::open(&server.url()).await.unwrap();
        let times = commits.time(5).await.unwrap();
        assert!(times.len() == 5 && times.is_sorted(), "{times:?}");
        // Each row has a transaction of its own.
        let transactions: i64 =
            sqlx::query_scalar("select count(distinct xmin::text) from bench_commit")
                .fetch_one(&mut other)
                .await
                .unwrap();
        assert_eq!(transactions, 5);
        commits.end().await.unwrap();
        let left: Option<String> = sqlx::query_scalar("select to_regclass('bench_commit')::text")
            .fetch_one(&mut other)
            .await
            .unwrap();
        assert_eq!(left, None);
        server.stop().await;
    }
}
