//! Listings: read whole, and written.

use crochet_shared::id::{CategoryId, ListingId, ProfileId};
use crochet_shared::internal::RouteName;
use crochet_shared::money::Micros;
use serde_json::value::RawValue;
use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use crate::catalog::listing::{CategoryCard, PricingModel, Record, Status};
use crate::catalog::stats::Stats;
use crate::catalog::write::Content;
use crate::identity::ProfileCard;

type Document = Json<Box<RawValue>>;

// --- reading -----------------------------------------------------------------------------------

pub(in crate::catalog) async fn id_of(
    db: impl PgExecutor<'_>,
    name: &RouteName,
) -> Result<Option<Uuid>, sqlx::Error> {
    match name {
        RouteName::Id(id) => Ok(Some(id.0)),
        RouteName::Slug(slug) => {
            sqlx::query_scalar!("select id from listing where slug = $1", slug)
                .fetch_optional(db)
                .await
        }
    }
}

pub(in crate::catalog) async fn by_id(
    db: impl PgExecutor<'_>,
    id: Uuid,
) -> Result<Option<Record>, sqlx::Error> {
    Ok(by_ids(db, &[id]).await?.pop())
}

/// Whole listings, in the order of the ids.
pub(in crate::catalog) async fn by_ids(
    db: impl PgExecutor<'_>,
    ids: &[Uuid],
) -> Result<Vec<Record>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"select l.id, l.slug, l.seller_id, l.name, l.description, l.category_id, l.tags,
                  l.pricing_model, l.price_micros, l.preferred_currency, l.delivery_type,
                  l.auth_method, l.formats, l.connection_instructions,
                  l.input_schema as "input_schema: Document",
                  l.output_schema as "output_schema: Document",
                  l.example_request as "example_request: Document",
                  l.example_response as "example_response: Document",
                  l.status, l.was_active, l.suspended_by_operator, l.created_at, l.updated_at,
                  c.name as "category_name?", c.slug as "category_slug?",
                  p.display_name, p.avatar_url, p.account_type, p.score,
                  s.calls_30d, s.failures_30d, s.p95_latency_ms_30d, s.rating_sum, s.review_count
           from unnest($1::uuid[]) with ordinality as wanted (id, place)
           join listing l on l.id = wanted.id
           join listing_stats s on s.listing_id = l.id
           join profile p on p.id = l.seller_id
           left join category c on c.id = l.category_id
           order by wanted.place"#,
        ids,
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Record {
            id: ListingId(row.id),
            slug: row.slug,
            seller: ProfileId(row.seller_id),
            content: Content {
                name: row.name,
                description: row.description,
                category: row.category_id.map(CategoryId),
                tags: row.tags,
                pricing_model: PricingModel::stored(&row.pricing_model),
                price: Micros(row.price_micros),
                preferred_currency: row.preferred_currency,
                delivery_type: row.delivery_type,
                auth_method: row.auth_method,
                formats: row.formats,
                connection_instructions: row.connection_instructions,
                input_schema: row.input_schema.map(|json| json.0),
                output_schema: row.output_schema.map(|json| json.0),
                example_request: row.example_request.map(|json| json.0),
                example_response: row.example_response.map(|json| json.0),
                status: Status::stored(&row.status),
            },
            was_active: row.was_active,
            suspended_by_operator: row.suspended_by_operator,
            category: row
                .category_id
                .zip(row.category_name)
                .zip(row.category_slug)
                .map(|((id, name), slug)| CategoryCard {
                    id: CategoryId(id),
                    name,
                    slug,
                }),
            provider: ProfileCard::new(
                ProfileId(row.seller_id),
                row.display_name,
                row.avatar_url,
                row.account_type,
                row.score,
            ),
            stats: Stats {
                calls: row.calls_30d,
                failures: row.failures_30d,
                p95_latency_ms: row.p95_latency_ms_30d,
                rating_sum: row.rating_sum,
                reviews: row.review_count,
            },
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
        .collect())
}

// --- writing -----------------------------------------------------------------------------------

