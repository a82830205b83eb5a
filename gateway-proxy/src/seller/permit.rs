//! Leave to call an endpoint: its breaker lets the call through, and fewer than `max_concurrency`
//! are under way in this process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crochet_shared::id::ProfileId;
use crochet_shared::outcome::{SellerFailure, is_billable};
use parking_lot::Mutex;

use super::breaker::{Breaker, BreakerConfig, Health, Ticket, Verdict};
use super::send::{SellerAnswer, SendError, Unsent};

/// When to try again while the endpoint is at its limit, or its trials are taken.
const BUSY_RETRY_SECONDS: u32 = 1;

/// Why an endpoint cannot be called now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// Its seller has paused it, or its listing is not sold.
    Withdrawn,
    /// Its breaker is open, or its trials are taken.
    Breaker,
    /// It is at its concurrency limit.
    Busy,
}

/// The endpoint cannot be called now: 503 `SELLER_UNAVAILABLE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the seller cannot be called now")]
pub struct Unavailable {
    /// For `Retry-After`; at least 1.
    pub retry_after_seconds: u32,
    /// Why.
    pub why: Closed,
}

/// What guards one endpoint; shared by the versions of it that this process knows.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    breaker: Arc<Mutex<Breaker>>,
    in_flight: Arc<AtomicU32>,
}

impl Gate {
    pub(super) fn new(config: BreakerConfig) -> Self {
        Self {
            breaker: Arc::new(Mutex::new(Breaker::new(config, Instant::now()))),
            in_flight: Arc::default(),
        }
    }

    /// For another URL of the same listing: its health is unknown, and what still runs still counts.
    pub(super) fn with_new_breaker(&self, config: BreakerConfig) -> Self {
        Self {
            in_flight: Arc::clone(&self.in_flight),
            ..Self::new(config)
        }
    }

    /// Whether a call would be admitted, taking nothing: half-open counts as yes, because a 402
    /// tries nobody.
    pub(super) fn check(&self, limit: u32) -> Result<(), Unavailable> {
        self.breaker
            .lock()
            .check(Instant::now())
            .map_err(|wait| unavailable(wait, Closed::Breaker))?;
        if self.in_flight.load(Ordering::Relaxed) < limit {
            Ok(())
        } else {
            Err(unavailable(Duration::ZERO, Closed::Busy))
        }
    }

    /// Whether its breaker is open or half-open, and how many calls are under way.
    pub(super) fn standing(&self, now: Instant) -> (Health, u32) {
        let health = self.breaker.lock().health(now);
        (health, self.in_flight.load(Ordering::Relaxed))
    }

    pub(super) fn admit(&self, limit: u32) -> Result<Permit, Unavailable> {
        let ticket = self
            .breaker
            .lock()
            .admit(Instant::now())
            .map_err(|wait| unavailable(wait, Closed::Breaker))?;
        let mut permit = self
            .admit_test(limit)
            .inspect_err(|_| self.breaker.lock().release(&ticket))?;
        permit.ticket = Some(ticket);
        Ok(permit)
    }

    /// A place that asks no breaker and tells it nothing: her own test is how a seller sees that she is back.
    pub(super) fn admit_test(&self, limit: u32) -> Result<Permit, Unavailable> {
        let one_more = |running: u32| (running < limit).then(|| running + 1);
        self.in_flight
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, one_more)
            .map_err(|_| unavailable(Duration::ZERO, Closed::Busy))?;
        Ok(Permit {
            gate: self.clone(),
            ticket: None,
        })
    }
}

fn unavailable(wait: Duration, why: Closed) -> Unavailable {
    let up = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    Unavailable {
        retry_after_seconds: u32::try_from(up)
            .unwrap_or(u32::MAX)
            .max(BUSY_RETRY_SECONDS),
        why,
    }
}

/// One call's place at an endpoint, given back on drop. Dropped without [`Permit::report`], it
/// tells the breaker nothing and burns no trial.
#[derive(Debug)]
#[must_use = "dropping a permit gives the place away"]
pub struct Permit {
    gate: Gate,
    ticket: Option<Ticket>,
}

impl Permit {
    /// Tells the breaker how the call ended, `now`. Only the first report counts. Whether it opened the
    /// breaker.
    pub fn report(
        &mut self,
        buyer: ProfileId,
        ended: &Result<SellerAnswer, SendError>,
        now: Instant,
    ) -> bool {
        self.ticket.take().is_some_and(|ticket| {
            let verdict = verdict(ended);
            let mut breaker = self.gate.breaker.lock();
            let was_open = breaker.health(now) == Health::Open;
            breaker.report(&ticket, buyer, verdict, now);
            !was_open && breaker.health(now) == Health::Open
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gate.in_flight.fetch_sub(1, Ordering::AcqRel);
        if let Some(ticket) = self.ticket.take() {
            self.gate.breaker.lock().release(&ticket);
        }
    }
}

/// What a buyer would not be charged for is a failure of the seller's (contract §5).
fn verdict(ended: &Result<SellerAnswer, SendError>) -> Verdict {
    match ended {
        Ok(answer) if is_billable(answer.status) => Verdict::Well,
        // What was ours says nothing of her.
        Err(SendError::Unsent(Unsent::OutOfTime) | SendError::Crowded(_)) => Verdict::Unknown,
        Err(SendError::Unsent(_) | SendError::Failed(SellerFailure::Unreachable, _)) => {
            Verdict::Unreachable
        }
        Ok(_)
        | Err(SendError::Failed(
            SellerFailure::Status
            | SellerFailure::Timeout
            | SellerFailure::TooLarge
            | SellerFailure::Invalid
            | SellerFailure::LeaseExpired,
            _,
        )) => Verdict::Failed,
    }
}
