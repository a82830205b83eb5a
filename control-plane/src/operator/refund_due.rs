//! `refund-due`: what buyers are owed back, and that it was sent.

use clap::{Args, Subcommand};
use crochet_shared::clock;
use crochet_shared::id::{RequestId, uuid_v7};
use crochet_shared::money::Micros;
use serde_json::{Value, json};

use super::paper::{Paper, moment_or_dash};
use super::store::refunds::{self as store, Due, Refund};
use super::transaction::TxHash;
use super::{Change, EXITS, Exit, Form, Outcome, Stop};
use crate::db::{Db, work};
use crate::ledger::entry::RequestState;
use crate::ledger::{payout, post};
use crate::payments::model::SURPLUS_WORTH_MICROS;

/// Refunds that are due
#[derive(Clone, Debug, Subcommand)]
pub enum RefundDue {
    /// What is owed to whom, where it goes, since when and why. Reads the whole table of requests.
    #[command(after_help = EXITS)]
    List(Form),
    /// Note that a refund was sent: the request becomes refunded and the ledger says so. Of a delivered
    /// call it is what was paid beyond its price, and the call stays delivered.
    #[command(after_help = EXITS)]
    Mark(Mark),
}

/// Note that a refund was sent
#[derive(Clone, Debug, Args)]
pub struct Mark {
    /// The request, as `gw_req_…`.
    #[arg(value_name = "GW_REQ")]
    pub request: RequestId,
    /// The transaction that sent it. The same again is the same refund; another one is refused.
    #[arg(long, value_name = "HASH")]
    pub tx: TxHash,
    /// How it is done.
    #[command(flatten)]
    pub change: Change,
}

impl RefundDue {
    pub(super) const fn form(&self) -> Form {
        match self {
            Self::List(form) => *form,
            Self::Mark(mark) => mark.change.form,
        }
    }
}

/// Does what is asked.
pub async fn refund_due(db: &Db, wanted: &RefundDue) -> anyhow::Result<Outcome> {
    match wanted {
        RefundDue::List(_) => list(db).await,
        RefundDue::Mark(wanted) => mark(db, wanted).await,
    }
}

/// What is owed, the oldest first.
pub async fn list(db: &Db) -> anyhow::Result<Outcome> {
    let due = store::due(db.pool()).await?;
    let surplus = store::surplus(db.pool()).await?;
    let total = due
        .iter()
        .fold(0_i64, |sum, due| sum.saturating_add(due.amount_micros));
    let mut paper = Paper::default();
    let rows: Vec<_> = due.iter().map(row).collect();
    paper.table(
        [
            "request", "amount", "paid in", "send to", "since", "why", "buyer",
        ],
        &rows,
    );
    paper.line("");
    paper.line(format_args!(
        "{} due, {} together",
        due.len(),
        Micros(total)
    ));
    let dust: Vec<_> = due.iter().filter(|due| due.is_dust).collect();
    let dust_micros = dust
        .iter()
        .fold(0_i64, |sum, due| sum.saturating_add(due.amount_micros));
    if !dust.is_empty() {
        paper.line(format_args!(
            "{} of them, {} together, are surpluses of buyers who are owed less than {}: no alert asks for these",
            dust.len(),
            Micros(dust_micros),
            Micros(SURPLUS_WORTH_MICROS)
        ));
    }
    if surplus.requests > 0 {
        paper.line(format_args!(
            "besides, {} was paid beyond the price of {} requests under way; it is due when they end",
            Micros(surplus.amount_micros),
            surplus.requests
        ));
    }
    let json = json!({
        "refunds": due.iter().map(shown).collect::<Vec<_>>(),
        "total_micros": total,
        "dust_micros": dust_micros,
        "dust_requests": dust.len(),
        "surplus_micros": surplus.amount_micros,
        "surplus_requests": surplus.requests,
    });
    Outcome::new(Exit::Done, paper.done(), &json)
}

fn row(due: &Due) -> [String; 7] {
    [
        RequestId(due.id).to_string(),
        amount(due),
        due.origin_currency.clone(),
        due.refund_to.clone(),
        moment_or_dash(due.closed_at),
        due.closed_reason.clone().unwrap_or_default(),
        due.buyer_id.to_string(),
    ]
}

