//! The right to forward: one payment claimed for one HTTP call.
//!
//! The owner is made here, once a call, and every asking again is by the same owner, so that asking
//! is always safe. A reply that was lost says nothing: the claim may stand. If it stays unknown for
//! longer than the buyer is kept waiting, she is told to retry, and the question goes on without her
//! until it is answered; a claim found then is released unsent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crochet_shared::code::{Code, NextAction};
use crochet_shared::envelope::{Amount, Failure, Fees};
use crochet_shared::fault::{self, Point};
use crochet_shared::id::{Owner, RequestId};
use crochet_shared::internal::{
    Check, CheckAnswer, Claim, ClaimAnswer, DeliveredFacts, Grant, Outcome, Settle,
};
use crochet_shared::redis_key::hex;
use serde::Serialize;

use super::admit::{Place, Presented};
use super::body::Body;
use super::{answer, quote, replay, settle};
use crate::adapter::again::patiently;
use crate::adapter::batch::Unanswered;
use crate::error::Refusal;
use crate::gateway::Gateway;
use crate::metrics::Metrics;
use crate::seller::Unavailable;

/// How long the buyer is kept waiting for the claim's answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a claim that may stand is asked after: the longest lease.
const ORPHAN_TIME: Duration = Duration::from_secs(150);
/// After this long a claim whose reply was lost is no longer expected: the patience above, in which it may have
/// left once more, and the control plane's longest statement (20 s). The commit itself is under no limit: one
/// that is held up for longer, by a standby that does not confirm, leaves its claim to the end of its lease.
const COMMIT_TIME: Duration = Duration::from_secs(30);
const AGAIN_MIN: Duration = Duration::from_millis(20);
const AGAIN_MAX: Duration = Duration::from_millis(500);
/// When to look again at a payment that is said to be paid and not yet to be claimed.
const PENDING_RETRY_SECONDS: u32 = 1;

/// A claimed call: everything that forwarding needs.
#[derive(Debug)]
pub struct Claimed {
    /// What was granted.
    pub grant: Grant,
    /// What was asked: the payment, the buyer, the owner.
    pub claim: Claim,
    /// Before the claim was sent: the lease is counted from here, so it ends no later than counted.
    pub since: Instant,
    /// The body.
    pub body: Body,
    /// The place at the seller.
    pub place: Place,
}

impl Claimed {
    /// When the lease ends, at the earliest.
    pub fn lease_end(&self) -> Instant {
        self.since + Duration::from_millis(u64::from(self.grant.lease_ms))
    }
}

/// Claims the payment, or answers where it stands.
pub async fn claim(gateway: &Arc<Gateway>, mut call: Presented) -> Result<Claimed, Refusal> {
    let began = Instant::now();
    let mut claim = Claim {
        relay_request_id: call.relay_request_id.clone(),
        buyer: call.buyer,
        listing: call.listing,
        body_sha256: call.body.sha256,
        owner: Owner::new(),
        serve: call.place.is_ok(),
    };
    let mut asking = Asking::since(began);
    let mut checked = false;
    fault::pass(Point::BeforeClaim);
    loop {
        let answered = asking.ask(gateway, &claim).await;
        let Some((answer, since)) = answered? else {
            return Err(gateway.errors.code(Code::ServiceUnavailable));
        };
        if let ClaimAnswer::Unevidenced { request_id } = answer {
            if checked {
                asking.leave(gateway, &claim);
                return Err(pending(
                    &call.relay_request_id,
                    request_id,
                    PENDING_RETRY_SECONDS,
                ));
            }
            checked = true;
            // Nobody waits for the provider at a seller's place: it is for those who have paid.
            let busy = call.give_place_back();
            if let Err(refusal) = evidence(gateway, &call, request_id, busy).await {
                asking.leave(gateway, &claim);
                return Err(refusal);
            }
            call.take_place();
            claim.serve = call.place.is_ok();
            // The patience begins again. What may have become of a lost reply does not.
            asking.began = Instant::now();
            continue;
        }
        Metrics::took(&gateway.metrics.claim, began.elapsed());
        if let Some(request_id) = ended(&answer) {
            gateway.quotes.end(request_id);
        }
        let ClaimAnswer::Claimed(grant) = answer else {
            let busy = call.give_place_back();
            return Err(stands(gateway, &call, answer, busy).await);
        };
        fault::pass(Point::AfterClaim);
        let Ok(place) = call.place else {
            // Not asked for: `serve` was false. What was granted all the same is given back.
            let releasing = release(Arc::clone(gateway), claim.owner, grant, since);
            gateway.underway.spawn(releasing);
            return Err(gateway.errors.code(Code::SellerUnavailable));
        };
        return Ok(Claimed {
            grant,
            claim,
            since,
            body: call.body,
            place,
        });
    }
}

