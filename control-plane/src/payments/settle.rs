//! SETTLEMENTS: how claimed calls ended, durable before the buyer hears of it.
//!
//! One statement a batch. Asked again, a settlement finds what it did before: the request delivered
//! under its epoch and owner, or its row in the attempt journal.

use crochet_shared::clock;
use crochet_shared::fault::{self, Point};
use crochet_shared::id::uuid_v7;
use crochet_shared::internal::{Outcome, Settle, SettleAnswer};
use crochet_shared::outcome::SellerFailure;
use crochet_shared::seal::{DataKey, Unsealable};

use super::answers;
use super::halving;
use super::model::State;
use crate::app::App;
use crate::error::ApiError;
use crate::ledger::post::{self, Settled, Settlements};
use crate::metrics::names;

/// The journal's word for a claim whose lease ended: then a settlement comes too late.
const LEASE_EXPIRED: &str = SellerFailure::LeaseExpired.as_str();
/// Answers together above this are sealed off the event loop.
const SEAL_INLINE_BYTES_MAX: usize = 1024 * 1024;

/// An item with its answer sealed, ready to be written.
struct Sealed<'a> {
    item: &'a Settle,
    chunks: Vec<(i16, Vec<u8>)>,
}

/// What one round said of an item.
enum Verdict {
    Settled(SettleAnswer),
    /// Another settlement of the same claim was under way and has ended since.
    AskAgain,
}

/// Settles a batch; answers in its order.
pub async fn settle(app: &App, items: &[Settle]) -> Result<Vec<SettleAnswer>, ApiError> {
    let day = answers::today();
    let key = answers::key_to_store(app, day).await?;
    let sealed = seal_all(&key, items)?;
    let mut answers = vec![SettleAnswer::Undecided; items.len()];
    for round in rounds(&sealed) {
        let batch: Vec<&Sealed<'_>> = round.iter().map(|(_, sealed)| *sealed).collect();
        let some = halving::run(
            &batch,
            |part| Box::pin(settle_once(app, day, part)),
            |_| SettleAnswer::Undecided,
        )
        .await?;
        for ((place, _), answer) in round.iter().zip(some) {
            if let Some(slot) = answers.get_mut(*place) {
                *slot = answer;
            }
        }
    }
    for answer in &answers {
        metrics::counter!(names::SETTLEMENTS.name, "answer" => label(answer)).increment(1);
    }
    Ok(answers)
}

fn seal_all<'a>(key: &DataKey, items: &'a [Settle]) -> Result<Vec<Sealed<'a>>, Unsealable> {
    let bytes: usize = items.iter().map(|item| envelope(item).len()).sum();
    let seal = || {
        items
            .iter()
            .map(|item| {
                let chunks = answers::seal(key, item.request_id.0, envelope(item))?;
                Ok(Sealed { item, chunks })
            })
            .collect()
    };
    let handle = tokio::runtime::Handle::current();
    let may_block = handle.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread;
    if bytes > SEAL_INLINE_BYTES_MAX && may_block {
        tokio::task::block_in_place(seal)
    } else {
        seal()
    }
}

fn envelope(item: &Settle) -> &[u8] {
    match &item.outcome {
        Outcome::Delivered(delivery) => &delivery.envelope,
        Outcome::Failed { .. } | Outcome::Unsent { .. } => &[],
    }
}

