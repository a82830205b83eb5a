//! All SQL of endpoints.

use chrono::{DateTime, Utc};
use crochet_shared::id::ListingId;
use crochet_shared::internal::RouteName;
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::model::{Previous, Row};

/// What a route takes from its listing.
pub(super) struct RouteRow {
    pub(super) id: Uuid,
    pub(super) slug: String,
    pub(super) seller_id: Uuid,
    pub(super) status: String,
    pub(super) pricing_model: String,
    pub(super) price_micros: i64,
    pub(super) version: i64,
}

pub(super) async fn route(
    db: impl PgExecutor<'_>,
    name: &RouteName,
) -> Result<Option<RouteRow>, sqlx::Error> {
    match name {
        RouteName::Id(id) => {
            sqlx::query_as!(
                RouteRow,
                "select id, slug, seller_id, status, pricing_model, price_micros, version
                 from listing where id = $1",
                id.0,
            )
            .fetch_optional(db)
            .await
        }
        RouteName::Slug(slug) if slug.contains('\0') => Ok(None),
        RouteName::Slug(slug) => {
            sqlx::query_as!(
                RouteRow,
                "select id, slug, seller_id, status, pricing_model, price_micros, version
                 from listing where slug = $1",
                slug,
            )
            .fetch_optional(db)
            .await
        }
    }
}

pub(super) async fn read(
    db: impl PgExecutor<'_>,
    listing: ListingId,
) -> Result<Option<Row>, sqlx::Error> {
    sqlx::query_as!(
        Row,
        "select url_sealed, url_hint, auth_header_name, auth_header_value_sealed, timeout_ms,
                max_request_bytes, max_response_bytes, max_concurrency, redelivery, status,
                secret_sealed, secret_prefix, secret_rotated_at,
                (select max(expires_at) from previous_secret p where p.listing_id = e.listing_id)
                    as previous_secret_expires_at,
                last_test
         from endpoint e where listing_id = $1",
        listing.0,
    )
    .fetch_optional(db)
    .await
}

/// Writes the endpoint of a locked listing, new or changed.
pub(super) async fn put(
    tx: &mut PgConnection,
    listing: ListingId,
    row: &Row,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into endpoint
            (listing_id, url_sealed, url_hint, auth_header_name, auth_header_value_sealed,
             timeout_ms, max_request_bytes, max_response_bytes, max_concurrency, redelivery, status,
             secret_sealed, secret_prefix, secret_rotated_at, last_test)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
         on conflict (listing_id) do update set
            url_sealed = excluded.url_sealed, url_hint = excluded.url_hint,
            auth_header_name = excluded.auth_header_name,
            auth_header_value_sealed = excluded.auth_header_value_sealed,
            timeout_ms = excluded.timeout_ms, max_request_bytes = excluded.max_request_bytes,
            max_response_bytes = excluded.max_response_bytes,
            max_concurrency = excluded.max_concurrency, redelivery = excluded.redelivery,
            status = excluded.status, secret_sealed = excluded.secret_sealed,
            secret_prefix = excluded.secret_prefix, secret_rotated_at = excluded.secret_rotated_at,
            last_test = excluded.last_test",
        listing.0,
        row.url_sealed,
        row.url_hint,
        row.auth_header_name,
        row.auth_header_value_sealed,
        row.timeout_ms,
        row.max_request_bytes,
        row.max_response_bytes,
        row.max_concurrency,
        row.redelivery,
        row.status,
        row.secret_sealed,
        row.secret_prefix,
        row.secret_rotated_at,
        row.last_test,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Secrets that were replaced and sign after `now`, the newest first.
pub(super) async fn previous_secrets(
    db: impl PgExecutor<'_>,
    listing: ListingId,
    now: DateTime<Utc>,
) -> Result<Vec<Previous>, sqlx::Error> {
    sqlx::query_as!(
        Previous,
        "select secret_sealed as sealed, expires_at from previous_secret
         where listing_id = $1 and expires_at > $2 order by rotated_at desc",
        listing.0,
        now,
    )
    .fetch_all(db)
    .await
}

/// Keeps a secret that is replaced now, in the place of those that sign no more.
pub(super) async fn keep_previous(
    tx: &mut PgConnection,
    listing: ListingId,
    now: DateTime<Utc>,
    previous: &Previous,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "delete from previous_secret where listing_id = $1 and expires_at <= $2",
        listing.0,
        now,
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "insert into previous_secret (listing_id, rotated_at, secret_sealed, expires_at)
         values ($1, $2, $3, $4)",
        listing.0,
        now,
        previous.sealed,
        previous.expires_at,
    )
    .execute(tx)
    .await?;
    Ok(())
}

