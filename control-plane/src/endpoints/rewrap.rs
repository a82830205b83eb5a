//! Wrapping endpoints' secrets under the newest master key, while they are served and changed.

use crochet_shared::id::ListingId;
use crochet_shared::seal::{Keyring, Unsealable};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::model::{Column, rewrap as rewrap_value};
use super::store::{self, Sealed};

/// What one batch did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrapped {
    /// The last listing of the batch; `None` when there was none left.
    pub last: Option<Uuid>,
    /// Endpoints and replaced secrets that were wrapped anew.
    pub rows: u64,
    /// Listings with a secret that does not open: sealed under a key we do not hold.
    pub shut: Vec<ListingId>,
}

/// How many endpoints have a secret that is not under the newest master key.
pub async fn under_other_keys(pool: &PgPool, keys: &Keyring) -> Result<i64, sqlx::Error> {
    store::under_other_keys(pool, &keys.row_prefix()).await
}

/// Wraps a batch of endpoints after listing `after`, in the caller's transaction.
///
/// Their listings are locked as an owner's change locks them, so neither writes back what the other
/// has replaced. Only data keys are wrapped anew: what they seal is not touched, nor is the version
/// that gateways know the endpoint by.
pub async fn rewrap(
    tx: &mut PgConnection,
    keys: &Keyring,
    after: Uuid,
    limit: i64,
) -> Result<Rewrapped, sqlx::Error> {
    let prefix = keys.row_prefix();
    let ids = store::lock_under_other_keys(tx, &prefix, after, limit).await?;
    let mut done = Rewrapped {
        last: ids.last().copied(),
        ..Rewrapped::default()
    };
    for mut row in store::sealed(tx, &ids).await? {
        match rewrap_endpoint(keys, &mut row) {
            Ok(false) => {}
            Ok(true) => {
                store::put_sealed(tx, &row).await?;
                done.rows += 1;
            }
            Err(Unsealable) => done.shut.push(ListingId(row.listing_id)),
        }
    }
    for previous in store::sealed_previous(tx, &ids).await? {
        let listing = ListingId(previous.listing_id);
        match rewrap_value(keys, listing, Column::PreviousSecret, &previous.sealed) {
            Ok(None) => {}
            Ok(Some(moved)) => {
                store::put_sealed_previous(tx, &previous, &moved).await?;
                done.rows += 1;
            }
            Err(Unsealable) => done.shut.push(listing),
        }
    }
    done.shut.sort_unstable();
    done.shut.dedup();
    Ok(done)
}

/// Wraps what one endpoint seals; tells whether any of it was not under the newest key.
fn rewrap_endpoint(keys: &Keyring, row: &mut Sealed) -> Result<bool, Unsealable> {
    let listing = ListingId(row.listing_id);
    let mut changed = false;
    let values = [
        (Column::Url, Some(&mut row.url)),
        (Column::AuthHeaderValue, row.auth_header_value.as_mut()),
        (Column::Secret, Some(&mut row.secret)),
    ];
    for (column, value) in values {
        let Some(value) = value else {
            continue;
        };
        if let Some(moved) = rewrap_value(keys, listing, column, value)? {
            *value = moved;
            changed = true;
        }
    }
    Ok(changed)
}
