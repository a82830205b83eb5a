//! The call to the seller: once, under the claim, never past its lease.
//!
//! From here a guard holds the claim. If this task panics or is dropped, the guard settles it by
//! what is known: unsent if no byte left, else failed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crochet_shared::code::Code;
use crochet_shared::id::{Owner, RequestId};
use crochet_shared::internal::{Claim, Grant, Outcome, Settle};
use crochet_shared::outcome::{SellerFailure, is_billable};

use super::claim::Claimed;
use super::settle;
use crate::gateway::Gateway;
use crate::metrics::Metrics;
use crate::seller::{self, SellerAnswer, SendError, SignedCall, Started, Unsent};

/// How much of the lease must remain after the longest time the seller may take (architecture,
/// "States"): what settling may need.
pub const LEASE_MARGIN: Duration = Duration::from_secs(10);

/// How forwarding ended.
#[derive(Debug)]
pub enum Ending {
    /// The seller handled the call.
    Handled(SellerAnswer),
    /// She failed, after the first byte or with a complete answer that does not bill.
    Failed(SellerFailure, Option<u16>, Duration),
    /// Nothing was sent, because she could not be reached.
    Unreachable,
    /// Nothing was sent, because too little of the lease was left.
    TooLate,
}

/// A claimed call that was forwarded, or not; still to be settled.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub ending: Ending,
    /// Settles if nobody else does.
    pub guard: Guard,
    /// What was granted.
    pub grant: Grant,
    /// What was asked.
    pub claim: Claim,
    /// How long the seller's part took.
    pub took: Duration,
}

/// Whether the lease leaves time for the seller's longest call and the settlement.
pub fn lease_suffices(grant: &Grant, gone: Duration) -> bool {
    let lease = Duration::from_millis(u64::from(grant.lease_ms));
    let call = Duration::from_millis(u64::from(grant.timeout_ms));
    lease.saturating_sub(gone) >= call + LEASE_MARGIN
}

/// Forwards the call.
pub async fn forward(gateway: &Arc<Gateway>, claimed: Claimed) -> Ended {
    let mut guard = Guard::new(gateway, &claimed);
    let Claimed {
        grant,
        claim,
        since,
        body,
        mut place,
    } = claimed;
    let buyer = claim.buyer;
    let mut took = Duration::ZERO;
    let began = Instant::now();
    let ending = if lease_suffices(&grant, began - since) {
        let deadline = began + Duration::from_millis(u64::from(grant.timeout_ms));
        let call = SignedCall {
            request_id: grant.request_id.to_string(),
            buyer,
            attempt: grant.attempt,
            test: false,
            body: body.bytes.clone(),
            body_sha256: body.sha256,
        };
        let (network, started) = (&gateway.network, &mut guard.started);
        let sent = seller::send(&place.seller, network, &call, deadline, started).await;
        let now = Instant::now();
        if place.permit.report(buyer, &sent, now) {
            gateway.metrics.breakers_opened.increment(1);
        }
        if matches!(sent, Err(SendError::Crowded(_))) {
            gateway.metrics.crowded_out.increment(1);
        }
        took = now - began;
        Metrics::took(&gateway.metrics.forward, took);
        judge(sent, took)
    } else {
        gateway.metrics.lease_too_short.increment(1);
        Ending::TooLate
    };
    gateway.metrics.forwarded(match &ending {
        Ending::Handled(_) => Some(Ok(())),
        Ending::Failed(failure, ..) => Some(Err(*failure)),
        Ending::Unreachable => Some(Err(SellerFailure::Unreachable)),
        Ending::TooLate => None,
    });
    Ended {
        ending,
        guard,
        grant,
        claim,
        took,
    }
}

/// What the seller's answer, or its want, means.
fn judge(sent: Result<SellerAnswer, SendError>, took: Duration) -> Ending {
    match sent {
        Ok(answer) if is_billable(answer.status) => Ending::Handled(answer),
        Ok(answer) => Ending::Failed(SellerFailure::Status, Some(answer.status), answer.latency),
        Err(SendError::Failed(failure, status)) => Ending::Failed(failure, status, took),
        Err(SendError::Crowded(status)) => Ending::Failed(SellerFailure::Timeout, status, took),
        Err(SendError::Unsent(
            Unsent::Unresolved
            | Unsent::ForbiddenAddress
            | Unsent::Connect
            | Unsent::Tls
            | Unsent::TooSlow
            | Unsent::OutOfTime,
        )) => Ending::Unreachable,
    }
}

/// The public code of a failure.
pub const fn code_of(failure: SellerFailure) -> Code {
    match failure {
        SellerFailure::Status | SellerFailure::LeaseExpired => Code::SellerError,
        SellerFailure::Unreachable => Code::SellerUnreachable,
        SellerFailure::Timeout => Code::SellerTimeout,
        SellerFailure::TooLarge => Code::SellerResponseTooLarge,
        SellerFailure::Invalid => Code::SellerInvalidResponse,
    }
}

