//! An endpoint: what its seller sets, how it is stored, and how she sees it again. Pure.

use chrono::{DateTime, Utc};
use crochet_shared::clock::{rfc3339_millis, rfc3339_millis_option};
use crochet_shared::egress::URL_CHARS_MAX;
use crochet_shared::header::{is_endpoint_auth_header_name, is_endpoint_auth_header_value};
use crochet_shared::id::ListingId;
use crochet_shared::seal::{Keyring, Unsealable};
use crochet_shared::signing;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::describe;
use crate::fields::{self, Fields, FromFields};
use crate::vault::{self, Place};

const TIMEOUT_MS: std::ops::RangeInclusive<i64> = 1_000..=120_000;
const TIMEOUT_MS_DEFAULT: i32 = 30_000;
const BODY_BYTES_MAX: i64 = 8 * 1024 * 1024;
const REQUEST_BYTES_DEFAULT: i32 = 1024 * 1024;
const RESPONSE_BYTES_DEFAULT: i32 = 4 * 1024 * 1024;
const CONCURRENCY_MAX: i64 = 1_000;
const CONCURRENCY_DEFAULT: i32 = 64;
/// What may be done with a call whose outcome is unknown.
const REDELIVERY: [(&str, &str); 2] = [("same_request_id", "same_request_id"), ("never", "never")];
/// Whether an endpoint is called.
const STATUSES: [(&str, &str); 2] = [("active", "active"), ("paused", "paused")];

/// A secret column of `endpoint`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Column {
    Url,
    AuthHeaderValue,
    Secret,
    PreviousSecret,
}

impl Column {
    const fn name(self) -> &'static str {
        match self {
            Self::Url => "url_sealed",
            Self::AuthHeaderValue => "auth_header_value_sealed",
            Self::Secret => "secret_sealed",
            Self::PreviousSecret => "previous_secret_sealed",
        }
    }

    fn of(self, listing: ListingId) -> Place {
        Place {
            table: "endpoint",
            row: listing.0,
            column: self.name(),
        }
    }
}

/// Seals a value for its column of a listing's endpoint.
pub(super) fn seal(
    keys: &Keyring,
    listing: ListingId,
    column: Column,
    secret: &SecretString,
) -> Result<Vec<u8>, Unsealable> {
    vault::seal(keys, column.of(listing), secret)
}

/// Opens what [`seal`] made.
pub(super) fn open(
    keys: &Keyring,
    listing: ListingId,
    column: Column,
    sealed: &[u8],
) -> Result<SecretString, Unsealable> {
    vault::open(keys, column.of(listing), sealed)
}

/// Wraps what [`seal`] made under the newest master key; `None` when it is under that already.
pub(super) fn rewrap(
    keys: &Keyring,
    listing: ListingId,
    column: Column,
    sealed: &[u8],
) -> Result<Option<Vec<u8>>, Unsealable> {
    keys.rewrap_row(&column.of(listing).aad(), sealed)
}

/// An endpoint as it is stored.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) url_sealed: Vec<u8>,
    pub(super) url_hint: String,
    pub(super) auth_header_name: Option<String>,
    pub(super) auth_header_value_sealed: Option<Vec<u8>>,
    pub(super) timeout_ms: i32,
    pub(super) max_request_bytes: i32,
    pub(super) max_response_bytes: i32,
    pub(super) max_concurrency: i32,
    pub(super) redelivery: String,
    pub(super) status: String,
    pub(super) secret_sealed: Vec<u8>,
    pub(super) secret_prefix: String,
    pub(super) secret_rotated_at: DateTime<Utc>,
    /// The end of the newest secret that was replaced and still signs.
    pub(super) previous_secret_expires_at: Option<DateTime<Utc>>,
    pub(super) last_test: Option<Value>,
}

/// A URL that passed, with every address of its host.
#[derive(Clone, Debug)]
pub(super) struct CheckedUrl {
    pub(super) url: SecretString,
    pub(super) hint: String,
}

/// A seller's own header.
#[derive(Clone, Debug)]
pub(super) struct AuthHeader {
    name: String,
    value: SecretString,
}

