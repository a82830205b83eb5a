//! What becomes of a quote: deposits, the strict rules, and the statuses a payment walks through. No I/O.
//!
//! A `success` is final as far as deposits go: only a scenario can take it back.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    currency::{Atomic, BASE},
    quote::{Quote, Target, delivered},
    random,
};

/// How long `delayed` lasts, in steps.
const DELAY_STEPS: u64 = 10;
/// How long `delayed` lasts at least, in milliseconds.
const DELAY_MS_MIN: u64 = 1000;

/// The provider's statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// No deposit seen.
    Waiting,
    /// Deposit seen.
    Depositing,
    /// Deposit sure, fill not sent.
    Pending,
    /// Fill sent.
    Submitted,
    /// Takes longer than usual.
    Delayed,
    /// Filled.
    Success,
    /// Neither filled nor refunded.
    Failure,
    /// Given back.
    Refund,
}

impl Status {
    /// All of them; a status' place is its index.
    pub(crate) const ALL: [Self; 8] = [
        Self::Waiting,
        Self::Depositing,
        Self::Pending,
        Self::Submitted,
        Self::Delayed,
        Self::Success,
        Self::Failure,
        Self::Refund,
    ];

    /// Does nothing follow by itself?
    pub(crate) const fn is_final(self) -> bool {
        matches!(self, Self::Success | Self::Failure | Self::Refund)
    }

    /// As written in JSON.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Depositing => "depositing",
            Self::Pending => "pending",
            Self::Submitted => "submitted",
            Self::Delayed => "delayed",
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Refund => "refund",
        }
    }
}

/// What a scenario makes of a payment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// Filled.
    #[default]
    Success,
    /// Fails after `submitted`.
    Failure,
    /// Refunded after `pending`.
    Refund,
    /// Stays `pending` until another scenario.
    Stuck,
    /// `delayed` for ten steps, a second at least; then filled.
    Delayed,
}

/// Details a fill shows instead of its own, to test what a client makes of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(crate) struct Disguise {
    /// Another recipient.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) recipient: Option<String>,
    /// Another amount delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) amount: Option<Atomic>,
    /// Another token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) currency: Option<String>,
    /// Another chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) chain_id: Option<u64>,
}

/// What a scenario says about a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Plan {
    /// How it ends.
    pub(crate) outcome: Outcome,
    /// Time between two statuses, in milliseconds; the sandbox's own when absent.
    pub(crate) step_ms: Option<u64>,
    /// How often each webhook is sent; 0 loses it.
    pub(crate) webhook_copies: Option<u32>,
    /// Send the webhooks together when nothing follows any more, last one first.
    pub(crate) webhook_shuffle: bool,
    /// Show a success without `data.route.actual`.
    pub(crate) hide_details: bool,
    /// Take whatever is deposited as come after the quote's life.
    pub(crate) late: bool,
    /// Show other details than the true ones.
    pub(crate) details: Disguise,
}

/// What a deposit turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// Enough, in time, the first.
    Accepted,
    /// A strict address was given too little.
    Underpaid,
    /// After the quote's life.
    Late,
    /// Not the first.
    DoubleSpend,
}

/// Money that arrived.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Deposit {
    /// How much, of the origin currency.
    pub(crate) amount: Atomic,
    /// When, in milliseconds since the epoch.
    pub(crate) at: u64,
    /// The transaction, on the origin chain.
    pub(crate) tx: String,
    /// What it turned out to be.
    pub(crate) verdict: Verdict,
}

/// Money given back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Refund {
    /// The provider's word for why.
    pub(crate) reason: String,
    /// How much, of the origin currency.
    pub(crate) amount: Atomic,
    /// The transaction, on the origin chain.
    pub(crate) tx: String,
    /// When, in milliseconds since the epoch.
    pub(crate) at: u64,
}

/// Everything about a payment that changes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Payment {
    /// Where it stands.
    pub(crate) status: Status,
    /// When it last changed, in milliseconds since the epoch.
    pub(crate) updated_at: u64,
    /// When the next status is due, in milliseconds since the epoch.
    pub(crate) due: Option<u64>,
    /// What is to become of it.
    pub(crate) plan: Plan,
    /// What was paid to it, in order.
    pub(crate) deposits: Vec<Deposit>,
    /// What was given back.
    pub(crate) refunds: Vec<Refund>,
    /// The fill's transaction on the destination chain, and when (milliseconds).
    pub(crate) fill: Option<(String, u64)>,
    /// Why it failed or was refunded.
    pub(crate) fail_reason: Option<String>,
    /// Why it was not even refunded.
    pub(crate) refund_fail_reason: Option<String>,
    /// The last webhook was not accepted yet.
    pub(crate) unheard: bool,
}

/// Something that happened to a payment and is told by webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct News {
    /// The status told: the payment's own, except for the refund of a second deposit.
    pub(crate) status: Status,
    /// Why.
    pub(crate) fail_reason: Option<String>,
}

