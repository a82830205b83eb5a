//! All SQL of identity.

use chrono::{DateTime, Utc};
use crochet_shared::api_key::{KeyDigest, NewKey};
use crochet_shared::id::{ApiKeyId, ProfileId, WalletId};
use serde_json::Value;
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::profile::{ApiKey, Operator, Profile, VERIFIED_SCORE, Wallet};

// --- challenges --------------------------------------------------------------------------------

pub(super) struct NewChallenge<'a> {
    pub(super) nonce: &'a str,
    pub(super) purpose: &'a str,
    /// Chain and address.
    pub(super) wallet: Option<(&'a str, &'a str)>,
    pub(super) profile: Option<Uuid>,
    pub(super) binding: Value,
    pub(super) message: Option<&'a str>,
    pub(super) pow_challenge: &'a str,
    pub(super) pow_difficulty: u32,
    pub(super) now: DateTime<Utc>,
    pub(super) expires_at: DateTime<Utc>,
}

#[expect(clippy::struct_field_names, reason = "the columns' names")]
pub(super) struct Challenge {
    pub(super) nonce: String,
    pub(super) purpose: String,
    pub(super) chain: Option<String>,
    pub(super) wallet_address: Option<String>,
    pub(super) message: Option<String>,
    pub(super) pow_challenge: Option<String>,
    pub(super) pow_difficulty: Option<i32>,
    pub(super) expires_at: DateTime<Utc>,
    pub(super) used_at: Option<DateTime<Utc>>,
}

pub(super) async fn insert_challenge(
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

pub(super) async fn challenge(
    db: impl PgExecutor<'_>,
    nonce: &str,
) -> Result<Option<Challenge>, sqlx::Error> {
    if nonce.contains('\0') {
        return Ok(None);
    }
    sqlx::query_as!(
        Challenge,
        "select nonce, purpose, chain, wallet_address, message, pow_challenge, pow_difficulty,
                expires_at, used_at
         from challenge where nonce = $1",
        nonce,
    )
    .fetch_optional(db)
    .await
}

/// An agent's open challenge of a purpose: the one named, or the newest.
pub(super) async fn agent_challenge(
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
        "select nonce, purpose, chain, wallet_address, message, pow_challenge, pow_difficulty,
                expires_at, used_at
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
pub(super) async fn use_challenge(
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

pub(super) async fn delete_challenges(
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

// --- profiles and wallets ----------------------------------------------------------------------

pub(super) struct NewProfile<'a> {
    pub(super) id: Uuid,
    pub(super) display_name: &'a str,
    pub(super) description: Option<&'a str>,
    pub(super) avatar_url: Option<&'a str>,
    pub(super) now: DateTime<Utc>,
}

/// The body of `PATCH /me`.
#[derive(Debug)]
#[expect(
    clippy::option_option,
    reason = "absent, null and a value are three things in a PATCH"
)]
pub(super) struct ProfileChange {
    pub(super) display_name: Option<String>,
    pub(super) description: Option<Option<String>>,
    pub(super) avatar_url: Option<Option<String>>,
}

pub(super) async fn insert_agent(
    tx: &mut PgConnection,
    new: &NewProfile<'_>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into profile (id, account_type, display_name, description, avatar_url, created_at)
         values ($1, 'agent', $2, $3, $4, $5)",
        new.id,
        new.display_name,
        new.description,
        new.avatar_url,
        new.now,
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn insert_first_wallet(
    tx: &mut PgConnection,
    id: Uuid,
    profile: Uuid,
    chain: &str,
    address: &str,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into wallet (id, profile_id, chain, address, is_default_payment, is_default_payout, created_at)
         values ($1, $2, $3, $4, true, true, $5)",
        id,
        profile,
        chain,
        address,
        now,
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn profile(
    db: impl PgExecutor<'_>,
    id: Uuid,
) -> Result<Option<Profile>, sqlx::Error> {
    let row = sqlx::query!(
        r#"select p.id, p.display_name, p.description, p.avatar_url, p.account_type, p.score,
                  p.created_at, h.id as "human_id?", h.display_name as "human_name?"
           from profile p left join profile h on h.id = p.claimed_by
           where p.id = $1"#,
        id,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| Profile {
        id: ProfileId(row.id),
        display_name: row.display_name,
        description: row.description,
        avatar_url: row.avatar_url,
        account_type: row.account_type,
        is_verified: row.score >= VERIFIED_SCORE,
        score: row.score,
        claimed_by: row
            .human_id
            .zip(row.human_name)
            .map(|(id, display_name)| Operator {
                id: ProfileId(id),
                display_name,
            }),
        created_at: row.created_at,
    }))
}

pub(super) async fn change_profile(
    db: impl PgExecutor<'_>,
    id: Uuid,
    change: &ProfileChange,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update profile set
            display_name = coalesce($2, display_name),
            description = case when $3 then $4 else description end,
            avatar_url = case when $5 then $6 else avatar_url end
         where id = $1",
        id,
        change.display_name,
        change.description.is_some(),
        change.description.clone().flatten(),
        change.avatar_url.is_some(),
        change.avatar_url.clone().flatten(),
    )
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn wallets(
    db: impl PgExecutor<'_>,
    profile: Uuid,
) -> Result<Vec<Wallet>, sqlx::Error> {
    let rows = sqlx::query!(
        "select id, chain, address, label, status, can_authenticate, can_recover,
                is_default_payment, is_default_payout, created_at
         from wallet where profile_id = $1 order by id",
        profile,
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Wallet {
            id: WalletId(row.id),
            chain: row.chain,
            address: row.address,
            label: row.label,
            status: row.status,
            can_authenticate: row.can_authenticate,
            can_recover: row.can_recover,
            is_default_payment: row.is_default_payment,
            is_default_payout: row.is_default_payout,
            created_at: row.created_at,
        })
        .collect())
}

// --- API keys ----------------------------------------------------------------------------------

pub(super) struct NewApiKey<'a> {
    pub(super) id: Uuid,
    pub(super) profile: Uuid,
    pub(super) name: &'a str,
    pub(super) key: &'a NewKey,
    pub(super) expires_at: Option<DateTime<Utc>>,
    pub(super) now: DateTime<Utc>,
}

