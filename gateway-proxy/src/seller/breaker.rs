//! When an endpoint is left alone for a while (contract §5, "Breaker").
//!
//! A pure state machine: time comes in with every call. It opens on a run of connect failures, or
//! when too many of enough calls by enough buyers failed within the window; it tries again after a
//! while that doubles with each failed try; one success closes it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crochet_shared::id::ProfileId;

/// Calls that may try an endpoint at once while its breaker is half-open (contract §5).
pub(super) const TRIALS_MAX: u32 = 3;
/// The window is counted in this many slices: a call is forgotten with its slice, so the window is
/// at most one slice short.
const SLICES: u32 = 30;

/// The numbers of the contract (`BREAKER_*`).
#[derive(Clone, Copy, Debug)]
pub struct BreakerConfig {
    /// Connect failures in a row that open it.
    pub connect_failures: u32,
    /// Calls in the window below which a rate means nothing.
    pub min_calls: u32,
    /// Failures among them, in percent, that open it.
    pub failure_percent: u32,
    /// Distinct buyers among them below which the fault may be the buyers'.
    pub min_buyers: u32,
    /// How far back calls count.
    pub window: Duration,
    /// How long it stays open at first.
    pub open: Duration,
    /// How long it stays open at most.
    pub open_max: Duration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            connect_failures: 5,
            min_calls: 20,
            failure_percent: 50,
            min_buyers: 3,
            window: Duration::from_secs(30),
            open: Duration::from_secs(10),
            open_max: Duration::from_mins(5),
        }
    }
}

/// What a call says about the endpoint's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It answered, and the buyer is charged.
    Well,
    /// Timeout, broken or too large answer, or a status that nobody is charged for.
    Failed,
    /// DNS, connect or TLS: no request could be sent.
    Unreachable,
    /// Nothing was learned: we had no time left to try.
    Unknown,
}

/// What an admitted call holds until it reports or gives up.
#[derive(Debug)]
#[must_use = "a ticket is reported or released"]
pub(super) struct Ticket {
    /// Between which two changes of state the call was admitted.
    era: u64,
    trial: bool,
}

/// How an endpoint stands, for those who watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Calls pass.
    Closed,
    /// No call passes.
    Open,
    /// A few try.
    HalfOpen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: Instant },
    HalfOpen { trials: u32 },
}

/// The breaker of one endpoint in one gateway process.
#[derive(Debug)]
pub(super) struct Breaker {
    config: BreakerConfig,
    origin: Instant,
    state: State,
    /// Rises with each opening and closing. What was admitted in an older era says nothing now.
    era: u64,
    unreachable_in_row: u32,
    /// How long the next opening lasts.
    next_open: Duration,
    window: VecDeque<Slice>,
}

/// Counts of one slice of the window.
#[derive(Debug)]
struct Slice {
    index: u64,
    calls: u32,
    failures: u32,
    /// Distinct buyers, no more than the threshold asks for: that many in one slice is enough, and
    /// fewer is all of them, so the union over the slices is exact up to the threshold.
    buyers: Vec<ProfileId>,
}

impl Breaker {
    /// A closed breaker.
    pub(super) fn new(config: BreakerConfig, now: Instant) -> Self {
        Self {
            config,
            origin: now,
            state: State::Closed,
            era: 0,
            unreachable_in_row: 0,
            next_open: config.open,
            window: VecDeque::new(),
        }
    }

    /// Whether calls are served now, without taking a trial: what a 402 needs to know. `Err` tells
    /// how long it stays open.
    pub(super) fn check(&mut self, now: Instant) -> Result<(), Duration> {
        self.pass_time(now);
        match self.state {
            State::Closed | State::HalfOpen { .. } => Ok(()),
            State::Open { until } => Err(until.saturating_duration_since(now)),
        }
    }

    /// How it stands now.
    pub(super) fn health(&mut self, now: Instant) -> Health {
        self.pass_time(now);
        match self.state {
            State::Closed => Health::Closed,
            State::Open { .. } => Health::Open,
            State::HalfOpen { .. } => Health::HalfOpen,
        }
    }

    /// Admits a call, as a trial when half-open.
    pub(super) fn admit(&mut self, now: Instant) -> Result<Ticket, Duration> {
        self.check(now)?;
        let trial = match &mut self.state {
            State::Closed | State::Open { .. } => false,
            State::HalfOpen { trials } if *trials < TRIALS_MAX => {
                *trials += 1;
                true
            }
            State::HalfOpen { .. } => return Err(Duration::ZERO),
        };
        Ok(Ticket {
            era: self.era,
            trial,
        })
    }