/// The purchase, when its quote is open no longer.
const fn ended(answer: &ClaimAnswer) -> Option<RequestId> {
    match answer {
        ClaimAnswer::Claimed(Grant { request_id, .. })
        | ClaimAnswer::NoLongerStored(DeliveredFacts { request_id, .. })
        | ClaimAnswer::Delivered { request_id }
        | ClaimAnswer::Closed { request_id }
        | ClaimAnswer::Paid { request_id } => Some(*request_id),
        ClaimAnswer::InProgress { request_id, .. } => *request_id,
        ClaimAnswer::Unknown
        | ClaimAnswer::Mismatch
        | ClaimAnswer::Unevidenced { .. }
        | ClaimAnswer::Undecided => None,
    }
}

/// One question, asked as often as it takes.
#[derive(Debug)]
struct Asking {
    began: Instant,
    /// When the first asking left whose reply never came.
    unknown_since: Option<Instant>,
}

impl Asking {
    const fn since(began: Instant) -> Self {
        Self {
            began,
            unknown_since: None,
        }
    }

    /// The buyer is answered. What was asked and got no reply may be granted after that, and is found out without her.
    fn leave(&self, gateway: &Arc<Gateway>, claim: &Claim) {
        if let Some(since) = self.unknown_since {
            let asking = find_out(Arc::clone(gateway), claim.clone(), since);
            gateway.underway.spawn(asking);
        }
    }

