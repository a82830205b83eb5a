//! Writing a [`Reply`]: the headers of every gateway answer (contract §2), and what becomes of the
//! connection after it.
//!
//! Header and body leave in one write when they fit the connection's buffer. A connection is kept
//! after an error too; where the rest of a body is too large to read for that, it is read off after
//! the answer for a moment, because closing on unread bytes would destroy the answer on its way.

use std::sync::LazyLock;
use std::time::Duration;

use crochet_shared::header as names;
use crochet_shared::id::RequestId;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, CACHE_CONTROL, CONTENT_LENGTH,
    CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, VARY, WWW_AUTHENTICATE,
};
use http::{Method, StatusCode};
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use crate::call::head::BodyHead;
use crate::client::REQUEST_ID;
use crate::error::{Kind, Reply};
use crate::rate::WINDOW_SECONDS;

static CROCHET_REQUEST_ID: HeaderName = HeaderName::from_static(names::CROCHET_REQUEST_ID);
static IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static(names::IDEMPOTENT_REPLAYED);
static RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
static RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

const EXPOSED: HeaderValue = HeaderValue::from_static(
    "X-Request-Id, X-Crochet-Request-Id, Idempotent-Replayed, Retry-After, RateLimit, RateLimit-Policy, WWW-Authenticate, Allow",
);
const ALLOWED_HEADERS: HeaderValue = HeaderValue::from_static(
    "Authorization, Content-Type, Idempotency-Key, X-Crochet-Origin-Currency, X-Crochet-Relay-Request-Id, X-Request-Id",
);
/// How long a browser may remember a preflight, in seconds.
const PREFLIGHT_SECONDS: HeaderValue = HeaderValue::from_static("86400");

/// A rest of this size is read before the answer, so that the connection can be kept.
const REST_BYTES_MAX: usize = 64 * 1024;
const REST_TIME: Duration = Duration::from_millis(500);
/// What is read off after an answer that ends its connection.
const LINGER_BYTES_MAX: usize = 32 * 1024 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(3);
/// Headers of an answer, at most.
const HEADERS_MAX: usize = 16;

/// What every answer but a preflight's has: copied for each, because a copy of a table costs less than
/// hashing its names again.
static COMMON: LazyLock<pingora::Result<ResponseHeader>> = LazyLock::new(|| {
    let mut head = ResponseHeader::build_no_case(StatusCode::OK, Some(HEADERS_MAX))?;
    head.insert_header(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"))?;
    head.insert_header(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED)?;
    head.insert_header(CONTENT_TYPE, HeaderValue::from_static("application/json"))?;
    head.insert_header(CACHE_CONTROL, HeaderValue::from_static("no-store"))?;
    Ok(head)
});

/// The headers of an answer, all but those of the connection.
pub fn headers(reply: &Reply, request_id: &HeaderValue) -> pingora::Result<ResponseHeader> {
    if reply.kind == Kind::Preflight {
        let mut head = ResponseHeader::build_no_case(reply.status, Some(HEADERS_MAX))?;
        head.insert_header(REQUEST_ID.clone(), request_id.clone())?;
        head.insert_header(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"))?;
        head.insert_header(
            ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static("POST"),
        )?;
        head.insert_header(ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS)?;
        head.insert_header(ACCESS_CONTROL_MAX_AGE, PREFLIGHT_SECONDS)?;
        head.insert_header(
            VARY,
            HeaderValue::from_static("Access-Control-Request-Method"),
        )?;
        return Ok(head);
    }
    let Ok(common) = &*COMMON else {
        return Err(pingora::Error::explain(
            pingora::InternalError,
            "constant headers are headers",
        ));
    };
    let mut head = common.clone();
    head.set_status(reply.status)?;
    head.insert_header(REQUEST_ID.clone(), request_id.clone())?;
    head.insert_header(CONTENT_LENGTH, HeaderValue::from(reply.body.len()))?;
    if let Some(id) = reply.request_id {
        head.insert_header(CROCHET_REQUEST_ID.clone(), purchase(id)?)?;
    }
    if reply.kind == Kind::Replayed {
        head.insert_header(
            IDEMPOTENT_REPLAYED.clone(),
            HeaderValue::from_static("true"),
        )?;
    }
    if let Some(seconds) = reply.retry_after {
        head.insert_header(RETRY_AFTER, HeaderValue::from(seconds))?;
    }
    match reply.status {
        401 => head.insert_header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))?,
        405 => head.insert_header(ALLOW, HeaderValue::from_static("POST"))?,
        _ => {}
    }
    if let Some(rate) = reply.rate {
        rate_headers(&mut head, rate)?;
    }
    Ok(head)
}

fn purchase(id: RequestId) -> pingora::Result<HeaderValue> {
    HeaderValue::try_from(id.to_string())
        .map_err(|_| pingora::Error::explain(pingora::InternalError, "an id is a header value"))
}

