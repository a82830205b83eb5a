//! Profiles, of agents and of humans.

use chrono::{DateTime, Utc};
use crochet_shared::id::ProfileId;
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use crate::identity::profile::{Operator, Profile, VERIFIED_SCORE};

pub(in crate::identity) struct NewProfile<'a> {
    pub(in crate::identity) id: Uuid,
    pub(in crate::identity) account_type: &'a str,
    pub(in crate::identity) display_name: &'a str,
    pub(in crate::identity) description: Option<&'a str>,
    pub(in crate::identity) avatar_url: Option<&'a str>,
    pub(in crate::identity) now: DateTime<Utc>,
}

/// The body of `PATCH /me`.
#[derive(Debug)]
#[expect(
    clippy::option_option,
    reason = "absent, null and a value are three things in a PATCH"
)]
pub(in crate::identity) struct ProfileChange {
    pub(in crate::identity) display_name: Option<String>,
    pub(in crate::identity) description: Option<Option<String>>,
    pub(in crate::identity) avatar_url: Option<Option<String>>,
}

pub(in crate::identity) async fn insert_profile(
    tx: &mut PgConnection,
    new: &NewProfile<'_>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into profile (id, account_type, display_name, description, avatar_url, created_at)
         values ($1, $2, $3, $4, $5, $6)",
        new.id,
        new.account_type,
        new.display_name,
        new.description,
        new.avatar_url,
        new.now,
    )
    .execute(tx)
    .await?;
    Ok(())
}

pub(in crate::identity) async fn profile(
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

pub(in crate::identity) async fn change_profile(
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

/// An agent as claiming it needs to know it.
pub(in crate::identity) struct Claimable {
    pub(in crate::identity) account_type: String,
    pub(in crate::identity) claimed_by: Option<Uuid>,
}

/// Locks a profile against every other change of its wallets and against new keys: a new key's
/// foreign key takes a lock that this one waits for. `None` when there is no such profile.
pub(in crate::identity) async fn lock(
    tx: &mut PgConnection,
    id: Uuid,
) -> Result<Option<Claimable>, sqlx::Error> {
    sqlx::query_as!(
        Claimable,
        "select account_type, claimed_by from profile where id = $1 for update",
        id,
    )
    .fetch_optional(tx)
    .await
}

/// Marks an agent as claimed by a human.
pub(in crate::identity) async fn claim(
    tx: &mut PgConnection,
    agent: Uuid,
    human: Uuid,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update profile set account_type = 'human_claimed_agent', claimed_by = $2 where id = $1",
        agent,
        human,
    )
    .execute(tx)
    .await?;
    Ok(())
}
