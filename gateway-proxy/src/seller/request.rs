//! The request a seller receives (contract §5, "What the seller receives").

use std::fmt::Write as _;

use bytes::Bytes;
use crochet_shared::header;
use crochet_shared::id::ProfileId;
use crochet_shared::signing;
use http::header::{
    ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue,
    USER_AGENT,
};
use http::{Method, Request};
use http_body_util::Full;

use super::endpoint::Seller;

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");
const WEBHOOK_ID: HeaderName = HeaderName::from_static(header::WEBHOOK_ID);
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static(header::WEBHOOK_TIMESTAMP);
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static(header::WEBHOOK_SIGNATURE);
const CROCHET_SIGNATURE: HeaderName = HeaderName::from_static(header::CROCHET_SIGNATURE);
const CROCHET_REQUEST_ID: HeaderName = HeaderName::from_static(header::CROCHET_REQUEST_ID);
const CROCHET_TIMESTAMP: HeaderName = HeaderName::from_static(header::CROCHET_TIMESTAMP);
const CROCHET_LISTING_ID: HeaderName = HeaderName::from_static(header::CROCHET_LISTING_ID);
const CROCHET_BUYER_ID: HeaderName = HeaderName::from_static(header::CROCHET_BUYER_ID);
const CROCHET_ATTEMPT: HeaderName = HeaderName::from_static(header::CROCHET_ATTEMPT);
const CROCHET_TEST: HeaderName = HeaderName::from_static(header::CROCHET_TEST);

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");
const USER_AGENT_VALUE: HeaderValue =
    HeaderValue::from_static(concat!("Crochet-Gateway/", env!("CARGO_PKG_VERSION")));
/// Headers of a request, at most: all below and the seller's own.
const HEADERS_MAX: usize = 17;
/// Room for the values that differ by call, with two signatures.
const VALUES_BYTES: usize = 384;

/// One call to a seller.
#[derive(Clone, Debug)]
pub struct SignedCall {
    /// `gw_req_…`, or `gw_test_…` for a test.
    pub request_id: String,
    /// Who pays.
    pub buyer: ProfileId,
    /// Which attempt, from 1.
    pub attempt: i32,
    /// Whether it is a test request.
    pub test: bool,
    /// The buyer's bytes.
    pub body: Bytes,
    /// Their SHA-256.
    pub body_sha256: [u8; 32],
}

/// What gets sent.
pub(super) type SellerRequest = Request<Full<Bytes>>;

/// The headers of a request to an endpoint: a table that is copied for each call, with the places of those
/// that differ by call. Copying a table costs less than hashing its names again.
pub(super) struct Template {
    headers: HeaderMap,
    /// Which of [`BY_CALL`] stands at each place, in the order in which the table is gone through.
    places: Vec<Option<usize>>,
}

const BY_CALL_COUNT: usize = 10;
/// Headers that differ by call, in the order of the values that [`build`] gives.
const BY_CALL: [HeaderName; BY_CALL_COUNT] = [
    CONTENT_LENGTH,
    CONTENT_DIGEST,
    WEBHOOK_ID,
    WEBHOOK_TIMESTAMP,
    WEBHOOK_SIGNATURE,
    CROCHET_SIGNATURE,
    CROCHET_REQUEST_ID,
    CROCHET_TIMESTAMP,
    CROCHET_BUYER_ID,
    CROCHET_ATTEMPT,
];

impl Template {
    /// For an endpoint at `host`.
    pub(super) fn new(
        host: HeaderValue,
        listing: HeaderValue,
        auth: Option<(HeaderName, HeaderValue)>,
    ) -> Self {
        let mut headers = HeaderMap::with_capacity(HEADERS_MAX);
        headers.insert(HOST, host);
        headers.insert(USER_AGENT, USER_AGENT_VALUE);
        headers.insert(ACCEPT_ENCODING, IDENTITY);
        headers.insert(CONTENT_TYPE, JSON);
        headers.insert(CROCHET_LISTING_ID, listing);
        headers.extend(auth);
        for name in BY_CALL {
            headers.insert(name, HeaderValue::from_static(""));
        }
        let place = |name: &HeaderName| BY_CALL.iter().position(|by_call| by_call == name);
        Self {
            places: headers.keys().map(place).collect(),
            headers,
        }
    }

    /// The listing, as the seller is told.
    pub(super) fn listing(&self) -> Option<&HeaderValue> {
        self.headers.get(CROCHET_LISTING_ID)
    }

    fn filled(&self, values: [HeaderValue; BY_CALL_COUNT]) -> HeaderMap {
        let mut headers = self.headers.clone();
        let mut values = values.map(Some);
        for (value, place) in headers.values_mut().zip(&self.places) {
            let filled = place.and_then(|place| values.get_mut(place)?.take());
            if let Some(filled) = filled {
                *value = filled;
            }
        }
        headers
    }
}

/// Builds and signs the request as of now. Values that differ by call share one allocation.
pub(super) fn build(seller: &Seller, call: &SignedCall) -> Result<SellerRequest, http::Error> {
    let now = crochet_shared::clock::now();
    let mut values = Values::new();
    let id = values.push(|text| text.push_str(&call.request_id));
    let mut seconds = itoa::Buffer::new();
    let seconds = seconds.format(now.timestamp());
    let timestamp = values.push(|text| text.push_str(seconds));
    let signature = values.push(|text| {
        seller.sign_into(&call.request_id, seconds, &call.body, now, text);
    });
    let digest = values.push(|text| text.push_str(&signing::content_digest(&call.body_sha256)));
    let buyer = values.push(|text| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{}", call.buyer);
    });
    let attempt = values.push(|text| text.push_str(itoa::Buffer::new().format(call.attempt)));
    let length = values.push(|text| text.push_str(itoa::Buffer::new().format(call.body.len())));

    let values = Bytes::from(values.0);
    let value = |range: std::ops::Range<usize>| HeaderValue::from_maybe_shared(values.slice(range));
    let (id, timestamp, signature) = (value(id)?, value(timestamp)?, value(signature)?);

    let mut headers = seller.template.filled([
        value(length)?,
        value(digest)?,
        id.clone(),
        timestamp.clone(),
        signature.clone(),
        signature,
        id,
        timestamp,
        value(buyer)?,
        value(attempt)?,
    ]);
    if call.test {
        headers.insert(CROCHET_TEST, HeaderValue::from_static("true"));
    }

    let mut request = Request::new(Full::new(call.body.clone()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = seller.uri.clone();
    *request.headers_mut() = headers;
    Ok(request)
}

/// Header values one after the other.
struct Values(String);

impl Values {
    fn new() -> Self {
        Self(String::with_capacity(VALUES_BYTES))
    }

    fn push(&mut self, write: impl FnOnce(&mut String)) -> std::ops::Range<usize> {
        let start = self.0.len();
        write(&mut self.0);
        start..self.0.len()
    }
}