/// The body of `PUT /listings/:id/endpoint`: only what is present changes.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the API document")]
pub(super) struct EndpointSettings {
    /// Where the listing is served: https, at a host whose every address is public. Never shown again.
    #[schema(
        nullable = false,
        format = "uri",
        max_length = 2048,
        example = "https://seller.example/run"
    )]
    private_endpoint_url: Option<String>,
    /// A header of your own on every call; `null` drops it.
    auth_header: Option<EndpointAuthHeader>,
    /// The whole time a call may take, in milliseconds.
    #[schema(nullable = false, example = 30_000, extensions(("x-range" = json!([TIMEOUT_MS.start(), TIMEOUT_MS.end()]))))]
    timeout_ms: Option<i32>,
    #[schema(nullable = false, example = 1_048_576, extensions(("x-range" = json!([1, BODY_BYTES_MAX]))))]
    max_request_bytes: Option<i32>,
    #[schema(nullable = false, example = 4_194_304, extensions(("x-range" = json!([1, BODY_BYTES_MAX]))))]
    max_response_bytes: Option<i32>,
    /// Calls at once, of each gateway process.
    #[schema(nullable = false, example = 64, extensions(("x-range" = json!([1, CONCURRENCY_MAX]))))]
    max_concurrency: Option<i32>,
    /// Whether a call whose outcome is unknown may be sent again with the same id.
    #[schema(nullable = false, extensions(("x-one-of" = json!(describe::names(&REDELIVERY)))))]
    redelivery: Option<String>,
    /// A paused endpoint is not called, and nobody is asked to pay for it.
    #[schema(nullable = false, extensions(("x-one-of" = json!(describe::names(&STATUSES)))))]
    status: Option<String>,
}

/// A header that the gateway adds to every call.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the API document")]
struct EndpointAuthHeader {
    /// An RFC 9110 token that is not one of HTTP's own or ours.
    #[schema(min_length = 1, max_length = 64, example = "X-Seller-Key")]
    name: String,
    /// Visible ASCII and inner spaces. Never shown again.
    #[schema(min_length = 1, max_length = 4096, example = "s3cret")]
    value: String,
}

/// What [`EndpointSettings`] describes, read.
#[derive(Clone, Debug, Default)]
#[expect(
    clippy::option_option,
    reason = "absent, null and a value are three things in a change"
)]
pub(super) struct EndpointChange {
    /// As it was sent; still to be checked.
    pub(super) url: Option<SecretString>,
    auth_header: Option<Option<AuthHeader>>,
    timeout_ms: Option<i32>,
    max_request_bytes: Option<i32>,
    max_response_bytes: Option<i32>,
    max_concurrency: Option<i32>,
    redelivery: Option<&'static str>,
    status: Option<&'static str>,
}

impl FromFields for EndpointChange {
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self> {
        let (least, most) = (*TIMEOUT_MS.start(), *TIMEOUT_MS.end());
        Some(Self {
            url: url_field(fields),
            auth_header: auth_header(fields),
            timeout_ms: number(fields, "timeout_ms", least, most),
            max_request_bytes: number(fields, "max_request_bytes", 1, BODY_BYTES_MAX),
            max_response_bytes: number(fields, "max_response_bytes", 1, BODY_BYTES_MAX),
            max_concurrency: number(fields, "max_concurrency", 1, CONCURRENCY_MAX),
            redelivery: fields.present("redelivery", fields::one_of(&REDELIVERY)),
            status: fields.present("status", fields::one_of(&STATUSES)),
        })
    }
}

/// What is wrong with a listing sold per call that has none.
pub(super) const URL_REQUIRED: &str = "is required when pricing_model is per_call";

/// `private_endpoint_url`, as text. What it says is judged with its addresses, later.
pub(super) fn url_field(fields: &mut Fields<'_>) -> Option<SecretString> {
    fields.present("private_endpoint_url", |raw| {
        let text = fields::any_text(raw)?;
        let text = text.trim();
        if text.chars().count() > URL_CHARS_MAX {
            return Err(format!("must be at most {URL_CHARS_MAX} characters").into());
        }
        Ok(SecretString::from(text))
    })
}

