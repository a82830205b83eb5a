//! Who counted what: k6, the gateways, the seller and the ledger, which must all tell the same story.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use crochet_dev::{Deadline, StackFile};
use demo_agent::{Answer, DemoSeller};
use serde_json::{Value, json};

use super::stage::Stage;
use crate::command::say;

/// A gateway counts an answer just after its last byte is handed over.
const SETTLING: Duration = Duration::from_secs(10);
/// Answers after which the seller has been called and nothing was sold.
const SELLER_FAILURES: [&str; 4] = [
    "SELLER_TIMEOUT",
    "SELLER_ERROR",
    "SELLER_INVALID_RESPONSE",
    "SELLER_RESPONSE_TOO_LARGE",
];

/// What the services say at one moment.
#[derive(Debug, Default)]
pub(super) struct Books {
    /// `gateway_answers_total` of all gateways, by result.
    pub(super) answers: BTreeMap<String, u64>,
    /// The demo seller's calls, by request.
    pub(super) calls: BTreeMap<String, u64>,
    pub(super) unsigned: u64,
    /// Of our seller: entries of `seller_credit`.
    pub(super) sold: u64,
    /// Resident bytes by process, where the system shows them.
    pub(super) memory: BTreeMap<String, u64>,
}

/// What k6 saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) answers: BTreeMap<String, u64>,
    /// Purchases whose answer was received.
    pub(super) delivered: u64,
}

/// Compares until all agree or the time for it is over; says what they agree on, or where they differ.
pub(super) async fn agree(
    stack: &StackFile,
    stage: &Stage,
    before: &Books,
    seen: &Seen,
) -> Result<bool> {
    let deadline = Deadline::new("the books to agree", SETTLING);
    let (after, differences) = loop {
        let after = Books::read(stack, stage).await?;
        let differences = differences(before, &after, seen);
        if differences.is_empty() || deadline.tick().await.is_err() {
            break (after, differences);
        }
    };
    if differences.is_empty() {
        let answers: u64 = seen.answers.values().sum();
        say(&format!(
            "The books agree: {answers} answers at the gateways as k6 saw them, {} calls sold in the ledger, {} at the seller",
            after.sold - before.sold,
            after.calls.len() - before.calls.len(),
        ));
    }
    for difference in &differences {
        say(&format!("DIFFERS: {difference}"));
    }
    Ok(differences.is_empty())
}

/// Where the books of a run do not agree.
pub(super) fn differences(before: &Books, after: &Books, seen: &Seen) -> Vec<String> {
    let mut differences = Vec::new();
    let answered = |result: &str| {
        let count = |books: &Books| books.answers.get(result).copied().unwrap_or_default();
        count(after).saturating_sub(count(before))
    };
    for result in after.answers.keys().chain(seen.answers.keys()) {
        let (there, here) = (
            answered(result),
            seen.answers.get(result).copied().unwrap_or_default(),
        );
        let line = format!("{result}: the gateways counted {there}, k6 saw {here}");
        if there != here && !differences.contains(&line) {
            differences.push(line);
        }
    }
    let sold = after.sold.saturating_sub(before.sold);
    if sold != seen.delivered {
        let delivered = seen.delivered;
        differences.push(format!(
            "the ledger has {sold} calls sold, k6 received {delivered}"
        ));
    }
    let new = after
        .calls
        .iter()
        .filter(|(request, _)| !before.calls.contains_key(*request));
    let (mut called, mut often) = (0, 0);
    for (_, calls) in new {
        called += calls;
        often += u64::from(*calls > 1);
    }
    if often > 0 {
        differences.push(format!(
            "{often} requests came to the seller more than once"
        ));
    }
    let failed: u64 = SELLER_FAILURES.iter().map(|code| answered(code)).sum();
    if called != sold + failed {
        differences.push(format!(
            "the seller was called {called} times for {sold} calls sold and {failed} that failed"
        ));
    }
    if after.unsigned != before.unsigned {
        let unsigned = after.unsigned - before.unsigned;
        differences.push(format!("{unsigned} calls came to the seller unsigned"));
    }
    differences
}

impl Books {
    pub(super) async fn read(stack: &StackFile, stage: &Stage) -> Result<Self> {
        let http = stage.seller().api().http();
        let mut books = Self::default();
        for (number, gateway) in stack.gateways.iter().enumerate() {
            let text = Answer::of(http.get(format!("{}/metrics", gateway.admin))).await?;
            ensure!(text.status == 200, "a gateway's metrics: {text}");
            count_answers(&String::from_utf8_lossy(&text.body), &mut books.answers);
            books.weigh(&format!("gateway {}", number + 1), gateway.pid);
        }
        books.weigh("control plane", stack.pids.control_plane);
        let seller = DemoSeller::new(&stack.demo_seller, http.clone())
            .calls()
            .await?;
        let calls = seller.get("calls").cloned().unwrap_or_default();
        books.calls = serde_json::from_value(calls).context("the seller's calls")?;
        books.unsigned = number_at(&seller, "/unsigned");
        let summary = stage
            .seller()
            .get("/ledger/summary?role=seller")
            .await?
            .data(200)?;
        books.sold = sold(&summary);
        Ok(books)
    }

    fn weigh(&mut self, process: &str, pid: u32) {
        if let Some(bytes) = resident_bytes(pid) {
            self.memory.insert(process.to_owned(), bytes);
        }
    }
}

/// Adds what a gateway's metrics say of its answers.
pub(super) fn count_answers(text: &str, answers: &mut BTreeMap<String, u64>) {
    for line in text.lines() {
        let Some((labels, value)) = line
            .strip_prefix("gateway_answers_total{")
            .and_then(|rest| rest.rsplit_once("} "))
        else {
            continue;
        };
        let result = labels
            .split(',')
            .find_map(|label| label.strip_prefix("result=\"")?.strip_suffix('"'));
        if let (Some(result), Ok(value)) = (result, value.parse::<u64>()) {
            *answers.entry(result.to_owned()).or_default() += value;
        }
    }
}

/// How many calls the ledger's summary says were sold.
fn sold(summary: &Value) -> u64 {
    let entries = summary.get("by_type").and_then(Value::as_array);
    let credits = entries
        .into_iter()
        .flatten()
        .filter(|entry| entry.get("type") == Some(&json!("seller_credit")));
    credits.map(|entry| number_at(entry, "/count")).sum()
}

fn number_at(value: &Value, pointer: &str) -> u64 {
    value
        .pointer(pointer)
        .and_then(Value::as_u64)
        .unwrap_or_default()
}

/// A process's memory, on systems that show it as Linux does.
fn resident_bytes(pid: u32) -> Option<u64> {
    const KIB: u64 = 1024;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * KIB)
}

impl Seen {
    /// Reads the figures of a run, as the script left them.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("k6 left no figures in {}", path.display()))?;
        Self::of(&serde_json::from_str(&text).context("reading k6's figures")?)
    }

    pub(super) fn of(figures: &Value) -> Result<Self> {
        let metrics = figures.get("metrics").and_then(Value::as_object);
        let metrics = metrics.context("k6's figures have no metrics")?;
        let mut seen = Self::default();
        for (name, metric) in metrics {
            let count = number_at(metric, "/values/count");
            let result = name
                .strip_prefix("gateway_answers{result:")
                .and_then(|rest| rest.strip_suffix('}'));
            if let Some(result) = result {
                seen.answers.insert(result.to_owned(), count);
            }
            if name == "purchases_delivered" {
                seen.delivered = count;
            }
        }
        Ok(seen)
    }
}
