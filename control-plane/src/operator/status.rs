//! `status`: how the marketplace stands, on one page.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;
use crochet_shared::clock;
use crochet_shared::id::RequestId;
use crochet_shared::money::Micros;
use serde::Serialize;
use serde_json::{Value, json};

use super::paper::{Paper, moment, span};
use super::store::{refunds, status as store};
use super::{Exit, Form, Outcome, when};
use crate::config::Settings;
use crate::db::{Db, MIGRATIONS};
use crate::ledger::audit;
use crate::payments::relay::Client;

/// A deadline that is overdue by more than this means that no server looks at deadlines.
const OVERDUE: Duration = Duration::from_mins(1);
/// An outbox row that is older than this means that gateways are not told.
const OUTBOX_LATE: TimeDelta = TimeDelta::seconds(5);
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

/// All that is told of a database whose schema is right.
struct Stands {
    schema: i64,
    /// Indexes whose building broke off.
    broken_indexes: Vec<String>,
    requests: Vec<store::InState>,
    waits: store::Waits,
    claim: Option<store::OpenClaim>,
    sweeps: Vec<store::Sweep>,
    /// What refunds payable holds for what is due: not always its price.
    refund_due: Micros,
    provider: Provider,
    violations: usize,
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
    let stands = Stands {
        schema: newest.unwrap_or(0),
        broken_indexes: db.broken_indexes().await?,
        requests: store::states(pool, wanted.since).await?,
        waits: store::waits(pool, OVERDUE.as_secs_f64()).await?,
        claim: store::oldest_claim(pool).await?,
        sweeps: store::sweeps(pool).await?,
        refund_due: Micros(refunds::owed(pool).await?),
        provider: provider(settings).await,
        violations: audit::recent_violations(pool).await?.len(),
    };
    let exit = if stands.troubles().is_empty() {
        Exit::Done
    } else {
        Exit::Attention
    };
    Outcome::new(exit, stands.written(), &stands.as_json())
}

impl Stands {
    /// The prices of the requests in these states together.
    fn sum(&self, states: &[&str]) -> Micros {
        let of_these = self
            .requests
            .iter()
            .filter(|row| states.contains(&row.state.as_str()));
        Micros(of_these.fold(0_i64, |sum, row| sum.saturating_add(row.price_micros)))
    }

    fn clearing(&self) -> Micros {
        self.sum(&["paid", "claimed"])
    }

    /// How long the oldest change waits that gateways must hear of.
    fn outbox_age(&self) -> Option<TimeDelta> {
        Some(self.waits.now - self.waits.outbox_oldest?)
    }

    /// What a person should look at.
    fn troubles(&self) -> Vec<&'static str> {
        let is_late = self.outbox_age().is_some_and(|age| age > OUTBOX_LATE);
        let is_unreachable = matches!(self.provider, Provider::Unreachable { .. });
        [
            (self.violations > 0, "an invariant is violated"),
            (
                !self.broken_indexes.is_empty(),
                "an index is half built and serves nobody: `migrate` says what to do",
            ),
            (
                self.waits.overdue > 0,
                "deadlines are overdue: does a control plane run?",
            ),
            (
                is_late,
                "gateways are not told of changes: does a control plane run, and Redis?",
            ),
            (is_unreachable, "the provider cannot be asked"),
        ]
        .into_iter()
        .filter_map(|(is_so, what)| is_so.then_some(what))
        .collect()
    }

    fn written(&self) -> String {
        let mut paper = Paper::default();
        paper.pair("schema", format_args!("{} (up to date)", self.schema));
        for index in &self.broken_indexes {
            paper.pair("half built", index);
        }
        paper.line("");
        let rows: Vec<_> = self
            .requests
            .iter()
            .map(|row| {
                [
                    row.state.clone(),
                    row.count.to_string(),
                    Micros(row.price_micros).to_string(),
                ]
            })
            .collect();
        paper.table(["requests", "count", "price of all"], &rows);
        paper.line("");
        paper
            .pair("in clearing", self.clearing())
            .pair("refund due", self.refund_due);
        let claim = self.claim.as_ref().map_or_else(
            || "none".to_owned(),
            |claim| {
                let until = moment(claim.lease_until);
                format!("{}, lease until {until}", RequestId(claim.id))
            },
        );
        paper
            .pair("oldest claim", claim)
            .pair("overdue deadlines", self.waits.overdue);
        let outbox = self.outbox_age().map_or_else(
            || "empty".to_owned(),
            |age| format!("{} rows, the oldest {} old", self.waits.outbox, span(age)),
        );
        paper.pair("outbox", outbox);
        for sweep in &self.sweeps {
            let position = moment(sweep.position);
            paper.pair(
                "provider sweep",
                format_args!("{} read up to {position}", sweep.name),
            );
        }
        paper.pair("provider", self.provider.shown());
        let audited = match self.violations {
            0 => "no row of the last 48 h".to_owned(),
            rows => format!("{rows} rows of the last 48 h; see `audit`"),
        };
        paper.pair("audit", audited);
        for trouble in self.troubles() {
            paper.line(format_args!("\n! {trouble}"));
        }
        paper.done()
    }

    fn as_json(&self) -> Value {
        let claim = self.claim.as_ref().map(|claim| {
            let until = clock::rfc3339(claim.lease_until);
            json!({ "request_id": RequestId(claim.id).to_string(), "lease_until": until })
        });
        let sweeps: Vec<_> = self
            .sweeps
            .iter()
            .map(
                |sweep| json!({ "name": sweep.name, "read_up_to": clock::rfc3339(sweep.position) }),
            )
            .collect();
        let oldest = self.waits.outbox_oldest.map(clock::rfc3339);
        json!({
            "at": clock::rfc3339(self.waits.now),
            "schema": { "program": self.schema, "missing": 0, "broken_indexes": self.broken_indexes },
            "requests": self.requests,
            "clearing_micros": self.clearing(),
            "refund_due_micros": self.refund_due,
            "oldest_claim": claim,
            "overdue_deadlines": self.waits.overdue,
            "outbox": { "rows": self.waits.outbox, "oldest": oldest },
            "sweeps": sweeps,
            "provider": self.provider,
            "audit_rows": self.violations,
            "troubles": self.troubles(),
        })
    }
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
