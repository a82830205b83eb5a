//! The end of a claim, durable before the buyer hears of it.
//!
//! Settling is idempotent on owner and epoch, so a lost reply is asked again, for as long as the
//! lease lasts. The buyer is kept waiting for at most [`PATIENCE`]; after that she is told to retry
//! and the settlement goes on without her.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crochet_shared::code::Code;
use crochet_shared::fault::{self, Point};
use crochet_shared::internal::{Claim, Delivery, Grant, Outcome, Settle, SettleAnswer};
use crochet_shared::outcome::SellerFailure;
use sha2::{Digest as _, Sha256};

use super::answer::{Shape, envelope};
use super::forward::{Ended, Ending, Guard};
use super::room::{self, Room};
use super::{Arrival, claim};
use crate::adapter::batch::Unanswered;
use crate::aside::aside;
use crate::error::Refusal;
use crate::gateway::Gateway;
use crate::metrics::Metrics;

/// How long the buyer waits for the settlement to be durable (contract §5).
pub const PATIENCE: Duration = Duration::from_secs(5);
const AGAIN_MIN: Duration = Duration::from_millis(25);
const AGAIN_MAX: Duration = Duration::from_secs(1);

/// A settled call: what the buyer may now be told.
#[derive(Debug)]
pub struct Settled {
    /// What was granted.
    pub grant: Grant,
    /// How long the seller's part took.
    pub seller: Duration,
    /// What to tell.
    pub told: Told,
}

/// What a settlement lets the buyer be told.
#[derive(Debug)]
pub enum Told {
    /// The envelope, as stored.
    Delivered(Bytes),
    /// A failure, and what is left of the payment.
    Failed {
        /// Its public code.
        code: Code,
        /// What the seller answered, when she did.
        seller_status: Option<u16>,
        /// Attempts used so far.
        attempts: i32,
        /// Attempts left.
        attempts_remaining: i32,
        /// Whether the payment is to be refunded.
        refund_due: bool,
    },
    /// Nothing was sent, for a want of time of ours.
    TooLate,
}

/// Settles the call.
pub async fn settle(
    gateway: &Arc<Gateway>,
    ended: Ended,
    arrival: Arrival,
) -> Result<Settled, Refusal> {
    let Ended {
        ending,
        mut guard,
        grant,
        claim,
        took,
    } = ended;
    let began = Instant::now();
    let mut unwritten = Unwritten::of(ending).await;
    if let Some(more) = unwritten.wants(gateway) {
        let latest = room::latest(began, guard.lease_end);
        let budget = std::mem::take(&mut unwritten.budget);
        let mut waiting = Box::pin(budget.widened(Arc::clone(gateway), more, latest));
        match tokio::time::timeout(PATIENCE, &mut waiting).await {
            Ok(budget) => unwritten.budget = budget,
            Err(_) => {
                return Err(settle_later(
                    gateway, unwritten, waiting, guard, grant, arrival,
                ));
            }
        }
    }
    let patience = PATIENCE.saturating_sub(began.elapsed());
    let Ready {
        outcome,
        telling,
        budget,
    } = prepare(&grant, unwritten, arrival).await;
    let settle = guard.settle(outcome);
    let lease_end = guard.lease_end;
    fault::pass(Point::BeforeSettlement);
    let trying = until_durable(gateway, &settle, lease_end);
    let settled = tokio::time::timeout(patience, trying).await;
    fault::pass(Point::AfterSettlement);
    guard.disarm();
    Metrics::took(&gateway.metrics.settle, began.elapsed());
    let Ok(settled) = settled else {
        gateway.metrics.settle_late.increment(1);
        let gateway_on = Arc::clone(gateway);
        gateway.underway.spawn(async move {
            until_durable(&gateway_on, &settle, lease_end).await;
            drop(budget);
        });
        let code = Code::ServiceUnavailable;
        return Err(gateway.errors.about(code, grant.request_id));
    };
    // Not until it is told: whoever reads slowly would hold what others need.
    drop(budget);
    match judge(settled, &telling) {
        Some(told) => Ok(Settled {
            grant,
            seller: took,
            told,
        }),
        None => Err(not_ours(gateway, &claim, &grant, settled).await),
    }
}

