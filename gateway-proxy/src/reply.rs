//! Writing a [`Reply`]: the headers of every gateway answer (contract §2), and what becomes of the
//! connection after it.
//!
//! Header and body leave in one write when they fit the connection's buffer. A connection is kept
//! after an error too; where the rest of a body is too large to read for that, it is read off after
//! the answer for a moment, because closing on unread bytes would destroy the answer on its way.

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use crochet_shared::envelope::preserving_only;
use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, CACHE_CONTROL, CONTENT_TYPE,
    HeaderMap, HeaderValue,
};
use http::{Method, StatusCode};
use pingora::http::ResponseHeader;
use pingora::protocols::http::date::get_cached_date;
use pingora::proxy::Session;

use crate::call::head::BodyHead;
use crate::error::{Kind, Reply};
use crate::front::SEND_BYTES_A_SECOND_MIN;
use crate::incoming::Incoming;
use crate::limits::OutOfTime;
use crate::rate::WINDOW_SECONDS;
use crate::sending::Sending;
use crate::tls::http2;

const EXPOSED: HeaderValue = HeaderValue::from_static(
    "X-Request-Id, X-Crochet-Request-Id, Idempotent-Replayed, Retry-After, RateLimit, RateLimit-Policy, WWW-Authenticate, Allow",
);
const ALLOWED_HEADERS: &[u8] = b"Authorization, Content-Type, Idempotency-Key, X-Crochet-Origin-Currency, X-Crochet-Relay-Request-Id, X-Request-Id";
/// How long a browser may remember a preflight, in seconds.
const PREFLIGHT_SECONDS: &[u8] = b"86400";

/// A rest of this size is read before the answer, so that the connection can be kept.
const REST_BYTES_MAX: usize = 64 * 1024;
const REST_TIME: Duration = Duration::from_millis(500);
/// What is read off after an answer that ends its connection.
const LINGER_BYTES_MAX: usize = 32 * 1024 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(3);
/// A part of a body, over HTTP/2.
const PART_BYTES: usize = 64 * 1024;
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

/// The same as lines.
static COMMON_LINES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut lines = Vec::new();
    if let Ok(head) = &*COMMON {
        head.header_to_h1_wire(&mut lines);
    }
    lines
});
/// Room for a head as lines, in bytes.
const WIRE_BYTES: usize = 768;

