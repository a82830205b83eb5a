//! Stored answers: each delivered envelope, whole, for 24 hours, sealed under its day's key.

use std::collections::HashMap;

use bytes::Bytes;
use chrono::{Days, NaiveDate};
use crochet_shared::clock;
use crochet_shared::internal::{ProbeReport, ReadAnswer, StoredAnswer};
use crochet_shared::seal::{DataKey, Keyring, Unsealable};
use parking_lot::Mutex;
use sqlx::PgPool;
use uuid::Uuid;

use super::claim::facts;
use super::store::answers::{self, Chunk};
use crate::app::App;
use crate::error::ApiError;

/// Longest chunk, before it is sealed.
pub const CHUNK_BYTES_MAX: usize = 256 * 1024;
/// Days whose keys are kept in memory: yesterday, today, tomorrow.
const DAYS_KEPT: usize = 3;

/// The keys of the days in use, opened.
#[derive(Debug, Default)]
pub struct DayKeys(Mutex<HashMap<NaiveDate, DataKey>>);

/// The day that answers delivered now are stored under.
pub fn today() -> NaiveDate {
    clock::now().date_naive()
}

/// A day's key, and the certainty that its partition is there.
pub async fn key_to_store(app: &App, day: NaiveDate) -> Result<DataKey, ApiError> {
    if let Some(key) = app.payments.day_keys.0.lock().get(&day) {
        return Ok(key.clone());
    }
    let fresh = app.vault.seal_row(&place(day), &DataKey::generate())?;
    let sealed = answers::ensure_day(app.db.pool(), day, &fresh).await?;
    remember(app, day, &sealed)
}

async fn key_to_read(app: &App, day: NaiveDate) -> Result<Option<DataKey>, ApiError> {
    if let Some(key) = app.payments.day_keys.0.lock().get(&day) {
        return Ok(Some(key.clone()));
    }
    match answers::day_key(app.db.pool(), day).await? {
        Some(sealed) => remember(app, day, &sealed).map(Some),
        None => Ok(None),
    }
}

fn remember(app: &App, day: NaiveDate, sealed: &[u8]) -> Result<DataKey, ApiError> {
    let key = DataKey::new(&app.vault.open_row(&place(day), sealed)?)?;
    let mut keys = app.payments.day_keys.0.lock();
    if keys.len() >= DAYS_KEPT
        && let Some(oldest) = keys.keys().min().copied()
    {
        keys.remove(&oldest);
    }
    keys.insert(day, key.clone());
    Ok(key)
}

/// Wraps the days' keys under the newest master key. Gives how many were, and the days whose keys do
/// not open.
pub async fn rewrap_day_keys(
    pool: &PgPool,
    keys: &Keyring,
    dry_run: bool,
) -> Result<(u64, Vec<NaiveDate>), sqlx::Error> {
    let (mut done, mut shut) = (0, Vec::new());
    for (day, sealed) in answers::day_keys_not_under(pool, &keys.row_prefix()).await? {
        match keys.rewrap_row(&place(day), &sealed) {
            Ok(None) => {}
            Ok(Some(_)) if dry_run => done += 1,
            Ok(Some(moved)) => done += answers::replace_day_key(pool, day, &sealed, &moved).await?,
            Err(Unsealable) => shut.push(day),
        }
    }
    Ok((done, shut))
}

fn place(day: NaiveDate) -> Vec<u8> {
    format!("answer_key\n{day}\nkey_sealed").into_bytes()
}

/// Seals an answer in chunks, each bound to its request and its number.
pub fn seal(key: &DataKey, id: Uuid, envelope: &[u8]) -> Result<Vec<(i16, Vec<u8>)>, Unsealable> {
    (0_i16..)
        .zip(envelope.chunks(CHUNK_BYTES_MAX))
        .map(|(number, chunk)| Ok((number, key.seal(&chunk_place(id, number), chunk)?)))
        .collect()
}

fn chunk_place(id: Uuid, number: i16) -> Vec<u8> {
    let mut place = id.as_bytes().to_vec();
    place.extend(number.to_be_bytes());
    place
}

/// ANSWERS: reads a stored answer again.
pub async fn read(app: &App, wanted: &ReadAnswer) -> Result<StoredAnswer, ApiError> {
    let id = wanted.request_id.0;
    let chunks = answers::read(app.db.pool(), id, wanted.buyer.0).await?;
    let Some(first) = chunks.first() else {
        return Ok(StoredAnswer::Unknown);
    };
    let gone = facts(
        id,
        first.price_micros,
        first.fee_rate_ppm,
        first.seller_status,
        first.response_sha256.as_deref(),
    );
    let key = match first.day {
        Some(day) if first.chunk.is_some() => key_to_read(app, day).await?,
        _ => None,
    };
    let Some(key) = key else {
        return Ok(StoredAnswer::NoLongerStored(gone));
    };
    let envelope = open(&key, id, &chunks)?;
    let whole = first
        .response_bytes
        .and_then(|bytes| usize::try_from(bytes).ok());
    if whole != Some(envelope.len()) {
        return Err(ApiError::internal(Unsealable));
    }
    Ok(StoredAnswer::Stored(envelope))
}

fn open(key: &DataKey, id: Uuid, chunks: &[Chunk]) -> Result<Bytes, Unsealable> {
    let mut envelope = Vec::new();
    for (number, chunk) in (0_i16..).zip(chunks) {
        let sealed = chunk.sealed.as_deref().ok_or(Unsealable)?;
        envelope.extend(key.open(&chunk_place(id, number), sealed)?);
    }
    Ok(envelope.into())
}

/// Keeps today's and tomorrow's partitions and keys ready, and drops what is older than it may be.
pub async fn tend(app: &App) -> Result<(), ApiError> {
    let today = today();
    key_to_store(app, today).await?;
    if let Some(tomorrow) = today.checked_add_days(Days::new(1)) {
        key_to_store(app, tomorrow).await?;
    }
    let dropped = answers::drop_old(app.db.pool()).await?;
    if dropped > 0 {
        tracing::info!(dropped, "partitions of stored answers were dropped");
    }
    Ok(())
}

/// PROBES: stores the outcome of a signed test request as the endpoint's `last_test`.
pub async fn store_probe(app: &App, probe: &ProbeReport) -> Result<(), ApiError> {
    let outcome = serde_json::json!({
        "ok": probe.ok,
        "status_code": probe.status_code,
        "outcome": probe.outcome,
        "latency_ms": probe.latency_ms,
        "tested_at": clock::rfc3339(clock::now()),
    });
    answers::store_probe(app.db.pool(), probe.listing.0, &outcome).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_opens_only_in_its_own_place() {
        let key = DataKey::new(&DataKey::generate()).unwrap();
        let id = crochet_shared::id::uuid_v7(clock::now());
        let other = crochet_shared::id::uuid_v7(clock::now());
        let envelope = vec![7; CHUNK_BYTES_MAX + 1];
        let sealed = seal(&key, id, &envelope).unwrap();
        assert_eq!(sealed.len(), 2);
        assert_eq!(key.open(&chunk_place(id, 1), &sealed[1].1).unwrap(), [7]);
        assert!(key.open(&chunk_place(id, 0), &sealed[1].1).is_err());
        assert!(key.open(&chunk_place(other, 1), &sealed[1].1).is_err());
    }
}
