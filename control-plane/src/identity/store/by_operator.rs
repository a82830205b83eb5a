//! What an operator does to keys and profiles.

use chrono::{DateTime, Utc};
use crochet_shared::id::{ApiKeyId, ProfileId};
use sqlx::PgConnection;

use super::keys::tell_key;

/// A key that is revoked, now or before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokedKey {
    /// Whose it is.
    pub profile: ProfileId,
    /// What its owner calls it.
    pub name: String,
    /// Its first characters.
    pub prefix: String,
    /// When it was revoked.
    pub revoked_at: DateTime<Utc>,
    /// Whether it was before.
    pub was_revoked: bool,
}

/// Revokes a key, whoever's it is, and has gateways told. `None` when there is none.
pub async fn revoke_any_key(
    tx: &mut PgConnection,
    key: ApiKeyId,
    now: DateTime<Utc>,
) -> Result<Option<RevokedKey>, sqlx::Error> {
    let standing = sqlx::query!(
        "select profile_id, name, prefix, digest, revoked_at from api_key where id = $1 for update",
        key.0,
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(row) = standing else {
        return Ok(None);
    };
    sqlx::query!(
        "update api_key set revoked_at = $2 where id = $1 and revoked_at is null",
        key.0,
        now,
    )
    .execute(&mut *tx)
    .await?;
    // Told again also when it was revoked before: an operator who asks twice has a reason.
    tell_key(tx, &row.digest).await?;
    Ok(Some(RevokedKey {
        profile: ProfileId(row.profile_id),
        name: row.name,
        prefix: row.prefix,
        revoked_at: row.revoked_at.unwrap_or(now),
        was_revoked: row.revoked_at.is_some(),
    }))
}

/// Whether an operator lets a profile sell. Until the transaction's end she does not change her mind.
pub async fn may_sell(tx: &mut PgConnection, profile: ProfileId) -> Result<bool, sqlx::Error> {
    let may = sqlx::query_scalar!(
        r#"select selling_suspended_at is null as "may!" from profile where id = $1 for share"#,
        profile.0,
    )
    .fetch_optional(tx)
    .await?;
    Ok(may.unwrap_or(false))
}

/// A profile whose selling was stopped or resumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SellingStop {
    /// Its name.
    pub display_name: String,
    /// Whether this changed it.
    pub changed: bool,
}

/// Lets a profile sell nothing from now on. `None` when there is none.
pub async fn stop_selling(
    tx: &mut PgConnection,
    profile: ProfileId,
    now: DateTime<Utc>,
) -> Result<Option<SellingStop>, sqlx::Error> {
    let changed = sqlx::query!(
        "update profile set selling_suspended_at = $2 where id = $1 and selling_suspended_at is null",
        profile.0,
        now,
    )
    .execute(&mut *tx)
    .await?
    .rows_affected();
    stop(tx, profile, changed == 1).await
}

/// Lets a profile sell again. `None` when there is none.
pub async fn resume_selling(
    tx: &mut PgConnection,
    profile: ProfileId,
) -> Result<Option<SellingStop>, sqlx::Error> {
    let changed = sqlx::query!(
        "update profile set selling_suspended_at = null where id = $1 and selling_suspended_at is not null",
        profile.0,
    )
    .execute(&mut *tx)
    .await?
    .rows_affected();
    stop(tx, profile, changed == 1).await
}

async fn stop(
    tx: &mut PgConnection,
    profile: ProfileId,
    changed: bool,
) -> Result<Option<SellingStop>, sqlx::Error> {
    let name = sqlx::query_scalar!("select display_name from profile where id = $1", profile.0)
        .fetch_optional(tx)
        .await?;
    Ok(name.map(|display_name| SellingStop {
        display_name,
        changed,
    }))
}
