//! What happened to a request, in order, from what is kept of it. Pure.

use chrono::{DateTime, TimeDelta, Utc};
use crochet_shared::clock;
use crochet_shared::money::{FeeRate, Micros};
use crochet_shared::redis_key::hex;
use serde_json::{Value, json};

use super::paper::moment;
use super::store::request::{Attempt, Head, Transfer};
use crate::ledger::entry::{Kind, RequestState};
use crate::payments::model::LEASE_MARGIN_MS;

/// Bytes of a claim's owner that are shown: enough to find it in a gateway's log.
const OWNER_BYTES_SHOWN: usize = 4;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// When; `None` where it is not kept.
    pub(super) at: Option<DateTime<Utc>>,
    /// What, in a word.
    pub(super) what: &'static str,
    /// The same in a line.
    pub(super) told: String,
    /// And what else is known.
    pub(super) more: Vec<String>,
}

impl Event {
    fn new(at: impl Into<Option<DateTime<Utc>>>, what: &'static str, told: String) -> Self {
        Self {
            at: at.into(),
            what,
            told,
            more: Vec::new(),
        }
    }

    fn and(mut self, more: String) -> Self {
        self.more.push(more);
        self
    }

    pub(super) fn as_json(&self) -> Value {
        json!({ "at": self.at.map(clock::rfc3339), "event": self.what, "told": self.told, "more": self.more })
    }
}

/// Everything that happened, first things first. What has no time of its own stands where it belongs.
pub(super) fn events(head: &Head, attempts: &[Attempt], transfers: &[Transfer]) -> Vec<Event> {
    let mut events = vec![quoted(head)];
    events.extend(deposit(head));
    events.extend(evidence(head, transfers));
    for attempt in attempts {
        events.extend(claimed(&Claim::of(attempt)));
        events.push(failed(attempt));
    }
    events.extend(last_claim(head));
    events.extend(delivered(head));
    events.extend(closed(head, transfers));
    events.extend(refunded(head, transfers));
    events
}

fn quoted(head: &Head) -> Event {
    let price = Micros(head.price_micros);
    let mut event = Event::new(
        head.created_at,
        "quoted",
        format!(
            "{price} in {}, to be paid by {}",
            head.origin_currency,
            moment(head.expires_at)
        ),
    );
    if let Some(split) = FeeRate(head.fee_rate_ppm.into()).split(price) {
        event = event.and(format!(
            "of it {} fee, {} to the seller",
            split.fee, split.seller
        ));
    }
    if let Some(address) = &head.deposit_address {
        event = event.and(format!(
            "deposit to {address}, refunds to {}",
            head.refund_to
        ));
    }
    event
}

fn deposit(head: &Head) -> Option<Event> {
    // With a success that was heard of first, both are one news.
    let seen = head
        .deposit_seen_at
        .filter(|seen| head.evidence_at != Some(*seen))?;
    let status = head.provider_status.as_deref().unwrap_or("unknown");
    Some(Event::new(
        seen,
        "deposit",
        match head.evidence_at {
            Some(_) => "the provider told of a deposit".to_owned(),
            None => format!("the provider told of a deposit; its last word is {status}"),
        },
    ))
}

fn evidence(head: &Head, transfers: &[Transfer]) -> Option<Event> {
    let at = head.evidence_at?;
    let unknown = || "unknown".to_owned();
    let arrived = format!(
        "{} of {} on chain {} to {}",
        head.evidence_amount.clone().unwrap_or_else(unknown),
        head.evidence_token.clone().unwrap_or_else(unknown),
        head.evidence_chain_id
            .map_or_else(unknown, |id| id.to_string()),
        head.evidence_recipient.clone().unwrap_or_else(unknown),
    );
    let mut event = if head.evidence_matches == Some(true) {
        let until = head.redeem_until.map_or_else(unknown, moment);
        Event::new(at, "paid", format!("as quoted; good until {until}"))
    } else {
        Event::new(at, "paid", "otherwise than quoted".to_owned())
    }
    .and(format!("arrived {arrived}"));
    let surplus = sum(transfers, &[Kind::Surplus]);
    if surplus > 0 {
        event = event.and(format!(
            "{} of it beyond the price, due back when the call ends",
            Micros(surplus)
        ));
    }
    for (name, hashes) in [
        ("deposit", &head.in_tx_hashes),
        ("fill", &head.out_tx_hashes),
    ] {
        for hash in hashes {
            event = event.and(format!("{name} transaction {hash}"));
        }
    }
    Some(event)
}

/// A claim, of the journal or the newest.
struct Claim {
    epoch: i32,
    owner: String,
    lease_until: Option<DateTime<Utc>>,
    timeout_ms: Option<i32>,
}

impl Claim {
    fn of(attempt: &Attempt) -> Self {
        Self {
            epoch: attempt.epoch,
            owner: owner(&attempt.owner),
            lease_until: attempt.lease_until,
            timeout_ms: attempt.timeout_ms,
        }
    }

    /// When it was made: a lease is the endpoint's timeout and a margin from then.
    fn made_at(&self) -> Option<DateTime<Utc>> {
        let held = i64::from(self.timeout_ms?) + i64::from(LEASE_MARGIN_MS);
        self.lease_until?
            .checked_sub_signed(TimeDelta::milliseconds(held))
    }
}

fn owner(bytes: &[u8]) -> String {
    hex(bytes.get(..OWNER_BYTES_SHOWN).unwrap_or(bytes))
}

