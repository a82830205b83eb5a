//! `status`: how the marketplace stands, on one page.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use clap::Args;
use crochet_shared::clock;
use crochet_shared::id::RequestId;
use crochet_shared::money::Micros;
use serde::Serialize;
use serde_json::json;

use super::paper::{Paper, moment, span};
use super::store::status as store;
use super::{Exit, Form, Outcome, when};
use crate::config::Settings;
use crate::db::{Db, MIGRATIONS};
use crate::ledger::audit;
use crate::payments::relay::Client;

/// A deadline that is overdue by more than this means that no server looks at deadlines.
const OVERDUE: Duration = Duration::from_secs(60);
/// An outbox row that is older than this means that gateways are not told.
const OUTBOX_LATE: Duration = Duration::from_secs(5);
/// An id that no provider knows: asking for it is the cheapest question there is.
const NOBODY: &str = "0x0000000000000000000000000000000000000000000000000000000000000000";

/// How the marketplace stands
#[derive(Clone, Debug, Args)]
pub struct Status {
    /// Count requests quoted since then only: 90m, 24h, 7d, or a time. All of them when absent,
    /// which reads the whole table.
    #[arg(long, value_name = "WHEN", value_parser = when::since)]
    pub since: Option<DateTime<Utc>>,
    /// How the answer is written.
    #[command(flatten)]
    pub form: Form,
}

/// How the provider answered.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Provider {
    Reachable {
        milliseconds: u128,
        quotes_per_second: u32,
        requests_per_second: u32,
    },
    Unreachable {
        why: String,
    },
    NotAsked {
        why: String,
    },
}

/// Reads it all. Exit 1 when a person should look.
pub async fn status(db: &Db, settings: &Settings, wanted: &Status) -> anyhow::Result<Outcome> {
    let pending = db.migrations_pending().await?;
    let newest = MIGRATIONS.iter().map(|migration| migration.version).max();
    if !pending.is_empty() {
        let text = format!(
            "schema             behind by {}: run `migrate` first\n",
            pending.len()
        );
        let json = json!({ "schema": { "program": newest, "missing": pending.len() } });
        return Outcome::new(Exit::Attention, text, &json);
    }
    let pool = db.pool();
    let states = store::states(pool, wanted.since).await?;
    let standing = store::standing(pool, OVERDUE.as_secs_f64()).await?;
    let claim = store::oldest_claim(pool).await?;
    let sweeps = store::sweeps(pool).await?;
    let provider = provider(settings).await;
    let violations = audit::recent_violations(pool).await?;
    let now = standing.now;
    let waiting = standing.outbox_oldest.is_some_and(|oldest| {
        now - oldest > chrono::TimeDelta::from_std(OUTBOX_LATE).unwrap_or_default()
    });
    let troubles = troubles(&standing, waiting, &provider, violations.len());

    let mut paper = Paper::default();
    paper.pair(
        "schema",
        format_args!("{} (up to date)", newest.unwrap_or(0)),
    );
    paper.line("");
    let mut rows = Vec::new();
    for row in &states {
        rows.push([
            row.state.clone(),
            row.count.to_string(),
            Micros(row.price_micros).to_string(),
        ]);
    }
    paper.table(["requests", "count", "price of all"], &rows);
    paper.line("");
    let sum = |names: &[&str]| {
        let of_these = states
            .iter()
            .filter(|row| names.contains(&row.state.as_str()));
        Micros(of_these.fold(0_i64, |sum, row| sum.saturating_add(row.price_micros)))
    };
    let clearing = sum(&["paid", "claimed"]);
    let refund_due = sum(&["refund_due"]);
    paper
        .pair("in clearing", clearing)
        .pair("refund due", refund_due);
    match &claim {
        Some(claim) => paper.pair(
            "oldest claim",
            format_args!(
                "{}, lease until {}",
                RequestId(claim.id),
                moment(claim.lease_until)
            ),
        ),
        None => paper.pair("oldest claim", "none"),
    };
    paper.pair("overdue deadlines", standing.overdue);
    match standing.outbox_oldest {
        Some(oldest) => paper.pair(
            "outbox",
            format_args!(
                "{} rows, the oldest {} old",
                standing.outbox,
                span(now - oldest)
            ),
        ),
        None => paper.pair("outbox", "empty"),
    };
    for sweep in &sweeps {
        paper.pair(
            "provider sweep",
            format_args!("{} read up to {}", sweep.name, moment(sweep.position)),
        );
    }
    paper.pair("provider", provider.shown());
    let audited = if violations.is_empty() {
        "no row of the last 48 h".to_owned()
    } else {
        format!("{} rows of the last 48 h; see `audit`", violations.len())
    };
    paper.pair("audit", audited);
    if !troubles.is_empty() {
        paper.line("");
    }
    for trouble in &troubles {
        paper.line(format_args!("! {trouble}"));
    }
    let json = json!({
        "at": clock::rfc3339(now),
        "schema": { "program": newest, "missing": 0 },
        "requests": states,
        "clearing_micros": clearing.0,
        "refund_due_micros": refund_due.0,
        "oldest_claim": claim.map(|claim| json!({
            "request_id": RequestId(claim.id).to_string(), "lease_until": clock::rfc3339(claim.lease_until),
        })),
        "overdue_deadlines": standing.overdue,
        "outbox": { "rows": standing.outbox, "oldest": standing.outbox_oldest.map(clock::rfc3339) },
        "sweeps": sweeps.iter().map(|sweep| json!({
            "name": sweep.name, "read_up_to": clock::rfc3339(sweep.position),
        })).collect::<Vec<_>>(),
        "provider": provider,
        "audit_rows": violations.len(),
        "troubles": troubles,
    });
    let exit = if troubles.is_empty() {
        Exit::Done
    } else {
        Exit::Attention
    };
    Outcome::new(exit, paper.done(), &json)
}