/// What the rules need from outside: the time, the step, transactions.
#[derive(Debug)]
pub(crate) struct Setting<'a> {
    /// Milliseconds since the epoch.
    pub(crate) now: u64,
    /// The sandbox's own step, in milliseconds.
    pub(crate) step_ms: u64,
    /// Refunds worth less, in micro-dollars, are not sent.
    pub(crate) refund_minimum: u64,
    /// Unused transaction hashes.
    pub(crate) txs: &'a Txs,
}

/// Transaction hashes for whatever happens next, made from one seed when they are needed.
#[derive(Debug, Clone)]
pub(crate) struct Txs(pub(crate) [u8; 32]);

impl Txs {
    fn deposit(&self, quote: &Quote) -> String {
        self.on(quote.origin.currency().chain_id, b"deposit")
    }

    fn refund(&self, quote: &Quote) -> String {
        self.on(quote.origin.currency().chain_id, b"refund")
    }

    fn fill(&self) -> String {
        self.on(BASE, b"fill")
    }

    fn on(&self, chain_id: u64, what: &[u8]) -> String {
        let digest = Sha256::new()
            .chain_update(self.0)
            .chain_update(what)
            .finalize();
        random::transaction(chain_id, &self.0, &digest)
    }
}

impl Payment {
    /// Nothing paid yet.
    pub(crate) const fn new(plan: Plan, now: u64) -> Self {
        Self {
            status: Status::Waiting,
            updated_at: now,
            due: None,
            plan,
            deposits: Vec::new(),
            refunds: Vec::new(),
            fill: None,
            fail_reason: None,
            refund_fail_reason: None,
            unheard: false,
        }
    }

    /// Money arrives. `None` is the exact amount.
    pub(crate) fn deposit(
        &mut self,
        quote: &Quote,
        amount: Option<Atomic>,
        to: &Setting<'_>,
    ) -> Vec<News> {
        let amount = amount.unwrap_or(quote.input);
        let verdict = judge(quote, self, amount, to.now);
        self.deposits.push(Deposit {
            amount,
            at: to.now,
            tx: to.txs.deposit(quote),
            verdict,
        });
        if verdict == Verdict::DoubleSpend {
            return vec![self.give_back_second(quote, amount, to)];
        }
        let mut news = vec![self.reach(Status::Depositing, quote, to)];
        news.extend(self.advance(quote, to));
        news
    }

    /// Moves on as far as is due.
    pub(crate) fn advance(&mut self, quote: &Quote, to: &Setting<'_>) -> Vec<News> {
        let mut news = Vec::new();
        while self.due.is_some_and(|due| due <= to.now) {
            match self.next() {
                Some(Status::Refund) => news.push(self.give_back(quote, to)),
                Some(next) => news.push(self.reach(next, quote, to)),
                None => self.due = None,
            }
        }
        news
    }

    /// A scenario for this request: changes what is to come, or what has been when that is over.
    pub(crate) fn replan(&mut self, plan: Plan, quote: &Quote, to: &Setting<'_>) -> Vec<News> {
        self.plan = plan;
        self.updated_at = to.now;
        if self.deposits.is_empty() {
            return Vec::new();
        }
        if !self.status.is_final() {
            self.due = self.next().map(|_| to.now.saturating_add(self.step(to)));
            return self.advance(quote, to);
        }
        match (self.plan.outcome, self.status) {
            (Outcome::Success, Status::Failure | Status::Refund) => {
                vec![self.reach(Status::Success, quote, to)]
            }
            (Outcome::Failure, Status::Success | Status::Refund) => {
                vec![self.reach(Status::Failure, quote, to)]
            }
            (Outcome::Refund, Status::Success | Status::Failure) => vec![self.give_back(quote, to)],
            _ => Vec::new(),
        }
    }

    /// The deposit that counts: the first.
    pub(crate) fn first(&self) -> Option<&Deposit> {
        self.deposits.first()
    }

    /// What the fill delivered, by the quote's rules.
    pub(crate) fn output(&self, quote: &Quote) -> Atomic {
        match (quote.target, self.first()) {
            (Target::Strict, _) | (_, None) => quote.output,
            (Target::Open | Target::Wallet, Some(first)) if first.amount == quote.input => {
                quote.output
            }
            (Target::Open | Target::Wallet, Some(first)) => delivered(quote.origin, first.amount),
        }
    }

    fn step(&self, to: &Setting<'_>) -> u64 {
        self.plan.step_ms.unwrap_or(to.step_ms)
    }

