//! The write-ahead log: how far it has come, and what stands in a piece of it.
//!
//! What was written is the difference of two positions, whoever wrote it, less the images of whole pages.
//! Those Postgres writes once for each page after a checkpoint, so their share follows from when the last one
//! was and not from the path. `pg_walinspect` (Postgres's own, of 15 and later) tells their bytes exactly,
//! record by record.

use anyhow::{Context as _, Result};
use serde::Serialize;
use sqlx::{Connection as _, PgConnection};

/// Reads the log of the server behind a database.
#[derive(Debug)]
pub(crate) struct Log {
    connection: PgConnection,
}

/// A place in the log, in Postgres's own notation.
#[derive(Clone, Debug)]
pub(crate) struct Position(String);

/// What was written between two positions.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Written {
    /// Bytes by which the log grew.
    bytes: i64,
    /// Of these, images of whole pages.
    images: i64,
    /// What the records are, how many there are, and their bytes without images of pages.
    kinds: Vec<(String, i64, i64)>,
}

/// That, for each of the calls that wrote it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Each {
    /// Bytes, images of whole pages left out.
    pub(crate) bytes: f64,
    /// Bytes of images of whole pages.
    pub(crate) image_bytes: f64,
    /// Records.
    pub(crate) records: f64,
    /// The same by what they are, the most bytes first.
    pub(crate) kinds: Vec<Kind>,
}

/// Records of a kind, for each call.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Kind {
    /// `Heap/INSERT`
    pub(crate) name: String,
    pub(crate) records: f64,
    /// Without images of pages.
    pub(crate) bytes: f64,
}

impl Log {
    /// Connects to it.
    pub(crate) async fn open(database_url: &str) -> Result<Self> {
        let connection = PgConnection::connect(database_url)
            .await
            .context("connecting to the stack's Postgres")?;
        Ok(Self { connection })
    }

    /// How far the log is, whether on disk or not yet: whatever is written from now on lies behind it.
    pub(crate) async fn position(&mut self) -> Result<Position> {
        let position = sqlx::query_scalar("select pg_current_wal_insert_lsn()::text")
            .fetch_one(&mut self.connection)
            .await
            .context("reading the position of the log")?;
        Ok(Position(position))
    }

    /// What was written and is on disk since an earlier position: all of every call that was answered.
    pub(crate) async fn since(&mut self, earlier: &Position) -> Result<Written> {
        let now: String = sqlx::query_scalar("select pg_current_wal_flush_lsn()::text")
            .fetch_one(&mut self.connection)
            .await
            .context("reading how far the log is on disk")?;
        // Rolled back: nothing of it stays in a database that may be somebody else's.
        let mut undone = self.connection.begin().await?;
        sqlx::query("create extension if not exists pg_walinspect")
            .execute(&mut *undone)
            .await
            .context("pg_walinspect, which tells images of pages from the rest of the log")?;
        let bytes = sqlx::query_scalar("select pg_wal_lsn_diff($2::pg_lsn, $1::pg_lsn)::int8")
            .bind(&earlier.0)
            .bind(&now)
            .fetch_one(&mut *undone)
            .await
            .context("measuring the log")?;
        let kinds: Vec<(String, i64, i64, i64)> = sqlx::query_as(
            "select \"resource_manager/record_type\", count, record_size, fpi_size
             from pg_get_wal_stats($1::pg_lsn, $2::pg_lsn, true)
             where count > 0 order by record_size desc",
        )
        .bind(&earlier.0)
        .bind(&now)
        .fetch_all(&mut *undone)
        .await
        .context("reading the log")?;
        undone.rollback().await?;
        let images = kinds.iter().map(|(.., images)| images).sum();
        let kind = |(name, count, bytes, _)| (name, count, bytes);
        Ok(Written {
            bytes,
            images,
            kinds: kinds.into_iter().map(kind).collect(),
        })
    }
}

impl Written {
    /// Shared out among `calls`.
    pub(crate) fn each(self, calls: usize) -> Each {
        #[expect(
            clippy::cast_precision_loss,
            reason = "bytes and calls of a phase are far below 2^52"
        )]
        let of = |all: i64| all as f64 / calls.max(1) as f64;
        Each {
            bytes: of(self.bytes - self.images),
            image_bytes: of(self.images),
            records: of(self.kinds.iter().map(|(_, records, _)| records).sum()),
            kinds: self
                .kinds
                .into_iter()
                .map(|(name, records, bytes)| Kind {
                    name,
                    records: of(records),
                    bytes: of(bytes),
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::server::Server;

    #[test]
    fn images_of_pages_are_told_apart() {
        let written = Written {
            bytes: 10_000,
            images: 4_000,
            kinds: vec![
                ("Heap/INSERT".to_owned(), 20, 5_000),
                ("Btree/INSERT_LEAF".to_owned(), 10, 900),
            ],
        };
        let each = written.each(3);
        assert_eq!((each.bytes, each.records), (2_000.0, 10.0));
        assert_eq!(each.kinds.len(), 2);
        assert!((each.kinds[1].bytes - 300.0).abs() < 0.1);
        assert!((each.image_bytes - 1_333.3).abs() < 0.1);
    }

    #[tokio::test]
    async fn a_row_is_in_the_log_and_its_page_is_an_image_once_a_checkpoint() {
        let server = Server::start("wal").await;
        let mut log = Log::open(&server.url()).await.unwrap();
        let mut other = PgConnection::connect(&server.url()).await.unwrap();
        let mut run = async |sql: &'static str| {
            sqlx::raw_sql(sql).execute(&mut other).await.unwrap();
        };
        run("create table t (x text); insert into t values ('first'); checkpoint").await;
        let insert = "insert into t select repeat('x', 1000) from generate_series(1, 2)";
        let before = log.position().await.unwrap();
        run(insert).await;
        let first = log.since(&before).await.unwrap();
        let before = log.position().await.unwrap();
        run(insert).await;
        let second = log.since(&before).await.unwrap();
        assert!(first.images > 0 && first.bytes > first.images, "{first:?}");
        assert_eq!(second.images, 0);
        assert!((2_000..4_000).contains(&second.bytes), "{second:?}");
        let inserts = second.kinds.iter().find(|(name, ..)| name == "Heap/INSERT");
        assert!(
            inserts.is_some_and(|(_, count, _)| *count >= 2),
            "{second:?}"
        );
        let left: i64 =
            sqlx::query_scalar("select count(*) from pg_extension where extname = 'pg_walinspect'")
                .fetch_one(&mut other)
                .await
                .unwrap();
        assert_eq!(left, 0);
        server.stop().await;
    }
}
