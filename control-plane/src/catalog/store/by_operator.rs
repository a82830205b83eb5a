//! What an operator withdraws and gives back.

use crochet_shared::clock;
use crochet_shared::id::{ListingId, ProfileId};
use sqlx::PgConnection;

/// How a listing stands after an operator withdrew it or gave it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withdrawal {
    /// Which.
    pub id: ListingId,
    /// Its name.
    pub name: String,
    /// Its status now.
    pub status: String,
    /// Whether an operator withdraws it.
    pub suspended_by_operator: bool,
    /// Whether that is because its seller sells nothing: then it returns with her.
    pub suspended_with_seller: bool,
    /// Whether this changed it.
    pub changed: bool,
}

/// Withdraws a listing, by itself: it does not return with its seller. `None` when there is none.
pub async fn withdraw(
    tx: &mut PgConnection,
    id: ListingId,
) -> Result<Option<Withdrawal>, sqlx::Error> {
    let changed = sqlx::query!(
        "update listing set
            owner_status = case when suspended_by_operator then owner_status
                when status = 'draft' then null else status end,
            status = case when status = 'draft' then 'draft' else 'suspended' end,
            suspended_by_operator = true, suspended_with_seller = false,
            version = version + 1, updated_at = $2
         where id = $1 and (not suspended_by_operator or suspended_with_seller)",
        id.0,
        clock::now(),
    )
    .execute(&mut *tx)
    .await?
    .rows_affected();
    told(tx, id, changed == 1).await
}

/// Gives a listing back: it stands again as its owner had it, or, where its seller sells nothing,
/// returns with her. `None` when there is none.
pub async fn give_back(
    tx: &mut PgConnection,
    id: ListingId,
) -> Result<Option<Withdrawal>, sqlx::Error> {
    // The seller's row is held, so that she is not stopped between the look at her and the change.
    let stopped = sqlx::query_scalar!(
        r#"select p.selling_suspended_at is not null as "stopped!"
           from profile p join listing l on l.seller_id = p.id where l.id = $1 for share of p"#,
        id.0,
    )
    .fetch_optional(&mut *tx)
    .await?;
    let changed = sqlx::query!(
        "update listing set
            status = case when $3 then status else coalesce(owner_status, status) end,
            owner_status = case when $3 then owner_status end,
            suspended_by_operator = $3, suspended_with_seller = $3,
            version = version + 1, updated_at = $2
         where id = $1 and suspended_by_operator and not suspended_with_seller",
        id.0,
        clock::now(),
        stopped.unwrap_or(false),
    )
    .execute(&mut *tx)
    .await?
    .rows_affected();
    told(tx, id, changed == 1).await
}

/// Has gateways told of a listing that changed, and reads how it stands.
async fn told(
    tx: &mut PgConnection,
    id: ListingId,
    changed: bool,
) -> Result<Option<Withdrawal>, sqlx::Error> {
    if changed {
        super::tell(tx, id.0).await?;
    }
    let row = sqlx::query!(
        "select name, status, suspended_by_operator, suspended_with_seller from listing where id = $1",
        id.0,
    )
    .fetch_optional(tx)
    .await?;
    Ok(row.map(|row| Withdrawal {
        id,
        name: row.name,
        status: row.status,
        suspended_by_operator: row.suspended_by_operator,
        suspended_with_seller: row.suspended_with_seller,
        changed,
    }))
}

/// Withdraws all of a seller's listings that no operator withdraws yet, and has gateways told.
pub async fn withdraw_all_of(
    tx: &mut PgConnection,
    seller: ProfileId,
) -> Result<Vec<ListingId>, sqlx::Error> {
    let ids = sqlx::query_scalar!(
        r#"with withdrawn as (
            update listing set
                owner_status = case when status = 'draft' then null else status end,
                status = case when status = 'draft' then 'draft' else 'suspended' end,
                suspended_by_operator = true, suspended_with_seller = true,
                version = version + 1, updated_at = $2
            where seller_id = $1 and not suspended_by_operator
            returning id
        ), told as (
            insert into outbox (listing_id) select id from withdrawn
        )
        select id as "id!" from withdrawn"#,
        seller.0,
        clock::now(),
    )
    .fetch_all(tx)
    .await?;
    Ok(ids.into_iter().map(ListingId).collect())
}

/// Gives back what was withdrawn with its seller, and has gateways told.
pub async fn give_back_all_of(
    tx: &mut PgConnection,
    seller: ProfileId,
) -> Result<Vec<ListingId>, sqlx::Error> {
    let ids = sqlx::query_scalar!(
        r#"with given_back as (
            update listing set
                status = coalesce(owner_status, status), owner_status = null,
                suspended_by_operator = false, suspended_with_seller = false,
                version = version + 1, updated_at = $2
            where seller_id = $1 and suspended_with_seller
            returning id
        ), told as (
            insert into outbox (listing_id) select id from given_back
        )
        select id as "id!" from given_back"#,
        seller.0,
        clock::now(),
    )
    .fetch_all(tx)
    .await?;
    Ok(ids.into_iter().map(ListingId).collect())
}
