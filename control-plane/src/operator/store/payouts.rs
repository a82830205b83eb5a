//! Wallets that sellers are paid at.

use sqlx::PgPool;
use uuid::Uuid;

/// A seller's wallet.
#[derive(Debug)]
pub(in crate::operator) struct Wallet {
    /// On which chain.
    pub(in crate::operator) chain: String,
    /// Where.
    pub(in crate::operator) address: String,
    /// Whether she is paid there when nothing else is said.
    pub(in crate::operator) is_default_payout: bool,
}

/// A profile's wallets; `None` when there is no such profile.
pub(in crate::operator) async fn wallets(
    pool: &PgPool,
    profile: Uuid,
) -> Result<Option<Vec<Wallet>>, sqlx::Error> {
    let exists = sqlx::query_scalar!(
        r#"select exists (select from profile where id = $1) as "exists!""#,
        profile,
    )
    .fetch_one(pool)
    .await?;
    if !exists {
        return Ok(None);
    }
    sqlx::query_as!(
        Wallet,
        "select chain, address, is_default_payout from wallet where profile_id = $1 order by id",
        profile,
    )
    .fetch_all(pool)
    .await
    .map(Some)
}
