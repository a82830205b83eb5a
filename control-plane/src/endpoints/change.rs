//! `PATCH /listings/:id`: any field of a listing, and its endpoint with it.

use std::sync::Arc;

use axum::extract::{Path, State};
use chrono::{DateTime, Utc};
use crochet_shared::code::Code;
use crochet_shared::envelope::Success;
use crochet_shared::id::{CategoryId, ListingId};
use sqlx::PgConnection;
use utoipa::ToSchema;

use super::model::{CheckedUrl, EndpointChange, EndpointSettings, Row, URL_REQUIRED};
use super::sell::{Sold, Written, endpoint_fields, refuse_endpoint, show};
use super::settings::{check_url, finish};
use super::store;
use crate::answer::{Data, Secret};
use crate::app::App;
use crate::catalog::{self, Change, ListingContent, Price, PricingModel, Record, Status};
use crate::db::work;
use crate::describe;
use crate::error::ApiError;
use crate::extract::OpenJson;
use crate::fields::{Fields, FromFields};
use crate::identity::Agent;

/// The body of `PATCH /listings/:id`: only what is present changes.
#[derive(ToSchema)]
#[schema(example = json!({"status": "active", "pricing_amount": "0.25"}))]
#[expect(dead_code, reason = "read by the API document")]
struct ListingChanges {
    #[serde(flatten)]
    content: ListingContent,
    #[schema(nullable = false, extensions(("x-name" = json!([1, catalog::NAME_CHARS_MAX]))))]
    name: Option<String>,
    #[schema(nullable = false, extensions(("x-text" = json!([1, catalog::DESCRIPTION_CHARS_MAX]))))]
    description: Option<String>,
    #[schema(nullable = false, extensions(("x-one-of" = json!(describe::names(&catalog::DELIVERY_TYPES)))))]
    delivery_type: Option<String>,
    #[schema(nullable = false, extensions(("x-one-of" = json!(describe::names(&catalog::PRICING_MODELS)))))]
    pricing_model: Option<String>,
    /// Price of a call in US dollars, as a number or decimal text, of at most 6 decimals.
    #[schema(nullable = false)]
    pricing_amount: Option<Price>,
    #[schema(nullable = false, extensions(("x-one-of" = json!(describe::names(&catalog::STATUSES)))))]
    status: Option<String>,
    /// The endpoint's URL, as in `endpoint`.
    #[schema(format = "uri", max_length = 2048)]
    private_endpoint_url: Option<String>,
    endpoint: Option<EndpointSettings>,
}

/// What [`ListingChanges`] describes, read.
#[derive(Debug)]
pub(super) struct Patch {
    change: Change,
    endpoint: EndpointChange,
}

impl FromFields for Patch {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let change = Change::of_listing(fields);
        let endpoint = endpoint_fields(fields);
        if change.pricing_model == Some(PricingModel::Free) {
            refuse_endpoint(fields);
        }
        Some(Self { change, endpoint })
    }
}

/// Changes a listing.
///
/// Any of its fields; `private_endpoint_url` and `endpoint` change the endpoint of a `per_call`
/// listing. A draft becomes active, and active and suspended become each other; what was active never
/// becomes a draft. `gateway_endpoint` is `null` when free; it holds a signing secret only where this
/// change made the endpoint.
#[utoipa::path(patch, path = "/listings/{id}", tag = "Catalog", operation_id = "updateListing",
    security(("bearer" = [])),
    params(("id" = String, Path, description = "The listing's id or slug.", example = "weather-forecast")),
    request_body = ListingChanges, responses((status = 200, body = Success<Sold>)),
    extensions(("x-error-codes" = json!([Code::ListingNotFound, Code::Forbidden, Code::ListingNotPerCall,
        Code::EndpointUrlForbidden]))))]
