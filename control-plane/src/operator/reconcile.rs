//! `reconcile`: the provider's successes, asked for at once.

use chrono::{DateTime, Utc};
use clap::Args;
use crochet_shared::clock;
use serde_json::json;

use super::paper::{Paper, moment_or_dash};
use super::{Change, Exit, Outcome, when};
use crate::app::App;
use crate::config::Settings;
use crate::ledger::entry::RequestState;
use crate::payments::reconcile::{self as room, Found, Reconciled};

/// Ask the provider for its successes now
#[derive(Clone, Debug, Args)]
pub struct Reconcile {
    /// From when on: 90m, 24h, 7d, or a time.
    #[arg(long, value_name = "WHEN", default_value = "24h", value_parser = when::since)]
    pub since: DateTime<Utc>,
    /// How it is done.
    #[command(flatten)]
    pub change: Change,
}

/// Asks, and records what nobody asked about. Needs every setting that serving needs.
pub async fn reconcile(settings: Settings, wanted: &Reconcile) -> anyhow::Result<Outcome> {
    let app = App::new(settings.check()?)?;
    with(&app, wanted).await
}

/// The same over an app that is there already.
pub async fn with(app: &App, wanted: &Reconcile) -> anyhow::Result<Outcome> {
    let done = room::since(app, wanted.since, wanted.change.dry_run).await?;
    let rows: Vec<_> = done
        .found
        .iter()
        .map(|found| {
            [
                found.relay_request_id.clone(),
                found.amount.clone().unwrap_or_else(|| "-".to_owned()),
                moment_or_dash(found.updated_at),
                became(found, wanted.change.dry_run),
            ]
        })
        .collect();
    let mut paper = Paper::default();
    if !rows.is_empty() {
        paper.table(
            ["relay request", "amount", "updated", "what became of it"],
            &rows,
        );
        paper.line("");
    }
    paper.line(format_args!(
        "{} successes since {}, {} of them not in evidence before",
        done.read,
        clock::rfc3339(wanted.since),
        done.found.len()
    ));
    if done.is_cut_short {
        paper.line("there is more: ask again from the last time above");
    }
    wanted.change.log(
        "reconcile",
        format_args!("since {}", clock::rfc3339(wanted.since)),
        &format!("{} read, {} found", done.read, done.found.len()),
    );
    let json = json!({
        "dry_run": wanted.change.dry_run,
        "since": clock::rfc3339(wanted.since),
        "read": done.read,
        "is_cut_short": done.is_cut_short,
        "found": done.found.iter().map(|found| json!({
            "relay_request_id": found.relay_request_id,
            "amount": found.amount,
            "updated_at": found.updated_at.map(clock::rfc3339),
            "before": found.before.map(RequestState::as_str),
            "after": found.after.map(RequestState::as_str),
        })).collect::<Vec<_>>(),
    });
    Outcome::new(exit(&done), paper.done(), &json)
}

/// What is due for refund, or is nobody's, needs a person.
fn exit(done: &Reconciled) -> Exit {
    let needs_a_person =
        |found: &Found| matches!(found.after, None | Some(RequestState::RefundDue));
    if done.is_cut_short || done.found.iter().any(needs_a_person) {
        Exit::Attention
    } else {
        Exit::Done
    }
}

fn became(found: &Found, dry_run: bool) -> String {
    match (found.before, found.after) {
        (None, _) => "no request of ours".to_owned(),
        (Some(before), _) if dry_run => format!("is {}; would be recorded", before.as_str()),
        (Some(before), Some(after)) if before == after => format!("stays {}", after.as_str()),
        (Some(before), Some(after)) => format!("{} -> {}", before.as_str(), after.as_str()),
        (Some(before), None) => format!("was {}", before.as_str()),
    }
}
