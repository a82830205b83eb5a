//! All SQL of publishing.

use chrono::{DateTime, Utc};
use crochet_shared::api_key::KeyDigest;
use crochet_shared::clock;
use crochet_shared::id::ListingId;
use sqlx::PgExecutor;

/// A change that gateways must hear of.
pub(super) struct Row {
    pub(super) id: i64,
    pub(super) what: What,
    pub(super) created_at: DateTime<Utc>,
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum What {
    Key(KeyDigest),
    Listing(ListingId),
    Quote([u8; 32]),
}

/// Changes that wait: keys and listings first, for they are promised within a second and are few;
/// then quotes, the oldest first.
pub(super) async fn outbox(db: impl PgExecutor<'_>, max: i64) -> Result<Vec<Row>, sqlx::Error> {
    let rows = sqlx::query!(
        "select id, key_digest, listing_id, quote_identity, created_at from outbox order by quote_identity is not null, id limit $1",
        max,
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .filter_map(|row| {
            let digest = |bytes: Option<Vec<u8>>| bytes.and_then(|bytes| bytes.try_into().ok());
            let key = digest(row.key_digest).map(|digest| What::Key(KeyDigest(digest)));
            let listing = row.listing_id.map(|id| What::Listing(ListingId(id)));
            let what = key
                .or(listing)
                .or(digest(row.quote_identity).map(What::Quote))?;
            Some(Row {
                id: row.id,
                what,
                created_at: row.created_at,
            })
        })
        .collect())
}

/// How many changes wait, and how many seconds the oldest of them.
pub(super) async fn standing(db: impl PgExecutor<'_>) -> Result<(i64, f64), sqlx::Error> {
    let row = sqlx::query!(
        r#"select count(*) as "waiting!",
            coalesce(extract(epoch from now() - min(created_at)), 0)::float8 as "oldest!"
        from outbox"#
    )
    .fetch_one(db)
    .await?;
    Ok((row.waiting, row.oldest))
}

pub(super) async fn delete_outbox(db: impl PgExecutor<'_>, ids: &[i64]) -> Result<(), sqlx::Error> {
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query!("delete from outbox where id = any($1)", ids)
        .execute(db)
        .await?;
    Ok(())
}

/// A version, and when it was asked for in Unix milliseconds: a record read after this shows whatever was
/// written before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Version {
    pub(super) number: i64,
    pub(super) at_ms: i64,
}

/// A version for a record that is read after this.
pub(super) async fn next_version(db: impl PgExecutor<'_>) -> Result<Version, sqlx::Error> {
    let at_ms = clock::now().timestamp_millis();
    let number = sqlx::query_scalar!(r#"select nextval('cache_version') as "version!""#)
        .fetch_one(db)
        .await?;
    Ok(Version { number, at_ms })
}
