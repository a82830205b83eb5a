//! Bodies as a handler's argument.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use crochet_shared::code::Code;
use http::{HeaderMap, header};

use crate::app::App;
use crate::error::ApiError;
use crate::fields::{Fields, Findings, FromFields};

/// Largest body of the public API: a listing with four documents of 32 KiB fits three times.
pub const BODY_BYTES_MAX: usize = 512 * 1024;
/// Longest time a body may take to arrive.
const BODY_SECONDS_MAX: u64 = 20;

/// A JSON body, read by its fields. An empty one is an object without fields, so that operations
/// with no required field need no body (contract, head).
#[derive(Debug)]
pub struct AppJson<T>(pub T);

impl<T: FromFields> FromRequest<Arc<App>> for AppJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &Arc<App>) -> Result<Self, ApiError> {
        let body = json_body(request).await?;
        let mut fields = Fields::parse(text_of(&body)?)?;
        let value = T::from_fields(&mut fields);
        fields.finish(value).map(Self)
    }
}

/// A body without fields, or none at all.
#[derive(Debug, utoipa::ToSchema)]
pub struct NoFields {}

/// As [`AppJson`], with what was found wrong so far beside it: for a handler that looks up what
/// fields name, so that a bad name is told together with all else.
///
/// `T` reads itself whatever is wrong with its fields.
#[derive(Debug)]
pub struct OpenJson<T>(pub T, pub Findings);

impl<T: FromFields> FromRequest<Arc<App>> for OpenJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &Arc<App>) -> Result<Self, ApiError> {
        let body = json_body(request).await?;
        let mut fields = Fields::parse(text_of(&body)?)?;
        match T::from_fields(&mut fields) {
            Some(value) => Ok(Self(value, fields.into_findings())),
            None => fields.finish(None),
        }
    }
}

async fn json_body(request: Request) -> Result<Bytes, ApiError> {
    let (parts, body) = request.into_parts();
    let body = read_body(&parts.headers, body, BODY_BYTES_MAX).await?;
    if !body.is_empty() {
        check_media_type(&parts.headers)?;
    }
    Ok(body)
}

fn text_of(body: &[u8]) -> Result<&str, ApiError> {
    if body.is_empty() {
        return Ok("{}");
    }
    crochet_shared::json::check(body)
        .map_err(|error| ApiError::from(Code::InvalidJson).caused_by(error))
}

/// Reads a body of at most `max` bytes.
pub async fn read_body(headers: &HeaderMap, body: Body, max: usize) -> Result<Bytes, ApiError> {
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<u64>().ok());
    if announced.is_some_and(|length| length > u64::try_from(max).unwrap_or(u64::MAX)) {
        return Err(Code::BodyTooLarge.into());
    }
    let limited = http_body_util::Limited::new(body, max);
    let collected = tokio::time::timeout(
        Duration::from_secs(BODY_SECONDS_MAX),
        http_body_util::BodyExt::collect(limited),
    )
    .await
    .map_err(|_| ApiError::field("body", "did not arrive in time"))?;
    match collected {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Code::BodyTooLarge.into())
        }
        Err(_) => Err(ApiError::field("body", "did not arrive whole")),
    }
}

/// `application/json` in UTF-8, unencoded; anything else is 415.
fn check_media_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let identity = |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    if !headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .all(identity)
    {
        return Err(Code::UnsupportedMediaType.into());
    }
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(media), None) = (types.next(), types.next()) else {
        return Err(Code::UnsupportedMediaType.into());
    };
    let media = media.to_str().unwrap_or_default();
    let mut parts = media.split(';').map(str::trim);
    let is_json = parts
        .next()
        .is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"));
    let is_utf8 = parts.all(|parameter| match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    });
    if is_json && is_utf8 {
        Ok(())
    } else {
        Err(Code::UnsupportedMediaType.into())
    }
}
