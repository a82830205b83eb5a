//! Wallets.

use chrono::{DateTime, Utc};
use crochet_shared::id::WalletId;
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use crate::identity::profile::Wallet;

pub(in crate::identity) struct NewWallet<'a> {
    pub(in crate::identity) id: Uuid,
    pub(in crate::identity) profile: Uuid,
    pub(in crate::identity) chain: &'a str,
    pub(in crate::identity) address: &'a str,
    pub(in crate::identity) label: Option<&'a str>,
    /// Whether it is the default for paying and for being paid.
    pub(in crate::identity) is_default: bool,
    pub(in crate::identity) now: DateTime<Utc>,
}

/// Breaks `wallet_address_once` when the address belongs to a profile already.
pub(in crate::identity) async fn insert_wallet(
    tx: &mut PgConnection,
    new: &NewWallet<'_>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into wallet (id, profile_id, chain, address, label, is_default_payment,
                             is_default_payout, created_at)
         values ($1, $2, $3, $4, $5, $6, $6, $7)",
        new.id,
        new.profile,
        new.chain,
        new.address,
        new.label,
        new.is_default,
        new.now,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Whose wallet an address is.
pub(in crate::identity) async fn owner(
    db: impl PgExecutor<'_>,
    chain: &str,
    address: &str,
) -> Result<Option<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        "select profile_id from wallet where chain = $1 and address = $2",
        chain,
        address,
    )
    .fetch_optional(db)
    .await
}

/// A profile's wallets, the oldest first.
pub(in crate::identity) async fn wallets(
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

/// Writes what changed of a profile's wallets, whose rows the caller has locked through the profile.
pub(in crate::identity) async fn save(
    tx: &mut PgConnection,
    profile: Uuid,
    changed: &[Wallet],
) -> Result<(), sqlx::Error> {
    let ids: Vec<Uuid> = changed.iter().map(|wallet| wallet.id.0).collect();
    // First nobody is a default, for a unique index sees each row as it is written.
    sqlx::query!(
        "update wallet set is_default_payment = false, is_default_payout = false
         where profile_id = $1 and id = any($2)",
        profile,
        &ids,
    )
    .execute(&mut *tx)
    .await?;
    for wallet in changed {
        sqlx::query!(
            "update wallet set label = $3, status = $4, can_authenticate = $5, can_recover = $6,
                               is_default_payment = $7, is_default_payout = $8
             where profile_id = $1 and id = $2",
            profile,
            wallet.id.0,
            wallet.label,
            wallet.status,
            wallet.can_authenticate,
            wallet.can_recover,
            wallet.is_default_payment,
            wallet.is_default_payout,
        )
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}
