//! What a seller says of a listing: read whole when it is made, in parts when it changes. Pure.

use crochet_shared::id::CategoryId;
use crochet_shared::money::{MICROS_PER_DOLLAR, Micros, PRICE_MAX, PRICE_MIN};
use serde_json::json;
use serde_json::value::RawValue;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, SchemaType, Type};
use utoipa::{PartialSchema, ToSchema};

use super::listing::{DELIVERY_TYPES, PRICING_MODELS, PricingModel, STATUSES, Status};
use super::price::price;
use crate::describe;
use crate::fields::{self, Fields, Problem};

/// Longest name of a listing, in characters.
pub const NAME_CHARS_MAX: usize = 120;
/// Longest description of a listing, in characters.
pub const DESCRIPTION_CHARS_MAX: usize = 5000;
const INSTRUCTIONS_CHARS_MAX: usize = 4000;
const TAGS_MAX: usize = 10;
const TAG_CHARS_MAX: usize = 32;
const CATEGORY_CHARS_MAX: usize = 64;
/// The contract bounds neither; they are names, not prose.
const AUTH_METHOD_CHARS_MAX: usize = 64;
const CURRENCY_CHARS_MAX: usize = 16;

/// Everything of a listing that its seller decides.
#[derive(Clone, Debug)]
pub struct Content {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: String,
    /// Where it stands in the catalog.
    pub category: Option<CategoryId>,
    /// Free words.
    pub tags: Vec<String>,
    /// How it is paid for.
    pub pricing_model: PricingModel,
    /// Price of a call; zero exactly when free.
    pub price: Micros,
    /// What the seller likes to be paid in.
    pub preferred_currency: Option<String>,
    /// One of the contract's five.
    pub delivery_type: String,
    /// How the service wants to be authenticated to, in a word.
    pub auth_method: Option<String>,
    /// Formats it speaks.
    pub formats: Vec<String>,
    /// How to use it.
    pub connection_instructions: Option<String>,
    /// JSON Schema of a request.
    pub input_schema: Option<Box<RawValue>>,
    /// JSON Schema of an answer.
    pub output_schema: Option<Box<RawValue>>,
    /// A request that works.
    pub example_request: Option<Box<RawValue>>,
    /// Its answer.
    pub example_response: Option<Box<RawValue>>,
    /// Draft, active or suspended.
    pub status: Status,
}

/// What a listing may have, as the API document describes it for making and for changing one.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the API document")]
pub struct ListingContent {
    /// Id or slug of a category.
    #[schema(example = "data", extensions(("x-text" = json!([1, CATEGORY_CHARS_MAX]))))]
    category: Option<String>,
    #[schema(example = json!(["weather"]), extensions(("x-texts" = json!([TAGS_MAX, 1, TAG_CHARS_MAX]))))]
    tags: Option<Vec<String>>,
    /// Always `USD`.
    #[schema(extensions(("x-one-of" = json!(["USD"]))))]
    pricing_currency: Option<String>,
    /// What you like to be paid in.
    #[schema(example = "USDC", extensions(("x-text" = json!([1, CURRENCY_CHARS_MAX]))))]
    preferred_currency: Option<String>,
    /// How the service wants to be authenticated to, in a word.
    #[schema(example = "none", extensions(("x-text" = json!([1, AUTH_METHOD_CHARS_MAX]))))]
    auth_method: Option<String>,
    /// Formats it speaks.
    #[schema(example = json!(["json"]), extensions(("x-texts" = json!([TAGS_MAX, 1, TAG_CHARS_MAX]))))]
    formats: Option<Vec<String>>,
    /// How to use it.
    #[schema(example = "POST any JSON with a `place`.", extensions(("x-text" = json!([0, INSTRUCTIONS_CHARS_MAX]))))]
    connection_instructions: Option<String>,
    /// JSON Schema of a request, of at most 32 KiB.
    #[schema(value_type = Option<JsonSchema>)]
    input_schema: Option<Box<RawValue>>,
    /// JSON Schema of an answer, of at most 32 KiB.
    #[schema(value_type = Option<JsonSchema>)]
    output_schema: Option<Box<RawValue>>,
    /// A request that works: any JSON of at most 32 KiB.
    #[schema(value_type = Option<Value>, example = json!({"place": "Lisbon"}))]
    example_request: Option<Box<RawValue>>,
    /// Its answer: any JSON of at most 32 KiB.
    #[schema(value_type = Option<Value>, example = json!({"celsius": 21}))]
    example_response: Option<Box<RawValue>>,
}

