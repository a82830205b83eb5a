//! `payouts`: what sellers are owed, and that it was paid.

use clap::{Args, Subcommand};
use crochet_shared::clock;
use crochet_shared::id::{ProfileId, uuid_v7};
use crochet_shared::money::Micros;
use serde_json::{Value, json};
use uuid::Uuid;

use super::paper::Paper;
use super::store::payouts as store;
use super::transaction::TxHash;
use super::{Change, EXITS, Exit, Form, Outcome, Stop};
use crate::db::{Db, work};
use crate::ledger::payout::{self, NewPayout, NewReversal, Owed, PayoutNote, Reversal, TakenBack};

/// What sellers are owed
#[derive(Clone, Debug, Subcommand)]
pub enum Payouts {
    /// What each seller is owed (credits less what was paid out), and her default payout wallet.
    #[command(after_help = EXITS)]
    List(List),
    /// The same as CSV, to pay from: `seller_id`, `chain`, `address`, `amount_usd`, `amount_micros`.
    /// Sellers without a payout wallet are left out, and named on standard error.
    #[command(after_help = EXITS)]
    Export(List),
    /// Note that a seller was paid. Never more than she is owed.
    #[command(after_help = EXITS)]
    Mark(Mark),
    /// Take back a payout that was noted by mistake: what it paid is owed again, and its transaction may
    /// be noted for something else. Nothing that was written is changed.
    #[command(after_help = EXITS)]
    Reverse(Reverse),
}

/// Which sellers
#[derive(Clone, Debug, Args)]
pub struct List {
    /// Only sellers who are owed at least so many dollars.
    #[arg(long, value_name = "USD", default_value = "0.000001", value_parser = Micros::from_dollars)]
    pub min: Micros,
    /// How the answer is written.
    #[command(flatten)]
    pub form: Form,
}

/// Note that a seller was paid
#[derive(Clone, Debug, Args)]
pub struct Mark {
    /// The seller's profile.
    #[arg(value_name = "SELLER")]
    pub seller: ProfileId,
    /// How much, in dollars with at most 6 decimals, as `list` shows it.
    #[arg(long, value_name = "USD", value_parser = dollars)]
    pub amount: Micros,
    /// The transaction that paid it. The same again is the same payout.
    #[arg(long, value_name = "HASH")]
    pub tx: TxHash,
    /// Which of her wallets was paid. When absent, the one that is her default for payouts now, if it is
    /// on the transaction's chain; the answer names it.
    #[arg(long, value_name = "ADDRESS")]
    pub to: Option<String>,
    /// How it is done.
    #[command(flatten)]
    pub change: Change,
}

/// Take back a payout that was noted by mistake
#[derive(Clone, Debug, Args)]
pub struct Reverse {
    /// The seller that it was noted for.
    #[arg(value_name = "SELLER")]
    pub seller: ProfileId,
    /// The transaction that it was noted with.
    #[arg(long, value_name = "HASH")]
    pub tx: TxHash,
    /// Which payout, where the transaction was noted for her more than once: an id that `mark` or a reversal
    /// named. Without it only a payout is taken back that is her first with this transaction, so that the same
    /// again never takes back another.
    #[arg(long, value_name = "ID")]
    pub payout: Option<Uuid>,
    /// Why; it is kept with the reversal.
    #[arg(long, value_name = "REASON", value_parser = reason)]
    pub why: String,
    /// How it is done.
    #[command(flatten)]
    pub change: Change,
}

/// Longest reason of a reversal, in characters.
const REASON_CHARS_MAX: usize = 500;

fn reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    let good = (1..=REASON_CHARS_MAX).contains(&text.chars().count());
    if good && !text.chars().any(char::is_control) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "must be 1 to {REASON_CHARS_MAX} characters on one line"
        ))
    }
}

/// A payout may be more than any one price.
fn dollars(text: &str) -> Result<Micros, String> {
    let text = text.trim().trim_start_matches('$');
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let problem = || "must be dollars with at most 6 decimals, above 0".to_owned();
    if whole.is_empty() || part.len() > 6 || !digits(whole) || !digits(part) {
        return Err(problem());
    }
    format!("{whole}{part:0<6}")
        .parse::<i64>()
        .ok()
        .filter(|micros| *micros > 0)
        .map(Micros)
        .ok_or_else(problem)
}