    /// Takes back a ticket with which nothing was sent.
    pub(super) fn release(&mut self, ticket: &Ticket) {
        if ticket.era != self.era || !ticket.trial {
            return;
        }
        if let State::HalfOpen { trials } = &mut self.state {
            *trials = trials.saturating_sub(1);
        }
    }

    /// Learns how a call ended. What was admitted before the last opening or closing is old news.
    pub(super) fn report(
        &mut self,
        ticket: &Ticket,
        buyer: ProfileId,
        verdict: Verdict,
        now: Instant,
    ) {
        if ticket.era != self.era {
            return;
        }
        match (ticket.trial, verdict) {
            (_, Verdict::Unknown) => self.release(ticket),
            (true, Verdict::Well) => self.close(),
            (true, Verdict::Failed | Verdict::Unreachable) => self.open(now),
            (false, verdict) => self.count(buyer, verdict, now),
        }
    }

    fn pass_time(&mut self, now: Instant) {
        if let State::Open { until } = self.state
            && now >= until
        {
            self.state = State::HalfOpen { trials: 0 };
        }
    }

    fn open(&mut self, now: Instant) {
        self.state = State::Open {
            until: now + self.next_open,
        };
        self.next_open = (self.next_open * 2).min(self.config.open_max);
        self.forget();
    }

    fn close(&mut self) {
        self.state = State::Closed;
        self.next_open = self.config.open;
        self.forget();
    }

    fn forget(&mut self) {
        self.era += 1;
        self.unreachable_in_row = 0;
        self.window.clear();
    }

    fn count(&mut self, buyer: ProfileId, verdict: Verdict, now: Instant) {
        self.unreachable_in_row = if verdict == Verdict::Unreachable {
            self.unreachable_in_row.saturating_add(1)
        } else {
            0
        };
        let failed = verdict != Verdict::Well;
        self.remember(buyer, failed, now);
        let refused = self.unreachable_in_row >= self.config.connect_failures;
        if failed && (refused || self.too_many_failed()) {
            self.open(now);
        }
    }

    fn remember(&mut self, buyer: ProfileId, failed: bool, now: Instant) {
        let index = self.slice_index(now);
        while self
            .window
            .front()
            .is_some_and(|slice| slice.index + u64::from(SLICES) <= index)
        {
            self.window.pop_front();
        }
        if self.window.back().is_none_or(|slice| slice.index < index) {
            self.window.push_back(Slice {
                index,
                calls: 0,
                failures: 0,
                buyers: Vec::new(),
            });
        }
        let wanted = self.config.min_buyers as usize;
        if let Some(slice) = self.window.back_mut() {
            slice.calls = slice.calls.saturating_add(1);
            slice.failures = slice.failures.saturating_add(u32::from(failed));
            if slice.buyers.len() < wanted && !slice.buyers.contains(&buyer) {
                slice.buyers.push(buyer);
            }
        }
    }

    fn slice_index(&self, now: Instant) -> u64 {
        let length = (self.config.window / SLICES).max(Duration::from_millis(1));
        let index = now.saturating_duration_since(self.origin).as_nanos() / length.as_nanos();
        u64::try_from(index).unwrap_or(u64::MAX)
    }

    fn too_many_failed(&self) -> bool {
        let sum = |of: fn(&Slice) -> u32| -> u64 {
            self.window.iter().map(|slice| u64::from(of(slice))).sum()
        };
        let (calls, failures) = (sum(|slice| slice.calls), sum(|slice| slice.failures));
        calls >= u64::from(self.config.min_calls)
            && failures * 100 >= calls * u64::from(self.config.failure_percent)
            && self.enough_buyers()
    }

    fn enough_buyers(&self) -> bool {
        let wanted = self.config.min_buyers as usize;
        let mut seen: Vec<ProfileId> = Vec::with_capacity(wanted);
        for buyer in self.window.iter().flat_map(|slice| &slice.buyers) {
            if seen.len() >= wanted {
                break;
            }
            if !seen.contains(buyer) {
                seen.push(*buyer);
            }
        }
        seen.len() >= wanted
    }
}
