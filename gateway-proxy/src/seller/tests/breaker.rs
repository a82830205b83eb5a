//! The breaker against the contract's sentence, and against a slower model of it.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crochet_shared::id::ProfileId;
use proptest::prelude::*;

use crate::seller::breaker::{Breaker, BreakerConfig, TRIALS_MAX, Ticket, Verdict};

const SECOND: Duration = Duration::from_secs(1);

fn buyer(n: u128) -> ProfileId {
    ProfileId(uuid::Uuid::from_u128(n))
}

/// A breaker and its clock.
struct Bench {
    breaker: Breaker,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let now = Instant::now();
        let breaker = Breaker::new(BreakerConfig::default(), now);
        Self { breaker, now }
    }

    fn call(&mut self, by: u128, verdict: Verdict) {
        let ticket = self.breaker.admit(self.now).unwrap();
        self.breaker.report(&ticket, buyer(by), verdict, self.now);
    }

    /// `None` while calls are served.
    fn open_for(&mut self) -> Option<Duration> {
        self.breaker.check(self.now).err()
    }

    fn opened() -> Self {
        let mut bench = Self::new();
        for _ in 0..5 {
            bench.call(1, Verdict::Unreachable);
        }
        bench
    }
}

#[test]
fn five_connect_failures_in_a_row_open_it_for_ten_seconds() {
    let mut bench = Bench::new();
    for _ in 0..4 {
        bench.call(1, Verdict::Unreachable);
    }
    bench.call(1, Verdict::Well);
    for _ in 0..4 {
        bench.call(1, Verdict::Unreachable);
        assert_eq!(bench.open_for(), None);
    }
    bench.call(1, Verdict::Unreachable);
    assert_eq!(bench.open_for(), Some(10 * SECOND));
    assert_eq!(bench.breaker.admit(bench.now).err(), Some(10 * SECOND));
    bench.now += 4 * SECOND;
    assert_eq!(bench.open_for(), Some(6 * SECOND));
    bench.now += 6 * SECOND;
    assert_eq!(bench.open_for(), None);
}

#[test]
fn half_of_twenty_calls_by_three_buyers_open_it() {
    // Calls, failures, buyers: whether it opens.
    for (calls, failures, buyers, opens) in [
        (20_u32, 10, 3, true),
        (19, 19, 3, false),
        (20, 9, 3, false),
        (20, 20, 2, false),
        (200, 200, 1, false),
        (40, 20, 3, true),
        (40, 19, 3, false),
    ] {
        let mut bench = Bench::new();
        for n in 0..calls {
            let verdict = if n < calls - failures {
                Verdict::Well
            } else {
                Verdict::Failed
            };
            assert_eq!(bench.open_for(), None, "{calls} {failures} {buyers}");
            bench.call(u128::from(n % buyers), verdict);
        }
        assert_eq!(
            bench.open_for().is_some(),
            opens,
            "{calls} {failures} {buyers}"
        );
    }
}

#[test]
fn calls_are_forgotten_after_thirty_seconds() {
    let mut bench = Bench::new();
    for n in 0..19 {
        bench.call(n % 3, Verdict::Failed);
    }
    bench.now += 30 * SECOND;
    bench.call(0, Verdict::Failed);
    assert_eq!(bench.open_for(), None);
    let mut bench = Bench::new();
    for n in 0..19 {
        bench.call(n % 3, Verdict::Failed);
    }
    bench.now += 29 * SECOND;
    bench.call(0, Verdict::Failed);
    assert_eq!(bench.open_for(), Some(10 * SECOND));
}

#[test]
fn a_success_never_opens_it() {
    let mut bench = Bench::new();
    for n in 0..10 {
        bench.call(n % 3, Verdict::Failed);
    }
    for n in 0..20 {
        bench.call(n % 3, Verdict::Well);
        assert_eq!(bench.open_for(), None);
    }
}

