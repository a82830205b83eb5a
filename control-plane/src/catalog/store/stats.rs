//! How calls and reviews of a listing went.

use crochet_shared::id::ListingId;
use sqlx::PgConnection;

/// Counts one more review of a listing, in the transaction that writes it.
///
/// `rating_hundredths` is the review's rating, 100 to 500: the mean of its three ratings, to two
/// decimals (contract §6). A listing that is not there is left alone.
pub async fn add_rating(
    tx: &mut PgConnection,
    listing: ListingId,
    rating_hundredths: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update listing_stats set rating_sum = rating_sum + $2, review_count = review_count + 1
         where listing_id = $1",
        listing.0,
        rating_hundredths,
    )
    .execute(tx)
    .await?;
    Ok(())
}
