//! CLAIMS: who may forward which payment now.
//!
//! One statement a batch claims what can be claimed and tells how everything stood; this file turns
//! that into the contract's table, first match first. Payments whose time is over are closed in a
//! second statement, so a batch takes one round trip, or two.

use std::collections::HashSet;

use crochet_shared::fault::{self, Point};
use crochet_shared::id::RequestId;
use crochet_shared::internal::{Claim, ClaimAnswer, DeliveredFacts, Grant, Redelivery};
use crochet_shared::money::{FeeRate, Micros};

use super::halving;
use super::lapse;
use super::model::{LEASE_MARGIN_MS, State};
use super::store::claim::{self, Claims, Seen};
use crate::app::App;
use crate::metrics::names;

/// What a buyer is told to wait while her call is being forwarded, in seconds.
const RETRY_IN_PROGRESS_SECONDS: u32 = 1;

/// Judges and claims a batch; answers in its order.
pub async fn claim(app: &App, items: &[Claim]) -> Result<Vec<ClaimAnswer>, sqlx::Error> {
    let answers = halving::run(
        items,
        |part| Box::pin(claim_once(app, part)),
        |_| ClaimAnswer::Undecided,
    )
    .await?;
    for answer in &answers {
        metrics::counter!(names::CLAIMS.name, "answer" => label(answer)).increment(1);
    }
    Ok(answers)
}

async fn claim_once(app: &App, items: Vec<&Claim>) -> Result<Vec<ClaimAnswer>, sqlx::Error> {
    let pool = app.db.calling();
    let grace = app.config.lease_grace.as_secs_f64();
    fault::pass(Point::BeforeClaim);
    let seen = claim::claim(pool, &columns(&items), app.config.max_attempts, grace).await?;
    fault::pass(Point::AfterClaim);
    let over: Vec<_> = seen
        .iter()
        .filter(|seen| seen.is_buyers && seen.is_bound && seen.is_over)
        .map(|seen| seen.id)
        .collect();
    let closed = if over.is_empty() {
        Vec::new()
    } else {
        lapse::lapse(app, &over).await?
    };
    let mut answers = vec![ClaimAnswer::Unknown; items.len()];
    for seen in seen {
        let is_closed = closed
            .iter()
            .any(|lapsed| lapsed.id == seen.id && lapsed.next == State::RefundDue);
        let place = usize::try_from(seen.place).ok();
        if let Some(slot) = place.and_then(|place| answers.get_mut(place)) {
            *slot = answer(&seen, is_closed, app.config.max_attempts);
        }
    }
    claimed_by_copies(&mut answers);
    Ok(answers)
}

/// What a statement sees is how all stood before it: a payment that another call of this batch has claimed is
/// being forwarded, also for a call that was not to be.
fn claimed_by_copies(answers: &mut [ClaimAnswer]) {
    let mut claimed = HashSet::new();
    for answer in &*answers {
        if let ClaimAnswer::Claimed(grant) = answer {
            claimed.insert(grant.request_id);
        }
    }
    for answer in answers {
        if let ClaimAnswer::Paid { request_id } = *answer
            && claimed.contains(&request_id)
        {
            *answer = in_progress(request_id);
        }
    }
}

const fn in_progress(request_id: RequestId) -> ClaimAnswer {
    ClaimAnswer::InProgress {
        request_id: Some(request_id),
        retry_after_seconds: RETRY_IN_PROGRESS_SECONDS,
    }
}

fn columns(items: &[&Claim]) -> Claims {
    let mut batch = Claims::default();
    for (place, item) in (0_i32..).zip(items) {
        batch.places.push(place);
        batch.relay_request_ids.push(item.relay_request_id.clone());
        batch.buyers.push(item.buyer.0);
        batch.listings.push(item.listing.map(|listing| listing.0));
        batch.bodies.push(item.body_sha256.to_vec());
        batch.owners.push(item.owner.0.to_vec());
        batch.serve.push(item.serve);
    }
    batch
}

