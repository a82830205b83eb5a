//! A seller's test of her own endpoint: really signed, by the code that forwards paid calls.
//!
//! No payment, no claim, no ledger. Told in coarse outcomes only, so that a test is no way to look
//! around in a network.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crochet_shared::code::Code;
use crochet_shared::envelope::{Failure, Success};
use crochet_shared::id::{self, ListingId, ProfileId};
use crochet_shared::internal::{EndpointRecord, ListingStatus, ProbeReport, RouteRecord};
use crochet_shared::outcome::{SellerFailure, is_billable};
use crochet_shared::{clock, json};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::Arrival;
use super::admit;
use super::body::BODY_BYTES_MAX;
use super::head::{self, Head};
use super::identify::{self, Identified};
use crate::cache::routes::{self, Route};
use crate::error::{Kind, Refusal, Reply};
use crate::gateway::Gateway;
use crate::incoming::Incoming;
use crate::seller::{self, Seller, SellerAnswer, SendError, SignedCall, Started, Unsent};

/// What is sent when the seller names nothing.
const DEFAULT_BODY: &[u8] = br#"{"test":true}"#;

/// Answers `POST /api/v1/listings/:name/endpoint/test`.
pub async fn serve(
    gateway: &Arc<Gateway>,
    incoming: &mut Incoming<'_>,
    name: &str,
    arrival: Arrival,
) -> Reply {
    let head = Head::read(incoming.headers());
    let caller = match identify::identify(gateway, head.credential, arrival).await {
        Ok(caller) => caller,
        Err(refusal) => return refusal.into_reply(),
    };
    let tested = test(gateway, incoming, &caller, name, &head, arrival).await;
    let mut reply = tested.unwrap_or_else(Refusal::into_reply);
    reply.rate = Some(caller.rate);
    reply
}

async fn test(
    gateway: &Arc<Gateway>,
    incoming: &mut Incoming<'_>,
    caller: &Identified,
    name: &str,
    head: &Head,
    arrival: Arrival,
) -> Result<Reply, Refusal> {
    let errors = &gateway.errors;
    let route = admit::find(gateway, routes::parse_name(name), arrival.at).await?;
    let record = route.as_ref().map(|route| &route.record);
    refuse(record, caller.profile()).map_err(|code| errors.code(code))?;
    let route = route.ok_or_else(|| errors.code(Code::ListingNotFound))?;
    let (endpoint, seller) =
        prepared(&route).ok_or_else(|| errors.code(Code::SellerUnavailable))?;

    let body = admit::read_body(gateway, incoming, caller, head.body, BODY_BYTES_MAX).await?;
    if !body.bytes.is_empty() && head.body.has_type && !head.body.is_json {
        return Err(errors.code(Code::UnsupportedMediaType));
    }
    let message = message(gateway, &body.bytes)?;
    if message.len() > admit::body_limit(&route.record) {
        return Err(errors.code(Code::BodyTooLarge));
    }
    // Tests cost nothing and go to whatever address was named: no more at once than calls may.
    let place = seller.try_admit_test().map_err(|busy| {
        gateway.metrics.closed(busy.why);
        errors.wait(Code::SellerUnavailable, busy.retry_after_seconds)
    })?;
    let tested = run(gateway, seller, endpoint, caller.profile(), message).await;
    drop(place);
    let report = report(route.record.listing_id, &tested);
    // What the answer holds is not held for a note.
    drop(tested);
    // The seller has her answer either way; what is lost is only the note of it.
    if let Err(why) = gateway.control_plane.probe(&report).await {
        tracing::warn!(listing = %report.listing, %why, "a test was not noted");
    }
    let shown = serde_json::to_vec(&Success::new(Shown {
        ok: report.ok,
        status_code: report.status_code,
        outcome: &report.outcome,
        latency_ms: report.latency_ms,
    }));
    Ok(Reply::ok(
        200,
        Kind::Tested,
        shown.unwrap_or_default().into(),
    ))
}

/// Whether this listing's endpoint may be tested by this caller. Another's draft is unknown to her.
fn refuse(route: Option<&RouteRecord>, caller: ProfileId) -> Result<(), Code> {
    let route = route.ok_or(Code::ListingNotFound)?;
    if route.seller_id != caller {
        return Err(match route.status {
            ListingStatus::Draft => Code::ListingNotFound,
            ListingStatus::Active | ListingStatus::Suspended => Code::Forbidden,
        });
    }
    if route.endpoint.is_none() {
        return Err(Code::ListingNotPerCall);
    }
    Ok(())
}

fn prepared(route: &Route) -> Option<(&EndpointRecord, &Arc<Seller>)> {
    route.record.endpoint.as_ref().zip(route.seller.as_ref())
}

/// The body of a test request.
#[derive(Deserialize)]
struct TestRequest<'a> {
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

