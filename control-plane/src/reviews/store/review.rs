//! Reviews and their summaries.

use chrono::{DateTime, Utc};
use crochet_shared::id::{ListingId, ProfileId};
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use crate::paging::Paging;
use crate::reviews::review::{Ratings, Row, Sort, Sums};

/// A review about to be written.
#[derive(Debug)]
pub(in crate::reviews) struct NewReview<'a> {
    pub(in crate::reviews) id: Uuid,
    pub(in crate::reviews) listing: ListingId,
    pub(in crate::reviews) reviewer: ProfileId,
    pub(in crate::reviews) seller: ProfileId,
    pub(in crate::reviews) ratings: Ratings,
    pub(in crate::reviews) title: Option<&'a str>,
    pub(in crate::reviews) comment: Option<&'a str>,
    pub(in crate::reviews) created_at: DateTime<Utc>,
}

/// Writes a review. A second of the same buyer and listing breaks `review_once`.
pub(in crate::reviews) async fn insert(
    tx: &mut PgConnection,
    new: &NewReview<'_>,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into review (id, listing_id, reviewer_id, seller_id, accuracy, reliability, value,
            title, comment, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        new.id,
        new.listing.0,
        new.reviewer.0,
        new.seller.0,
        new.ratings.accuracy,
        new.ratings.reliability,
        new.ratings.value,
        new.title,
        new.comment,
        new.created_at,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Adds a review to its listing's summary.
pub(in crate::reviews) async fn add_to_summary(
    tx: &mut PgConnection,
    listing: ListingId,
    ratings: Ratings,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into review_summary as s
            (listing_id, accuracy_sum, reliability_sum, value_sum, ones, twos, threes, fours, fives)
         select $1, $2, $3, $4, ($5 = 1)::int, ($5 = 2)::int, ($5 = 3)::int, ($5 = 4)::int, ($5 = 5)::int
         on conflict (listing_id) do update set
            accuracy_sum = s.accuracy_sum + excluded.accuracy_sum,
            reliability_sum = s.reliability_sum + excluded.reliability_sum,
            value_sum = s.value_sum + excluded.value_sum,
            ones = s.ones + excluded.ones, twos = s.twos + excluded.twos,
            threes = s.threes + excluded.threes, fours = s.fours + excluded.fours,
            fives = s.fives + excluded.fives",
        listing.0,
        i64::from(ratings.accuracy),
        i64::from(ratings.reliability),
        i64::from(ratings.value),
        i32::from(ratings.nearest()),
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Adds a review to its seller's evidence: her score is due, though not within `rest_seconds` of its
/// last computing.
pub(in crate::reviews) async fn add_to_reputation(
    tx: &mut PgConnection,
    seller: ProfileId,
    ratings: Ratings,
    rest_seconds: f64,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into reputation as r (profile_id, reviews, rating_total) values ($1, 1, $2)
         on conflict (profile_id) do update set
            reviews = r.reviews + 1,
            rating_total = r.rating_total + excluded.rating_total,
            is_behind = true,
            due_at = least(r.due_at, greatest(now(), coalesce(r.computed_at + make_interval(secs => $3), now())))",
        seller.0,
        i64::from(ratings.total()),
        rest_seconds,
    )
    .execute(tx)
    .await?;
    Ok(())
}

/// Whether this buyer has reviewed this listing.
pub(in crate::reviews) async fn has_reviewed(
    db: impl PgExecutor<'_>,
    listing: ListingId,
    reviewer: ProfileId,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select exists (select 1 from review where listing_id = $1 and reviewer_id = $2) as "has!""#,
        listing.0,
        reviewer.0,
    )
    .fetch_one(db)
    .await
}

/// The sum of ratings of a listing's review: where a list by rating goes on behind it.
pub(in crate::reviews) async fn total_of(
    db: impl PgExecutor<'_>,
    listing: ListingId,
    id: Uuid,
) -> Result<Option<i16>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select total as "total!" from review where listing_id = $1 and id = $2"#,
        listing.0,
        id,
    )
    .fetch_optional(db)
    .await
}

/// Ids of a page of a listing's reviews. `total` is the sum of ratings of the row the page begins
/// behind, when it does. In lists by rating, the newer of equals come first.
pub(in crate::reviews) async fn ids(
    db: impl PgExecutor<'_>,
    listing: ListingId,
    sort: Sort,
    paging: &Paging,
    total: Option<i16>,
) -> Result<Vec<Uuid>, sqlx::Error> {
    let (after, offset, rows) = (paging.after(), paging.offset(), paging.fetch());
    match sort {
        Sort::Newest => {
            sqlx::query_scalar!(
                "select id from review
                 where listing_id = $1 and ($2::uuid is null or id < $2)
                 order by id desc offset $3 limit $4",
                listing.0,
                after,
                offset,
                rows,
            )
            .fetch_all(db)
            .await
        }
        Sort::Highest => {
            sqlx::query_scalar!(
                "select id from review
                 where listing_id = $1
                    and ($2::int2 is null or (total <= $2 and (total < $2 or id < $3)))
                 order by total desc, id desc offset $4 limit $5",
                listing.0,
                total,
                after,
                offset,
                rows,
            )
            .fetch_all(db)
            .await
        }
        Sort::Lowest => {
            sqlx::query_scalar!(
                "select id from review
                 where listing_id = $1
                    and ($2::int2 is null or (total >= $2 and (total > $2 or id < $3)))
                 order by total, id desc offset $4 limit $5",
                listing.0,
                total,
                after,
                offset,
                rows,
            )
            .fetch_all(db)
            .await
        }
    }
}

/// Whole reviews, in the order of the ids.
pub(in crate::reviews) async fn by_ids(
    db: impl PgExecutor<'_>,
    ids: &[Uuid],
) -> Result<Vec<Row>, sqlx::Error> {
    sqlx::query_as!(
        Row,
        "select r.id, r.listing_id, r.reviewer_id, p.display_name, p.score, r.accuracy, r.reliability,
            r.value, r.title, r.comment, r.created_at
         from unnest($1::uuid[]) with ordinality as wanted (id, place)
         join review r on r.id = wanted.id
         join profile p on p.id = r.reviewer_id
         order by wanted.place",
        ids,
    )
    .fetch_all(db)
    .await
}

/// A listing's summary; all zeros when it has no review.
pub(in crate::reviews) async fn summary(
    db: impl PgExecutor<'_>,
    listing: ListingId,
) -> Result<Sums, sqlx::Error> {
    let row = sqlx::query!(
        "select accuracy_sum, reliability_sum, value_sum, ones, twos, threes, fours, fives
         from review_summary where listing_id = $1",
        listing.0,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map_or_else(Sums::default, |row| Sums {
        accuracy: row.accuracy_sum,
        reliability: row.reliability_sum,
        value: row.value_sum,
        nearest: [row.ones, row.twos, row.threes, row.fours, row.fives],
    }))
}
