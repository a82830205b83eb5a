//! The operations that the gateway answers itself, described as the control plane's are: the shapes
//! are the contract's, §4 and §5, and the gateway's own tests hold them to it.

use chrono::{DateTime, Utc};
use crochet_shared::code::Code;
use crochet_shared::envelope::{Amount, Fees, Success};
use crochet_shared::header;
use crochet_shared::id::RequestId;
use crochet_shared::route::OriginCurrency;
use serde_json::Value;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::{OpenApi, ToSchema};

use crate::describe::schema_type;
use crate::payments::Requirements;
use crate::payments::delivered::Delivered;

/// Their part of the document.
#[derive(OpenApi)]
#[openapi(
    paths(call, test),
    components(schemas(PaymentRequiredData, DeliveredFacts, FailedAttempt))
)]
pub(super) struct Gateway;

/// `data` of a 402.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the API document")]
struct PaymentRequiredData {
    payment: PaymentToMake,
}

/// A payment that opens the call, once made.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the API document")]
struct PaymentToMake {
    /// Send it as `X-Crochet-Relay-Request-Id` when you have paid.
    #[schema(example = "0x6d0bd05f0c0f3cd0a5a8ad2f8cd1cf1c9f0b1fd1b8ff4a2f9c6a1f0de4ed0a11")]
    relay_request_id: String,
    requirements: Requirements<'static>,
    amount: Amount,
    #[schema(extensions(("x-one-of" = json!(OriginCurrency::ALL))))]
    origin_currency: String,
    request_id: RequestId,
    expires_at: DateTime<Utc>,
    /// Whether this payment was given before, to the same request.
    #[schema(example = false)]
    reused: bool,
}

/// `data` of a delivered call whose answer is no longer stored.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the API document")]
struct DeliveredFacts {
    request_id: RequestId,
    charged_amount: Amount,
    fees: Option<Fees>,
    #[schema(example = 200)]
    seller_status_code: Option<u16>,
    /// Of the envelope that was delivered, in hex.
    #[schema(example = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    response_sha256: String,
}

/// `data` of an attempt that the seller failed.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the API document")]
struct FailedAttempt {
    request_id: RequestId,
    /// Always false: what fails is not paid for.
    #[schema(example = false)]
    billable: bool,
    #[schema(example = 500)]
    seller_status_code: Option<u16>,
    #[schema(example = 1)]
    attempts: i32,
    #[schema(example = 4)]
    attempts_remaining: i32,
}

/// A payment that is known and not done.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the API document")]
struct PaymentPending {
    #[schema(extensions(("x-one-of" = json!(["pending"]))))]
    status: String,
    #[schema(example = true)]
    retryable: bool,
    #[schema(minimum = 1, example = 1)]
    retry_after_seconds: u32,
    #[schema(example = "0x6d0bd05f0c0f3cd0a5a8ad2f8cd1cf1c9f0b1fd1b8ff4a2f9c6a1f0de4ed0a11")]
    relay_request_id: String,
    request_id: RequestId,
    /// As in `error.recovery`.
    #[schema(example = "retry_with_relay_request_id")]
    next_action: String,
}

/// What a test of an endpoint found.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the API document")]
struct EndpointTest {
    /// Whether a paid call would have been delivered.
    #[schema(example = true)]
    ok: bool,
    #[schema(example = 200)]
    status_code: Option<u16>,
    #[schema(extensions(("x-one-of" = json!(["delivered", "unreachable", "timeout", "tls_error",
        "invalid_response", "forbidden_address"]))))]
    outcome: String,
    #[schema(minimum = 0, example = 87)]
    latency_ms: u32,
}

/// The body of an endpoint test.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the API document")]
struct TestEndpoint {
    /// What to send; `{"test":true}` when absent.
    #[schema(example = json!({"place": "Lisbon"}))]
    body: Option<Value>,
}

fn currencies() -> Schema {
    let names = OriginCurrency::ALL.map(|currency| (currency.as_str(), ()));
    crate::describe::one_of(&names)
}

