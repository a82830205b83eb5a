//! The state machine against a small model in memory: random sequences of everything that can
//! happen, each answer and the whole ledger compared after every step.

use control_plane::ledger::entry::RequestState as State;
use control_plane::payments::lapse;
use control_plane::payments::store::evidence::{Notes, note};
use crochet_shared::id::Owner;
use crochet_shared::internal::{ClaimAnswer, Grant, SettleAnswer};
use crochet_shared::outcome::SellerFailure;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use sqlx::PgPool;

use super::stage::{PRICE, Request, Stage, delivery, failure, unsent};

const MAX_ATTEMPTS: i32 = 5;
const CASES: usize = 24;

/// Something that happens to a request.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// The provider tells of a success, as quoted or not.
    Success { matches: bool },
    /// The provider tells of a failure.
    Failure,
    /// The provider tells that it knows no deposit, after the quote's time.
    NoDeposit,
    /// A call claims it.
    Claim,
    /// The newest claim's call settles.
    Settle(How),
    /// An earlier claim's call settles, late.
    SettleStale(How),
    /// The lease and its grace run out; the sweep may come before the next claim, or not.
    LeaseOver { sweep: bool },
    /// The payment's time runs out.
    RedeemOver { sweep: bool },
}

#[derive(Clone, Copy, Debug)]
enum How {
    Delivered,
    Failed(SellerFailure),
    Unsent,
}

/// What the request should be.
#[derive(Clone, Debug)]
struct Model {
    state: State,
    attempts: i32,
    epoch: i32,
    redeliver: bool,
    lease_over: bool,
    redeem_over: bool,
    received: i64,
    deliveries: u32,
}

fn how() -> impl Strategy<Value = How> {
    prop_oneof![
        3 => Just(How::Delivered),
        3 => Just(How::Failed(SellerFailure::Status)),
        2 => Just(How::Failed(SellerFailure::Timeout)),
        2 => Just(How::Unsent),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Success { matches: true }),
        1 => Just(Event::Success { matches: false }),
        1 => Just(Event::Failure),
        1 => Just(Event::NoDeposit),
        6 => Just(Event::Claim),
        5 => how().prop_map(Event::Settle),
        2 => how().prop_map(Event::SettleStale),
        2 => any::<bool>().prop_map(|sweep| Event::LeaseOver { sweep }),
        1 => any::<bool>().prop_map(|sweep| Event::RedeemOver { sweep }),
    ]
}

impl Model {
    fn new(redeliver: bool) -> Self {
        Self {
            state: State::Quoted,
            attempts: 0,
            epoch: 0,
            redeliver,
            lease_over: false,
            redeem_over: false,
            received: 0,
            deliveries: 0,
        }
    }

    fn is_spent(&self) -> bool {
        self.attempts >= MAX_ATTEMPTS || self.redeem_over
    }

    fn lapse(&mut self) {
        let abandoned = self.state == State::Claimed && self.lease_over;
        if abandoned && self.redeliver && !self.is_spent() {
            self.state = State::Paid;
        } else if abandoned || (self.state == State::Paid && self.is_spent()) {
            self.state = State::RefundDue;
        }
    }

    /// Whether a claim is granted now.
    fn claim(&mut self) -> bool {
        let abandoned = self.state == State::Claimed && self.lease_over;
        if self.state != State::Paid && !abandoned {
            return false;
        }
        if self.is_spent() || (abandoned && !self.redeliver) {
            self.state = State::RefundDue;
            return false;
        }
        self.state = State::Claimed;
        self.lease_over = false;
        self.attempts += 1;
        self.epoch += 1;
        true
    }

    fn settle(&mut self, how: How) {
        match how {
            How::Delivered => {
                self.state = State::Delivered;
                self.deliveries += 1;
            }
            How::Unsent => {
                self.state = State::Paid;
                self.attempts -= 1;
            }
            How::Failed(failure) => {
                let never = !self.redeliver && !failure.answered();
                self.state = if never || self.is_spent() {
                    State::RefundDue
                } else {
                    State::Paid
                };
            }
        }
    }

