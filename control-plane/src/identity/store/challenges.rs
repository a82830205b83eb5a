//! Challenges: given, looked up, used up once.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

pub(in crate::identity) struct NewChallenge<'a> {
    pub(in crate::identity) nonce: &'a str,
    pub(in crate::identity) purpose: &'a str,
    /// Chain and address.
    pub(in crate::identity) wallet: Option<(&'a str, &'a str)>,
    pub(in crate::identity) profile: Option<Uuid>,
    pub(in crate::identity) binding: Value,
    pub(in crate::identity) message: Option<&'a str>,
    pub(in crate::identity) pow_challenge: &'a str,
    pub(in crate::identity) pow_difficulty: u32,
    pub(in crate::identity) now: DateTime<Utc>,
    pub(in crate::identity) expires_at: DateTime<Utc>,
}

#[expect(clippy::struct_field_names, reason = "the columns' names")]
pub(in crate::identity) struct Challenge {
    pub(in crate::identity) nonce: String,
    pub(in crate::identity) purpose: String,
    pub(in crate::identity) chain: Option<String>,
    pub(in crate::identity) wallet_address: Option<String>,
    pub(in crate::identity) binding: Value,
    pub(in crate::identity) message: Option<String>,
    pub(in crate::identity) pow_challenge: Option<String>,
    pub(in crate::identity) pow_difficulty: Option<i32>,
    pub(in crate::identity) expires_at: DateTime<Utc>,
    pub(in crate::identity) used_at: Option<DateTime<Utc>>,
}

pub(in crate::identity) async fn insert_challenge(
    db: impl PgExecutor<'_>,
    new: &NewChallenge<'_>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into challenge (nonce, purpose, chain, wallet_address, profile_id, binding,
                                message, pow_challenge, pow_difficulty, created_at, expires_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        new.nonce,
        new.purpose,
        new.wallet.map(|wallet| wallet.0),
        new.wallet.map(|wallet| wallet.1),
        new.profile,
        new.binding,
        new.message,
        new.pow_challenge,
        i32::try_from(new.pow_difficulty).unwrap_or(i32::MAX),
        new.now,
        new.expires_at,
    )
    .execute(db)
    .await?;
    Ok(())
}

pub(in crate::identity) async fn challenge(
    db: impl PgExecutor<'_>,
    nonce: &str,
) -> Result<Option<Challenge>, sqlx::Error> {
    if nonce.contains('\0') {
        return Ok(None);
    }
    sqlx::query_as!(
        Challenge,
        "select nonce, purpose, chain, wallet_address, binding, message, pow_challenge,
                pow_difficulty, expires_at, used_at
         from challenge where nonce = $1",
        nonce,
    )
    .fetch_optional(db)
    .await
}

/// An agent's open challenge of a purpose: the one named, or the newest.
pub(in crate::identity) async fn agent_challenge(
    db: impl PgExecutor<'_>,
    profile: Uuid,
    purpose: &str,
    nonce: Option<&str>,
    now: DateTime<Utc>,
) -> Result<Option<Challenge>, sqlx::Error> {
    if nonce.is_some_and(|nonce| nonce.contains('\0')) {
        return Ok(None);
    }
    sqlx::query_as!(
        Challenge,
        "select nonce, purpose, chain, wallet_address, binding, message, pow_challenge,
                pow_difficulty, expires_at, used_at
         from challenge
         where profile_id = $1 and purpose = $2 and ($3::text is null or nonce = $3)
           and used_at is null and expires_at > $4
         order by created_at desc
         limit 1",
        profile,
        purpose,
        nonce,
        now,
    )
    .fetch_optional(db)
    .await
}

/// Marks a challenge used, unless it is already or its time is over. Two uses at once wait for each
/// other on the row, and the second finds it used.
pub(in crate::identity) async fn use_challenge(
    tx: &mut PgConnection,
    nonce: &str,
    now: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    let used = sqlx::query!(
        "update challenge set used_at = $2
         where nonce = $1 and used_at is null and expires_at > $2",
        nonce,
        now,
    )
    .execute(tx)
    .await?;
    Ok(used.rows_affected() == 1)
}

pub(in crate::identity) async fn delete_challenges(
    db: impl PgExecutor<'_>,
    expired_before: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "delete from challenge where nonce in
            (select nonce from challenge where expires_at < $1 order by expires_at limit 5000)",
        expired_before,
    )
    .execute(db)
    .await?;
    Ok(())
}