/// Whose key it is and whether it holds.
#[derive(Debug)]
pub(super) struct KeyOwner {
    pub(super) key_id: Uuid,
    pub(super) profile_id: Uuid,
    pub(super) expires_at: Option<DateTime<Utc>>,
    pub(super) revoked_at: Option<DateTime<Utc>>,
    pub(super) last_used_at: Option<DateTime<Utc>>,
}

/// A key and what its profile can pay with.
pub(super) struct KeyWithWallets {
    pub(super) key_id: Uuid,
    pub(super) profile_id: Uuid,
    pub(super) expires_at: Option<DateTime<Utc>>,
    pub(super) revoked_at: Option<DateTime<Utc>>,
    pub(super) default_chain: Option<String>,
    pub(super) has_evm: bool,
    pub(super) has_solana: bool,
}

pub(super) async fn insert_key(
    tx: &mut PgConnection,
    new: &NewApiKey<'_>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into api_key (id, profile_id, name, prefix, digest, expires_at, created_at)
         values ($1, $2, $3, $4, $5, $6, $7)",
        new.id,
        new.profile,
        new.name,
        new.key.shown,
        new.key.digest.0.as_slice(),
        new.expires_at,
        new.now,
    )
    .execute(&mut *tx)
    .await?;
    tell_key(tx, &new.key.digest.0).await
}

/// Revokes a key of a profile and gives the time it was revoked, now or before.
pub(super) async fn revoke_key(
    tx: &mut PgConnection,
    profile: Uuid,
    key: Uuid,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    let row = sqlx::query!(
        r#"update api_key set revoked_at = coalesce(revoked_at, $3)
           where id = $1 and profile_id = $2
           returning digest, revoked_at as "revoked_at!""#,
        key,
        profile,
        now,
    )
    .fetch_optional(&mut *tx)
    .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    tell_key(tx, &row.digest).await?;
    Ok(Some(row.revoked_at))
}

/// Has gateways told of a key, with the transaction that changes it.
async fn tell_key(tx: &mut PgConnection, digest: &[u8]) -> Result<(), sqlx::Error> {
    sqlx::query!("insert into outbox (key_digest) values ($1)", digest)
        .execute(tx)
        .await?;
    Ok(())
}

pub(super) async fn key_by_digest(
    db: impl PgExecutor<'_>,
    digest: &KeyDigest,
) -> Result<ApiKey, sqlx::Error> {
    let row = sqlx::query!(
        "select id, name, prefix, created_at, last_used_at, expires_at, revoked_at
         from api_key where digest = $1",
        digest.0.as_slice(),
    )
    .fetch_one(db)
    .await?;
    Ok(ApiKey {
        id: ApiKeyId(row.id),
        name: row.name,
        prefix: row.prefix,
        created_at: row.created_at,
        last_used_at: row.last_used_at,
        expires_at: row.expires_at,
        revoked_at: row.revoked_at,
    })
}

pub(super) async fn keys(
    db: impl PgExecutor<'_>,
    profile: Uuid,
) -> Result<Vec<ApiKey>, sqlx::Error> {
    let rows = sqlx::query!(
        "select id, name, prefix, created_at, last_used_at, expires_at, revoked_at
         from api_key where profile_id = $1 order by id desc",
        profile,
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| ApiKey {
            id: ApiKeyId(row.id),
            name: row.name,
            prefix: row.prefix,
            created_at: row.created_at,
            last_used_at: row.last_used_at,
            expires_at: row.expires_at,
            revoked_at: row.revoked_at,
        })
        .collect())
}

pub(super) async fn key_owner(
    db: impl PgExecutor<'_>,
    digest: &KeyDigest,
) -> Result<Option<KeyOwner>, sqlx::Error> {
    sqlx::query_as!(
        KeyOwner,
        "select id as key_id, profile_id, expires_at, revoked_at, last_used_at
         from api_key where digest = $1",
        digest.0.as_slice(),
    )
    .fetch_optional(db)
    .await
}

pub(super) async fn key_with_wallets(
    db: impl PgExecutor<'_>,
    digest: &KeyDigest,
) -> Result<Option<KeyWithWallets>, sqlx::Error> {
    sqlx::query_as!(
        KeyWithWallets,
        r#"select k.id as key_id, k.profile_id, k.expires_at, k.revoked_at,
                  max(w.chain) filter (where w.is_default_payment) as default_chain,
                  coalesce(bool_or(w.chain = 'evm'), false) as "has_evm!",
                  coalesce(bool_or(w.chain = 'solana'), false) as "has_solana!"
           from api_key k
           left join wallet w on w.profile_id = k.profile_id and w.status = 'active'
           where k.digest = $1
           group by k.id"#,
        digest.0.as_slice(),
    )
    .fetch_optional(db)
    .await
}

/// Notes a use, at most once a minute whichever process noticed.
pub(super) async fn touch_key(
    db: impl PgExecutor<'_>,
    key: Uuid,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update api_key set last_used_at = $2
         where id = $1
           and (last_used_at is null or last_used_at < $2::timestamptz - interval '1 minute')",
        key,
        now,
    )
    .execute(db)
    .await?;
    Ok(())
}
