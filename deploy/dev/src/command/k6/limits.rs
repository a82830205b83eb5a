//! `thresholds.json`: k6 goes by most of it, the runner by what k6 cannot see.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::books::Books;
use crate::command::say;

const MIB: u64 = 1024 * 1024;

/// By scenario. What is k6's is not read here.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Limits(BTreeMap<String, Vec<Limit>>);

#[derive(Debug, Deserialize)]
struct Limit {
    /// By so many MiB each process may grow.
    memory_growth_mib: Option<u64>,
}

impl Limits {
    pub(super) fn read(scripts: &Path) -> Result<Self> {
        let path = scripts.join("thresholds.json");
        let text = std::fs::read_to_string(&path);
        let text = text.with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))
    }

    /// Shows each process's memory before and after, and tells whether none grew by more than it may.
    pub(super) fn memory_holds(&self, scenario: &str, before: &Books, after: &Books) -> bool {
        let limits = self.0.get(scenario).into_iter().flatten();
        let most = limits.filter_map(|limit| limit.memory_growth_mib).min();
        let mut holds = true;
        for (process, after) in &after.memory {
            let Some(before) = before.memory.get(process) else {
                continue;
            };
            let grown = after.saturating_sub(*before);
            let fits = most.is_none_or(|most| grown <= most * MIB);
            let verdict = match most {
                None => String::new(),
                Some(most) if fits => format!(", within {most} MiB more"),
                Some(most) => format!(": BROKEN, more than {most} MiB more"),
            };
            say(&format!(
                "{process}: {} MiB of memory before, {} after{verdict}",
                before / MIB,
                after / MIB
            ));
            holds &= fits;
        }
        holds
    }
}
