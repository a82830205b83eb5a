//! `POST /listings`: a listing and, when it is sold per call, its endpoint.

use std::sync::Arc;

use axum::extract::State;
use chrono::{DateTime, Utc};
use crochet_shared::id::{ListingId, ProfileId};
use secrecy::SecretString;
use serde::Serialize;
use sqlx::PgConnection;

use super::model::{CheckedUrl, Endpoint, EndpointChange, Row, url_field};
use super::settings::{check_url, finish};
use super::store;
use crate::answer::{Created, Secret};
use crate::app::App;
use crate::catalog::{self, Change, Content, Listing, PricingModel};
use crate::db::work;
use crate::error::ApiError;
use crate::extract::OpenJson;
use crate::fields::{Fields, FromFields};
use crate::identity::{self, Agent, ListingProof};

/// Slugs that are tried: the plain one, then with a random suffix each.
const SLUGS_MAX: usize = 4;

/// The body of `POST /listings`.
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
                fields.refuse(
                    "private_endpoint_url",
                    "is required when pricing_model is per_call",
                );
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
#[derive(Debug, Serialize)]
pub(super) struct Sold {
    #[serde(flatten)]
    pub(super) listing: Listing,
    /// `null` when free.
    pub(super) gateway_endpoint: Option<Endpoint>,
}

/// An endpoint that was written, with its secret when that was made now.
pub(super) type Written = Option<(Row, Option<SecretString>)>;

/// `POST /listings`
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