    /// The ledger that belongs to it.
    fn transfers(&self) -> Vec<(String, i64)> {
        let payment = ("gateway_payment".to_owned(), self.received);
        match self.state {
            State::Quoted | State::Expired | State::Failed => vec![],
            State::Paid | State::Claimed => vec![payment],
            State::Delivered => vec![
                payment,
                ("seller_credit".into(), 951_000),
                ("marketplace_fee".into(), 49_000),
            ],
            State::RefundDue | State::Refunded => {
                vec![payment, ("refund_due".into(), self.received)]
            }
        }
    }
}

/// One request on the stage, beside its model.
struct Actor<'a> {
    stage: &'a Stage,
    request: Request,
    model: Model,
    claims: Vec<(Grant, Owner)>,
    /// Epoch of the claim whose settlement delivered the call.
    delivered: Option<i32>,
}

impl Actor<'_> {
    async fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Success { matches } => self.success(matches).await,
            Event::Failure => self.note(true).await,
            Event::NoDeposit => self.note(false).await,
            Event::Claim => self.claim().await?,
            Event::Settle(how) => self.settle(how, 0).await?,
            Event::SettleStale(how) => self.settle(how, 1).await?,
            Event::LeaseOver { sweep } => {
                if self.model.state == State::Claimed {
                    self.set("update gateway_request set lease_until = now() - interval '31 seconds' where id = $1").await;
                    self.model.lease_over = true;
                }
                self.sweep(sweep).await;
            }
            Event::RedeemOver { sweep } => {
                if matches!(self.model.state, State::Paid | State::Claimed) {
                    self.set("update gateway_request set redeem_until = now() - interval '1 second' where id = $1").await;
                    self.model.redeem_over = true;
                }
                self.sweep(sweep).await;
            }
        }
        self.compare(event).await
    }

    async fn success(&mut self, matches: bool) {
        let received = if matches { PRICE } else { PRICE - 1 };
        self.stage
            .evidence(&self.request, matches, Some(received))
            .await;
        if self.model.state.awaits_evidence() {
            self.model.state = if matches {
                State::Paid
            } else {
                State::RefundDue
            };
            self.model.received = received;
        }
    }

    async fn note(&mut self, failed: bool) {
        if !failed {
            self.set("update gateway_request set expires_at = now() - interval '121 seconds' where id = $1").await;
        }
        let notes = Notes {
            relay_request_ids: vec![self.request.relay_request_id.clone()],
            statuses: vec![None],
            seen: vec![false],
            failed: vec![failed],
            reasons: vec![None],
        };
        note(self.stage.pool(), &notes).await.unwrap();
        if failed && self.model.state.awaits_evidence() {
            self.model.state = State::Failed;
        } else if self.model.state == State::Quoted {
            self.model.state = State::Expired;
        }
    }

    async fn claim(&mut self) -> Result<(), String> {
        let item = self.stage.item(&self.request);
        let answer = self.stage.claim(&item).await;
        let granted = self.model.claim();
        match answer {
            ClaimAnswer::Claimed(grant) if granted => {
                if (grant.epoch, grant.attempt) != (self.model.epoch, self.model.attempts) {
                    return Err(format!("{grant:?} is not {:?}", self.model));
                }
                self.claims.push((grant, item.owner));
                Ok(())
            }
            ClaimAnswer::Claimed(_) => Err("granted what should not be".into()),
            other if granted => Err(format!("not granted: {other:?}")),
            _ => Ok(()),
        }
    }

    /// Settles the newest claim, or the one before it.
    async fn settle(&mut self, how: How, back: usize) -> Result<(), String> {
        let Some((grant, owner)) = self.claims.iter().rev().nth(back).cloned() else {
            return Ok(());
        };
        let item = match how {
            How::Delivered => delivery(&grant, owner, b"{}"),
            How::Failed(kind) => failure(&grant, owner, kind),
            How::Unsent => unsent(&grant, owner),
        };
        let holds = self.model.state == State::Claimed && self.model.epoch == grant.epoch;
        let before = self.model.clone();
        if holds {
            self.model.settle(how);
        }
        let answer = self.stage.settle(item.clone()).await;
        let right = match answer {
            SettleAnswer::Undecided => false,
            // What did not hold may still be told what it did before.
            SettleAnswer::Delivered if !holds => self.delivered == Some(grant.epoch),
            _ if !holds => true,
            SettleAnswer::Delivered => {
                self.delivered = Some(grant.epoch);
                self.model.state == State::Delivered
            }
            SettleAnswer::Released {
                attempts,
                attempts_remaining,
            } => {
                self.model.state == State::Paid
                    && attempts == self.model.attempts
                    && attempts_remaining == MAX_ATTEMPTS - attempts
            }
            SettleAnswer::RefundDue { .. } => self.model.state == State::RefundDue,
            SettleAnswer::NotOwner => false,
        };
        if !right {
            return Err(format!(
                "{answer:?} where {before:?} should become {:?}",
                self.model
            ));
        }
        // A lost reply: the same again gets the same, and changes nothing.
        let again = self.stage.settle(item).await;
        if again != answer {
            return Err(format!("{answer:?}, then {again:?}"));
        }
        Ok(())
    }

    async fn sweep(&mut self, sweep: bool) {
        if sweep {
            lapse::lapse(&self.stage.app, &[self.request.id])
                .await
                .unwrap();
            self.model.lapse();
        }
    }

    async fn set(&self, sql: &'static str) {
        sqlx::query(sql)
            .bind(self.request.id)
            .execute(self.stage.pool())
            .await
            .unwrap();
    }

    async fn compare(&self, event: Event) -> Result<(), String> {
        let state = self.stage.state(&self.request).await;
        let transfers = self.stage.transfers(&self.request).await;
        if state != self.model.state
            || transfers != self.model.transfers()
            || self.model.deliveries > 1
        {
            return Err(format!(
                "after {event:?}: {state:?} with {transfers:?}, and not {:?}",
                self.model
            ));
        }
        Ok(())
    }
}

