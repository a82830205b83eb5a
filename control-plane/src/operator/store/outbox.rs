//! The outbox, for having everything told again.

use sqlx::PgPool;
use uuid::Uuid;

/// A batch that was written to the outbox.
#[derive(Debug)]
pub(in crate::operator) struct Batch {
    /// How many rows.
    pub(in crate::operator) rows: i64,
    /// The last id of the batch; `None` when there was none left.
    pub(in crate::operator) last: Option<Uuid>,
}

/// Has the next listings told again, drafts left out: no gateway serves them.
pub(in crate::operator) async fn tell_listings(
    pool: &PgPool,
    after: Uuid,
    limit: i64,
) -> Result<Batch, sqlx::Error> {
    sqlx::query_as!(
        Batch,
        r#"
        with told as (
            insert into outbox (listing_id)
            select id from listing where id > $1 and status <> 'draft' order by id limit $2
            returning listing_id
        )
        select count(*) as "rows!", (select listing_id from told order by listing_id desc limit 1) as last
        from told
        "#,
        after,
        limit,
    )
    .fetch_one(pool)
    .await
}

/// Has the next keys told again, also those that are revoked: a gateway may still hold one.
pub(in crate::operator) async fn tell_keys(
    pool: &PgPool,
    after: Uuid,
    limit: i64,
) -> Result<Batch, sqlx::Error> {
    sqlx::query_as!(
        Batch,
        r#"
        with wanted as materialized (
            select id, digest from api_key where id > $1 order by id limit $2
        ), told as (
            insert into outbox (key_digest) select digest from wanted
        )
        select count(*) as "rows!", (select id from wanted order by id desc limit 1) as last from wanted
        "#,
        after,
        limit,
    )
    .fetch_one(pool)
    .await
}

/// How many listings and keys there are to tell of.
pub(in crate::operator) async fn to_tell(pool: &PgPool) -> Result<(i64, i64), sqlx::Error> {
    let row = sqlx::query!(
        r#"select (select count(*) from listing where status <> 'draft') as "listings!",
            (select count(*) from api_key) as "keys!""#,
    )
    .fetch_one(pool)
    .await?;
    Ok((row.listings, row.keys))
}

/// How many listings and keys wait to be told.
pub(in crate::operator) async fn waiting(pool: &PgPool) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(r#"select count(*) as "waiting!" from outbox where quote_identity is null"#)
        .fetch_one(pool)
        .await
}
