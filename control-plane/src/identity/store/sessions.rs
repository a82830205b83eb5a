//! Sessions, as the session library wants them stored: over our own pool, under a digest.
//!
//! Whoever reads this table cannot sign in with what it holds: a cookie carries the id, a row only
//! the id's SHA-256. Ids have 128 random bits, so a plain digest is as good as a slow one.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use sqlx::{PgExecutor, PgPool};
use time::OffsetDateTime;
use tower_sessions_core::SessionStore;
use tower_sessions_core::session::{Id, Record};
use tower_sessions_core::session_store::{Error, Result};

/// The table of sessions.
#[derive(Clone, Debug)]
pub(in crate::identity) struct Sessions {
    pool: PgPool,
}

impl Sessions {
    /// Over a pool.
    pub(in crate::identity) const fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Inserts a row unless there is one of this id. Tells whether it did.
    async fn insert(&self, record: &Record) -> Result<bool> {
        let digest = digest(&record.id);
        let inserted = sqlx::query!(
            "insert into session (digest, data, expires_at) values ($1, $2, $3)
             on conflict (digest) do nothing",
            digest.as_slice(),
            data(record)?,
            expiry(record)?,
        )
        .execute(&self.pool)
        .await
        .map_err(backend)?;
        Ok(inserted.rows_affected() == 1)
    }
}

#[async_trait]
impl SessionStore for Sessions {
    async fn create(&self, record: &mut Record) -> Result<()> {
        while !self.insert(record).await? {
            record.id = Id::default();
        }
        Ok(())
    }

    /// Changes a session that is there. One that was ended meanwhile stays ended.
    async fn save(&self, record: &Record) -> Result<()> {
        let digest = digest(&record.id);
        sqlx::query!(
            "update session set data = $2, expires_at = $3 where digest = $1",
            digest.as_slice(),
            data(record)?,
            expiry(record)?,
        )
        .execute(&self.pool)
        .await
        .map_err(backend)?;
        Ok(())
    }

    async fn load(&self, id: &Id) -> Result<Option<Record>> {
        let digest = digest(id);
        let row = sqlx::query!(
            "select data, expires_at from session where digest = $1 and expires_at > now()",
            digest.as_slice(),
        )
        .fetch_optional(&self.pool)
        .await
        .map_err(backend)?;
        row.map(|row| {
            Ok(Record {
                id: *id,
                data: serde_json::from_value(row.data)
                    .map_err(|error| Error::Decode(error.to_string()))?,
                expiry_date: OffsetDateTime::from_unix_timestamp(row.expires_at.timestamp())
                    .map_err(|error| Error::Decode(error.to_string()))?,
            })
        })
        .transpose()
    }

    async fn delete(&self, id: &Id) -> Result<()> {
        let digest = digest(id);
        sqlx::query!("delete from session where digest = $1", digest.as_slice())
            .execute(&self.pool)
            .await
            .map_err(backend)?;
        Ok(())
    }
}

/// Deletes sessions that are over.
pub(in crate::identity) async fn delete_expired(
    db: impl PgExecutor<'_>,
) -> std::result::Result<(), sqlx::Error> {
    sqlx::query!(
        "delete from session where digest in
            (select digest from session where expires_at < now() order by expires_at limit 5000)",
    )
    .execute(db)
    .await?;
    Ok(())
}

fn digest(id: &Id) -> [u8; 32] {
    Sha256::digest(id.0.to_le_bytes()).into()
}

fn data(record: &Record) -> Result<Value> {
    serde_json::to_value(&record.data).map_err(|error| Error::Encode(error.to_string()))
}

fn expiry(record: &Record) -> Result<DateTime<Utc>> {
    DateTime::from_timestamp(record.expiry_date.unix_timestamp(), 0)
        .ok_or_else(|| Error::Encode("an expiry out of range".to_owned()))
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "`map_err` gives the error away"
)]
fn backend(error: sqlx::Error) -> Error {
    Error::Backend(error.to_string())
}