/// The IETF draft's form (contract §2).
fn rate_headers(
    head: &mut ResponseHeader,
    (limit, remaining, reset_seconds): (u32, u32, u32),
) -> pingora::Result<()> {
    let mut number = itoa::Buffer::new();
    let mut text = String::with_capacity(32);
    text.push_str("\"default\";r=");
    text.push_str(number.format(remaining));
    text.push_str(";t=");
    text.push_str(number.format(reset_seconds));
    head.insert_header(RATE_LIMIT.clone(), text)?;
    let mut text = String::with_capacity(32);
    text.push_str("\"default\";q=");
    text.push_str(number.format(limit));
    text.push_str(";w=");
    text.push_str(number.format(WINDOW_SECONDS));
    head.insert_header(RATE_LIMIT_POLICY.clone(), text)
}

/// The whole answer as bytes, for a connection that ends with it.
pub fn closing_bytes(reply: &Reply, request_id: &HeaderValue) -> pingora::Result<Vec<u8>> {
    let head = headers(reply, request_id)?;
    let reason = head.get_reason_phrase().unwrap_or_default();
    let mut out = format!("HTTP/1.1 {} {reason}\r\n", reply.status).into_bytes();
    head.header_to_h1_wire(&mut out);
    out.extend_from_slice(b"Connection: close\r\n\r\n");
    out.extend_from_slice(&reply.body);
    Ok(out)
}

/// Writes the whole answer. An error is a client that went away.
pub async fn write(
    session: &mut Session,
    reply: Reply,
    request_id: &HeaderValue,
) -> pingora::Result<()> {
    let head = headers(&reply, request_id)?;
    let body_head = BodyHead::read(&session.req_header().headers);
    read_rest(session, body_head).await;
    let whole = session.is_body_done();
    let without_body = session.req_header().method == Method::HEAD || reply.kind == Kind::Preflight;
    session
        .write_response_header(Box::new(head), without_body)
        .await?;
    if !without_body {
        session.write_response_body(Some(reply.body), true).await?;
    }
    // HTTP/2 ends the stream alone, and its client hears the answer first.
    if !whole && !session.is_http2() {
        linger(session).await;
    }
    Ok(())
}

/// Reads a small rest of the body, when the client will send it unasked.
async fn read_rest(session: &mut Session, head: BodyHead) {
    let small = head.length.is_none_or(|length| length <= REST_BYTES_MAX);
    if session.is_body_done() || head.expects_continue || !small {
        return;
    }
    // Whatever else comes of it shows in whether the body is done.
    let _ = tokio::time::timeout(REST_TIME, read_off(session, REST_BYTES_MAX)).await;
}

async fn linger(session: &mut Session) {
    let _ = tokio::time::timeout(LINGER_TIME, read_off(session, LINGER_BYTES_MAX)).await;
}

async fn read_off(session: &mut Session, most: usize) {
    let mut read = 0_usize;
    while read <= most {
        match session.read_request_body().await {
            Ok(Some(chunk)) => read += chunk.len(),
            Ok(None) => return,
            Err(_) => {
                // Where the next request would begin is unknown.
                session.set_keepalive(None);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Errors;
    use crochet_shared::code::Code;

    fn of(reply: &Reply) -> ResponseHeader {
        headers(reply, &HeaderValue::from_static("request-1")).unwrap()
    }

    fn get<'a>(head: &'a ResponseHeader, name: &str) -> Option<&'a str> {
        head.headers.get(name).map(|value| value.to_str().unwrap())
    }

    #[test]
    fn every_answer_has_the_manners_of_the_contract() {
        let errors = Errors::new("http://x");
        for code in Code::ALL {
            let reply = errors.code(*code).into_reply();
            let head = of(&reply);
            assert_eq!(get(&head, "x-request-id"), Some("request-1"));
            assert_eq!(get(&head, "cache-control"), Some("no-store"));
            assert_eq!(get(&head, "content-type"), Some("application/json"));
            assert_eq!(get(&head, "access-control-allow-origin"), Some("*"));
            let length = reply.body.len().to_string();
            assert_eq!(get(&head, "content-length"), Some(length.as_str()));
            let bearer = (code.status() == 401).then_some("Bearer");
            assert_eq!(get(&head, "www-authenticate"), bearer);
            let allow = (code.status() == 405).then_some("POST");
            assert_eq!(get(&head, "allow"), allow);
            let wait = code.entry().retry_after_seconds.map(|s| s.to_string());
            assert_eq!(get(&head, "retry-after"), wait.as_deref());
        }
    }

    #[test]
    fn a_replay_says_so_and_the_rate_is_told() {
        let mut reply = Reply::ok(200, Kind::Replayed, bytes::Bytes::new());
        reply.request_id = Some("gw_req_01890a5dac96774bbcceb302099a8057".parse().unwrap());
        reply.rate = Some((6000, 5999, 42));
        let head = of(&reply);
        assert_eq!(get(&head, "idempotent-replayed"), Some("true"));
        assert_eq!(
            get(&head, "x-crochet-request-id"),
            Some("gw_req_01890a5dac96774bbcceb302099a8057")
        );
        assert_eq!(get(&head, "ratelimit"), Some("\"default\";r=5999;t=42"));
        assert_eq!(
            get(&head, "ratelimit-policy"),
            Some("\"default\";q=6000;w=60")
        );
        let head = of(&Reply::ok(204, Kind::Preflight, bytes::Bytes::new()));
        assert_eq!(get(&head, "access-control-allow-methods"), Some("POST"));
        assert_eq!(get(&head, "content-length"), None);
    }
}