#[test]
fn three_calls_try_it_and_402s_are_given_meanwhile() {
    let mut bench = Bench::opened();
    bench.now += 10 * SECOND;
    let trials: Vec<Ticket> = (0..TRIALS_MAX)
        .map(|_| bench.breaker.admit(bench.now).unwrap())
        .collect();
    assert_eq!(bench.breaker.admit(bench.now).err(), Some(Duration::ZERO));
    assert_eq!(bench.open_for(), None, "a 402 tries nobody");
    // A trial with which nothing was tried goes to another call.
    bench.breaker.release(&trials[0]);
    let again = bench.breaker.admit(bench.now).unwrap();
    assert!(bench.breaker.admit(bench.now).is_err());
    bench
        .breaker
        .report(&again, buyer(1), Verdict::Well, bench.now);
    // Closed: the outstanding trials say nothing any more.
    for trial in &trials[1..] {
        bench
            .breaker
            .report(trial, buyer(1), Verdict::Unreachable, bench.now);
    }
    for _ in 0..4 {
        bench.call(1, Verdict::Unreachable);
        assert_eq!(bench.open_for(), None);
    }
}

#[test]
fn asking_for_a_402_burns_no_trial() {
    let mut bench = Bench::opened();
    bench.now += 10 * SECOND;
    for _ in 0..100 {
        assert_eq!(bench.open_for(), None);
    }
    for _ in 0..TRIALS_MAX {
        let _trial = bench.breaker.admit(bench.now).unwrap();
    }
    assert!(bench.breaker.admit(bench.now).is_err());
}

#[test]
fn each_failed_trial_doubles_the_wait_up_to_five_minutes_and_a_success_resets_it() {
    let mut bench = Bench::opened();
    for seconds in [10, 20, 40, 80, 160, 300, 300] {
        assert_eq!(bench.open_for(), Some(seconds * SECOND));
        bench.now += seconds * SECOND;
        let trials = [(); 2].map(|()| bench.breaker.admit(bench.now).unwrap());
        for trial in trials {
            // The second failure of the same try does not double it again.
            bench
                .breaker
                .report(&trial, buyer(1), Verdict::Failed, bench.now);
        }
    }
    bench.now += 300 * SECOND;
    bench.call(1, Verdict::Well);
    for _ in 0..5 {
        bench.call(1, Verdict::Unreachable);
    }
    assert_eq!(bench.open_for(), Some(10 * SECOND));
}

#[test]
fn what_was_admitted_before_it_opened_says_nothing_afterwards() {
    let mut bench = Bench::new();
    let early = [(); 3].map(|()| bench.breaker.admit(bench.now).unwrap());
    for _ in 0..5 {
        bench.call(1, Verdict::Unreachable);
    }
    let [one, two, three] = early;
    bench
        .breaker
        .report(&one, buyer(1), Verdict::Well, bench.now);
    bench
        .breaker
        .report(&two, buyer(1), Verdict::Failed, bench.now);
    assert_eq!(bench.open_for(), Some(10 * SECOND));
    bench.now += 10 * SECOND;
    assert_eq!(bench.open_for(), None);
    bench
        .breaker
        .report(&three, buyer(1), Verdict::Failed, bench.now);
    assert_eq!(bench.open_for(), None, "not one of the trials");
}

// --- the model: every call remembered, every sentence of the contract written out ---------------

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Call(u128, Verdict),
    Hold,
    End(usize, u128, Verdict),
    GiveUp(usize),
}

fn verdicts() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        4 => Just(Verdict::Well),
        6 => Just(Verdict::Failed),
        3 => Just(Verdict::Unreachable),
        1 => Just(Verdict::Unknown),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0_u64..12_000).prop_map(Step::Wait),
        20 => (0_u128..4, verdicts()).prop_map(|(by, verdict)| Step::Call(by, verdict)),
        3 => Just(Step::Hold),
        3 => (any::<usize>(), 0_u128..4, verdicts()).prop_map(|(n, by, v)| Step::End(n, by, v)),
        1 => any::<usize>().prop_map(Step::GiveUp),
    ];
    proptest::collection::vec(step, 0..200)
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Era {
    Closed,
    Open { until: u64 },
    HalfOpen,
}

/// Milliseconds since the start; a call is `(when, buyer, failed)`.
struct Model {
    era: Era,
    nth: u64,
    trials: u32,
    next_open_ms: u64,
    in_row: u32,
    calls: Vec<(u64, u128, bool)>,
}