impl Payouts {
    pub(super) const fn form(&self) -> Form {
        match self {
            Self::List(list) | Self::Export(list) => list.form,
            Self::Mark(mark) => mark.change.form,
            Self::Reverse(reverse) => reverse.change.form,
        }
    }
}

/// Does what is asked.
pub async fn payouts(db: &Db, wanted: &Payouts) -> anyhow::Result<Outcome> {
    match wanted {
        Payouts::List(wanted) => list(db, wanted).await,
        Payouts::Export(wanted) => export(db, wanted).await,
        Payouts::Mark(wanted) => mark(db, wanted).await,
        Payouts::Reverse(wanted) => reverse(db, wanted).await,
    }
}

/// What is owed, the most first.
pub async fn list(db: &Db, wanted: &List) -> anyhow::Result<Outcome> {
    let owed = payout::all_owed(db.pool(), wanted.min.0).await?;
    let total = owed
        .iter()
        .fold(0_i64, |sum, one| sum.saturating_add(one.owed_micros));
    let rows: Vec<_> = owed
        .iter()
        .map(|one| {
            [
                one.seller_id.to_string(),
                Micros(one.owed_micros).to_string(),
                Micros(one.credited_micros).to_string(),
                Micros(one.paid_micros).to_string(),
                one.chain.clone().unwrap_or_else(|| "-".to_owned()),
                one.address
                    .clone()
                    .unwrap_or_else(|| "no payout wallet".to_owned()),
                one.display_name.clone(),
            ]
        })
        .collect();
    let mut paper = Paper::default();
    paper.table(
        [
            "seller",
            "owed",
            "credited",
            "paid out",
            "chain",
            "payout wallet",
            "name",
        ],
        &rows,
    );
    paper.line("");
    paper.line(format_args!(
        "{} sellers, {} together",
        owed.len(),
        Micros(total)
    ));
    let json = json!({
        "payouts": owed.iter().map(shown).collect::<Vec<_>>(),
        "total_micros": total,
    });
    Outcome::new(Exit::Done, paper.done(), &json)
}

fn shown(one: &Owed) -> Value {
    json!({
        "seller_id": one.seller_id,
        "name": one.display_name,
        "owed_usd": Micros(one.owed_micros).dollars(),
        "owed_micros": one.owed_micros,
        "credited_micros": one.credited_micros,
        "paid_micros": one.paid_micros,
        "chain": one.chain,
        "address": one.address,
    })
}

/// The same as CSV. Nothing in it is text of a seller's own choosing.
#[expect(
    clippy::print_stderr,
    reason = "standard output is the file; who is not in it is told beside it"
)]
pub async fn export(db: &Db, wanted: &List) -> anyhow::Result<Outcome> {
    let owed = payout::all_owed(db.pool(), wanted.min.0).await?;
    let mut paper = Paper::default();
    paper.line("seller_id,chain,address,amount_usd,amount_micros");
    let mut left_out = Vec::new();
    for one in &owed {
        let (Some(chain), Some(address)) = (&one.chain, &one.address) else {
            left_out.push(one.seller_id);
            continue;
        };
        let amount = Micros(one.owed_micros);
        paper.line(format_args!(
            "{},{chain},{address},{},{}",
            one.seller_id,
            amount.dollars(),
            amount.0
        ));
    }
    for seller in &left_out {
        eprintln!("left out: {seller} has no payout wallet");
    }
    let exit = if left_out.is_empty() {
        Exit::Done
    } else {
        Exit::Attention
    };
    let rows: Vec<_> = owed
        .iter()
        .filter(|one| one.address.is_some())
        .map(shown)
        .collect();
    let json = json!({ "payouts": rows, "left_out": left_out });
    Outcome::new(exit, paper.done(), &json)
}