    fn next(&self) -> Option<Status> {
        let refused = self
            .first()
            .is_some_and(|first| first.verdict != Verdict::Accepted);
        // A deposit that breaks the rules goes back, whatever the scenario.
        let outcome = if refused {
            Outcome::Refund
        } else {
            self.plan.outcome
        };
        match (self.status, outcome) {
            (Status::Depositing, _) => Some(Status::Pending),
            (Status::Pending | Status::Submitted, Outcome::Refund) => Some(Status::Refund),
            (Status::Pending, Outcome::Success | Outcome::Failure) | (Status::Delayed, _) => {
                Some(Status::Submitted)
            }
            (Status::Pending | Status::Submitted, Outcome::Delayed) => Some(Status::Delayed),
            (Status::Submitted, Outcome::Success) => Some(Status::Success),
            (Status::Submitted, Outcome::Failure) => Some(Status::Failure),
            (Status::Pending | Status::Submitted, Outcome::Stuck)
            | (Status::Waiting | Status::Success | Status::Failure | Status::Refund, _) => None,
        }
    }

    fn reach(&mut self, status: Status, quote: &Quote, to: &Setting<'_>) -> News {
        if self.status == Status::Delayed && self.plan.outcome == Outcome::Delayed {
            self.plan.outcome = Outcome::Success;
        }
        self.status = status;
        self.updated_at = to.now;
        let pause = if status == Status::Delayed {
            self.step(to).saturating_mul(DELAY_STEPS).max(DELAY_MS_MIN)
        } else {
            self.step(to)
        };
        self.due = self.next().map(|_| to.now.saturating_add(pause));
        match status {
            Status::Success => {
                self.fail_reason = None;
                if self.fill.is_none() {
                    self.fill = Some((to.txs.fill(), to.now));
                    self.return_excess(quote, to);
                }
            }
            Status::Failure => {
                self.fail_reason
                    .get_or_insert_with(|| "TRANSACTION_REVERTED".to_owned());
            }
            Status::Waiting
            | Status::Depositing
            | Status::Pending
            | Status::Submitted
            | Status::Delayed
            | Status::Refund => {}
        }
        News {
            status,
            fail_reason: self.fail_reason.clone(),
        }
    }

    /// Ends in a refund of the first deposit, or in a failure where that cannot be sent.
    fn give_back(&mut self, quote: &Quote, to: &Setting<'_>) -> News {
        let (reason, amount) = match self.first() {
            Some(first) => (reason(first.verdict), first.amount),
            None => ("UNKNOWN", quote.input),
        };
        self.fail_reason = Some(reason.to_owned());
        let sent = self.refund(quote, reason, amount, to);
        self.reach(
            if sent {
                Status::Refund
            } else {
                Status::Failure
            },
            quote,
            to,
        )
    }

    /// A second deposit goes back; what became of the first stays.
    fn give_back_second(&mut self, quote: &Quote, amount: Atomic, to: &Setting<'_>) -> News {
        self.updated_at = to.now;
        let reason = reason(Verdict::DoubleSpend);
        self.refund(quote, reason, amount, to);
        News {
            status: Status::Refund,
            fail_reason: Some(reason.to_owned()),
        }
    }

    fn refund(&mut self, quote: &Quote, reason: &str, amount: Atomic, to: &Setting<'_>) -> bool {
        if quote.refund_to.is_none() {
            return false;
        }
        if quote.origin.currency().micros(amount) < u128::from(to.refund_minimum) {
            self.refund_fail_reason = Some("AMOUNT_TOO_LOW_TO_REFUND".to_owned());
            return false;
        }
        self.refunds.push(Refund {
            reason: reason.to_owned(),
            amount,
            tx: to.txs.refund(quote),
            at: to.now,
        });
        true
    }

    /// Gives the excess over a strict quote back; the payment fills all the same.
    fn return_excess(&mut self, quote: &Quote, to: &Setting<'_>) {
        let excess = self
            .first()
            .filter(|first| quote.target == Target::Strict && first.verdict == Verdict::Accepted)
            .map_or(0, |first| first.amount.0.saturating_sub(quote.input.0));
        if excess > 0 {
            self.refund(quote, "EXCESS", Atomic(excess), to);
            // A too small excess is kept; that is no failure of the payment.
            self.refund_fail_reason = None;
        }
    }
}

fn judge(quote: &Quote, payment: &Payment, amount: Atomic, now: u64) -> Verdict {
    if !payment.deposits.is_empty() {
        Verdict::DoubleSpend
    } else if now > quote.expires_at || payment.plan.late {
        Verdict::Late
    } else if quote.target == Target::Strict && amount < quote.input {
        Verdict::Underpaid
    } else {
        Verdict::Accepted
    }
}

const fn reason(verdict: Verdict) -> &'static str {
    match verdict {
        // Only a scenario refunds a good deposit.
        Verdict::Accepted => "UNKNOWN",
        Verdict::Underpaid => "DEPOSITED_AMOUNT_TOO_LOW_TO_FILL",
        Verdict::Late => "TTL_EXPIRED",
        Verdict::DoubleSpend => "DOUBLE_SPEND",
    }
}
