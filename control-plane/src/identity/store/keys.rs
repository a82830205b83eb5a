//! API keys, and what gateways are told of them.

use chrono::{DateTime, Utc};
use crochet_shared::api_key::{KeyDigest, NewKey};
use crochet_shared::id::{ApiKeyId, ProfileId};
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use crate::identity::profile::ApiKey;

pub(in crate::identity) struct NewApiKey<'a> {
    pub(in crate::identity) id: Uuid,
    pub(in crate::identity) profile: Uuid,
    pub(in crate::identity) name: &'a str,
    pub(in crate::identity) key: &'a NewKey,
    pub(in crate::identity) expires_at: Option<DateTime<Utc>>,
    pub(in crate::identity) now: DateTime<Utc>,
}

/// Whose key it is and whether it holds.
#[derive(Debug)]
pub(in crate::identity) struct KeyOwner {
    pub(in crate::identity) key_id: Uuid,
    pub(in crate::identity) profile_id: Uuid,
    pub(in crate::identity) expires_at: Option<DateTime<Utc>>,
    pub(in crate::identity) revoked_at: Option<DateTime<Utc>>,
    pub(in crate::identity) last_used_at: Option<DateTime<Utc>>,
}

/// A key and what its profile can pay with.
pub(in crate::identity) struct KeyWithWallets {
    pub(in crate::identity) key_id: Uuid,
    pub(in crate::identity) profile_id: Uuid,
    pub(in crate::identity) expires_at: Option<DateTime<Utc>>,
    pub(in crate::identity) revoked_at: Option<DateTime<Utc>>,
    pub(in crate::identity) default_chain: Option<String>,
    pub(in crate::identity) has_evm: bool,
    pub(in crate::identity) has_solana: bool,
}

pub(in crate::identity) async fn insert_key(
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

/// Takes the lock that a key's insertion needs, and tells whether the key that asks for a new one
/// still holds. In this order, so that a recovery that revokes every key waits for the new one and
/// then sees it, or is waited for and then has revoked the key that asks.
pub(in crate::identity) async fn still_holds(
    tx: &mut PgConnection,
    profile: Uuid,
    key: Uuid,
) -> Result<bool, sqlx::Error> {
    sqlx::query!(
        "select 1 as one from profile where id = $1 for key share",
        profile
    )
    .fetch_optional(&mut *tx)
    .await?;
    let row = sqlx::query!(
        "select 1 as one from api_key where id = $1 and profile_id = $2 and revoked_at is null for share",
        key,
        profile,
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.is_some())
}

/// How many keys of a profile are in use: not revoked, and not run out.
pub(in crate::identity) async fn live(
    tx: &mut PgConnection,
    profile: Uuid,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select count(*) as "count!" from api_key
        where profile_id = $1 and revoked_at is null and (expires_at is null or expires_at > now())"#,
        profile,
    )
    .fetch_one(tx)
    .await
}

/// Revokes a key that `caller` reaches, her own or one of an agent she has claimed, and gives the
/// time it was revoked, now or before.
pub(in crate::identity) async fn revoke_key(
    tx: &mut PgConnection,
    caller: Uuid,
    key: Uuid,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    let row = sqlx::query!(
        r#"update api_key k set revoked_at = coalesce(k.revoked_at, $3)
           from profile p
           where k.id = $1 and p.id = k.profile_id and (p.id = $2 or p.claimed_by = $2)
           returning k.digest, k.revoked_at as "revoked_at!""#,
        key,
        caller,
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

/// Revokes every key of a profile that is not revoked, and has gateways told.
pub(in crate::identity) async fn revoke_keys(
    tx: &mut PgConnection,
    profile: Uuid,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "with revoked as (
            update api_key set revoked_at = $2
            where profile_id = $1 and revoked_at is null
            returning digest)
         insert into outbox (key_digest) select digest from revoked",
        profile,
        now,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Has gateways told of every key of a profile that may be used: what it pays with has changed.
pub(in crate::identity) async fn tell_keys(
    tx: &mut PgConnection,
    profile: Uuid,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into outbox (key_digest)
         select digest from api_key where profile_id = $1 and revoked_at is null",
        profile,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Has gateways told of a key, with the transaction that changes it.
pub(super) async fn tell_key(tx: &mut PgConnection, digest: &[u8]) -> Result<(), sqlx::Error> {
    sqlx::query!("insert into outbox (key_digest) values ($1)", digest)
        .execute(tx)
        .await?;
    Ok(())
}

pub(in crate::identity) async fn key_by_digest(
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
        agent_id: None,
    })
}

/// The keys that `caller` reaches, the newest first: her own and those of agents she has claimed;
/// of one of these when it is named. `told_apart` says whose each is.
pub(in crate::identity) async fn keys(
    db: impl PgExecutor<'_>,
    caller: Uuid,
    agent: Option<Uuid>,
    told_apart: bool,
) -> Result<Vec<ApiKey>, sqlx::Error> {
    let rows = sqlx::query!(
        "select k.id, k.profile_id, k.name, k.prefix, k.created_at, k.last_used_at, k.expires_at,
                k.revoked_at
         from profile p join api_key k on k.profile_id = p.id
         where (p.id = $1 or p.claimed_by = $1) and ($2::uuid is null or p.id = $2)
         order by k.id desc",
        caller,
        agent,
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
            agent_id: told_apart.then_some(ProfileId(row.profile_id)),
        })
        .collect())
}

pub(in crate::identity) async fn key_owner(
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

pub(in crate::identity) async fn key_with_wallets(
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
pub(in crate::identity) async fn touch_key(
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

/// The same of uses that gateways tell of, each at its time in Unix milliseconds. A key that
/// somebody changes at this moment is passed by: its next use is noted.
pub(in crate::identity) async fn touch_keys(
    db: impl PgExecutor<'_>,
    keys: &[Uuid],
    times: &[i64],
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "with used as materialized (
             select id, to_timestamp(max(at_ms) / 1000.0) as at
             from unnest($1::uuid[], $2::int8[]) as told (id, at_ms) group by id
         ), held as materialized (
             select k.id, u.at from api_key k join used u on u.id = k.id
             where k.last_used_at is null or k.last_used_at < u.at - interval '1 minute'
             for no key update of k skip locked
         )
         update api_key k set last_used_at = h.at from held h where k.id = h.id",
        keys,
        times,
    )
    .execute(db)
    .await?;
    Ok(())
}