// --- wrapping under a newer master key -----------------------------------------------------------

/// What an endpoint seals.
pub(super) struct Sealed {
    pub(super) listing_id: Uuid,
    pub(super) url: Vec<u8>,
    pub(super) auth_header_value: Option<Vec<u8>>,
    pub(super) secret: Vec<u8>,
}

/// A replaced secret, as it is sealed.
pub(super) struct SealedPrevious {
    pub(super) listing_id: Uuid,
    pub(super) rotated_at: DateTime<Utc>,
    pub(super) sealed: Vec<u8>,
}

/// How many endpoints have a secret that does not begin with `prefix`: one under another key.
pub(super) async fn under_other_keys(
    db: impl PgExecutor<'_>,
    prefix: &[u8],
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select count(*) as "count!" from endpoint e
           where substr(e.url_sealed, 1, length($1::bytea)) <> $1
               or substr(e.auth_header_value_sealed, 1, length($1)) <> $1
               or substr(e.secret_sealed, 1, length($1)) <> $1
               or exists (select from previous_secret p where p.listing_id = e.listing_id
                   and substr(p.secret_sealed, 1, length($1)) <> $1)"#,
        prefix,
    )
    .fetch_one(db)
    .await
}

/// Locks the next listings that have such a secret, in the order of their ids, against their owners'
/// changes; quotes and calls go on.
pub(super) async fn lock_under_other_keys(
    tx: &mut PgConnection,
    prefix: &[u8],
    after: Uuid,
    limit: i64,
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        "select l.id from listing l join endpoint e on e.listing_id = l.id
         where e.listing_id > $2 and (substr(e.url_sealed, 1, length($1::bytea)) <> $1
             or substr(e.auth_header_value_sealed, 1, length($1)) <> $1
             or substr(e.secret_sealed, 1, length($1)) <> $1
             or exists (select from previous_secret p where p.listing_id = e.listing_id
                 and substr(p.secret_sealed, 1, length($1)) <> $1))
         order by e.listing_id limit $3
         for no key update of l",
        prefix,
        after,
        limit,
    )
    .fetch_all(tx)
    .await
}

/// What endpoints seal, as it is now that their listings are locked.
pub(super) async fn sealed(
    tx: &mut PgConnection,
    ids: &[Uuid],
) -> Result<Vec<Sealed>, sqlx::Error> {
    sqlx::query_as!(
        Sealed,
        "select listing_id, url_sealed as url, auth_header_value_sealed as auth_header_value,
            secret_sealed as secret
         from endpoint where listing_id = any($1) order by listing_id",
        ids,
    )
    .fetch_all(tx)
    .await
}

/// Writes what a locked listing's endpoint seals.
pub(super) async fn put_sealed(tx: &mut PgConnection, row: &Sealed) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update endpoint set url_sealed = $2, auth_header_value_sealed = $3, secret_sealed = $4
         where listing_id = $1",
        row.listing_id,
        row.url,
        row.auth_header_value,
        row.secret,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Replaced secrets of locked listings.
pub(super) async fn sealed_previous(
    tx: &mut PgConnection,
    ids: &[Uuid],
) -> Result<Vec<SealedPrevious>, sqlx::Error> {
    sqlx::query_as!(
        SealedPrevious,
        "select listing_id, rotated_at, secret_sealed as sealed
         from previous_secret where listing_id = any($1) order by listing_id, rotated_at",
        ids,
    )
    .fetch_all(tx)
    .await
}

/// Writes a replaced secret of a locked listing, as it is sealed now.
pub(super) async fn put_sealed_previous(
    tx: &mut PgConnection,
    row: &SealedPrevious,
    sealed: &[u8],
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update previous_secret set secret_sealed = $3 where listing_id = $1 and rotated_at = $2",
        row.listing_id,
        row.rotated_at,
        sealed,
    )
    .execute(tx)
    .await?;
    Ok(())
}
