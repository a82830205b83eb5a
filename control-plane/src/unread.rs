//! What an answer leaves unread of its request's body.
//!
//! Many refusals come before the body is looked at. The server closes a connection on which such a
//! body is still arriving, without a word in the answer, and a caller that keeps its connections, as
//! the gateway does, sends its next request into the closing one, or loses the very answer to a reset.
//! So the rest is read off before the answer goes out; where it is too long or too slow for that, the
//! answer says `Connection: close`, and reading goes on for a while, so that the answer is heard.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, SizeHint};
use tokio::sync::oneshot;

use crate::extract::BODY_BYTES_MAX;

/// Most that is read off before an answer, in bytes: whatever a body may hold that is not too large
/// itself.
const BEFORE_BYTES_MAX: u64 = BODY_BYTES_MAX as u64;
/// Longest time an answer waits for the rest of its body.
const BEFORE: Duration = Duration::from_secs(2);
/// Most that is read off behind an answer that closes its connection, in bytes.
const BEHIND_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Longest time that a closing connection is still read.
const BEHIND: Duration = Duration::from_secs(5);

/// The layer, around everything that may answer without having read the body.
pub(crate) async fn read_off(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    if body.is_end_stream() {
        return next.run(Request::from_parts(parts, body)).await;
    }
    let waits = waits_for_permission(&parts.headers);
    let (home, mut returned) = oneshot::channel();
    let lent = Lent {
        body,
        home: Some(home),
        touched: false,
    };
    let request = Request::from_parts(parts, Body::new(lent));
    let mut response = next.run(request).await;
    // Nothing comes home of a body that was read to its end.
    let Ok(Left { body, touched }) = returned.try_recv() else {
        return response;
    };
    // A client that waits for `100 Continue` sends nothing once it has its answer; asking for the
    // body would make it send it all.
    let is_read = (touched || !waits) && is_read_before(body).await;
    if !is_read {
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Whether the rest of a body was read to its end. Where it was not, it is still read behind the answer.
async fn is_read_before(mut body: Body) -> bool {
    let too_long = body.size_hint().lower() > BEFORE_BYTES_MAX;
    let read = async { !too_long && is_read_within(&mut body, BEFORE_BYTES_MAX).await };
    if tokio::time::timeout(BEFORE, read).await.unwrap_or(false) {
        return true;
    }
    tokio::spawn(async move {
        let read = is_read_within(&mut body, BEHIND_BYTES_MAX);
        // Heard or not, the connection ends here.
        let _ = tokio::time::timeout(BEHIND, read).await;
    });
    false
}

/// Reads until the end, an error or more than `most` bytes; whether it was the end.
async fn is_read_within(body: &mut Body, most: u64) -> bool {
    let mut had: u64 = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        had = had.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        if had > most {
            return false;
        }
    }
    true
}

fn waits_for_permission(headers: &HeaderMap) -> bool {
    headers
        .get(header::EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// What was left of a lent body.
struct Left {
    body: Body,
    /// Whether any of it was asked for.
    touched: bool,
}

/// A body that comes home when it is dropped before its end.
struct Lent {
    body: Body,
    home: Option<oneshot::Sender<Left>>,
    touched: bool,
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.touched = true;
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.home = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if self.body.is_end_stream() {
            return;
        }
        if let Some(home) = self.home.take() {
            let left = Left {
                body: std::mem::take(&mut self.body),
                touched: self.touched,
            };
            // Nobody waits where the whole exchange was dropped.
            let _ = home.send(left);
        }
    }
}
