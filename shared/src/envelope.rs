//! The shape of every answer: `{"success":true,"data"}` or `{"success":false,"error",…}`.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::Value;

use crate::code::{Code, NextAction};
use crate::money::{Micros, Split};

/// A success.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Success<T> {
    #[cfg_attr(feature = "schema", schema(schema_with = always))]
    success: bool,
    /// What was asked for.
    pub data: T,
}

/// `success` of a success.
#[cfg(feature = "schema")]
pub fn always() -> utoipa::openapi::schema::Schema {
    use utoipa::openapi::schema::{ObjectBuilder, Type};
    ObjectBuilder::new()
        .schema_type(Type::Boolean)
        .enum_values(Some([true]))
        .into()
}

impl<T> Success<T> {
    /// Wraps `data`.
    pub const fn new(data: T) -> Self {
        Self {
            success: true,
            data,
        }
    }
}

/// A failure, before it is written: a code, and what this case adds to or changes of the table.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which one.
    pub code: Code,
    /// In place of the table's message.
    pub message: Option<Cow<'static, str>>,
    /// `error.details`.
    pub details: Option<Value>,
    /// `data` beside `error` (402, 410, 502, 504).
    pub data: Option<Value>,
    /// In place of the table's next action.
    pub next_action: Option<NextAction>,
    /// In place of the table's summary.
    pub summary: Option<Cow<'static, str>>,
    /// In place of the table's verdict.
    pub retryable: Option<bool>,
    /// In place of the table's wait.
    pub retry_after_seconds: Option<u32>,
    /// In place of the table's names to keep for the retry.
    pub preserve: Option<&'static [&'static str]>,
    /// In place of the table's names to drop for the retry.
    pub discard: Option<&'static [&'static str]>,
    /// `recovery.retry_same_route`, where it applies.
    pub retry_same_route: Option<bool>,
    /// `recovery.use_new_idempotency_key`, where it applies.
    pub use_new_idempotency_key: Option<bool>,
}

impl From<Code> for Failure {
    fn from(code: Code) -> Self {
        Self {
            code,
            message: None,
            details: None,
            data: None,
            next_action: None,
            summary: None,
            retryable: None,
            retry_after_seconds: None,
            preserve: None,
            discard: None,
            retry_same_route: None,
            use_new_idempotency_key: None,
        }
    }
}

/// A field of a request and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BadField {
    /// Its name, dotted where nested.
    pub field: Cow<'static, str>,
    /// What is wrong, as a clause: `must be 1 to 80 characters`.
    pub problem: Cow<'static, str>,
}

impl Failure {
    /// A `VALIDATION_ERROR` that names every bad field.
    pub fn validation(fields: &[BadField]) -> Self {
        Self::from(Code::ValidationError).with_details(serde_json::json!({ "fields": fields }))
    }

    /// The seed's refusal of a price too low for an EVM route, exactly.
    pub fn route_minimum_not_met() -> Self {
        let mut failure =
            Self::from(Code::PaymentRouteMinimumNotMet).with_details(serde_json::json!({
                "seller_endpoint_called": false,
                "recommended_origin_currency": "SOL",
                "recommended_gateway_headers": { "X-Crochet-Origin-Currency": "SOL" },
            }));
        failure.retry_same_route = Some(false);
        failure.use_new_idempotency_key = Some(true);
        failure
    }

    /// Says it more exactly than the table.
    #[must_use]
    pub fn with_message(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.message = Some(message.into());
        self
    }

    /// Adds `error.details`.
    #[must_use]
    pub fn with_details(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }

    /// Adds `data` beside `error`.
    #[must_use]
    pub fn with_data(mut self, data: Value) -> Self {
        self.data = Some(data);
        self
    }

    /// Names another next action, in a sentence.
    #[must_use]
    pub fn with_next(mut self, action: NextAction, summary: impl Into<Cow<'static, str>>) -> Self {
        self.next_action = Some(action);
        self.summary = Some(summary.into());
        self
    }

    /// Names another wait, in seconds.
    #[must_use]
    pub const fn with_retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// Says whether trying again can succeed, where the table's verdict does not hold.
    #[must_use]
    pub const fn with_retryable(mut self, retryable: bool) -> Self {
        self.retryable = Some(retryable);
        self
    }

