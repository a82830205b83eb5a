//! `POST /listings`: a listing and, when it is sold per call, its endpoint.

use std::sync::Arc;

use axum::extract::State;
use chrono::{DateTime, Utc};
use crochet_shared::code::Code;
use crochet_shared::envelope::Success;
use crochet_shared::id::{ListingId, ProfileId};
use secrecy::SecretString;
use serde::Serialize;
use sqlx::PgConnection;
use utoipa::ToSchema;

use super::model::{
    CheckedUrl, Endpoint, EndpointChange, EndpointSettings, Row, URL_REQUIRED, url_field,
};
use super::settings::{check_url, finish};
use super::store;
use crate::answer::{Created, Secret};
use crate::app::App;
use crate::catalog::{self, Change, Content, Listing, ListingContent, Price, PricingModel};
use crate::db::work;
use crate::describe;
use crate::error::ApiError;
use crate::extract::OpenJson;
use crate::fields::{Fields, FromFields};
use crate::identity::{self, Agent, ListingProof};

/// Slugs that are tried: the plain one, then with a random suffix each.
const SLUGS_MAX: usize = 4;

/// The body of `POST /listings`.
#[derive(ToSchema)]
#[schema(example = json!({
    "nonce": "5feceb66ffc86f38d952786c6d696c79", "pow_nonce": "48213", "name": "Weather forecast",
    "description": "Hourly forecast for any place.", "category": "data", "tags": ["weather"],
    "delivery_type": "api", "pricing_model": "per_call", "pricing_amount": "0.25",
    "private_endpoint_url": "https://seller.example/run", "endpoint": {"timeout_ms": 10_000},
    "status": "active",
}))]
#[expect(dead_code, reason = "read by the API document")]
struct NewListing {
    #[serde(flatten)]
    content: ListingContent,
    /// What solves the challenge's proof of work.
    #[schema(max_length = 128)]
    pow_nonce: String,
    /// The challenge's `nonce`; your newest open challenge when absent.
    nonce: Option<String>,
    #[schema(extensions(("x-name" = json!([1, catalog::NAME_CHARS_MAX]))))]
    name: String,
    #[schema(extensions(("x-text" = json!([1, catalog::DESCRIPTION_CHARS_MAX]))))]
    description: String,
    #[schema(extensions(("x-one-of" = json!(describe::names(&catalog::DELIVERY_TYPES)))))]
    delivery_type: String,
    #[schema(extensions(("x-one-of" = json!(describe::names(&catalog::PRICING_MODELS)))))]
    pricing_model: String,
    /// Price of a call in US dollars, as a number or decimal text, of at most 6 decimals. Required
    /// when `per_call`, 0 or absent when `free`.
    pricing_amount: Option<Price>,
    /// `draft` when absent.
    #[schema(extensions(("x-one-of" = json!(["draft", "active"]))))]
    status: Option<String>,
    /// Required when `per_call`; as in `endpoint`.
    #[schema(format = "uri", max_length = 2048)]
    private_endpoint_url: Option<String>,
    /// The endpoint's other settings.
    endpoint: Option<EndpointSettings>,
}

/// What [`NewListing`] describes, read.
#[derive(Debug)]
pub(super) struct Sell {
    /// `None` when it could not be read.
    proof: Option<ListingProof>,
    change: Change,
    endpoint: EndpointChange,
}

impl FromFields for Sell {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let proof = ListingProof::from_fields(fields);
        let change = Change::new_listing(fields);
        let endpoint = endpoint_fields(fields);
        match change.pricing_model {
            Some(PricingModel::PerCall)
                if endpoint.url.is_none() && !fields.has_problem("private_endpoint_url") =>
            {
                fields.refuse("private_endpoint_url", URL_REQUIRED);
            }
            Some(PricingModel::Free) => refuse_endpoint(fields),
            _ => {}
        }
        Some(Self {
            proof,
            change,
            endpoint,
        })
    }
}

/// `endpoint`, and `private_endpoint_url` beside it, which is the same as inside it.
pub(super) fn endpoint_fields(fields: &mut Fields<'_>) -> EndpointChange {
    let url = if fields.is_null("private_endpoint_url") {
        None
    } else {
        url_field(fields)
    };
    let mut endpoint = fields
        .nested("endpoint", EndpointChange::from_fields)
        .unwrap_or_default();
    if url.is_some() {
        endpoint.url = url;
    }
    endpoint
}

