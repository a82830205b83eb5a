//! `POST /webhooks/relay`: verified, then no more than a hint to look. Never waits.

use std::sync::Arc;

use axum::extract::{Request, State};
use crochet_shared::code::{Code, NextAction};
use crochet_shared::envelope::{Failure, Success};
use secrecy::ExposeSecret as _;
use serde::Serialize;
use utoipa::ToSchema;

use super::evidence::{self, Urgency};
use super::relay::webhook::{
    BODY_BYTES_MAX, SIGNATURE_HEADER, TIMESTAMP_HEADER, is_genuine, request_id,
};
use crate::answer::Data;
use crate::app::App;
use crate::error::ApiError;
use crate::extract::read_body;
use crate::metrics::names;

/// What the provider is told.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Accepted {
    /// Whether it led to a look at the payment.
    accepted: bool,
}

/// The table speaks of a wallet's signature; this one is the provider's.
fn forged() -> Failure {
    Failure::from(Code::InvalidSignature)
        .with_message("The signature is not the payment provider's over this body.")
        .with_retryable(false)
        .with_next(
            NextAction::FixRequest,
            "Only the payment provider sends webhooks, signed over their timestamp and exact body.",
        )
        .with_names(&[], &[])
}

/// Receives the payment provider's news.
///
/// Signed by the provider. No more than a hint to look: what a webhook says is never believed.
#[utoipa::path(post, path = "/webhooks/relay", tag = "System", operation_id = "receiveRelayWebhook",
    params(
        ("X-Signature-Timestamp" = String, Header, description = "When it was signed."),
        ("X-Signature-Sha256" = String, Header, description = "The provider's signature."),
    ),
    request_body(content = String, content_type = "application/json", description = "The provider's event, at most 64 KiB."),
    responses((status = 200, body = Success<Accepted>)),
    extensions(("x-error-codes" = json!([Code::InvalidSignature, Code::BodyTooLarge]))))]
pub(super) async fn receive(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Data<Accepted>, ApiError> {
    let (parts, body) = request.into_parts();
    let body = read_body(&parts.headers, body, BODY_BYTES_MAX).await?;
    let header = |name| parts.headers.get(name).map(http::HeaderValue::as_bytes);
    let genuine = match (header(TIMESTAMP_HEADER), header(SIGNATURE_HEADER)) {
        (Some(timestamp), Some(signature)) => {
            let key = app.relay.webhook_key().expose_secret().as_bytes();
            is_genuine(key, timestamp, &body, signature)
        }
        _ => false,
    };
    let result = if genuine { "genuine" } else { "forged" };
    metrics::counter!(names::WEBHOOKS.name, "result" => result).increment(1);
    if !genuine {
        return Err(forged().into());
    }
    // What does not name a request, or finds the queue full, is left to the sweep.
    let accepted = request_id(&body).is_some_and(|id| evidence::hint(&app, &id, Urgency::Hint));
    Ok(Data(Accepted { accepted }))
}