    /// The answer, and since when it may hold. `None` when it stays unknown: then it is found out
    /// without the buyer.
    async fn ask(
        &mut self,
        gateway: &Arc<Gateway>,
        claim: &Claim,
    ) -> Result<Option<(ClaimAnswer, Instant)>, Refusal> {
        let mut wait = AGAIN_MIN;
        let mut last = None;
        loop {
            let sent = Instant::now();
            match gateway.control_plane.claims.ask(claim.clone()).await {
                Ok(ClaimAnswer::Undecided) | Err(Unanswered::Lost | Unanswered::Failed) => {
                    gateway.metrics.claims_lost.increment(1);
                    self.unknown_since.get_or_insert(sent);
                }
                Ok(answer) if self.unknown_since.is_some() && may_hide_ours(&answer) => {
                    last = Some((answer, sent));
                }
                Ok(answer) => {
                    return Ok(Some((answer, self.unknown_since.unwrap_or(sent))));
                }
                Err(Unanswered::Full) if self.unknown_since.is_none() => {
                    return Err(gateway.errors.code(Code::ServiceUnavailable));
                }
                Err(Unanswered::Full | Unanswered::Unreachable) => {}
            }
            if self.began.elapsed() + wait >= PATIENCE {
                self.leave(gateway, claim);
                return Ok(last);
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(AGAIN_MAX);
        }
    }
}

/// Whether this is what is seen of a payment while a claim of ours, whose reply was lost, is still being
/// committed: its row is locked, and stands for everybody as it stood before.
const fn may_hide_ours(answer: &ClaimAnswer) -> bool {
    matches!(
        answer,
        ClaimAnswer::InProgress { .. } | ClaimAnswer::Paid { .. }
    )
}

/// Asks after a claim that may stand until it is known, and releases it.
///
/// With `serve: false` the asking can find a claim and never make one.
async fn find_out(gateway: Arc<Gateway>, mut claim: Claim, since: Instant) {
    claim.serve = false;
    while since.elapsed() < ORPHAN_TIME {
        tokio::time::sleep(AGAIN_MAX).await;
        let answered = gateway.control_plane.claims.ask(claim.clone()).await;
        let may_still_commit = since.elapsed() < COMMIT_TIME;
        match answered {
            Ok(ClaimAnswer::Claimed(grant)) => {
                return release(gateway, claim.owner, grant, since).await;
            }
            Ok(ClaimAnswer::Undecided) | Err(_) => {}
            Ok(answer) if may_still_commit && may_hide_ours(&answer) => {}
            Ok(ClaimAnswer::Unevidenced { .. }) if may_still_commit => {}
            Ok(_) => return,
        }
    }
}

/// Gives a claim back of which nothing was sent.
async fn release(gateway: Arc<Gateway>, owner: Owner, grant: Grant, since: Instant) {
    let settle = Settle {
        request_id: grant.request_id,
        epoch: grant.epoch,
        owner,
        outcome: Outcome::Unsent { failure: None },
    };
    let lease_end = since + Duration::from_millis(u64::from(grant.lease_ms));
    settle::until_durable(&gateway, &settle, lease_end).await;
}

/// Has the provider asked. `Ok` when evidence is recorded and the claim may be asked for again.
async fn evidence(
    gateway: &Arc<Gateway>,
    call: &Presented,
    request_id: RequestId,
    busy: Option<Unavailable>,
) -> Result<(), Refusal> {
    let errors = &gateway.errors;
    let check = Check {
        relay_request_id: call.relay_request_id.clone(),
        buyer: call.buyer,
    };
    let began = Instant::now();
    fault::pass(Point::BeforeEvidence);
    let answer = patiently(began, quote::PATIENCE, || {
        gateway.control_plane.check(&check)
    })
    .await;
    fault::pass(Point::AfterEvidence);
    Metrics::took(&gateway.metrics.check, began.elapsed());
    let answer = answer.map_err(|why| {
        errors.about(
            match why {
                Unanswered::Lost => Code::PaymentProviderUnavailable,
                Unanswered::Full | Unanswered::Unreachable | Unanswered::Failed => {
                    Code::ServiceUnavailable
                }
            },
            request_id,
        )
    })?;
    if !matches!(
        answer,
        CheckAnswer::Pending { .. } | CheckAnswer::Unavailable { .. }
    ) {
        gateway.quotes.end(request_id);
    }
    let refusal = match answer {
        CheckAnswer::Paid => return Ok(()),
        CheckAnswer::Pending {
            retry_after_seconds,
        } => pending(&call.relay_request_id, request_id, retry_after_seconds),
        // Nobody is asked to pay for what cannot be served; the failed payment can wait.
        CheckAnswer::Failed if let Some(busy) = busy => {
            errors.wait(Code::SellerUnavailable, busy.retry_after_seconds)
        }
        CheckAnswer::Failed => {
            // Names the fresh purchase, not the failed one.
            let fresh = quote::afresh(gateway, call.buyer, call.relay_request_id.clone()).await;
            return Err(fresh.map_or_else(|refusal| refusal, Into::into));
        }
        CheckAnswer::Expired => errors.code(Code::RelayRequestExpired),
        CheckAnswer::Closed => errors.code(Code::RelayRequestClosed),
        CheckAnswer::Unavailable {
            retry_after_seconds,
        } => errors.wait(Code::PaymentProviderUnavailable, retry_after_seconds.max(1)),
    };
    Err(refusal.about(request_id))
}

/// Where a payment stands that was not claimed.
async fn stands(
    gateway: &Arc<Gateway>,
    call: &Presented,
    answer: ClaimAnswer,
    busy: Option<Unavailable>,
) -> Refusal {
    let errors = &gateway.errors;
    match answer {
        ClaimAnswer::Unknown => errors.code(Code::RelayRequestNotFound),
        ClaimAnswer::Mismatch => errors.code(Code::RelayRequestMismatch),
        ClaimAnswer::Delivered { request_id } => {
            let again = replay::replay(gateway, call.buyer, request_id).await;
            again.map_or_else(|refusal| refusal, Into::into)
        }
        ClaimAnswer::NoLongerStored(facts) => no_longer_stored(gateway, &facts),
        ClaimAnswer::Closed { request_id } => errors.about(Code::RelayRequestClosed, request_id),
        ClaimAnswer::InProgress {
            request_id,
            retry_after_seconds,
        } => answer::in_progress(gateway, request_id, retry_after_seconds),
        ClaimAnswer::Unevidenced { request_id } => {
            pending(&call.relay_request_id, request_id, PENDING_RETRY_SECONDS)
        }
        ClaimAnswer::Paid { request_id } => {
            let seconds = busy.map_or(PENDING_RETRY_SECONDS, |busy| {
                gateway.metrics.closed(busy.why);
                busy.retry_after_seconds
            });
            errors
                .wait(Code::SellerUnavailable, seconds)
                .about(request_id)
        }
        // The caller has taken these two.
        ClaimAnswer::Claimed(grant) => errors.about(Code::InternalError, grant.request_id),
        ClaimAnswer::Undecided => errors.code(Code::ServiceUnavailable),
    }
}

/// Where a purchase stands after a settlement found its claim ended: read again, by a new owner who
/// claims nothing.
pub async fn look_again(gateway: &Arc<Gateway>, claim: &Claim, settled: RequestId) -> Refusal {
    let claim = Claim {
        owner: Owner::new(),
        serve: false,
        ..claim.clone()
    };
    let buyer = claim.buyer;
    match gateway.control_plane.claims.ask(claim).await {
        Ok(ClaimAnswer::Delivered { request_id }) => {
            let again = replay::replay(gateway, buyer, request_id).await;
            again.map_or_else(|refusal| refusal, Into::into)
        }
        Ok(ClaimAnswer::NoLongerStored(facts)) => no_longer_stored(gateway, &facts),
        Ok(ClaimAnswer::Closed { request_id }) => {
            gateway.errors.about(Code::RelayRequestClosed, request_id)
        }
        Ok(ClaimAnswer::InProgress {
            request_id,
            retry_after_seconds,
        }) => answer::in_progress(gateway, request_id, retry_after_seconds),
        other => {
            tracing::warn!(request = %settled, answered = other.is_ok(), "a claim ended early");
            gateway.errors.about(Code::ServiceUnavailable, settled)
        }
    }
}

fn pending(relay_request_id: &str, request_id: RequestId, seconds: u32) -> Refusal {
    answer::pending(
        relay_request_id,
        request_id,
        seconds,
        NextAction::WaitAndRetry,
    )
    .into()
}

/// 410 with the facts that stay.
pub fn no_longer_stored(gateway: &Gateway, facts: &DeliveredFacts) -> Refusal {
    let fees = facts
        .fee_rate
        .split(facts.gross)
        .map(|split| Fees::of(facts.fee_rate, &split));
    let data = FactsData {
        request_id: facts.request_id,
        charged_amount: facts.gross.into(),
        fees,
        seller_status_code: facts.seller_status,
        response_sha256: hex(&facts.response_sha256),
    };
    let failure = Failure::from(Code::ResponseNoLongerStored);
    let refusal = gateway.errors.failure_with_data(&failure, &data);
    refusal.about(facts.request_id)
}

/// Field order as in the contract, §2.
#[derive(Serialize)]
struct FactsData {
    request_id: RequestId,
    charged_amount: Amount,
    fees: Option<Fees>,
    seller_status_code: u16,
    response_sha256: String,
}