impl Model {
    fn new() -> Self {
        Self {
            era: Era::Closed,
            nth: 0,
            trials: 0,
            next_open_ms: 10_000,
            in_row: 0,
            calls: Vec::new(),
        }
    }

    fn look(&mut self, now: u64) {
        if matches!(self.era, Era::Open { until } if now >= until) {
            self.era = Era::HalfOpen;
            self.trials = 0;
        }
    }

    /// The number of the era, and whether it is a trial.
    fn admit(&mut self, now: u64) -> Option<(u64, bool)> {
        self.look(now);
        match self.era {
            Era::Closed => Some((self.nth, false)),
            Era::HalfOpen if self.trials < 3 => {
                self.trials += 1;
                Some((self.nth, true))
            }
            Era::Open { .. } | Era::HalfOpen => None,
        }
    }

    fn report(&mut self, (nth, trial): (u64, bool), by: u128, verdict: Verdict, now: u64) {
        if nth != self.nth {
            return;
        }
        if verdict == Verdict::Unknown {
            self.trials -= u32::from(trial);
        } else if trial && verdict == Verdict::Well {
            self.turn(Era::Closed);
            self.next_open_ms = 10_000;
        } else if trial {
            self.open(now);
        } else {
            let failed = verdict != Verdict::Well;
            self.calls.push((now, by, failed));
            self.in_row = if verdict == Verdict::Unreachable {
                self.in_row + 1
            } else {
                0
            };
            let window: Vec<_> = self
                .calls
                .iter()
                .filter(|(when, _, _)| when / 1000 + 30 > now / 1000)
                .collect();
            let failures = window.iter().filter(|(_, _, failed)| *failed).count();
            let buyers: HashSet<u128> = window.iter().map(|(_, by, _)| *by).collect();
            let many = window.len() >= 20 && failures * 2 >= window.len() && buyers.len() >= 3;
            if failed && (self.in_row >= 5 || many) {
                self.open(now);
            }
        }
    }

    fn open(&mut self, now: u64) {
        let until = now + self.next_open_ms;
        self.turn(Era::Open { until });
        self.next_open_ms = (self.next_open_ms * 2).min(300_000);
    }

    fn turn(&mut self, era: Era) {
        self.era = era;
        self.nth += 1;
        self.in_row = 0;
        self.calls.clear();
    }
}

proptest! {
    #[test]
    fn it_does_what_the_model_does(steps in steps()) {
        let start = Instant::now();
        let mut breaker = Breaker::new(BreakerConfig::default(), start);
        let mut model = Model::new();
        let mut now_ms = 0;
        let mut held: Vec<(Ticket, (u64, bool))> = Vec::new();
        for step in steps {
            let now = start + Duration::from_millis(now_ms);
            match step {
                Step::Wait(ms) => now_ms += ms,
                Step::Call(by, verdict) => {
                    let (real, modelled) = (breaker.admit(now), model.admit(now_ms));
                    prop_assert_eq!(real.is_ok(), modelled.is_some());
                    if let (Ok(ticket), Some(twin)) = (real, modelled) {
                        breaker.report(&ticket, buyer(by), verdict, now);
                        model.report(twin, by, verdict, now_ms);
                    }
                }
                Step::Hold => {
                    let (real, modelled) = (breaker.admit(now), model.admit(now_ms));
                    prop_assert_eq!(real.is_ok(), modelled.is_some());
                    held.extend(real.ok().zip(modelled));
                }
                Step::End(n, by, verdict) if !held.is_empty() => {
                    let (ticket, twin) = held.swap_remove(n % held.len());
                    breaker.report(&ticket, buyer(by), verdict, now);
                    model.report(twin, by, verdict, now_ms);
                }
                Step::GiveUp(n) if !held.is_empty() => {
                    let (ticket, twin) = held.swap_remove(n % held.len());
                    breaker.release(&ticket);
                    model.report(twin, 0, Verdict::Unknown, now_ms);
                }
                Step::End(..) | Step::GiveUp(_) => {}
            }
            model.look(now_ms);
            let open = match model.era {
                Era::Open { until } => Some(Duration::from_millis(until - now_ms)),
                Era::Closed | Era::HalfOpen => None,
            };
            let now = start + Duration::from_millis(now_ms);
            prop_assert_eq!(breaker.check(now).err(), open);
        }
    }
}