async fn play(stage: &Stage, redeliver: bool, events: &[Event]) -> Result<(), String> {
    let rule = if redeliver {
        "same_request_id"
    } else {
        "never"
    };
    sqlx::query("update endpoint set redelivery = $1")
        .bind(rule)
        .execute(stage.pool())
        .await
        .unwrap();
    let mut actor = Actor {
        stage,
        request: stage.quoted().await,
        model: Model::new(redeliver),
        claims: Vec::new(),
        delivered: None,
    };
    for event in events {
        actor.happen(*event).await?;
    }
    Ok(())
}

#[sqlx::test(migrations = "./migrations")]
async fn whatever_happens_the_machine_and_the_ledger_are_as_the_model_says(pool: PgPool) {
    let stage = Stage::new(pool).await;
    let strategy = (any::<bool>(), proptest::collection::vec(event(), 1..25));
    let mut runner = TestRunner::default();
    for _ in 0..CASES {
        let mut tree = strategy.new_tree(&mut runner).unwrap();
        let (redeliver, events) = tree.current();
        let Err(mut failure) = play(&stage, redeliver, &events).await else {
            continue;
        };
        // The shortest sequence that still fails.
        let mut worst = (redeliver, events);
        let mut simpler = tree.simplify();
        while simpler {
            let (redeliver, events) = tree.current();
            match play(&stage, redeliver, &events).await {
                Ok(()) => simpler = tree.complicate(),
                Err(error) => {
                    failure = error;
                    worst = (redeliver, events);
                    simpler = tree.simplify();
                }
            }
        }
        panic!("{failure}\nredeliver {}: {:#?}", worst.0, worst.1);
    }
    // Claims left open by the sequences are as old as they say.
    stage
        .run("update gateway_request set lease_until = now() where state = 'claimed'")
        .await;
    stage.assert_audit_empty().await;
}