fn idempotency_key() -> Schema {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(header::IDEMPOTENCY_KEY_MAX))
        .pattern(Some("^[\\x20-\\x7e]+$"))
        .examples(["order-4711"])
        .into()
}

schema_type!(Currencies = currencies());
schema_type!(IdempotencyKey = idempotency_key());

/// The headers of a gateway call.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "read by the API document")]
struct CallHeaders {
    /// What to pay in; by the chain of your default payment wallet when absent. Not read beside
    /// `X-Crochet-Relay-Request-Id`.
    #[param(
        rename = "X-Crochet-Origin-Currency",
        value_type = Currencies,
        required = false,
        inline
    )]
    origin_currency: Option<String>,
    /// Makes this call a purchase of its own, repeatable for 24 hours. Not read beside
    /// `X-Crochet-Relay-Request-Id`.
    #[param(
        rename = "Idempotency-Key",
        value_type = IdempotencyKey,
        required = false,
        inline
    )]
    idempotency_key: Option<String>,
    /// The payment that was made for exactly this body.
    #[param(
        rename = "X-Crochet-Relay-Request-Id",
        value_type = String,
        required = false,
        example = "0x6d0bd05f0c0f3cd0a5a8ad2f8cd1cf1c9f0b1fd1b8ff4a2f9c6a1f0de4ed0a11"
    )]
    relay_request_id: Option<String>,
}

/// Calls a seller's capability.
///
/// Without `X-Crochet-Relay-Request-Id` a paid listing answers 402 with everything needed to pay. Pay,
/// then send the same body again with the payment's id: the call is forwarded to the seller, signed,
/// and her answer comes back in the envelope. 202 while the provider is still confirming. A delivered
/// call is replayed byte for byte to any later retry, and never charged twice. The payment is bound to
/// the exact body bytes.
#[utoipa::path(post, path = "/gateway/{listingId}", tag = "Gateway", operation_id = "callListing",
    security(("bearer" = [])),
    params(("listingId" = String, Path, description = "The listing's id or slug.", example = "weather-forecast"), CallHeaders),
    request_body(content = Value, content_type = "application/json",
        description = "Any JSON in UTF-8, nested at most 128 levels deep, of at most the endpoint's `max_request_bytes`."),
    responses(
        (status = 200, description = "Delivered, now or before.", body = Success<Delivered>),
        (status = 202, description = "The payment is known and not done: retry.", body = Success<PaymentPending>),
    ),
    extensions(("x-error-codes" = json!([
        Code::OriginCurrencyUnsupported, Code::PaymentWalletRequired, Code::PaymentRouteMinimumNotMet,
        Code::ListingNotPerCall, Code::PaymentRequired, Code::PaymentFailed, Code::CannotBuyOwnListing,
        Code::RouteRestricted, Code::ListingNotFound, Code::RelayRequestNotFound, Code::ListingNotActive,
        Code::RelayRequestMismatch, Code::GatewayRequestInProgress, Code::RelayRequestClosed,
        Code::RelayRequestExpired, Code::ResponseNoLongerStored, Code::IdempotencyKeyReused,
        Code::SellerError, Code::SellerUnreachable, Code::SellerInvalidResponse, Code::SellerResponseTooLarge,
        Code::SellerUnavailable, Code::PaymentProviderUnavailable, Code::SellerTimeout]))))]
#[expect(dead_code, reason = "the gateway answers it")]
fn call() {}

/// Tests a listing's private endpoint.
///
/// Sends one really signed request by the gateway's own forwarding code, marked `X-Crochet-Test: true`.
/// Coarse outcomes, no charge, no ledger entry.
#[utoipa::path(post, path = "/listings/{id}/endpoint/test", tag = "Endpoints", operation_id = "testEndpoint",
    security(("bearer" = [])),
    params(("id" = String, Path, description = "The listing's id or slug.", example = "weather-forecast")),
    request_body = TestEndpoint, responses((status = 200, body = Success<EndpointTest>)),
    extensions(("x-error-codes" = json!([Code::ListingNotFound, Code::Forbidden, Code::ListingNotPerCall,
        Code::SellerUnavailable]))))]
#[expect(dead_code, reason = "the gateway answers it")]
fn test() {}
