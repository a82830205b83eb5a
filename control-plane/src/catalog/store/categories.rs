//! Categories.

use crochet_shared::id::CategoryId;
use sqlx::PgExecutor;

use crate::catalog::categories::Category;

pub(in crate::catalog) async fn categories(
    db: impl PgExecutor<'_>,
) -> Result<Vec<Category>, sqlx::Error> {
    let rows = sqlx::query!(
        "select id, name, slug, description, listing_count from category order by name",
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Category {
            id: CategoryId(row.id),
            name: row.name,
            slug: row.slug,
            description: row.description,
            listing_count: row.listing_count,
        })
        .collect())
}

/// A category by id or slug.
pub(in crate::catalog) async fn category(
    db: impl PgExecutor<'_>,
    text: &str,
) -> Result<Option<CategoryId>, sqlx::Error> {
    if text.contains('\0') {
        return Ok(None);
    }
    let id = text.parse::<CategoryId>().ok().map(|id| id.0);
    let found = sqlx::query_scalar!(
        "select id from category where id = $1 or slug = $2",
        id,
        text,
    )
    .fetch_optional(db)
    .await?;
    Ok(found.map(CategoryId))
}