/// A free listing has no endpoint to set.
pub(super) fn refuse_endpoint(fields: &mut Fields<'_>) {
    for name in ["private_endpoint_url", "endpoint"] {
        if fields.has(name) && !fields.is_null(name) {
            fields.refuse(name, "must be absent when pricing_model is free");
        }
    }
}

/// A listing with its endpoint, as its owner sees it after making or changing it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Sold {
    #[serde(flatten)]
    pub(super) listing: Listing,
    /// `null` when free.
    pub(super) gateway_endpoint: Option<Endpoint>,
}

/// An endpoint that was written, with its secret when that was made now.
pub(super) type Written = Option<(Row, Option<SecretString>)>;

/// Lists a capability for sale.
///
/// Needs a solved `POST /listings/challenge`. `per_call` needs a price and a `private_endpoint_url`;
/// its answer holds the signing secret of the endpoint, this once. `free` has neither.
#[utoipa::path(post, path = "/listings", tag = "Catalog", operation_id = "createListing",
    security(("bearer" = [])), request_body = NewListing,
    responses((status = 201, body = Success<Sold>)),
    extensions(("x-error-codes" = json!([Code::PowInvalid, Code::ChallengeInvalid, Code::EndpointUrlForbidden, Code::Forbidden]))))]
pub(super) async fn sell(
    State(app): State<Arc<App>>,
    seller: Agent,
    OpenJson(sell, mut findings): OpenJson<Sell>,
) -> Result<Secret<Created<Sold>>, ApiError> {
    // The work comes before what costs us a look-up, unless the body is refused in any case.
    let nonce = match &sell.proof {
        Some(proof) if findings.is_empty() => {
            Some(identity::listing_challenge(&app, seller.profile, proof).await?)
        }
        _ => None,
    };
    let category = match sell.change.category.as_ref().and_then(Option::as_deref) {
        Some(text) => catalog::find_category(&app, text, &mut findings).await?,
        None => None,
    };
    if let Some(problem) = sell.change.price_problem(None) {
        findings.refuse("pricing_amount", problem.to_string());
    }
    let url = check_url(&app, sell.endpoint.url.as_ref()).await;
    let url = finish(findings, url)?;
    let read = sell.change.into_new(category)?.zip(nonce);
    let (content, nonce) =
        read.ok_or_else(|| ApiError::internal(anyhow::anyhow!("a listing was read in part")))?;
    let now = crochet_shared::clock::now();
    let new = New {
        id: ListingId::new(now),
        seller: seller.profile,
        content: &content,
        endpoint: &sell.endpoint,
        url: url.as_ref(),
        now,
    };
    let (app, nonce, new) = (&app, nonce.as_str(), &new);
    let written = app
        .db
        .run("endpoints.sell", |tx| {
            work(async move {
                identity::use_up(tx, nonce).await?;
                if !identity::may_sell(tx, new.seller).await? {
                    return Err(Code::Forbidden.into());
                }
                new.write(app, tx).await
            })
        })
        .await?;
    let sold = show(app, new.id, written, now).await?;
    Ok(Secret(Created {
        location: format!("{}/listings/{}", crate::router::API, new.id),
        data: sold,
    }))
}

/// A listing about to be written.
struct New<'a> {
    id: ListingId,
    seller: ProfileId,
    content: &'a Content,
    endpoint: &'a EndpointChange,
    url: Option<&'a CheckedUrl>,
    now: DateTime<Utc>,
}

impl New<'_> {
    async fn write(&self, app: &App, tx: &mut PgConnection) -> Result<Written, ApiError> {
        let mut written = false;
        for taken in (0..SLUGS_MAX).map(|tried| tried > 0) {
            let slug = catalog::made_of(&self.content.name, taken);
            written = catalog::insert(tx, self.id, &slug, self.seller, self.content).await?;
            if written {
                break;
            }
        }
        if !written {
            return Err(ApiError::internal(anyhow::anyhow!("no slug was free")));
        }
        let Some(url) = self.url else {
            return Ok(None);
        };
        let (mut row, secret) = Row::new(&app.vault, self.id, url, self.now)?;
        row.apply(&app.vault, self.id, self.endpoint, None)?;
        store::put(tx, self.id, &row).await?;
        Ok(Some((row, Some(secret))))
    }
}

/// What was written, as its owner sees it.
pub(super) async fn show(
    app: &App,
    id: ListingId,
    written: Written,
    now: DateTime<Utc>,
) -> Result<Sold, ApiError> {
    Ok(Sold {
        listing: catalog::show(app, id).await?,
        gateway_endpoint: written.map(|(row, secret)| Endpoint::new(id, row, secret.as_ref(), now)),
    })
}