/// A JSON Schema, as the API document describes it.
struct JsonSchema;

impl ToSchema for JsonSchema {}

impl PartialSchema for JsonSchema {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .description(Some("A JSON Schema: an object, true or false."))
            .schema_type(SchemaType::from_iter([Type::Object, Type::Boolean]))
            .examples([json!({ "type": "object" })])
            .into()
    }
}

/// A price, as the API document describes it.
#[derive(Debug)]
pub struct Price;

impl ToSchema for Price {}

impl PartialSchema for Price {
    fn schema() -> RefOr<Schema> {
        let text = describe::pattern(PRICE_PATTERN, "0.25");
        let number = ObjectBuilder::new()
            .schema_type(Type::Number)
            .minimum(Some(0))
            .maximum(Some(PRICE_MAX.0 / MICROS_PER_DOLLAR))
            .examples([json!(0.25)]);
        OneOfBuilder::new()
            .description(Some(
                "US dollars as decimal text or as a number, of at most 6 decimals, exactly.",
            ))
            .item(text)
            .item(number)
            .into()
    }
}

/// Decimal dollars of at most six decimals.
pub(super) const PRICE_PATTERN: &str = r"^([0-9]{1,4}(\.[0-9]{1,6})?|10000(\.0{1,6})?)$";

/// The fields of a change. What is absent stays; a listing is made by applying one to nothing.
#[derive(Clone, Debug, Default)]
#[expect(
    clippy::option_option,
    reason = "absent, null and a value are three things in a PATCH"
)]
pub struct Change {
    name: Option<String>,
    description: Option<String>,
    /// By id or slug; to be looked up.
    pub category: Option<Option<String>>,
    tags: Option<Vec<String>>,
    /// The model, when it is named.
    pub pricing_model: Option<PricingModel>,
    price: Option<Micros>,
    preferred_currency: Option<Option<String>>,
    delivery_type: Option<&'static str>,
    auth_method: Option<Option<String>>,
    formats: Option<Vec<String>>,
    connection_instructions: Option<Option<String>>,
    input_schema: Option<Option<Box<RawValue>>>,
    output_schema: Option<Option<Box<RawValue>>>,
    example_request: Option<Option<Box<RawValue>>>,
    example_response: Option<Option<Box<RawValue>>>,
    /// The status, when it is named.
    pub status: Option<Status>,
}

impl Change {
    /// Reads the fields of a new listing. What a listing cannot do without is required.
    pub fn new_listing(fields: &mut Fields<'_>) -> Self {
        let name = fields.required("name", fields::name(1, NAME_CHARS_MAX));
        let description = fields.required("description", fields::text(1, DESCRIPTION_CHARS_MAX));
        let delivery_type = fields.required("delivery_type", fields::one_of(&DELIVERY_TYPES));
        let pricing_model = fields.required("pricing_model", fields::one_of(&PRICING_MODELS));
        let price = if pricing_model == Some(PricingModel::PerCall) {
            fields.required("pricing_amount", price)
        } else {
            fields.optional("pricing_amount", price)
        };
        let status = fields.optional("status", fields::one_of(&STATUSES));
        if status == Some(Status::Suspended) {
            fields.refuse("status", "must be one of draft, active");
        }
        Self {
            name,
            description,
            pricing_model,
            price,
            delivery_type,
            status,
            ..Self::what_may_be_absent(fields)
        }
    }

    /// Reads the fields of a change.
    pub fn of_listing(fields: &mut Fields<'_>) -> Self {
        let name = fields.present("name", fields::name(1, NAME_CHARS_MAX));
        let description = fields.present("description", fields::text(1, DESCRIPTION_CHARS_MAX));
        let delivery_type = fields.present("delivery_type", fields::one_of(&DELIVERY_TYPES));
        let pricing_model = fields.present("pricing_model", fields::one_of(&PRICING_MODELS));
        let price = fields.present("pricing_amount", price);
        let status = fields.present("status", fields::one_of(&STATUSES));
        Self {
            name,
            description,
            pricing_model,
            price,
            delivery_type,
            status,
            ..Self::what_may_be_absent(fields)
        }
    }

