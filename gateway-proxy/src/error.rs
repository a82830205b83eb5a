//! What the gateway answers, before it is written, and how refusals become answers.
//!
//! A [`Reply`] is a status, the exact body and the facts its headers are made from; nothing else of
//! an answer is decided later. [`Errors`] turns codes into replies; the body of a code without
//! particulars is made once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crochet_shared::code::Code;
use crochet_shared::envelope::{DocLinks, Failure};
use crochet_shared::id::RequestId;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

/// What an answer counts as in the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A code of the contract's table.
    Code(Code),
    /// 200, claimed and delivered now.
    Delivered,
    /// 200, the stored answer again.
    Replayed,
    /// 202.
    Pending,
    /// 200 of an endpoint test.
    Tested,
    /// 204 of a CORS preflight.
    Preflight,
}

/// An answer of the gateway's own.
#[derive(Clone, Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// The exact body.
    pub body: Bytes,
    /// For `X-Crochet-Request-Id`.
    pub request_id: Option<RequestId>,
    /// For `Retry-After`.
    pub retry_after: Option<u32>,
    /// What it counts as.
    pub kind: Kind,
    /// Where the key's rate window stands, for `RateLimit`: limit, left, seconds until it ends.
    pub rate: Option<(u32, u32, u32)>,
    /// How long the seller's part took, of a call delivered now.
    pub seller: Option<Duration>,
    /// The share of the byte budget that a large body holds until it is written.
    pub budget: Option<Arc<OwnedSemaphorePermit>>,
}

/// A step's refusal: the whole answer. Boxed, because a step's success is the common case.
#[derive(Clone, Debug)]
pub struct Refusal(Box<Reply>);

impl From<Reply> for Refusal {
    fn from(reply: Reply) -> Self {
        Self(Box::new(reply))
    }
}

impl Refusal {
    /// The answer.
    pub fn into_reply(self) -> Reply {
        *self.0
    }

    /// Names the purchase it speaks of.
    #[must_use]
    pub fn about(mut self, request_id: RequestId) -> Self {
        self.0.request_id = Some(request_id);
        self
    }

    /// Tells where the key's rate window stands.
    #[must_use]
    pub fn with_rate(mut self, limit: u32, remaining: u32, reset_seconds: u32) -> Self {
        self.0.rate = Some((limit, remaining, reset_seconds));
        self
    }
}

impl Reply {
    /// A success with this body.
    pub const fn ok(status: u16, kind: Kind, body: Bytes) -> Self {
        Self {
            status,
            body,
            request_id: None,
            retry_after: None,
            kind,
            rate: None,
            seller: None,
            budget: None,
        }
    }

    /// Names the purchase it speaks of.
    #[must_use]
    pub const fn about(mut self, request_id: RequestId) -> Self {
        self.request_id = Some(request_id);
        self
    }

    /// Sets `Retry-After` of an answer whose body says the same.
    #[must_use]
    pub const fn after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }
}

/// Makes replies of codes.
#[derive(Debug)]
pub struct Errors {
    docs: DocLinks,
    plain: Vec<Bytes>,
}

impl Errors {
    /// `base` is the public origin.
    pub fn new(base: &str) -> Self {
        let docs = DocLinks::new(base);
        let plain = Code::ALL
            .iter()
            .map(|code| Bytes::from(Failure::from(*code).to_json(&docs)))
            .collect();
        Self { docs, plain }
    }

    /// The code as the table has it.
    pub fn code(&self, code: Code) -> Refusal {
        let entry = code.entry();
        let body = self.plain.get(code as usize).cloned().unwrap_or_default();
        let mut reply = Reply::ok(entry.status, Kind::Code(code), body);
        reply.retry_after = entry.retry_after_seconds;
        reply.into()
    }

    /// The code about a known purchase.
    pub fn about(&self, code: Code, request_id: RequestId) -> Refusal {
        self.code(code).about(request_id)
    }

    /// A failure with particulars.
    pub fn failure(&self, failure: &Failure) -> Refusal {
        let body = failure.to_json(&self.docs).into();
        let mut reply = Reply::ok(failure.status(), Kind::Code(failure.code), body);
        reply.retry_after = failure.retry_after();
        reply.into()
    }

    /// The code with another wait.
    pub fn wait(&self, code: Code, seconds: u32) -> Refusal {
        if code.entry().retry_after_seconds == Some(seconds) {
            return self.code(code);
        }
        self.failure(&Failure::from(code).with_retry_after(seconds))
    }

    /// The body of a code with `data` beside `error`, where `data` is JSON text already: what the
    /// provider gave is not parsed and written again.
    pub fn body_with_data(&self, code: Code, data: &str) -> Bytes {
        let plain = self.plain.get(code as usize);
        with_data(plain.map_or(b"", |plain| plain), data.as_bytes())
    }

    /// A failure with `data` beside `error`, its fields in the order they are declared.
    pub fn failure_with_data(&self, failure: &Failure, data: &impl Serialize) -> Refusal {
        let mut refusal = self.failure(failure);
        // A struct of text and numbers cannot fail to serialise.
        let data = serde_json::to_vec(data).unwrap_or_default();
        refusal.0.body = with_data(&refusal.0.body, &data);
        refusal
    }
}

/// A failure's body is an object that ends in `}`; `data` goes in before it.
fn with_data(body: &[u8], data: &[u8]) -> Bytes {
    let open = body.strip_suffix(b"}").unwrap_or(body);
    [open, b",\"data\":", data, b"}"].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn every_plain_code_is_the_tables_and_takes_data() {
        let errors = Errors::new("http://x");
        let docs = DocLinks::new("http://x");
        for code in Code::ALL {
            let reply = errors.code(*code).into_reply();
            assert_eq!(reply.body, Failure::from(*code).to_json(&docs));
            assert_eq!(reply.status, code.status());
            let body = errors.body_with_data(*code, r#"{"a":[1]}"#);
            let body: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body["data"]["a"][0], 1);
            assert_eq!(body["error"]["code"], code.as_str());
            assert_eq!(body["success"], false);
        }
    }

    #[test]
    fn a_wait_is_told_in_the_body_and_for_the_header() {
        let errors = Errors::new("http://x");
        let reply = errors.wait(Code::RateLimited, 17).into_reply();
        let body: Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(body["error"]["recovery"]["retry_after_seconds"], 17);
        assert_eq!(reply.retry_after, Some(17));
    }
}