fn number(fields: &mut Fields<'_>, name: &'static str, min: i64, max: i64) -> Option<i32> {
    let value = fields.present(name, fields::integer(min, max))?;
    i32::try_from(value).ok()
}

#[expect(
    clippy::option_option,
    reason = "absent, null and a value are three things in a change"
)]
fn auth_header(fields: &mut Fields<'_>) -> Option<Option<AuthHeader>> {
    if fields.is_null("auth_header") {
        return Some(None);
    }
    fields
        .nested("auth_header", |inner| {
            let name = inner.required("name", |raw| {
                let name = fields::any_text(raw)?;
                if is_endpoint_auth_header_name(&name) {
                    Ok(name)
                } else {
                    Err("must be a header name of at most 64 characters that is not ours or HTTP's own".into())
                }
            });
            let value = inner.required("value", |raw| {
                let value = fields::any_text(raw)?;
                if is_endpoint_auth_header_value(&value) {
                    Ok(SecretString::from(value))
                } else {
                    Err("must be 1 to 4096 visible ASCII characters and spaces, without a space at either end".into())
                }
            });
            Some(AuthHeader {
                name: name?,
                value: value?,
            })
        })
        .map(Some)
}

impl EndpointChange {
    /// Whether it changes nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.url.is_none()
            && self.auth_header.is_none()
            && self.timeout_ms.is_none()
            && self.max_request_bytes.is_none()
            && self.max_response_bytes.is_none()
            && self.max_concurrency.is_none()
            && self.redelivery.is_none()
            && self.status.is_none()
    }
}

impl Row {
    /// A new endpoint with a new signing secret, which is shown this once.
    pub(super) fn new(
        keys: &Keyring,
        listing: ListingId,
        url: &CheckedUrl,
        now: DateTime<Utc>,
    ) -> Result<(Self, SecretString), Unsealable> {
        let secret = signing::generate_secret();
        let row = Self {
            url_sealed: seal(keys, listing, Column::Url, &url.url)?,
            url_hint: url.hint.clone(),
            auth_header_name: None,
            auth_header_value_sealed: None,
            timeout_ms: TIMEOUT_MS_DEFAULT,
            max_request_bytes: REQUEST_BYTES_DEFAULT,
            max_response_bytes: RESPONSE_BYTES_DEFAULT,
            max_concurrency: CONCURRENCY_DEFAULT,
            redelivery: "same_request_id".to_owned(),
            status: "active".to_owned(),
            secret_sealed: seal(keys, listing, Column::Secret, &secret)?,
            secret_prefix: shown_part(&secret),
            secret_rotated_at: now,
            previous_secret_expires_at: None,
            last_test: None,
        };
        Ok((row, secret))
    }

    /// Applies a change; `url` is what its URL was checked to be.
    pub(super) fn apply(
        &mut self,
        keys: &Keyring,
        listing: ListingId,
        change: &EndpointChange,
        url: Option<&CheckedUrl>,
    ) -> Result<(), Unsealable> {
        if let Some(url) = url {
            self.url_sealed = seal(keys, listing, Column::Url, &url.url)?;
            self.url_hint.clone_from(&url.hint);
            // What was tested was another place.
            self.last_test = None;
        }
        if let Some(header) = &change.auth_header {
            self.auth_header_name = header.as_ref().map(|header| header.name.clone());
            self.auth_header_value_sealed = header
                .as_ref()
                .map(|header| seal(keys, listing, Column::AuthHeaderValue, &header.value))
                .transpose()?;
        }
        for (standing, new) in [
            (&mut self.timeout_ms, change.timeout_ms),
            (&mut self.max_request_bytes, change.max_request_bytes),
            (&mut self.max_response_bytes, change.max_response_bytes),
            (&mut self.max_concurrency, change.max_concurrency),
        ] {
            *standing = new.unwrap_or(*standing);
        }
        for (standing, new) in [
            (&mut self.redelivery, change.redelivery),
            (&mut self.status, change.status),
        ] {
            if let Some(new) = new {
                new.clone_into(standing);
            }
        }
        Ok(())
    }