/// What a person should look at.
fn troubles(
    standing: &store::Standing,
    is_outbox_late: bool,
    provider: &Provider,
    violations: usize,
) -> Vec<&'static str> {
    [
        (violations > 0, "an invariant is violated"),
        (
            standing.overdue > 0,
            "deadlines are overdue: does a control plane run?",
        ),
        (
            is_outbox_late,
            "gateways are not told of changes: does a control plane run, and Redis?",
        ),
        (
            matches!(provider, Provider::Unreachable { .. }),
            "the provider cannot be asked",
        ),
    ]
    .into_iter()
    .filter_map(|(is_so, what)| is_so.then_some(what))
    .collect()
}

async fn provider(settings: &Settings) -> Provider {
    let asked = settings
        .clone()
        .check()
        .and_then(|config| Ok((Client::new(&config)?, config)));
    let (client, config) = match asked {
        Ok(made) => made,
        Err(error) => {
            return Provider::NotAsked {
                why: format!("{error:#}"),
            };
        }
    };
    let started = Instant::now();
    match client.records(&[NOBODY]).await {
        Ok(_) => Provider::Reachable {
            milliseconds: started.elapsed().as_millis(),
            quotes_per_second: config.limits.provider_quotes_per_second,
            requests_per_second: config.limits.provider_requests_per_second,
        },
        Err(error) => Provider::Unreachable {
            why: error.to_string(),
        },
    }
}

impl Provider {
    fn shown(&self) -> String {
        match self {
            Self::Reachable {
                milliseconds,
                quotes_per_second,
                requests_per_second,
            } => format!(
                "answers in {milliseconds} ms; each server asks at most {quotes_per_second} quotes and {requests_per_second} other requests a second"
            ),
            Self::Unreachable { why } => why.clone(),
            Self::NotAsked { why } => format!("not asked: {why}"),
        }
    }
}