/// Notes that a seller was paid. The ledger's own statement books it, once, and never above what is owed.
pub async fn mark(db: &Db, wanted: &Mark) -> anyhow::Result<Outcome> {
    let wallets = store::wallets(db.pool(), wanted.seller.0).await?;
    let Some(wallets) = wallets else {
        return Ok(Outcome::unknown(format_args!("profile {}", wanted.seller)));
    };
    let paid = wallets.iter().find(|wallet| match &wanted.to {
        Some(address) if wallet.chain == "evm" => wallet.address.eq_ignore_ascii_case(address),
        Some(address) => wallet.address == *address,
        None => wallet.is_default_payout,
    });
    let Some(paid) = paid else {
        let why = match &wanted.to {
            Some(address) => format!("{address} is no wallet of seller {}", wanted.seller),
            None => format!(
                "seller {} has no payout wallet; name the one that was paid with --to",
                wanted.seller
            ),
        };
        return Ok(Outcome::not(Exit::Refused, why));
    };
    if wanted.to.is_none() && paid.chain != wanted.tx.chain() {
        let why = format!(
            "{} is of another chain than {}, the payout wallet of seller {}; name the wallet that was paid with --to",
            wanted.tx, paid.address, wanted.seller
        );
        return Ok(Outcome::not(Exit::Refused, why));
    }
    let new = NewPayout {
        id: uuid_v7(clock::now()),
        seller: wanted.seller.0,
        amount_micros: wanted.amount.0,
        chain: &paid.chain,
        address: &paid.address,
        tx_hash: wanted.tx.as_str(),
    };
    let (new, dry_run) = (&new, wanted.change.dry_run);
    let note = db
        .run("operator.payout", |tx| {
            work(async move { Stop::or_keep(dry_run, payout::payout(tx, new).await?) })
        })
        .await;
    let note = Stop::end(note)?;
    if let PayoutNote::Booked { .. } = note {
        wanted.change.log(
            "payouts mark",
            format_args!(
                "seller {} to {} by {}",
                wanted.seller, paid.address, wanted.tx
            ),
            &format!("{} paid out", wanted.amount),
        );
    }
    Ok(told(wanted, new, &note))
}

fn told(wanted: &Mark, new: &NewPayout<'_>, note: &PayoutNote) -> Outcome {
    let (id, address) = if let PayoutNote::Known { id, address, .. } = note {
        (Some(*id), address.as_str())
    } else {
        // A rehearsal's payout has no name: the real one gets another.
        ((!wanted.change.dry_run).then_some(new.id), new.address)
    };
    let done = |changed: bool, still_owed: i64, text: String| Outcome {
        exit: Exit::Done,
        text,
        json: json!({
            "changed": changed,
            "dry_run": wanted.change.dry_run,
            "payout_id": id,
            "seller_id": wanted.seller,
            "amount_micros": wanted.amount,
            "address": address,
            "tx": wanted.tx.as_str(),
            "still_owed_micros": still_owed,
        }),
    };
    match note {
        PayoutNote::Booked { still_owed } => {
            let word = wanted.change.tense("is", "would be");
            let which = if wanted.to.is_some() {
                ""
            } else {
                " (her payout wallet now, as no --to names another)"
            };
            let text = format!(
                "{} {word} booked as paid to seller {} at {address}{which}; {} still owed\n",
                wanted.amount,
                wanted.seller,
                Micros(*still_owed)
            );
            done(true, *still_owed, text)
        }
        PayoutNote::Known { at, still_owed, .. } => {
            let text = format!(
                "this payout was booked before, {}, at {address}; {} still owed\n",
                clock::rfc3339(*at),
                Micros(*still_owed)
            );
            done(false, *still_owed, text)
        }
        PayoutNote::OtherPayment { what } => {
            Outcome::not(Exit::Refused, format!("{} is noted for {what}", wanted.tx))
        }
        PayoutNote::MoreThanOwed { owed } => Outcome::not(
            Exit::Refused,
            format!(
                "seller {} is owed {}, which is less than {}",
                wanted.seller,
                Micros(*owed),
                wanted.amount
            ),
        ),
    }
}