/// Gives `put` the headers that differ by answer.
fn each(reply: &Reply, request_id: &HeaderValue, mut put: impl FnMut(&'static str, &[u8])) {
    put("X-Request-Id", request_id.as_bytes());
    if reply.kind == Kind::Preflight {
        put("Access-Control-Allow-Origin", b"*");
        put("Access-Control-Allow-Methods", b"POST");
        put("Access-Control-Allow-Headers", ALLOWED_HEADERS);
        put("Access-Control-Max-Age", PREFLIGHT_SECONDS);
        put("Vary", b"Access-Control-Request-Method");
        return;
    }
    let mut number = itoa::Buffer::new();
    put("Content-Length", number.format(reply.body.len()).as_bytes());
    if let Some(id) = reply.request_id {
        put("X-Crochet-Request-Id", id.to_string().as_bytes());
    }
    if reply.kind == Kind::Replayed {
        put("Idempotent-Replayed", b"true");
    }
    if let Some(seconds) = reply.retry_after {
        put("Retry-After", number.format(seconds).as_bytes());
    }
    match reply.status {
        401 => put("WWW-Authenticate", b"Bearer"),
        405 => put("Allow", b"POST"),
        _ => {}
    }
    // The IETF draft's form (contract §2).
    if let Some((limit, remaining, reset_seconds)) = reply.rate {
        let mut text = Vec::with_capacity(32);
        rate(
            &mut text,
            b"\"default\";r=",
            remaining,
            reset_seconds,
            b";t=",
        );
        put("RateLimit", &text);
        text.clear();
        rate(&mut text, b"\"default\";q=", limit, WINDOW_SECONDS, b";w=");
        put("RateLimit-Policy", &text);
    }
}

fn rate(text: &mut Vec<u8>, first: &[u8], calls: u32, seconds: u32, second: &[u8]) {
    let mut number = itoa::Buffer::new();
    text.extend_from_slice(first);
    text.extend_from_slice(number.format(calls).as_bytes());
    text.extend_from_slice(second);
    text.extend_from_slice(number.format(seconds).as_bytes());
}

/// The head of an answer as pingora takes it, all but the headers of the connection.
pub fn headers(reply: &Reply, request_id: &HeaderValue) -> pingora::Result<ResponseHeader> {
    let mut head = if reply.kind == Kind::Preflight {
        ResponseHeader::build_no_case(reply.status, Some(HEADERS_MAX))?
    } else {
        let Ok(common) = &*COMMON else {
            return Err(pingora::Error::explain(
                pingora::InternalError,
                "constant headers are headers",
            ));
        };
        let mut head = common.clone();
        head.set_status(reply.status)?;
        head
    };
    let mut put = Ok(());
    each(reply, request_id, |name, value| {
        if put.is_ok() {
            put = head.insert_header(name, value);
        }
    });
    put.map(|()| head)
}

/// The head of an answer as it is sent over HTTP/1.1, which says whether its connection is kept.
pub fn wire(reply: &Reply, request_id: &HeaderValue, keep: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(WIRE_BYTES);
    let status = StatusCode::from_u16(reply.status);
    let reason = status.ok().and_then(|status| status.canonical_reason());
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(reply.status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason.unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    if reply.kind != Kind::Preflight {
        out.extend_from_slice(&COMMON_LINES);
    }
    let mut put = |name: &str, value: &[u8]| {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    };
    each(reply, request_id, &mut put);
    put("Date", get_cached_date().as_bytes());
    put("Connection", if keep { b"keep-alive" } else { b"close" });
    out.extend_from_slice(b"\r\n");
    out
}

/// The whole answer as bytes, for a connection that ends with it.
pub fn closing_bytes(reply: &Reply, request_id: &HeaderValue) -> Vec<u8> {
    let mut out = wire(reply, request_id, false);
    out.extend_from_slice(&reply.body);
    out
}

/// Leaves of what a refusal says to keep for another try only what this request has.
pub fn name_what_stood(reply: &mut Reply, headers: &HeaderMap, has_body: bool) {
    if matches!(reply.kind, Kind::Code(_)) {
        let cut = preserving_only(&reply.body, |name| headers.contains_key(name), has_body);
        if let Some(cut) = cut {
            reply.body = cut.into();
        }
    }
}

/// Writes the whole answer. Whether the client was there to take it, and took it in time.
pub async fn write(
    sending: &Sending,
    incoming: &mut Incoming<'_>,
    reply: &Reply,
    request_id: &HeaderValue,
) -> bool {
    if !incoming.is_body_done() {
        read_rest(incoming).await;
    }
    let whole = incoming.is_body_done();
    let (written, is_http2) = match incoming {
        Incoming::Direct(direct) => {
            let written = direct.answer(sending, reply, request_id).await;
            (written.map_err(|error| error.to_string()), false)
        }
        Incoming::Session(session) => write_in_time(sending, session, reply, request_id).await,
    };
    if let Err(error) = &written {
        tracing::debug!(error, "a client went away");
    } else if !whole && !is_http2 {
        // HTTP/2 ends the stream alone, and its client hears the answer first.
        linger(incoming).await;
    }
    written.is_ok()
}

/// As pingora writes it, which would wait without end for a client that does not even take a head. Tells whether
/// it was HTTP/2.
async fn write_in_time(
    sending: &Sending,
    session: &mut Session,
    reply: &Reply,
    request_id: &HeaderValue,
) -> (Result<(), String>, bool) {
    let is_http2 = session.is_http2();
    let mut time = send_time(WIRE_BYTES + reply.body.len());
    if is_http2 {
        // Streams share their connection, and so its pace.
        time = time.max(http2::WRITE_TIME);
    }
    let writing = write_by_pingora(session, reply, request_id);
    let written = match sending.within(counted_bytes(reply), time, writing).await {
        Ok(written) => written.map_err(|error| error.to_string()),
        Err(OutOfTime) => Err("it does not read".to_owned()),
    };
    if is_http2 && written.is_err() {
        // What is queued for the stream goes now, rather than when the client reads again.
        session.as_downstream_mut().shutdown().await;
    }
    (written, is_http2)
}

/// What counts of an answer as on its way: replays have a budget of their own, and all else is small.
pub fn counted_bytes(reply: &Reply) -> usize {
    if reply.kind == Kind::Delivered {
        reply.body.len()
    } else {
        0
    }
}

async fn write_by_pingora(
    session: &mut Session,
    reply: &Reply,
    request_id: &HeaderValue,
) -> pingora::Result<()> {
    let head = headers(reply, request_id)?;
    let without_body = session.req_header().method == Method::HEAD || reply.kind == Kind::Preflight;
    session
        .write_response_header(Box::new(head), without_body)
        .await?;
    if without_body {
        return Ok(());
    }
    let mut body = reply.body.clone();
    // What HTTP/2 has queued of a body keeps all of it in memory, whatever became of the stream: a large one
    // is given to it in copies of its parts, the last one too.
    if session.is_http2() && body.len() > PART_BYTES {
        while body.len() > PART_BYTES {
            let part = Bytes::copy_from_slice(&body.split_to(PART_BYTES));
            session.write_response_body(Some(part), false).await?;
        }
        body = Bytes::copy_from_slice(&body);
    }
    session.write_response_body(Some(body), true).await
}

/// How long an answer of so many bytes may take.
pub fn send_time(bytes: usize) -> Duration {
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    let pace = u32::try_from(SEND_BYTES_A_SECOND_MIN).unwrap_or(u32::MAX);
    Duration::from_secs(1).max(Duration::from_secs(1) * bytes / pace)
}

/// Reads a small rest of the body, when the client will send it unasked.
async fn read_rest(incoming: &mut Incoming<'_>) {
    let head = BodyHead::read(incoming.headers());
    let small = head.length.is_none_or(|length| length <= REST_BYTES_MAX);
    if head.expects_continue || !small {
        return;
    }
    // Whatever else comes of it shows in whether the body is done.
    let _ = tokio::time::timeout(REST_TIME, read_off(incoming, REST_BYTES_MAX)).await;
}

async fn linger(incoming: &mut Incoming<'_>) {
    let _ = tokio::time::timeout(LINGER_TIME, read_off(incoming, LINGER_BYTES_MAX)).await;
}

async fn read_off(incoming: &mut Incoming<'_>, most: usize) {
    let mut read = 0_usize;
    while read <= most {
        match incoming.body().await {
            Ok(Some(chunk)) => read += chunk.len(),
            Ok(None) => return,
            Err(_) => {
                // Where the next request would begin is unknown.
                incoming.end_connection();
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

    #[test]
    fn an_answer_has_a_second_and_then_as_long_as_the_slowest_pace_takes() {
        assert_eq!(send_time(10), Duration::from_secs(1));
        assert_eq!(send_time(SEND_BYTES_A_SECOND_MIN), Duration::from_secs(1));
        assert_eq!(
            send_time(4 * SEND_BYTES_A_SECOND_MIN),
            Duration::from_secs(4)
        );
        assert!(send_time(usize::MAX) > Duration::from_hours(1));
    }
}