/// Writes a new listing under `slug`. False, and nothing written, when the slug is taken.
pub async fn insert(
    tx: &mut PgConnection,
    id: ListingId,
    slug: &str,
    seller: ProfileId,
    content: &Content,
) -> Result<bool, sqlx::Error> {
    let now = crochet_shared::clock::now();
    let written = sqlx::query!(
        "insert into listing
            (id, slug, seller_id, name, description, category_id, tags, pricing_model, price_micros,
             preferred_currency, delivery_type, auth_method, formats, connection_instructions,
             input_schema, output_schema, example_request, example_response,
             status, was_active, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
                 $19, $20, $21, $21)
         on conflict (slug) do nothing",
        id.0,
        slug,
        seller.0,
        content.name,
        content.description,
        content.category.map(|id| id.0),
        &content.tags,
        content.pricing_model.as_str(),
        content.price.0,
        content.preferred_currency,
        content.delivery_type,
        content.auth_method,
        &content.formats,
        content.connection_instructions,
        document(content.input_schema.as_deref()) as _,
        document(content.output_schema.as_deref()) as _,
        document(content.example_request.as_deref()) as _,
        document(content.example_response.as_deref()) as _,
        content.status.as_str(),
        content.status == Status::Active,
        now,
    )
    .execute(&mut *tx)
    .await?;
    if written.rows_affected() == 0 {
        return Ok(false);
    }
    tell(tx, id.0).await?;
    Ok(true)
}

/// Takes a listing for a change: whoever else wants to change it waits.
pub async fn lock(tx: &mut PgConnection, id: ListingId) -> Result<Option<Record>, sqlx::Error> {
    let found = sqlx::query_scalar!("select id from listing where id = $1 for update", id.0)
        .fetch_optional(&mut *tx)
        .await?;
    match found {
        Some(id) => by_id(tx, id).await,
        None => Ok(None),
    }
}

/// Writes the whole content of a locked listing, and has gateways told.
pub async fn replace(
    tx: &mut PgConnection,
    id: ListingId,
    content: &Content,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update listing set
            name = $2, description = $3, category_id = $4, tags = $5, pricing_model = $6,
            price_micros = $7, preferred_currency = $8, delivery_type = $9, auth_method = $10,
            formats = $11, connection_instructions = $12, input_schema = $13, output_schema = $14,
            example_request = $15, example_response = $16, status = $17,
            was_active = was_active or $17 = 'active', version = version + 1, updated_at = $18
         where id = $1",
        id.0,
        content.name,
        content.description,
        content.category.map(|id| id.0),
        &content.tags,
        content.pricing_model.as_str(),
        content.price.0,
        content.preferred_currency,
        content.delivery_type,
        content.auth_method,
        &content.formats,
        content.connection_instructions,
        document(content.input_schema.as_deref()) as _,
        document(content.output_schema.as_deref()) as _,
        document(content.example_request.as_deref()) as _,
        document(content.example_response.as_deref()) as _,
        content.status.as_str(),
        crochet_shared::clock::now(),
    )
    .execute(&mut *tx)
    .await?;
    tell(tx, id.0).await
}

/// Notes that a locked listing's endpoint changed, and has gateways told.
pub async fn raise_version(tx: &mut PgConnection, id: ListingId) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update listing set version = version + 1, updated_at = $2 where id = $1",
        id.0,
        crochet_shared::clock::now(),
    )
    .execute(&mut *tx)
    .await?;
    tell(tx, id.0).await
}

/// Suspends a listing for its owner; false when it was. One that an operator withdraws stays
/// suspended when it is given back.
pub async fn suspend(
    tx: &mut PgConnection,
    id: Uuid,
    now: chrono::DateTime<chrono::Utc>,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query!(
        "update listing set status = 'suspended', version = version + 1, updated_at = $2,
            owner_status = case when suspended_by_operator then 'suspended' else owner_status end
         where id = $1 and (status <> 'suspended' or owner_status = 'active')",
        id,
        now,
    )
    .execute(tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Deletes a listing that was never active, and its endpoint with it.
pub(in crate::catalog) async fn delete(tx: &mut PgConnection, id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query!("delete from listing where id = $1 and not was_active", id)
        .execute(tx)
        .await?;
    Ok(())
}

/// Has gateways told of a listing, with the transaction that changes it.
pub(in crate::catalog) async fn tell(tx: &mut PgConnection, id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query!("insert into outbox (listing_id) values ($1)", id)
        .execute(tx)
        .await?;
    Ok(())
}

fn document(raw: Option<&RawValue>) -> Option<Json<&RawValue>> {
    raw.map(Json)
}
