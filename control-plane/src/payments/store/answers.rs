//! Stored answers: days' keys, partitions, and reading one back.

use chrono::NaiveDate;
use sqlx::PgPool;
use uuid::Uuid;

use crate::payments::model::ANSWER_SECONDS;

/// Makes a day's partition and keeps its data key, unless both are there; gives the key in force.
pub async fn ensure_day(
    pool: &PgPool,
    day: NaiveDate,
    new_key_sealed: &[u8],
) -> Result<Vec<u8>, sqlx::Error> {
    if let Some(sealed) = day_key(pool, day).await? {
        return Ok(sealed);
    }
    sqlx::query!("select ensure_answer_partition($1)", day)
        .fetch_one(pool)
        .await?;
    sqlx::query!(
        "insert into answer_key (day, key_sealed) values ($1, $2) on conflict (day) do nothing",
        day,
        new_key_sealed,
    )
    .execute(pool)
    .await?;
    day_key(pool, day).await?.ok_or(sqlx::Error::RowNotFound)
}

/// A day's data key, sealed.
pub async fn day_key(pool: &PgPool, day: NaiveDate) -> Result<Option<Vec<u8>>, sqlx::Error> {
    sqlx::query_scalar!("select key_sealed from answer_key where day = $1", day)
        .fetch_optional(pool)
        .await
}

/// The days' keys that do not begin with `prefix`: those under other master keys.
pub async fn day_keys_not_under(
    pool: &PgPool,
    prefix: &[u8],
) -> Result<Vec<(NaiveDate, Vec<u8>)>, sqlx::Error> {
    let rows = sqlx::query!(
        "select day, key_sealed from answer_key where substr(key_sealed, 1, length($1::bytea)) <> $1 order by day",
        prefix,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.day, row.key_sealed))
        .collect())
}

/// Replaces a day's key as it is sealed, if it is still sealed as it was.
pub async fn replace_day_key(
    pool: &PgPool,
    day: NaiveDate,
    was: &[u8],
    sealed: &[u8],
) -> Result<u64, sqlx::Error> {
    let done = sqlx::query!(
        "update answer_key set key_sealed = $3 where day = $1 and key_sealed = $2",
        day,
        was,
        sealed,
    )
    .execute(pool)
    .await?;
    Ok(done.rows_affected())
}

/// Drops the days whose answers are all older than they may be. An answer written just after midnight may
/// stand under the day before: the settlement began in it.
pub async fn drop_old(pool: &PgPool) -> Result<i32, sqlx::Error> {
    let dropped =
        sqlx::query_scalar!("select drop_answer_partitions((now() at time zone 'utc')::date - 2)")
            .fetch_one(pool)
            .await?;
    Ok(dropped.unwrap_or(0))
}

/// One chunk of a delivered answer, beside the facts that stay for good.
#[derive(Debug)]
pub struct Chunk {
    /// What was charged.
    pub price_micros: i64,
    /// The fee rule.
    pub fee_rate_ppm: i32,
    /// What the seller answered.
    pub seller_status: Option<i32>,
    /// SHA-256 of the whole.
    pub response_sha256: Option<Vec<u8>>,
    /// Length of the whole.
    pub response_bytes: Option<i32>,
    /// Its day, and so its key.
    pub day: Option<NaiveDate>,
    /// Its number; `None` when nothing is stored any more.
    pub chunk: Option<i16>,
    /// The chunk, sealed.
    pub sealed: Option<Vec<u8>>,
}

/// Reads a buyer's delivered answer: no row when there is none, one without a chunk when it is
/// stored no longer.
pub async fn read(pool: &PgPool, id: Uuid, buyer: Uuid) -> Result<Vec<Chunk>, sqlx::Error> {
    sqlx::query_as!(
        Chunk,
        r#"
        select r.price_micros, r.fee_rate_ppm, r.seller_status, r.response_sha256, r.response_bytes,
            r.answer_day as day, a.chunk as "chunk?", a.sealed as "sealed?"
        from gateway_request r
        left join stored_answer a on a.day = r.answer_day and a.request_id = r.id
            and r.delivered_at + make_interval(secs => $3) > now()
        where r.id = $1 and r.buyer_id = $2 and r.state = 'delivered'
        order by a.chunk
        "#,
        id,
        buyer,
        f64::from(ANSWER_SECONDS),
    )
    .fetch_all(pool)
    .await
}

/// Stores the outcome of a signed test request.
pub async fn store_probe(
    pool: &PgPool,
    listing: Uuid,
    outcome: &serde_json::Value,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update endpoint set last_test = $2 where listing_id = $1",
        listing,
        outcome,
    )
    .execute(pool)
    .await?;
    Ok(())
}