pub(super) async fn change(
    State(app): State<Arc<App>>,
    owner: Agent,
    Path(text): Path<String>,
    OpenJson(patch, mut findings): OpenJson<Patch>,
) -> Result<Secret<Data<Sold>>, ApiError> {
    let record = catalog::owned(&app, owner, &text).await?;
    let listing = record.id;
    let category = match &patch.change.category {
        Some(Some(text)) => Some(catalog::find_category(&app, text, &mut findings).await?),
        Some(None) => Some(None),
        None => None,
    };
    // Judged here to be told with all else, and again below, where nobody else can change it.
    if let Some(status) = patch.change.status
        && let Err(Unbecoming::Never(problem)) = may_become(&record, status)
    {
        findings.refuse("status", problem);
    }
    if !findings.has_problem("pricing_model")
        && let Some(problem) = patch.change.price_problem(Some(&record.content))
    {
        findings.refuse("pricing_amount", problem.to_string());
    }
    if patch.change.pricing_model == Some(PricingModel::PerCall)
        && patch.endpoint.url.is_none()
        && !findings.has_problem("private_endpoint_url")
        && store::read(app.db.pool(), listing).await?.is_none()
    {
        findings.refuse("private_endpoint_url", URL_REQUIRED);
    }
    let url = check_url(&app, patch.endpoint.url.as_ref()).await;
    let url = finish(findings, url)?;
    let now = crochet_shared::clock::now();
    let wanted = Wanted {
        listing,
        patch: &patch,
        category,
        url: url.as_ref(),
        now,
    };
    let (app, wanted) = (&app, &wanted);
    let written = app
        .db
        .run("endpoints.change", |tx| {
            work(async move { wanted.write(app, tx).await })
        })
        .await?;
    Ok(Secret(Data(show(app, listing, written, now).await?)))
}

/// A change that everything outside the database was asked about.
#[expect(
    clippy::option_option,
    reason = "absent, null and a value are three things in a PATCH"
)]
struct Wanted<'a> {
    listing: ListingId,
    patch: &'a Patch,
    category: Option<Option<CategoryId>>,
    url: Option<&'a CheckedUrl>,
    now: DateTime<Utc>,
}

impl Wanted<'_> {
    async fn write(&self, app: &App, tx: &mut PgConnection) -> Result<Written, ApiError> {
        let mut record = catalog::lock(tx, self.listing)
            .await?
            .ok_or(Code::ListingNotFound)?;
        if let Some(status) = self.patch.change.status {
            may_become(&record, status)?;
        }
        let change = self.patch.change.clone();
        change.apply(&mut record.content, self.category)?;
        let written = match record.content.pricing_model {
            PricingModel::Free if self.patch.endpoint.is_empty() => None,
            PricingModel::Free => return Err(Code::ListingNotPerCall.into()),
            PricingModel::PerCall => Some(self.write_endpoint(app, tx).await?),
        };
        catalog::replace(tx, self.listing, &record.content).await?;
        if self.patch.change.status == Some(Status::Suspended) {
            // Also of one that an operator withdraws: it is not to be active when it is given back.
            catalog::suspend(tx, self.listing.0, self.now).await?;
        }
        Ok(written)
    }

    /// Changes the endpoint, or makes one for a listing that becomes sold per call.
    async fn write_endpoint(
        &self,
        app: &App,
        tx: &mut PgConnection,
    ) -> Result<(Row, Option<secrecy::SecretString>), ApiError> {
        let standing = store::read(&mut *tx, self.listing).await?;
        let (mut row, secret, url) = match (standing, self.url) {
            (Some(row), url) => (row, None, url),
            (None, Some(url)) => {
                let (row, secret) = Row::new(&app.vault, self.listing, url, self.now)?;
                (row, Some(secret), None)
            }
            (None, None) => {
                return Err(ApiError::field("private_endpoint_url", URL_REQUIRED));
            }
        };
        row.apply(&app.vault, self.listing, &self.patch.endpoint, url)?;
        if secret.is_some() || !self.patch.endpoint.is_empty() {
            store::put(tx, self.listing, &row).await?;
        }
        Ok((row, secret))
    }
}

/// Why a listing cannot become what is wanted.
enum Unbecoming {
    /// An operator withdrew it.
    Withheld,
    /// There is no such way.
    Never(&'static str),
}

impl From<Unbecoming> for ApiError {
    fn from(unbecoming: Unbecoming) -> Self {
        match unbecoming {
            Unbecoming::Withheld => Code::Forbidden.into(),
            Unbecoming::Never(problem) => Self::field("status", problem),
        }
    }
}

/// draft → active ↔ suspended, and what an operator withdrew stays withdrawn (contract §4).
fn may_become(record: &Record, wanted: Status) -> Result<(), Unbecoming> {
    match (record.content.status, wanted) {
        (Status::Draft | Status::Suspended, Status::Active) if record.suspended_by_operator => {
            Err(Unbecoming::Withheld)
        }
        (Status::Draft, Status::Draft | Status::Active)
        | (Status::Active | Status::Suspended, Status::Active | Status::Suspended) => Ok(()),
        (Status::Draft, Status::Suspended) => Err(Unbecoming::Never(
            "must be one of draft, active: a draft is deleted rather than suspended",
        )),
        (Status::Active | Status::Suspended, Status::Draft) => Err(Unbecoming::Never(
            "must be one of active, suspended: what was active never becomes a draft",
        )),
    }
}