/// The contract's table, first match first.
fn answer(seen: &Seen, is_closed: bool, max_attempts: i32) -> ClaimAnswer {
    let request_id = RequestId(seen.id);
    if !seen.is_buyers {
        return ClaimAnswer::Unknown;
    }
    if !seen.is_bound {
        return ClaimAnswer::Mismatch;
    }
    if let Some(grant) = granted(seen, max_attempts) {
        return ClaimAnswer::Claimed(grant);
    }
    if is_closed {
        return ClaimAnswer::Closed { request_id };
    }
    match seen.state {
        State::Delivered if seen.is_stored => ClaimAnswer::Delivered { request_id },
        State::Delivered => ClaimAnswer::NoLongerStored(facts(
            seen.id,
            seen.price_micros,
            seen.fee_rate_ppm,
            seen.seller_status,
            seen.response_sha256.as_deref(),
        )),
        State::RefundDue | State::Refunded => ClaimAnswer::Closed { request_id },
        State::Claimed if seen.is_owner => match held(seen, max_attempts) {
            Some(grant) => ClaimAnswer::Claimed(grant),
            None => in_progress(request_id),
        },
        State::Claimed if seen.is_abandoned && !seen.serve && !seen.is_over => {
            ClaimAnswer::Paid { request_id }
        }
        State::Quoted | State::Expired | State::Failed => ClaimAnswer::Unevidenced { request_id },
        State::Paid if !seen.serve && !seen.is_over => ClaimAnswer::Paid { request_id },
        // Being forwarded; or claimable and not claimed: a copy in this batch, or locked at this
        // instant.
        State::Claimed | State::Paid => in_progress(request_id),
    }
}

/// What was claimed for this item now.
fn granted(seen: &Seen, max_attempts: i32) -> Option<Grant> {
    Some(grant(
        seen,
        seen.granted_epoch?,
        seen.granted_attempt?,
        seen.granted_timeout_ms?,
        seen.granted_redeliver?,
        max_attempts,
    ))
}

/// What was claimed for the same owner before.
fn held(seen: &Seen, max_attempts: i32) -> Option<Grant> {
    let timeout_ms = seen.timeout_ms?;
    Some(grant(
        seen,
        seen.epoch,
        seen.attempts,
        timeout_ms,
        seen.redeliver,
        max_attempts,
    ))
}

fn grant(
    seen: &Seen,
    epoch: i32,
    attempt: i32,
    timeout_ms: i32,
    redeliver: bool,
    max_attempts: i32,
) -> Grant {
    let timeout_ms = u32::try_from(timeout_ms).unwrap_or(0);
    Grant {
        request_id: RequestId(seen.id),
        epoch,
        attempt,
        max_attempts,
        gross: Micros(seen.price_micros),
        fee_rate: FeeRate(seen.fee_rate_ppm.into()),
        timeout_ms,
        lease_ms: timeout_ms.saturating_add(LEASE_MARGIN_MS),
        redelivery: if redeliver {
            Redelivery::SameRequestId
        } else {
            Redelivery::Never
        },
    }
}

/// What stays known of a delivered call.
pub(super) fn facts(
    id: uuid::Uuid,
    price_micros: i64,
    fee_rate_ppm: i32,
    seller_status: Option<i32>,
    response_sha256: Option<&[u8]>,
) -> DeliveredFacts {
    DeliveredFacts {
        request_id: RequestId(id),
        gross: Micros(price_micros),
        fee_rate: FeeRate(fee_rate_ppm.into()),
        seller_status: seller_status
            .and_then(|status| u16::try_from(status).ok())
            .unwrap_or(0),
        response_sha256: response_sha256
            .and_then(|hash| hash.try_into().ok())
            .unwrap_or_default(),
    }
}

const fn label(answer: &ClaimAnswer) -> &'static str {
    match answer {
        ClaimAnswer::Unknown => "unknown",
        ClaimAnswer::Mismatch => "mismatch",
        ClaimAnswer::Delivered { .. } => "delivered",
        ClaimAnswer::NoLongerStored(_) => "no_longer_stored",
        ClaimAnswer::Closed { .. } => "closed",
        ClaimAnswer::InProgress { .. } => "in_progress",
        ClaimAnswer::Unevidenced { .. } => "unevidenced",
        ClaimAnswer::Paid { .. } => "paid",
        ClaimAnswer::Claimed(_) => "claimed",
        ClaimAnswer::Undecided => "undecided",
    }
}