    /// Names what to keep and what to drop for the retry, where the table's names do not hold.
    #[must_use]
    pub const fn with_names(
        mut self,
        preserve: &'static [&'static str],
        discard: &'static [&'static str],
    ) -> Self {
        self.preserve = Some(preserve);
        self.discard = Some(discard);
        self
    }

    /// The HTTP status.
    pub const fn status(&self) -> u16 {
        self.code.status()
    }

    /// The value of `Retry-After`, when the answer has one.
    pub fn retry_after(&self) -> Option<u32> {
        self.retry_after_seconds
            .or(self.code.entry().retry_after_seconds)
    }

    /// The body. `docs` are the absolute links into the documents.
    pub fn to_json(&self, docs: &DocLinks) -> Vec<u8> {
        let entry = self.code.entry();
        let body = FailureBody {
            success: false,
            error: ErrorBody {
                code: self.code,
                message: self.message.as_deref().unwrap_or(entry.message),
                details: self.details.as_ref(),
                recovery: Recovery {
                    retryable: self.retryable.unwrap_or(entry.retryable),
                    next_action: self.next_action.unwrap_or(entry.next_action),
                    summary: self.summary.as_deref().unwrap_or(entry.summary),
                    preserve: self.preserve.unwrap_or(entry.preserve),
                    discard: self.discard.unwrap_or(entry.discard),
                    retry_after_seconds: self.retry_after(),
                    docs_url: &docs.error(self.code),
                    reference_url: docs.reference(),
                    retry_same_route: self.retry_same_route,
                    use_new_idempotency_key: self.use_new_idempotency_key,
                },
            },
            data: self.data.as_ref(),
        };
        // A struct of text, numbers and values cannot fail to serialise.
        serde_json::to_vec(&body).unwrap_or_default()
    }
}

/// A failure's body with `recovery.preserve` cut down to what the request carried, or `None` when it
/// names nothing else: nobody can keep a header that was not there. What the table spells with a
/// capital is a header; the rest is the body or a field in it.
///
/// `body` is what [`Failure::to_json`] made, with or without `data` put in. The list is found by its
/// spelling, which inside a JSON string would have its quotes escaped.
pub fn preserving_only(
    body: &[u8],
    has_header: impl Fn(&str) -> bool,
    has_body: bool,
) -> Option<Vec<u8>> {
    const OPEN: &[u8] = b"\"recovery\":{";
    const LIST: &[u8] = b"\"preserve\":[";
    let recovery = find(body, OPEN)?;
    let start = recovery + find(body.get(recovery..)?, LIST)? + LIST.len();
    let length = body.get(start..)?.iter().position(|byte| *byte == b']')?;
    let (before, rest) = body.split_at_checked(start)?;
    let (names, after) = rest.split_at_checked(length)?;
    if names.is_empty() {
        return None;
    }
    // Names are tokens: no comma, no escape.
    let names: Vec<&str> = std::str::from_utf8(names).ok()?.split(',').collect();
    let kept: Vec<&str> = names
        .iter()
        .copied()
        .filter(|name| {
            let name = name.trim_matches('"');
            if name.starts_with(|first: char| first.is_ascii_uppercase()) {
                has_header(name)
            } else {
                has_body
            }
        })
        .collect();
    (kept.len() < names.len()).then(|| [before, kept.join(",").as_bytes(), after].concat())
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|part| part == wanted)
}

#[derive(Serialize)]
struct FailureBody<'a> {
    success: bool,
    error: ErrorBody<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Value>,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    code: Code,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a Value>,
    recovery: Recovery<'a>,
}

/// `error.recovery` (contract §2).
#[derive(Serialize)]
struct Recovery<'a> {
    retryable: bool,
    next_action: NextAction,
    summary: &'a str,
    preserve: &'a [&'a str],
    discard: &'a [&'a str],
    retry_after_seconds: Option<u32>,
    docs_url: &'a str,
    reference_url: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_same_route: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    use_new_idempotency_key: Option<bool>,
}

/// Absolute links into the documents, made from `PUBLIC_BASE_URL`.
#[derive(Clone, Debug)]
pub struct DocLinks {
    errors: String,
    reference: String,
}

impl DocLinks {
    /// `base` is the public origin, without a trailing slash.
    pub fn new(base: &str) -> Self {
        let base = base.trim_end_matches('/');
        Self {
            errors: format!("{base}/docs/errors"),
            reference: format!("{base}/docs"),
        }
    }