fn claimed(claim: &Claim) -> Option<Event> {
    let at = claim.made_at()?;
    let until = claim.lease_until.map_or_else(String::new, moment);
    Some(Event::new(
        at,
        "claimed",
        format!(
            "epoch {} by call {}, lease until {until}",
            claim.epoch, claim.owner
        ),
    ))
}

fn failed(attempt: &Attempt) -> Event {
    let what = match attempt.outcome.as_str() {
        "status" => "the seller failed".to_owned(),
        "unreachable" => "the seller was not reached; nothing was sent".to_owned(),
        "timeout" => "the seller did not answer in time".to_owned(),
        "too_large" => "the seller's answer was too large".to_owned(),
        "invalid" => "the seller's answer was broken".to_owned(),
        "lease_expired" => "the lease ended without a settlement".to_owned(),
        "unsent" => "given back; nothing was sent".to_owned(),
        other => other.to_owned(),
    };
    let status = attempt
        .seller_status
        .map_or_else(String::new, |status| format!(" with {status}"));
    let latency = attempt
        .seller_latency_ms
        .map_or_else(String::new, |millis| format!(" after {millis} ms"));
    let next = if attempt.refund_due {
        "it was the last"
    } else {
        "the payment stays good"
    };
    Event::new(
        attempt.ended_at,
        "failed",
        format!("epoch {}: {what}{status}{latency}", attempt.epoch),
    )
    .and(format!("attempts used: {}; {next}", attempt.attempts))
}

/// The claim that is held, or that delivered: every other one is in the journal.
fn last_claim(head: &Head) -> Option<Event> {
    if !matches!(head.state, RequestState::Claimed | RequestState::Delivered) {
        return None;
    }
    claimed(&Claim {
        epoch: head.epoch,
        owner: owner(head.owner.as_deref().unwrap_or_default()),
        lease_until: head.lease_until,
        timeout_ms: head.timeout_ms,
    })
}

fn delivered(head: &Head) -> Option<Event> {
    let at = head.delivered_at?;
    let number =
        |value: Option<i32>| value.map_or_else(|| "?".to_owned(), |value| value.to_string());
    let hash = head
        .response_sha256
        .as_deref()
        .map_or_else(String::new, hex);
    let stored = match head.answer_until {
        Some(until) if head.answer_chunks > 0 => {
            format!(
                "stored in {} chunks until {}",
                head.answer_chunks,
                moment(until)
            )
        }
        _ => "stored no longer".to_owned(),
    };
    Some(
        Event::new(
            at,
            "delivered",
            format!(
                "epoch {}: the seller answered {} in {} ms, the call took {} ms",
                head.epoch,
                number(head.seller_status),
                number(head.seller_latency_ms),
                number(head.latency_ms)
            ),
        )
        .and(format!("attempts used: {}", head.attempts))
        .and(format!(
            "answer of {} bytes, SHA-256 {hash}",
            number(head.response_bytes)
        ))
        .and(stored),
    )
}

fn closed(head: &Head, transfers: &[Transfer]) -> Option<Event> {
    let reason = match head.closed_reason.as_deref().unwrap_or("unknown") {
        "never_redelivered" => "the endpoint takes no call twice",
        "attempts_used" => "all attempts were used",
        "time_over" => "nobody redeemed it in time",
        "paid_otherwise_than_quoted" => "it was paid otherwise than quoted",
        "no_deposit" => "its time was over and no deposit was known",
        other => other,
    };
    match head.state {
        RequestState::Expired => Some(Event::new(head.closed_at, "expired", reason.to_owned())),
        RequestState::Failed => Some(Event::new(
            head.closed_at,
            "failed",
            format!("the provider failed or refunded the payment: {reason}"),
        )),
        RequestState::RefundDue | RequestState::Refunded => {
            let owed = sum(transfers, &[Kind::RefundDue, Kind::Surplus]);
            let amount = if owed == 0 {
                "what arrived".to_owned()
            } else {
                Micros(owed).to_string()
            };
            Some(
                Event::new(head.closed_at, "refund due", format!("{amount}: {reason}"))
                    .and(format!("to be sent to {}", head.refund_to)),
            )
        }
        RequestState::Quoted
        | RequestState::Paid
        | RequestState::Claimed
        | RequestState::Delivered => None,
    }
}

fn sum(transfers: &[Transfer], kinds: &[Kind]) -> i64 {
    transfers
        .iter()
        .filter(|row| kinds.contains(&row.kind))
        .fold(0, |sum: i64, row| sum.saturating_add(row.amount_micros))
}

/// That it was sent back: all of it, or of a delivered call what was paid beyond its price.
fn refunded(head: &Head, transfers: &[Transfer]) -> Option<Event> {
    let paid = transfers.iter().find(|row| row.kind == Kind::RefundPaid);
    let what = match (head.state, paid) {
        (RequestState::Refunded, _) => String::new(),
        (RequestState::Delivered, Some(paid)) => {
            format!("the surplus of {} ", Micros(paid.amount_micros))
        }
        _ => return None,
    };
    let at = paid.map(|row| row.created_at).or(head.refund_noted_at);
    let told = match &head.refund_tx {
        Some(hash) => format!("{what}by transaction {hash}"),
        None => format!("{what}by the provider itself"),
    };
    Some(Event::new(at, "refunded", told))
}