/// Settles an answer for which there was no room as long as the buyer waits. She is told to retry; its
/// place among those who wait is kept.
fn settle_later(
    gateway: &Arc<Gateway>,
    mut unwritten: Unwritten,
    waiting: impl Future<Output = Room> + Send + 'static,
    mut guard: Guard,
    grant: Grant,
    arrival: Arrival,
) -> Refusal {
    gateway.metrics.settle_late.increment(1);
    let request_id = grant.request_id;
    let gateway_on = Arc::clone(gateway);
    gateway.underway.spawn(async move {
        let lease_end = guard.lease_end;
        unwritten.budget = waiting.await;
        let ready = prepare(&grant, unwritten, arrival).await;
        let settle = guard.settle(ready.outcome);
        until_durable(&gateway_on, &settle, lease_end).await;
        guard.disarm();
        drop(ready.budget);
    });
    gateway.errors.about(Code::ServiceUnavailable, request_id)
}

/// Asks until the settlement is answered, or its lease has ended.
pub async fn until_durable(
    gateway: &Gateway,
    settle: &Settle,
    lease_end: Instant,
) -> Option<SettleAnswer> {
    let mut wait = AGAIN_MIN;
    loop {
        let answered = gateway.control_plane.settle(settle.clone()).await;
        match answered {
            Ok(SettleAnswer::Undecided) | Err(_) => {
                // One that found no place was not sent.
                if !matches!(answered, Err(Unanswered::Full)) {
                    gateway.metrics.settles_lost.increment(1);
                }
                let why = answered.err().map(|why| why.to_string());
                tracing::warn!(request = %settle.request_id, why, "a settlement is asked again");
            }
            Ok(answer) => return Some(answer),
        }
        if Instant::now() + wait >= lease_end {
            gateway.metrics.settle_abandoned.increment(1);
            tracing::error!(request = %settle.request_id, "a settlement outlived its lease");
            return None;
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(AGAIN_MAX);
    }
}

/// How forwarding ended, not yet written down.
struct Unwritten {
    ending: Ending,
    /// Of a handled call's answer.
    shape: Option<Shape>,
    budget: Room,
}

impl Unwritten {
    async fn of(mut ending: Ending) -> Self {
        let (mut shape, mut budget) = (None, Room::default());
        if let Ending::Handled(answer) = &mut ending {
            let (body, is_encoded) = (answer.body.clone(), answer.content_encoding.is_some());
            shape = Some(aside(body.len(), move || Shape::of(&body, is_encoded)).await);
            budget = Room::of(std::mem::take(&mut answer.kept));
        }
        Self {
            ending,
            shape,
            budget,
        }
    }

    /// How much room writing it takes that it has not.
    fn wants(&self, gateway: &Gateway) -> Option<usize> {
        self.budget.wants(self.shape?, gateway.answers.bytes())
    }
}

/// What is settled, and what may be told once it is.
struct Ready {
    outcome: Outcome,
    telling: Telling,
    /// The share of the byte budget that a large answer holds while it waits to be settled.
    budget: Room,
}

impl Ready {
    /// Nothing of a seller's answer is left.
    fn without_answer(outcome: Outcome, telling: Telling) -> Self {
        Self {
            outcome,
            telling,
            budget: Room::default(),
        }
    }
}

/// What the buyer is told if the settlement holds.
#[derive(Debug)]
enum Telling {
    Delivered(Bytes),
    Failed(Code, Option<u16>),
    TooLate,
}

async fn prepare(grant: &Grant, unwritten: Unwritten, arrival: Arrival) -> Ready {
    let Unwritten {
        ending,
        shape,
        budget,
    } = unwritten;
    match ending {
        Ending::Handled(answer) => {
            let (seller_status, latency) = (answer.status, answer.latency);
            let grant = grant.clone();
            let (envelope, envelope_sha256) = aside(answer.body.len(), move || {
                let shape = shape
                    .unwrap_or_else(|| Shape::of(&answer.body, answer.content_encoding.is_some()));
                let envelope = envelope(&grant, &answer, shape);
                let sha256 = Sha256::digest(&envelope).into();
                (envelope, sha256)
            })
            .await;
            let delivery = Delivery {
                envelope_sha256,
                envelope: envelope.clone(),
                seller_status,
                seller_latency_ms: millis(latency),
                latency_ms: millis(arrival.at.elapsed()),
            };
            Ready {
                outcome: Outcome::Delivered(delivery),
                telling: Telling::Delivered(envelope),
                budget,
            }
        }
        Ending::Failed(failure, seller_status, took) => Ready::without_answer(
            Outcome::Failed {
                failure,
                seller_status,
                seller_latency_ms: millis(took),
            },
            Telling::Failed(super::forward::code_of(failure), seller_status),
        ),
        Ending::Unreachable => Ready::without_answer(
            Outcome::Unsent {
                failure: Some(SellerFailure::Unreachable),
            },
            Telling::Failed(Code::SellerUnreachable, None),
        ),
        Ending::TooLate => {
            Ready::without_answer(Outcome::Unsent { failure: None }, Telling::TooLate)
        }
    }
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

/// What may be told. `None` when the settlement does not hold, or says what was not asked: then
/// nothing of this call's answer may be told.
fn judge(settled: Option<SettleAnswer>, telling: &Telling) -> Option<Told> {
    let failed = |attempts, attempts_remaining, refund_due| match telling {
        Telling::Delivered(_) => None,
        Telling::TooLate => Some(Told::TooLate),
        Telling::Failed(code, seller_status) => Some(Told::Failed {
            code: *code,
            seller_status: *seller_status,
            attempts,
            attempts_remaining,
            refund_due,
        }),
    };
    match settled? {
        SettleAnswer::Delivered => match telling {
            Telling::Delivered(envelope) => Some(Told::Delivered(envelope.clone())),
            Telling::Failed(..) | Telling::TooLate => None,
        },
        SettleAnswer::Released {
            attempts,
            attempts_remaining,
        } => failed(attempts, attempts_remaining, false),
        SettleAnswer::RefundDue { attempts } => failed(attempts, 0, true),
        SettleAnswer::NotOwner | SettleAnswer::Undecided => None,
    }
}

/// The claim ended without this settlement. Where the purchase stands is read again.
async fn not_ours(
    gateway: &Arc<Gateway>,
    claim: &Claim,
    grant: &Grant,
    settled: Option<SettleAnswer>,
) -> Refusal {
    if settled.is_some() {
        gateway.metrics.settle_not_owner.increment(1);
    }
    claim::look_again(gateway, claim, grant.request_id).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Budget;
    use crate::seller::{Kept, SellerAnswer};

    #[test]
    fn an_answer_is_told_only_when_its_settlement_holds() {
        let envelope = Telling::Delivered(Bytes::from_static(b"{}"));
        let released = SettleAnswer::Released {
            attempts: 1,
            attempts_remaining: 4,
        };
        let told = judge(Some(SettleAnswer::Delivered), &envelope);
        assert!(matches!(told, Some(Told::Delivered(_))));
        let refund = SettleAnswer::RefundDue { attempts: 5 };
        for other in [
            None,
            Some(SettleAnswer::NotOwner),
            Some(released),
            Some(refund),
        ] {
            assert!(judge(other, &envelope).is_none(), "{other:?}");
        }
    }

    #[tokio::test]
    async fn a_large_answer_holds_its_share_of_the_budget_until_it_is_settled() {
        let budget = Budget::new(10);
        let kept = Kept {
            share: budget.take(4).unwrap(),
            ..Kept::default()
        };
        let now = crochet_shared::clock::now();
        let grant = super::super::forward::a_grant();
        let arrival = Arrival {
            at: Instant::now(),
            now_ms: now.timestamp_millis(),
            client: std::net::Ipv4Addr::LOCALHOST.into(),
        };
        let answer = SellerAnswer {
            status: 200,
            content_type: None,
            content_encoding: None,
            body: Bytes::from_static(b"{}"),
            latency: Duration::ZERO,
            kept,
        };
        let unwritten = Unwritten::of(Ending::Handled(answer)).await;
        let ready = prepare(&grant, unwritten, arrival).await;
        drop(ready.outcome);
        assert_eq!(budget.left(), 6);
        drop(ready.budget);
        assert_eq!(budget.left(), 10);
    }

    #[test]
    fn a_failure_tells_what_is_left_of_the_payment() {
        let failed = Telling::Failed(Code::SellerTimeout, None);
        let released = SettleAnswer::Released {
            attempts: 2,
            attempts_remaining: 3,
        };
        assert!(matches!(
            judge(Some(released), &failed),
            Some(Told::Failed {
                code: Code::SellerTimeout,
                attempts: 2,
                attempts_remaining: 3,
                refund_due: false,
                ..
            })
        ));
        assert!(matches!(
            judge(Some(SettleAnswer::RefundDue { attempts: 5 }), &failed),
            Some(Told::Failed {
                attempts_remaining: 0,
                refund_due: true,
                ..
            })
        ));
        assert!(judge(Some(SettleAnswer::Delivered), &failed).is_none());
        assert!(judge(None, &failed).is_none());
    }
}