    /// The errors page at the code's anchor.
    pub fn error(&self, code: Code) -> String {
        format!("{}#{}", self.errors, code.as_str())
    }

    /// The API reference.
    pub fn reference(&self) -> &str {
        &self.reference
    }
}

/// An amount as the API shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Amount {
    /// Whole cents, rounded half up.
    #[cfg_attr(feature = "schema", schema(example = 100))]
    pub amount_cents: i64,
    /// The exact amount, in millionths of a dollar.
    #[cfg_attr(feature = "schema", schema(example = 1_000_000))]
    pub amount_micros: i64,
    /// Always `USD`.
    #[cfg_attr(feature = "schema", schema(example = "USD"))]
    pub currency: &'static str,
}

impl From<Micros> for Amount {
    fn from(micros: Micros) -> Self {
        Self {
            amount_cents: micros.cents(),
            amount_micros: micros.0,
            currency: "USD",
        }
    }
}

/// What a charge divides into, as the API shows it (seed, with micros).
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Fees {
    /// The marketplace's share: 0.049.
    #[cfg_attr(feature = "schema", schema(example = 0.049))]
    pub fee_rate: f64,
    /// Rounded half up, for display.
    #[cfg_attr(feature = "schema", schema(example = 5))]
    pub fee_amount_cents: i64,
    /// Charged cents less fee cents, for display.
    #[cfg_attr(feature = "schema", schema(example = 95))]
    pub seller_receives_cents: i64,
    /// Exact, in millionths of a dollar.
    #[cfg_attr(feature = "schema", schema(example = 49_000))]
    pub fee_amount_micros: i64,
    /// Exact, in millionths of a dollar.
    #[cfg_attr(feature = "schema", schema(example = 951_000))]
    pub seller_receives_micros: i64,
}

impl Fees {
    /// Shows a split made at `rate`.
    pub fn of(rate: crate::money::FeeRate, split: &Split) -> Self {
        Self {
            fee_rate: rate.display(),
            fee_amount_cents: split.fee_cents(),
            seller_receives_cents: split.seller_cents(),
            fee_amount_micros: split.fee.0,
            seller_receives_micros: split.seller.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_low_price_refusal_is_exact() {
        let body = Failure::route_minimum_not_met().to_json(&DocLinks::new("http://x/"));
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            body["error"]["message"],
            "This payment route cannot support the listing's low per-call price."
        );
        assert_eq!(body["error"]["recovery"]["retry_same_route"], false);
        assert_eq!(body["error"]["recovery"]["use_new_idempotency_key"], true);
        assert_eq!(
            body["error"]["recovery"]["docs_url"],
            "http://x/docs/errors#PAYMENT_ROUTE_MINIMUM_NOT_MET"
        );
        assert!(body.get("data").is_none());
    }

    #[test]
    fn what_the_request_did_not_carry_is_not_to_be_preserved() {
        let docs = DocLinks::new("http://x");
        let tricky = serde_json::json!({ "preserve": ["in the details"], "text": "\"recovery\":{\"preserve\":[1]" });
        let body = Failure::from(Code::ServiceUnavailable)
            .with_details(tricky.clone())
            .to_json(&docs);
        assert_eq!(preserving_only(&body, |_| true, true), None);
        for (header, has_body, expected) in [
            ("", true, serde_json::json!(["body"])),
            ("", false, serde_json::json!([])),
            (
                "Idempotency-Key",
                true,
                serde_json::json!(["Idempotency-Key", "body"]),
            ),
        ] {
            let cut = preserving_only(&body, |name| name == header, has_body).unwrap();
            let cut: Value = serde_json::from_slice(&cut).unwrap();
            assert_eq!(cut["error"]["recovery"]["preserve"], expected);
            assert_eq!(cut["error"]["details"], tricky);
            assert_eq!(
                cut["error"]["recovery"]["discard"],
                serde_json::json!([]),
                "what follows stands"
            );
        }
        let none = Failure::from(Code::NotFound).to_json(&docs);
        assert_eq!(preserving_only(&none, |_| false, false), None);
    }

    #[test]
    fn retry_after_is_null_where_there_is_none() {
        let body = Failure::from(Code::NotFound).to_json(&DocLinks::new("http://x"));
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert!(body["error"]["recovery"]["retry_after_seconds"].is_null());
        assert_eq!(
            Failure::from(Code::RateLimited)
                .with_retry_after(9)
                .retry_after(),
            Some(9)
        );
    }
}
