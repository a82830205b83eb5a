//! `request`: the whole story of one request.

use clap::Args;
use crochet_shared::clock;
use crochet_shared::header::is_relay_request_id;
use crochet_shared::id::{EntryId, RequestId};
use crochet_shared::money::{FeeRate, Micros};
use crochet_shared::redis_key::hex;
use serde_json::{Value, json};

use super::paper::{Paper, moment};
use super::store::request::{self as store, Head, Name, Transfer};
use super::timeline::{self, Event};
use super::{Exit, Form, Outcome};
use crate::db::Db;

/// The whole story of one request
#[derive(Clone, Debug, Args)]
pub struct Request {
    /// The request, as `gw_req_…`, or the provider's id of its payment, `0x…`.
    #[arg(value_name = "ID")]
    pub id: String,
    /// How the answer is written.
    #[command(flatten)]
    pub form: Form,
}

/// Reads everything that is kept of a request and tells it in order.
pub async fn request(db: &Db, text: &str) -> anyhow::Result<Outcome> {
    let Some(name) = name(text.trim()) else {
        return Ok(Outcome::not(
            Exit::NotFound,
            format!("{text:?} is neither a gw_req_ id nor a provider's request id"),
        ));
    };
    let Some(head) = store::head(db.pool(), &name).await? else {
        return Ok(Outcome::unknown(format_args!("request {text}")));
    };
    let attempts = store::attempts(db.pool(), head.id).await?;
    let transfers = store::transfers(db.pool(), head.id).await?;
    let events = timeline::events(&head, &attempts, &transfers);
    Outcome::new(
        Exit::Done,
        written(&head, &events, &transfers),
        &as_json(&head, &events, &transfers),
    )
}

fn name(text: &str) -> Option<Name> {
    if let Ok(id) = text.parse::<RequestId>() {
        return Some(Name::Ours(id.0));
    }
    is_relay_request_id(text.as_bytes()).then(|| Name::Relay(text.to_owned()))
}

fn written(head: &Head, events: &[Event], transfers: &[Transfer]) -> String {
    let mut paper = Paper::default();
    paper.line(format_args!(
        "{}  {}  {}",
        RequestId(head.id),
        head.state.as_str(),
        Micros(head.price_micros)
    ));
    paper.line("");
    for (name, value) in [
        ("relay request", head.relay_request_id.clone()),
        (
            "listing",
            format!("{} ({})", head.listing_name, head.listing_id),
        ),
        ("buyer", format!("{} ({})", head.buyer_name, head.buyer_id)),
        (
            "seller",
            format!("{} ({})", head.seller_name, head.seller_id),
        ),
        (
            "body",
            format!(
                "{} bytes, SHA-256 {}",
                head.request_bytes,
                hex(&head.body_sha256)
            ),
        ),
    ] {
        paper.line(format_args!("  {name:<14} {value}"));
    }
    if let Some(key) = &head.idempotency_key {
        paper.line(format_args!("  {:<14} {key}", "idempotency"));
    }
    paper.line("");
    for event in events {
        let at = event.at.map_or_else(|| " ".repeat(23), moment);
        paper.line(format_args!("  {at}  {:<10} {}", event.what, event.told));
        for more in &event.more {
            paper.line(format_args!("  {:23}  {:<10} {more}", "", ""));
        }
    }
    paper.line("");
    if transfers.is_empty() {
        paper.line("  ledger: no row");
    } else {
        let rows: Vec<_> = transfers
            .iter()
            .map(|row| {
                [
                    EntryId(row.id).to_string(),
                    row.kind.as_str().to_owned(),
                    Micros(row.amount_micros).to_string(),
                    format!(
                        "{} -> {}",
                        row.debit_account.as_str(),
                        row.credit_account.as_str()
                    ),
                    moment(row.created_at),
                ]
            })
            .collect();
        paper.table(["ledger", "kind", "amount", "from -> to", "at"], &rows);
    }
    paper.done()
}

fn as_json(head: &Head, events: &[Event], transfers: &[Transfer]) -> Value {
    let split = FeeRate(head.fee_rate_ppm.into());
    json!({
        "request_id": RequestId(head.id).to_string(),
        "relay_request_id": head.relay_request_id,
        "state": head.state.as_str(),
        "listing_id": head.listing_id,
        "listing_name": head.listing_name,
        "buyer_id": head.buyer_id,
        "seller_id": head.seller_id,
        "price_micros": head.price_micros,
        "fee_rate": split.display(),
        "origin_currency": head.origin_currency,
        "idempotency_key": head.idempotency_key,
        "body_sha256": hex(&head.body_sha256),
        "request_bytes": head.request_bytes,
        "attempts": head.attempts,
        "refund_to": head.refund_to,
        "refund_tx": head.refund_tx,
        "answer": head.delivered_at.map(|at| json!({
            "delivered_at": clock::rfc3339(at),
            "seller_status": head.seller_status,
            "bytes": head.response_bytes,
            "sha256": head.response_sha256.as_deref().map(hex),
            "stored_until": head.answer_until.map(clock::rfc3339),
            "is_stored": head.answer_chunks > 0,
        })),
        "timeline": events.iter().map(Event::as_json).collect::<Vec<_>>(),
        "ledger": transfers.iter().map(|row| json!({
            "id": EntryId(row.id).to_string(),
            "kind": row.kind.as_str(),
            "amount_micros": row.amount_micros,
            "debit_account": row.debit_account.as_str(),
            "credit_account": row.credit_account.as_str(),
            "party_id": row.party_id,
            "created_at": clock::rfc3339(row.created_at),
        })).collect::<Vec<_>>(),
    })
}