/// Holds a claim that is not settled yet. Dropped while armed, it settles by what is known.
#[derive(Debug)]
pub struct Guard {
    gateway: Arc<Gateway>,
    /// Ours.
    pub request_id: RequestId,
    /// The claim's epoch.
    pub epoch: i32,
    /// The claim's owner.
    pub owner: Owner,
    /// When the lease ends, at the earliest.
    pub lease_end: Instant,
    started: Started,
    outcome: Option<Outcome>,
    armed: bool,
}

impl Guard {
    fn new(gateway: &Arc<Gateway>, claimed: &Claimed) -> Self {
        Self {
            gateway: Arc::clone(gateway),
            request_id: claimed.grant.request_id,
            epoch: claimed.grant.epoch,
            owner: claimed.claim.owner,
            lease_end: claimed.lease_end(),
            started: Started::default(),
            outcome: None,
            armed: true,
        }
    }

    /// The settlement of this claim with its outcome, which the guard asks for too from now on.
    pub fn settle(&mut self, outcome: Outcome) -> Settle {
        self.outcome = Some(outcome.clone());
        self.settlement(outcome)
    }

    const fn settlement(&self, outcome: Outcome) -> Settle {
        Settle {
            request_id: self.request_id,
            epoch: self.epoch,
            owner: self.owner,
            outcome,
        }
    }

    /// The claim is settled, or somebody goes on trying.
    pub fn disarm(mut self) {
        self.armed = false;
    }

    /// What a claim is worth whose call broke off in this process.
    fn broken_off(&mut self) -> Outcome {
        if let Some(outcome) = self.outcome.take() {
            outcome
        } else if self.started.sent() {
            Outcome::Failed {
                failure: SellerFailure::LeaseExpired,
                seller_status: self.started.status(),
                seller_latency_ms: 0,
            }
        } else {
            Outcome::Unsent { failure: None }
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let outcome = self.broken_off();
        let settle = self.settlement(outcome);
        tracing::error!(request = %self.request_id, "a claimed call broke off; settling it");
        // Without a runtime the process is ending, and the sweep takes the lease back.
        if tokio::runtime::Handle::try_current().is_ok() {
            let (gateway, lease_end) = (Arc::clone(&self.gateway), self.lease_end);
            self.gateway.underway.spawn(async move {
                settle::until_durable(&gateway, &settle, lease_end).await;
            });
        }
    }
}

/// A grant of the usual times.
#[cfg(test)]
pub(super) fn a_grant() -> Grant {
    use crochet_shared::internal::Redelivery;
    use crochet_shared::money::{FEE_RATE, Micros};
    Grant {
        request_id: RequestId::new(crochet_shared::clock::now()),
        epoch: 1,
        attempt: 1,
        max_attempts: 5,
        gross: Micros(1),
        fee_rate: FEE_RATE,
        timeout_ms: 30_000,
        lease_ms: 60_000,
        redelivery: Redelivery::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seller::Kept;
    use bytes::Bytes;

    #[test]
    fn a_lease_must_leave_the_timeout_and_ten_seconds() {
        let grant = a_grant();
        assert!(lease_suffices(&grant, Duration::from_secs(20)));
        assert!(!lease_suffices(&grant, Duration::from_millis(20_001)));
        assert!(!lease_suffices(&grant, Duration::from_hours(1)));
    }

    #[tokio::test]
    async fn a_claim_that_broke_off_is_under_way_from_the_moment_it_did() {
        let gateway = Gateway::for_test(&[]);
        drop(Guard {
            gateway: Arc::clone(&gateway),
            request_id: a_grant().request_id,
            epoch: 1,
            owner: Owner::new(),
            lease_end: Instant::now(),
            started: Started::default(),
            outcome: None,
            armed: true,
        });
        assert_eq!(gateway.underway.count(), 1);
    }

    fn answer(status: u16) -> SellerAnswer {
        SellerAnswer {
            status,
            content_type: None,
            content_encoding: None,
            body: Bytes::new(),
            latency: Duration::from_millis(3),
            kept: Kept::default(),
        }
    }

    #[test]
    fn only_handled_answers_are_handled_and_unsent_uses_nothing() {
        let took = Duration::from_secs(1);
        for status in [200, 204, 404, 422] {
            assert!(matches!(
                judge(Ok(answer(status)), took),
                Ending::Handled(_)
            ));
        }
        for status in [301, 401, 407, 408, 421, 425, 429, 500, 599] {
            assert!(matches!(
                judge(Ok(answer(status)), took),
                Ending::Failed(SellerFailure::Status, Some(s), _) if s == status
            ));
        }
        let unsent = judge(Err(SendError::Unsent(Unsent::Tls)), took);
        assert!(matches!(unsent, Ending::Unreachable));
        let failed = SendError::Failed(SellerFailure::Timeout, Some(200));
        assert!(matches!(
            judge(Err(failed), took),
            Ending::Failed(SellerFailure::Timeout, Some(200), _)
        ));
    }
}