    fn what_may_be_absent(fields: &mut Fields<'_>) -> Self {
        fields.optional("pricing_currency", fields::one_of(&[("USD", ())]));
        let tags = || fields::texts(TAGS_MAX, 1, TAG_CHARS_MAX);
        Self {
            category: fields.change("category", fields::text(1, CATEGORY_CHARS_MAX)),
            tags: fields.change("tags", tags()).map(Option::unwrap_or_default),
            preferred_currency: fields
                .change("preferred_currency", fields::text(1, CURRENCY_CHARS_MAX)),
            auth_method: fields.change("auth_method", fields::text(1, AUTH_METHOD_CHARS_MAX)),
            formats: fields
                .change("formats", tags())
                .map(Option::unwrap_or_default),
            connection_instructions: fields.change(
                "connection_instructions",
                fields::text(0, INSTRUCTIONS_CHARS_MAX),
            ),
            input_schema: fields.change("input_schema", fields::schema),
            output_schema: fields.change("output_schema", fields::schema),
            example_request: fields.change("example_request", fields::document),
            example_response: fields.change("example_response", fields::document),
            ..Self::default()
        }
    }

    /// What is wrong with the price for the model, after this change of `standing` (`None` when it
    /// makes a listing). A model or price that could not be read is judged by nobody.
    pub fn price_problem(&self, standing: Option<&Content>) -> Option<PriceProblem> {
        let model = self
            .pricing_model
            .or_else(|| standing.map(|content| content.pricing_model))?;
        let price = standing.map_or(Micros::ZERO, |content| content.price);
        new_price(model, price, self.price).err()
    }

    /// The content of a new listing. `None` only for a change that was not read as one.
    pub fn into_new(self, category: Option<CategoryId>) -> Result<Option<Content>, PriceProblem> {
        let (Some(name), Some(description), Some(model), Some(delivery_type)) = (
            self.name.clone(),
            self.description.clone(),
            self.pricing_model,
            self.delivery_type,
        ) else {
            return Ok(None);
        };
        let mut content = Content {
            name,
            description,
            category,
            tags: Vec::new(),
            pricing_model: model,
            price: Micros::ZERO,
            preferred_currency: None,
            delivery_type: delivery_type.to_owned(),
            auth_method: None,
            formats: Vec::new(),
            connection_instructions: None,
            input_schema: None,
            output_schema: None,
            example_request: None,
            example_response: None,
            status: Status::Draft,
        };
        self.apply(&mut content, None)?;
        Ok(Some(content))
    }

    /// Applies it. `category` is what `self.category` was found to be.
    pub fn apply(
        self,
        content: &mut Content,
        category: Option<Option<CategoryId>>,
    ) -> Result<(), PriceProblem> {
        let model = self.pricing_model.unwrap_or(content.pricing_model);
        content.price = new_price(model, content.price, self.price)?;
        set(&mut content.pricing_model, self.pricing_model);
        set(&mut content.name, self.name);
        set(&mut content.description, self.description);
        set(&mut content.category, category);
        set(&mut content.tags, self.tags);
        set(&mut content.preferred_currency, self.preferred_currency);
        set(
            &mut content.delivery_type,
            self.delivery_type.map(str::to_owned),
        );
        set(&mut content.auth_method, self.auth_method);
        set(&mut content.formats, self.formats);
        set(
            &mut content.connection_instructions,
            self.connection_instructions,
        );
        set(&mut content.input_schema, self.input_schema);
        set(&mut content.output_schema, self.output_schema);
        set(&mut content.example_request, self.example_request);
        set(&mut content.example_response, self.example_response);
        set(&mut content.status, self.status);
        Ok(())
    }
}

/// Why a price does not go with its model: a problem of `pricing_amount`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PriceProblem {
    /// A free listing with a price.
    #[error("must be 0 or absent when pricing_model is free")]
    NotFree,
    /// A `per_call` listing without one.
    #[error("must be between 0.000001 and 10000")]
    TooLow,
}

impl From<PriceProblem> for crate::error::ApiError {
    fn from(problem: PriceProblem) -> Self {
        let problem: Problem = problem.to_string().into();
        Self::field("pricing_amount", problem)
    }
}

/// The price after a change. Becoming free drops it; becoming `per_call` needs one.
fn new_price(
    model: PricingModel,
    standing: Micros,
    price: Option<Micros>,
) -> Result<Micros, PriceProblem> {
    match model {
        PricingModel::Free => match price {
            Some(price) if price != Micros::ZERO => Err(PriceProblem::NotFree),
            _ => Ok(Micros::ZERO),
        },
        PricingModel::PerCall => match price.unwrap_or(standing) {
            price if price < PRICE_MIN => Err(PriceProblem::TooLow),
            price => Ok(price),
        },
    }
}

fn set<T>(standing: &mut T, new: Option<T>) {
    if let Some(new) = new {
        *standing = new;
    }
}
