//! A listing and its endpoint as the gateway needs them, secrets opened.

use crochet_shared::id::{ListingId, ProfileId};
use crochet_shared::internal::{EndpointRecord, ListingStatus, Redelivery, RouteName, RouteRecord};
use crochet_shared::money::Micros;
use crochet_shared::seal::Unsealable;
use secrecy::ExposeSecret as _;

use super::model::{Column, Previous, Row, open};
use super::store;
use crate::app::App;
use crate::error::ApiError;
use crate::metrics::names;

/// The record of a listing, by id or slug; `None` when there is none.
pub async fn route_record(app: &App, name: &RouteName) -> Result<Option<RouteRecord>, ApiError> {
    let Some(route) = store::route(app.db.pool(), name).await? else {
        return Ok(None);
    };
    let listing_id = ListingId(route.id);
    let endpoint = match store::read(app.db.pool(), listing_id).await? {
        // A listing that became free keeps its endpoint for the day it is sold again.
        Some(row) if route.pricing_model == "per_call" => {
            let now = crochet_shared::clock::now();
            let previous = store::previous_secrets(app.db.pool(), listing_id, now).await?;
            let endpoint = opened(app, listing_id, &row, &previous);
            Some(endpoint.unwrap_or_else(|Unsealable| unavailable(listing_id, &row)))
        }
        _ => None,
    };
    Ok(Some(RouteRecord {
        listing_id,
        slug: route.slug,
        seller_id: ProfileId(route.seller_id),
        status: match route.status.as_str() {
            "active" => ListingStatus::Active,
            "suspended" => ListingStatus::Suspended,
            _ => ListingStatus::Draft,
        },
        price: Micros(route.price_micros),
        endpoint,
        version: route.version,
    }))
}

/// What gateways are told of an endpoint whose secrets do not open, because they are sealed under a key
/// that this process was not given: that nobody can be served. Never what was known of it before, and never
/// nothing, which would let them go on with that.
fn unavailable(listing: ListingId, row: &Row) -> EndpointRecord {
    metrics::counter!(names::ENDPOINTS_SEALED.name).increment(1);
    tracing::error!(%listing, "ALERT: an endpoint cannot be opened: its secrets are sealed under another key than CROCHET_MASTER_KEYS has");
    EndpointRecord {
        url: String::new(),
        auth_header: None,
        secrets: Vec::new(),
        paused: true,
        ..settings(row)
    }
}

fn opened(
    app: &App,
    listing: ListingId,
    row: &Row,
    previous: &[Previous],
) -> Result<EndpointRecord, Unsealable> {
    let open = |column, sealed: &[u8]| {
        open(&app.vault, listing, column, sealed).map(|secret| secret.expose_secret().to_owned())
    };
    let auth_header = match (&row.auth_header_name, &row.auth_header_value_sealed) {
        (Some(name), Some(sealed)) => Some((name.clone(), open(Column::AuthHeaderValue, sealed)?)),
        _ => None,
    };
    let mut secrets = vec![(open(Column::Secret, &row.secret_sealed)?, None)];
    for one in previous {
        let end = Some(one.expires_at.timestamp_millis());
        secrets.push((open(Column::PreviousSecret, &one.sealed)?, end));
    }
    Ok(EndpointRecord {
        url: open(Column::Url, &row.url_sealed)?,
        auth_header,
        secrets,
        ..settings(row)
    })
}

/// What of an endpoint is no secret.
fn settings(row: &Row) -> EndpointRecord {
    // The columns are checked to be positive.
    let positive = |value: i32| value.unsigned_abs();
    EndpointRecord {
        url: String::new(),
        auth_header: None,
        secrets: Vec::new(),
        timeout_ms: positive(row.timeout_ms),
        max_request_bytes: positive(row.max_request_bytes),
        max_response_bytes: positive(row.max_response_bytes),
        max_concurrency: positive(row.max_concurrency),
        redelivery: if row.redelivery == "never" {
            Redelivery::Never
        } else {
            Redelivery::SameRequestId
        },
        paused: row.status == "paused",
    }
}