    /// Puts a new secret in the place of the one in force, which goes on signing until `until`.
    pub(super) fn rotate(
        &mut self,
        keys: &Keyring,
        listing: ListingId,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<Rotated, Unsealable> {
        let old = open(keys, listing, Column::Secret, &self.secret_sealed)?;
        let new = signing::generate_secret();
        self.secret_sealed = seal(keys, listing, Column::Secret, &new)?;
        self.secret_prefix = shown_part(&new);
        self.secret_rotated_at = now;
        self.previous_secret_expires_at = Some(until);
        Ok(Rotated {
            new,
            previous: Previous {
                sealed: seal(keys, listing, Column::PreviousSecret, &old)?,
                expires_at: until,
            },
        })
    }
}

/// A secret that was replaced.
#[derive(Clone, Debug)]
pub(super) struct Previous {
    /// Sealed as [`Column::PreviousSecret`].
    pub(super) sealed: Vec<u8>,
    /// Until when it signs.
    pub(super) expires_at: DateTime<Utc>,
}

/// What a rotation made.
pub(super) struct Rotated {
    /// The secret now in force, shown this once.
    pub(super) new: SecretString,
    /// The one that was.
    pub(super) previous: Previous,
}

fn shown_part(secret: &SecretString) -> String {
    secret
        .expose_secret()
        .chars()
        .take(signing::SHOWN_CHARS)
        .collect()
}

/// What a test of an endpoint found, with its time. Written by the gateway's report.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the API document")]
struct LastTest {
    #[schema(example = true)]
    ok: bool,
    #[schema(example = 200)]
    status_code: Option<u16>,
    #[schema(example = "delivered")]
    outcome: String,
    #[schema(example = 87)]
    latency_ms: i64,
    tested_at: DateTime<Utc>,
}

/// `Endpoint` (contract §4), for its owner.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Endpoint {
    listing_id: ListingId,
    /// Scheme and host of the private URL.
    #[schema(example = "https://seller.example/…")]
    url_hint: String,
    #[schema(example = "X-Seller-Key")]
    auth_header_name: Option<String>,
    #[schema(example = true)]
    has_auth_header: bool,
    #[schema(example = 30_000)]
    timeout_ms: i32,
    #[schema(example = 1_048_576)]
    max_request_bytes: i32,
    #[schema(example = 4_194_304)]
    max_response_bytes: i32,
    #[schema(example = 64)]
    max_concurrency: i32,
    #[schema(extensions(("x-one-of" = json!(describe::names(&REDELIVERY)))))]
    redelivery: String,
    #[schema(extensions(("x-one-of" = json!(describe::names(&STATUSES)))))]
    status: String,
    /// The first 10 characters of the signing secret.
    #[schema(example = "whsec_MfKQ")]
    signing_secret_prefix: String,
    #[serde(with = "rfc3339_millis")]
    secret_rotated_at: DateTime<Utc>,
    #[serde(with = "rfc3339_millis_option")]
    previous_secret_expires_at: Option<DateTime<Utc>>,
    /// What the last test of it found.
    #[schema(value_type = Option<LastTest>)]
    last_test: Option<Value>,
    /// Only in the answer that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
    signing_secret: Option<String>,
}

impl Endpoint {
    /// Shows an endpoint; `secret` only where it was just made.
    pub(super) fn new(
        listing: ListingId,
        row: Row,
        secret: Option<&SecretString>,
        now: DateTime<Utc>,
    ) -> Self {
        Self {
            listing_id: listing,
            url_hint: row.url_hint,
            has_auth_header: row.auth_header_name.is_some(),
            auth_header_name: row.auth_header_name,
            timeout_ms: row.timeout_ms,
            max_request_bytes: row.max_request_bytes,
            max_response_bytes: row.max_response_bytes,
            max_concurrency: row.max_concurrency,
            redelivery: row.redelivery,
            status: row.status,
            signing_secret_prefix: row.secret_prefix,
            secret_rotated_at: row.secret_rotated_at,
            previous_secret_expires_at: row.previous_secret_expires_at.filter(|end| *end > now),
            last_test: row.last_test,
            signing_secret: secret.map(|secret| secret.expose_secret().to_owned()),
        }
    }
}