/// Takes back what was noted. The ledger's own statement does it, once.
pub async fn reverse(db: &Db, wanted: &Reverse) -> anyhow::Result<Outcome> {
    let new = &NewReversal {
        seller: wanted.seller.0,
        tx_hash: wanted.tx.as_str(),
        payout: wanted.payout,
        reason: &wanted.why,
    };
    let dry_run = wanted.change.dry_run;
    let done = db
        .run("operator.payout_reversal", |tx| {
            work(async move {
                let done = payout::reverse(tx, new).await?;
                Stop::or_keep(dry_run, done)
            })
        })
        .await;
    let done = Stop::end(done)?;
    if let Reversal::Reversed { amount, .. } = done {
        wanted.change.log(
            "payouts reverse",
            format_args!("seller {} by {}", wanted.seller, wanted.tx),
            &format!("{} taken back: {}", Micros(amount), wanted.why),
        );
    }
    Ok(reversed(wanted, &done))
}

fn reversed(wanted: &Reverse, done: &Reversal) -> Outcome {
    let told = |changed: bool, text: String, more: Value| Outcome {
        exit: Exit::Done,
        text,
        json: json!({
            "changed": changed,
            "dry_run": wanted.change.dry_run,
            "seller_id": wanted.seller,
            "tx": wanted.tx.as_str(),
            "reversal": more,
        }),
    };
    match done {
        Reversal::Reversed { id, amount, owed } => {
            let word = wanted.change.tense("is", "would be");
            let text = format!(
                "the payout of {} to seller {} by {} {word} taken back; {} owed\n",
                Micros(*amount),
                wanted.seller,
                wanted.tx,
                Micros(*owed)
            );
            told(
                true,
                text,
                json!({ "payout_id": id, "amount_micros": amount, "owed_micros": owed }),
            )
        }
        Reversal::Known { before, noted_anew } => {
            let text = format!("this payout {}\n", taken_back(before));
            let newer = noted_anew.as_ref().map(|newer| {
                json!({
                    "payout_id": newer.id,
                    "at": clock::rfc3339(newer.created_at),
                    "amount_micros": newer.amount_micros,
                })
            });
            let more = json!({
                "payout_id": before.payout_id,
                "at": clock::rfc3339(before.created_at),
                "why": before.reason,
                "noted_anew": newer,
            });
            let Some(newer) = noted_anew else {
                return told(false, text, more);
            };
            let text = format!(
                "{text}the transaction was noted anew, {}: payout {} of {} stands; only --payout {} takes it back\n",
                clock::rfc3339(newer.created_at),
                newer.id,
                Micros(newer.amount_micros),
                newer.id
            );
            // Who meant the newer one must not take this for done.
            Outcome {
                exit: Exit::Attention,
                ..told(false, text, more)
            }
        }
        Reversal::OtherSeller { seller, before } => {
            let before = before.as_ref().map_or_else(String::new, |before| {
                format!("; her own payout by it {}", taken_back(before))
            });
            Outcome::not(
                Exit::Refused,
                format!("{} is noted for seller {seller}{before}", wanted.tx),
            )
        }
        Reversal::None => {
            let which = wanted
                .payout
                .map_or_else(String::new, |payout| format!(" with id {payout}"));
            Outcome::unknown(format_args!(
                "payout{which} of seller {} by {}",
                wanted.seller, wanted.tx
            ))
        }
    }
}

fn taken_back(before: &TakenBack) -> String {
    let at = clock::rfc3339(before.created_at);
    format!("was taken back before, {at}: {}", before.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_exactly() {
        for (text, micros) in [
            ("1", 1_000_000),
            ("$0.5", 500_000),
            ("123456.000001", 123_456_000_001),
        ] {
            assert_eq!(dollars(text), Ok(Micros(micros)), "{text}");
        }
        for wrong in [
            "",
            "0",
            "0.0",
            "-1",
            "1.0000001",
            "1e3",
            "1,000",
            ".5",
            "9999999999999999",
        ] {
            assert!(dollars(wrong).is_err(), "{wrong}");
        }
    }
}
