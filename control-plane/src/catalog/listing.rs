//! A listing: as it is stored, and as everyone may see it.

use chrono::{DateTime, Utc};
use crochet_shared::clock::rfc3339_millis;
use crochet_shared::id::{CategoryId, ListingId, ProfileId};
use crochet_shared::internal::RouteName;
use crochet_shared::money::Micros;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::slug::is_slug;
use super::stats::{Stats, StatsShown};
use super::write::Content;
use crate::app::App;
use crate::describe;
use crate::identity::ProfileCard;

/// How a listing is paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PricingModel {
    /// Not through us.
    Free,
    /// Each call, through the gateway.
    PerCall,
}

/// Names of [`PricingModel`].
pub const PRICING_MODELS: [(&str, PricingModel); 2] = [
    ("free", PricingModel::Free),
    ("per_call", PricingModel::PerCall),
];

/// Where a listing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Only its owner sees it.
    Draft,
    /// In the catalog.
    Active,
    /// Withdrawn.
    Suspended,
}

/// Names of [`Status`].
pub const STATUSES: [(&str, Status); 3] = [
    ("draft", Status::Draft),
    ("active", Status::Active),
    ("suspended", Status::Suspended),
];

/// Names of delivery types.
pub const DELIVERY_TYPES: [(&str, &str); 5] = [
    ("api", "api"),
    ("webhook", "webhook"),
    ("streaming", "streaming"),
    ("batch", "batch"),
    ("file", "file"),
];

impl PricingModel {
    /// The public name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::PerCall => "per_call",
        }
    }

    /// Reads what the database keeps.
    pub(super) fn stored(text: &str) -> Self {
        match text {
            "per_call" => Self::PerCall,
            _ => Self::Free,
        }
    }
}

impl Status {
    /// The public name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Active => "active",
            Self::Suspended => "suspended",
        }
    }

    /// Reads what the database keeps; a word it does not know is shown to nobody.
    pub(super) fn stored(text: &str) -> Self {
        match text {
            "active" => Self::Active,
            "suspended" => Self::Suspended,
            _ => Self::Draft,
        }
    }
}

/// A listing as it is stored.
#[derive(Clone, Debug)]
pub struct Record {
    /// Which.
    pub id: ListingId,
    /// Its other name.
    pub slug: String,
    /// Who sells.
    pub seller: ProfileId,
    /// What the seller says of it.
    pub content: Content,
    /// Whether it was ever active.
    pub was_active: bool,
    /// Whether an operator withdrew it.
    pub suspended_by_operator: bool,
    /// Its category, as shown.
    pub(super) category: Option<CategoryCard>,
    /// Its seller, as shown.
    pub(super) provider: ProfileCard,
    /// How it has done.
    pub(super) stats: Stats,
    /// When it was made.
    pub(super) created_at: DateTime<Utc>,
    /// When it last changed.
    pub(super) updated_at: DateTime<Utc>,
}

/// A category beside a listing.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct CategoryCard {
    pub(super) id: CategoryId,
    #[schema(example = "Data")]
    pub(super) name: String,
    #[schema(example = "data")]
    pub(super) slug: String,
}

/// `Listing` (contract §4).
#[derive(Debug, Serialize, ToSchema)]
pub struct Listing {
    id: ListingId,
    /// Its other name, made from the name; never changes.
    #[schema(example = "weather-forecast")]
    slug: String,
    #[schema(example = "Weather forecast")]
    name: String,
    #[schema(example = "Hourly forecast for any place.")]
    description: String,
    category: Option<CategoryCard>,
    #[schema(example = json!(["weather"]))]
    tags: Vec<String>,
    #[schema(extensions(("x-one-of" = json!(["per_call", "free"]))))]
    pricing_model: &'static str,
    /// Price of a call in US dollars, exactly; 0 when free.
    #[schema(value_type = f64, minimum = 0, maximum = 10_000, example = 1)]
    pricing_amount: Box<RawValue>,
    /// The same in millionths of a dollar.
    #[schema(example = 1_000_000)]
    pricing_amount_micros: i64,
    /// Always `USD`.
    #[schema(example = "USD")]
    pricing_currency: &'static str,
    #[schema(example = "USDC")]
    preferred_currency: Option<String>,
    #[schema(extensions(("x-one-of" = json!(describe::names(&DELIVERY_TYPES)))))]
    delivery_type: String,
    #[schema(example = "none")]
    auth_method: Option<String>,
    #[schema(example = json!(["json"]))]
    formats: Vec<String>,
    #[schema(example = "POST any JSON with a `place`.")]
    connection_instructions: Option<String>,
    /// JSON Schema of a request.
    #[schema(value_type = Value, example = json!({"type": "object"}))]
    input_schema: Option<Box<RawValue>>,
    /// JSON Schema of an answer.
    #[schema(value_type = Value, example = json!({"type": "object"}))]
    output_schema: Option<Box<RawValue>>,
    /// A request that works.
    #[schema(value_type = Value, example = json!({"place": "Lisbon"}))]
    example_request: Option<Box<RawValue>>,
    /// Its answer.
    #[schema(value_type = Value, example = json!({"celsius": 21}))]
    example_response: Option<Box<RawValue>>,
    #[schema(extensions(("x-one-of" = json!(["active", "draft", "suspended"]))))]
    status: &'static str,
    /// Where to call it; `null` when free.
    #[schema(
        format = "uri",
        example = "http://127.0.0.1:8080/api/v1/gateway/01890a5d-ac96-774b-bcce-b302099a8057"
    )]
    gateway_url: Option<String>,
    provider: ProfileCard,
    stats: StatsShown,
    #[serde(with = "rfc3339_millis")]
    created_at: DateTime<Utc>,
    #[serde(with = "rfc3339_millis")]
    updated_at: DateTime<Utc>,
}

impl Listing {
    /// Shows a listing.
    pub fn new(app: &App, record: Record) -> Self {
        let content = record.content;
        let base = &app.config.public_base_url;
        let sold = content.pricing_model == PricingModel::PerCall;
        Self {
            gateway_url: sold.then(|| format!("{base}/api/v1/gateway/{}", record.id)),
            id: record.id,
            slug: record.slug,
            name: content.name,
            description: content.description,
            category: record.category,
            tags: content.tags,
            pricing_model: content.pricing_model.as_str(),
            pricing_amount: dollars(content.price),
            pricing_amount_micros: content.price.0,
            pricing_currency: "USD",
            preferred_currency: content.preferred_currency,
            delivery_type: content.delivery_type,
            auth_method: content.auth_method,
            formats: content.formats,
            connection_instructions: content.connection_instructions,
            input_schema: content.input_schema,
            output_schema: content.output_schema,
            example_request: content.example_request,
            example_response: content.example_response,
            status: content.status.as_str(),
            provider: record.provider,
            stats: record.stats.show(),
            created_at: record.created_at,
            updated_at: record.updated_at,
        }
    }
}

/// An amount as a JSON number, written exactly.
fn dollars(price: Micros) -> Box<RawValue> {
    // Plain decimal text is a JSON number.
    RawValue::from_string(price.dollars()).unwrap_or_default()
}

/// How a path names a listing, or `None` for what can be no listing's name.
pub fn name(text: &str) -> Option<RouteName> {
    match text.parse() {
        Ok(id) => Some(RouteName::Id(id)),
        Err(_) => is_slug(text).then(|| RouteName::Slug(text.to_owned())),
    }
}