/// The bytes to send: `body` as it was written, or a default.
fn message(gateway: &Gateway, given: &[u8]) -> Result<Bytes, Refusal> {
    if given.is_empty() {
        return Ok(Bytes::from_static(DEFAULT_BODY));
    }
    let text = json::check(given).map_err(|_| gateway.errors.code(Code::InvalidJson))?;
    // A structure would be read from an array, too.
    let request = (text.trim_start().starts_with('{'))
        .then(|| serde_json::from_str::<TestRequest<'_>>(text).ok())
        .flatten();
    let request = request.ok_or_else(|| {
        let bad = head::field("body", "the request must be a JSON object");
        gateway.errors.failure(&Failure::validation(&[bad]))
    })?;
    Ok(request.body.map_or_else(
        || Bytes::from_static(DEFAULT_BODY),
        |body| Bytes::copy_from_slice(body.get().as_bytes()),
    ))
}

/// Sends the request, once.
async fn run(
    gateway: &Gateway,
    seller: &Arc<Seller>,
    endpoint: &EndpointRecord,
    owner: ProfileId,
    body: Bytes,
) -> (Result<SellerAnswer, SendError>, Duration) {
    let call = SignedCall {
        request_id: format!("gw_test_{}", id::uuid_v7(clock::now()).as_simple()),
        buyer: owner,
        attempt: 1,
        test: true,
        body_sha256: Sha256::digest(&body).into(),
        body,
    };
    let began = Instant::now();
    let deadline = began + Duration::from_millis(u64::from(endpoint.timeout_ms));
    let mut started = Started::default();
    let sent = seller::send(seller, &gateway.network, &call, deadline, &mut started).await;
    (sent, began.elapsed())
}

fn report(
    listing: ListingId,
    (sent, took): &(Result<SellerAnswer, SendError>, Duration),
) -> ProbeReport {
    let status_code = match sent {
        Ok(answer) => Some(answer.status),
        Err(SendError::Failed(_, status) | SendError::Crowded(status)) => *status,
        Err(SendError::Unsent(_)) => None,
    };
    ProbeReport {
        listing,
        ok: matches!(sent, Ok(answer) if is_billable(answer.status)),
        status_code,
        outcome: outcome(sent).to_owned(),
        latency_ms: u32::try_from(took.as_millis()).unwrap_or(u32::MAX),
    }
}

/// The contract's coarse outcome (§4).
const fn outcome(sent: &Result<SellerAnswer, SendError>) -> &'static str {
    match sent {
        Ok(_) | Err(SendError::Failed(SellerFailure::Status, _)) => "delivered",
        Err(SendError::Unsent(Unsent::Tls)) => "tls_error",
        Err(SendError::Unsent(Unsent::ForbiddenAddress)) => "forbidden_address",
        Err(
            SendError::Unsent(Unsent::TooSlow | Unsent::OutOfTime)
            | SendError::Failed(SellerFailure::Timeout, _)
            | SendError::Crowded(_),
        ) => "timeout",
        Err(
            SendError::Unsent(Unsent::Unresolved | Unsent::Connect)
            | SendError::Failed(SellerFailure::Unreachable, _),
        ) => "unreachable",
        Err(SendError::Failed(
            SellerFailure::TooLarge | SellerFailure::Invalid | SellerFailure::LeaseExpired,
            _,
        )) => "invalid_response",
    }
}

/// Field order as in the contract, §4.
#[derive(Serialize)]
struct Shown<'a> {
    ok: bool,
    status_code: Option<u16>,
    outcome: &'a str,
    latency_ms: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crochet_shared::money::Micros;

    fn route(status: ListingStatus, seller_id: ProfileId) -> RouteRecord {
        RouteRecord {
            listing_id: ListingId::new(clock::now()),
            slug: "a".into(),
            seller_id,
            status,
            price: Micros(0),
            endpoint: None,
            version: 1,
        }
    }

    #[test]
    fn only_the_owner_tests_and_anothers_draft_is_unknown() {
        use ListingStatus::{Active, Draft, Suspended};
        let (owner, other) = (ProfileId::new(clock::now()), ProfileId::new(clock::now()));
        assert_eq!(refuse(None, owner), Err(Code::ListingNotFound));
        for (status, code) in [
            (Draft, Code::ListingNotFound),
            (Active, Code::Forbidden),
            (Suspended, Code::Forbidden),
        ] {
            assert_eq!(refuse(Some(&route(status, owner)), other), Err(code));
        }
        let free = route(Draft, owner);
        assert_eq!(refuse(Some(&free), owner), Err(Code::ListingNotPerCall));
    }

    #[test]
    fn outcomes_are_coarse() {
        for (unsent, said) in [
            (Unsent::Unresolved, "unreachable"),
            (Unsent::Connect, "unreachable"),
            (Unsent::Tls, "tls_error"),
            (Unsent::ForbiddenAddress, "forbidden_address"),
            (Unsent::OutOfTime, "timeout"),
        ] {
            assert_eq!(outcome(&Err(SendError::Unsent(unsent))), said);
        }
        let cut = Err(SendError::Failed(SellerFailure::Invalid, Some(200)));
        assert_eq!(outcome(&cut), "invalid_response");
    }
}
