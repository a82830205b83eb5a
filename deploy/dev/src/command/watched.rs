//! What `deploy/` says about watching, read where both `observe` and `drill` need it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use crochet_dev::Checkout;
use serde_json::Value;

/// A panel's query.
#[derive(Debug)]
pub(crate) struct Query {
    /// The dashboard.
    pub(crate) dashboard: String,
    /// The panel.
    pub(crate) panel: String,
    /// Its expression, with the dashboard's variable filled in.
    pub(crate) expression: String,
}

/// `deploy/prometheus`
pub(crate) fn folder(checkout: &Checkout) -> PathBuf {
    checkout.root().join("deploy/prometheus")
}

/// The rules' text.
pub(crate) fn rules(checkout: &Checkout) -> Result<String> {
    let path = folder(checkout).join("rules.yml");
    std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
}

/// Every query of every panel; `window` stands for what Grafana would choose.
pub(crate) fn queries(checkout: &Checkout, window: &str) -> Result<Vec<Query>> {
    let folder = checkout.root().join("deploy/grafana");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder)
        .with_context(|| format!("reading {}", folder.display()))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .collect();
    paths.sort();
    let mut queries = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path)?;
        let json: Value =
            serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))?;
        let dashboard = path.file_stem().unwrap_or_default().to_string_lossy();
        let panels = json.get("panels").and_then(Value::as_array);
        for panel in panels.into_iter().flatten() {
            let text = |at: &str, of: &Value| {
                let found = of.get(at).and_then(Value::as_str);
                found.unwrap_or_default().to_owned()
            };
            let targets = panel.get("targets").and_then(Value::as_array);
            queries.extend(targets.into_iter().flatten().map(|target| Query {
                dashboard: dashboard.clone().into_owned(),
                panel: text("title", panel),
                expression: text("expr", target).replace("$__rate_interval", window),
            }));
        }
    }
    Ok(queries)
}

/// The metrics an expression names: ours, the process's, and `up`.
pub(crate) fn metrics(expression: &str) -> BTreeSet<String> {
    let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    expression
        .split(|c: char| !is_of_a_name(c))
        .filter(|word| {
            *word == "up"
                || ["gateway_", "crochet_", "process_"]
                    .iter()
                    .any(|begin| word.starts_with(begin))
        })
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_told_from_labels_and_functions() {
        let of = |text| metrics(text).into_iter().collect::<Vec<_>>();
        assert_eq!(
            of(
                "sum by (le) (rate(gateway_call_seconds_bucket{result=\"up\"}[5m])) / up{job=\"gateway\"}"
            ),
            ["gateway_call_seconds_bucket", "up"]
        );
        assert!(of("vector(0)").is_empty());
    }

    #[test]
    fn every_alert_has_its_heading_in_the_runbook_and_every_heading_its_alert() {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
        let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
        let alerts: BTreeSet<String> = read("deploy/prometheus/rules.yml")
            .lines()
            .filter_map(|line| line.trim().strip_prefix("- alert: ").map(str::to_owned))
            .collect();
        let headings: BTreeSet<String> = read("deploy/RUNBOOK.md")
            .lines()
            .filter_map(|line| line.strip_prefix("### ").map(str::to_owned))
            .collect();
        assert!(alerts.len() > 20);
        assert_eq!(alerts, headings);
        let links: Vec<String> = read("deploy/prometheus/rules.yml")
            .lines()
            .filter_map(|line| line.trim().strip_prefix("runbook_url: ").map(str::to_owned))
            .collect();
        let wanted: BTreeSet<String> = alerts
            .iter()
            .map(|alert| format!("deploy/RUNBOOK.md#{}", alert.to_lowercase()))
            .collect();
        assert_eq!(links.len(), alerts.len());
        assert_eq!(links.into_iter().collect::<BTreeSet<_>>(), wanted);
        let tested = read("deploy/prometheus/rules.test.yml");
        for alert in &alerts {
            assert!(tested.contains(&format!("name: {alert} fires")), "{alert}");
            assert!(
                tested.contains(&format!("name: {alert} keeps quiet")),
                "{alert}"
            );
        }
    }
}