/// Parts in which no request stands twice: nearly always one.
fn rounds<'a, 'b>(items: &'b [Sealed<'a>]) -> Vec<Vec<(usize, &'b Sealed<'a>)>> {
    let mut rounds: Vec<Vec<(usize, &Sealed<'a>)>> = Vec::new();
    for (place, sealed) in items.iter().enumerate() {
        let id = sealed.item.request_id;
        let free = rounds
            .iter_mut()
            .find(|round| round.iter().all(|(_, other)| other.item.request_id != id));
        match free {
            Some(round) => round.push((place, sealed)),
            None => rounds.push(vec![(place, sealed)]),
        }
    }
    rounds
}

/// Runs the statement, and once more for what had to wait for another settlement of itself: the
/// first look was taken before that one was written.
async fn settle_once(
    app: &App,
    day: chrono::NaiveDate,
    items: Vec<&&Sealed<'_>>,
) -> Result<Vec<SettleAnswer>, sqlx::Error> {
    let max_attempts = app.config.max_attempts;
    let pool = app.db.calling();
    let mut answers = vec![SettleAnswer::Undecided; items.len()];
    let mut open: Vec<usize> = (0..items.len()).collect();
    for _ in 0..3 {
        if open.is_empty() {
            break;
        }
        let mut batch = Settlements::default();
        for place in &open {
            if let Some(sealed) = items.get(*place) {
                push(&mut batch, *place, sealed);
            }
        }
        open.clear();
        fault::pass(Point::BeforeSettlement);
        let settled = post::settlements(pool, &batch, day, max_attempts).await?;
        fault::pass(Point::AfterSettlement);
        for settled in settled {
            count_money(&settled);
            let Ok(place) = usize::try_from(settled.place) else {
                continue;
            };
            match (verdict(&settled, max_attempts), answers.get_mut(place)) {
                (Verdict::Settled(answer), Some(slot)) => *slot = answer,
                (Verdict::AskAgain, _) => open.push(place),
                (Verdict::Settled(_), None) => {}
            }
        }
    }
    Ok(answers)
}

/// Counts what was settled now; nothing where it had been settled before.
fn count_money(settled: &Settled) {
    for (account, amount) in [("seller", settled.credit), ("fees", settled.fee)] {
        let amount = amount.and_then(|amount| u64::try_from(amount).ok());
        metrics::counter!(names::SETTLED_MICROS.name, "account" => account)
            .increment(amount.unwrap_or(0));
    }
    if let Some(waited) = settled.waited_seconds {
        metrics::histogram!(names::SETTLEMENT_LAG.name).record(waited);
    }
}

fn push(batch: &mut Settlements, place: usize, sealed: &Sealed<'_>) {
    let item = sealed.item;
    let now = clock::now();
    let id = item.request_id.0;
    let whole = |number: u32| i32::try_from(number).ok();
    let (kind, outcome, answered, seller_status, seller_latency) = match &item.outcome {
        Outcome::Delivered(delivery) => (
            "delivered",
            "delivered",
            true,
            Some(delivery.seller_status.into()),
            whole(delivery.seller_latency_ms),
        ),
        Outcome::Failed {
            failure,
            seller_status,
            seller_latency_ms,
        } => (
            // A failure before the first byte uses no attempt, however it is told.
            if failure.uses_attempt() {
                "failed"
            } else {
                "unsent"
            },
            failure.as_str(),
            failure.answered(),
            seller_status.map(i32::from),
            whole(*seller_latency_ms),
        ),
        Outcome::Unsent { failure } => (
            "unsent",
            failure.map_or("unsent", SellerFailure::as_str),
            false,
            None,
            None,
        ),
    };
    let delivery = match &item.outcome {
        Outcome::Delivered(delivery) => Some(delivery),
        Outcome::Failed { .. } | Outcome::Unsent { .. } => None,
    };
    batch.places.push(i32::try_from(place).unwrap_or(i32::MAX));
    batch.ids.push(id);
    batch.epochs.push(item.epoch);
    batch.owners.push(item.owner.0.to_vec());
    batch.kinds.push(kind);
    batch.outcomes.push(outcome);
    batch.answered.push(answered);
    batch.seller_statuses.push(seller_status);
    batch.seller_latencies.push(seller_latency);
    batch
        .latencies
        .push(delivery.and_then(|d| whole(d.latency_ms)));
    batch
        .response_bytes
        .push(delivery.and_then(|d| i32::try_from(d.envelope.len()).ok()));
    batch
        .response_sha256
        .push(delivery.map(|d| d.envelope_sha256.to_vec()));
    batch.first_ids.push(uuid_v7(now));
    batch.second_ids.push(uuid_v7(now));
    for (number, chunk) in &sealed.chunks {
        batch.chunk_ids.push(id);
        batch.chunk_numbers.push(*number);
        batch.chunks.push(chunk.clone());
    }
}

fn verdict(settled: &Settled, max_attempts: i32) -> Verdict {
    let released = |attempts: i32| SettleAnswer::Released {
        attempts,
        attempts_remaining: max_attempts.saturating_sub(attempts).max(0),
    };
    let attempts = settled.used.unwrap_or(0);
    let answer = match settled.next {
        Some(State::Delivered) => SettleAnswer::Delivered,
        Some(State::RefundDue) => SettleAnswer::RefundDue { attempts },
        Some(_) => released(attempts),
        // Nothing was moved now. Was it by the same settlement, earlier?
        None => match (settled.state, settled.is_newest, settled.journal_attempts) {
            (_, _, Some(_)) if settled.journal_outcome.as_deref() == Some(LEASE_EXPIRED) => {
                SettleAnswer::NotOwner
            }
            (_, _, Some(attempts)) if settled.journal_refund_due == Some(true) => {
                SettleAnswer::RefundDue { attempts }
            }
            (_, _, Some(attempts)) => released(attempts),
            (Some(State::Delivered), Some(true), None) => SettleAnswer::Delivered,
            (Some(State::Claimed), Some(true), None) => return Verdict::AskAgain,
            (_, _, None) => SettleAnswer::NotOwner,
        },
    };
    Verdict::Settled(answer)
}

const fn label(answer: &SettleAnswer) -> &'static str {
    match answer {
        SettleAnswer::Delivered => "delivered",
        SettleAnswer::Released { .. } => "released",
        SettleAnswer::RefundDue { .. } => "refund_due",
        SettleAnswer::NotOwner => "not_owner",
        SettleAnswer::Undecided => "undecided",
    }
}