/// What arrived in another token than ours is owed as it arrived, and stands in no ledger.
fn amount(due: &Due) -> String {
    match (&due.arrived_amount, &due.arrived_token) {
        (Some(amount), Some(token)) if due.amount_micros == 0 => {
            format!("{amount} of {token}")
        }
        _ => Micros(due.amount_micros).to_string(),
    }
}

fn shown(due: &Due) -> Value {
    json!({
        "request_id": RequestId(due.id).to_string(),
        "relay_request_id": due.relay_request_id,
        "buyer_id": due.buyer_id,
        "buyer_name": due.buyer_name,
        "amount_micros": due.amount_micros,
        "is_dust": due.is_dust,
        "origin_currency": due.origin_currency,
        "refund_to": due.refund_to,
        "since": due.closed_at.map(clock::rfc3339),
        "reason": due.closed_reason,
        "arrived": { "amount": due.arrived_amount, "token": due.arrived_token, "chain_id": due.arrived_chain_id },
        "deposit_transactions": due.in_tx_hashes,
    })
}

/// Notes that a refund was sent. The ledger's own statement books it, whole, and once.
pub async fn mark(db: &Db, wanted: &Mark) -> anyhow::Result<Outcome> {
    let (request, tx_hash) = (wanted.request.0, wanted.tx.as_str());
    let (dry_run, transfer) = (wanted.change.dry_run, uuid_v7(clock::now()));
    let booked = db
        .run("operator.refund_sent", |tx| {
            work(async move {
                payout::lock_transaction(tx, tx_hash).await?;
                let booked = post::refund_sent(tx, request, tx_hash, transfer).await?;
                let standing = store::refund(&mut *tx, request).await?;
                let other = store::other_use(tx, request, tx_hash).await?;
                Stop::or_keep(dry_run, (booked, standing, other))
            })
        })
        .await;
    let (booked, standing, other) = Stop::end(booked)?;
    let Some(standing) = standing else {
        return Ok(Outcome::unknown(format_args!("request {}", wanted.request)));
    };
    let outcome = judged(wanted, booked, &standing, other);
    if booked {
        wanted.change.log(
            "refund-due mark",
            format_args!("{} by {}", wanted.request, wanted.tx),
            &format!("{} refunded", Micros(standing.amount_micros)),
        );
    }
    Ok(outcome)
}

fn judged(wanted: &Mark, booked: bool, standing: &Refund, other: Option<String>) -> Outcome {
    let (request, amount) = (wanted.request, Micros(standing.amount_micros));
    let told = |changed: bool, text: String| Outcome {
        exit: Exit::Done,
        text,
        json: json!({
            "changed": changed,
            "dry_run": wanted.change.dry_run,
            "request_id": request.to_string(),
            "state": standing.state.as_str(),
            "amount_micros": standing.amount_micros,
            "tx": wanted.tx.as_str(),
        }),
    };
    let refused = |why: String| Outcome::not(Exit::Refused, why);
    // Of a delivered call only what was paid beyond its price goes back.
    let what = if standing.state == RequestState::Delivered {
        format!("the surplus of {request}")
    } else {
        request.to_string()
    };
    if booked {
        let word = wanted.change.tense("is refunded", "would be refunded");
        return told(true, format!("{what} {word}: {amount} by {}\n", wanted.tx));
    }
    match (standing.state, standing.tx_hash.as_deref()) {
        (RequestState::Refunded | RequestState::Delivered, Some(hash)) => {
            if hash == wanted.tx.as_str() {
                let text = format!("{what} was refunded by this transaction before: {amount}\n");
                told(false, text)
            } else {
                refused(format!(
                    "{what} was refunded by another transaction: {hash}"
                ))
            }
        }
        (RequestState::Refunded, None) => refused(format!(
            "{request} was refunded by the provider itself; nothing more is owed"
        )),
        (RequestState::Delivered, None) if standing.amount_micros == 0 => refused(format!(
            "{request} is delivered, and was paid as it was priced: no refund is due"
        )),
        (RequestState::RefundDue | RequestState::Delivered, _) => {
            let other = other.unwrap_or_else(|| "another payment".to_owned());
            refused(format!(
                "{} is noted for {other}; one transaction does not pay two people",
                wanted.tx
            ))
        }
        (state, _) if standing.amount_micros > 0 => refused(format!(
            "{request} is {}: what was paid beyond its price is due when it ends",
            state.as_str()
        )),
        (state, _) => refused(format!("{request} is {}: no refund is due", state.as_str())),
    }
}
