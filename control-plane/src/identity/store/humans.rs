//! Humans: how a person signs in.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

pub(in crate::identity) struct NewHuman<'a> {
    pub(in crate::identity) profile: Uuid,
    pub(in crate::identity) email: &'a str,
    pub(in crate::identity) email_folded: &'a str,
    pub(in crate::identity) password_hash: &'a str,
    pub(in crate::identity) now: DateTime<Utc>,
}

/// What a sign-in is judged by.
pub(in crate::identity) struct Human {
    pub(in crate::identity) profile_id: Uuid,
    pub(in crate::identity) password_hash: String,
}

/// Breaks `human_email_once` when the address is taken.
pub(in crate::identity) async fn insert_human(
    tx: &mut PgConnection,
    new: &NewHuman<'_>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into human (profile_id, email, email_folded, password_hash, created_at)
         values ($1, $2, $3, $4, $5)",
        new.profile,
        new.email,
        new.email_folded,
        new.password_hash,
        new.now,
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(in crate::identity) async fn by_email(
    db: impl PgExecutor<'_>,
    email_folded: &str,
) -> Result<Option<Human>, sqlx::Error> {
    sqlx::query_as!(
        Human,
        "select profile_id, password_hash from human where email_folded = $1",
        email_folded,
    )
    .fetch_optional(db)
    .await
}
