//! `audit`: every invariant between payments and ledger.

use serde_json::json;

use super::paper::Paper;
use super::{Exit, Outcome};
use crate::db::Db;
use crate::ledger::audit::{INVARIANTS, violations};

/// Every violated invariant's rows, or `audit: no row`.
pub async fn audit(db: &Db) -> anyhow::Result<Outcome> {
    let found = violations(db.pool()).await?;
    let rows: Vec<_> = found
        .iter()
        .map(|(name, row)| json!({ "invariant": name, "what": row.what, "found": row.found }))
        .collect();
    let names: Vec<&str> = INVARIANTS.iter().map(|invariant| invariant.name).collect();
    let json = json!({ "invariants": names, "violations": rows });
    if found.is_empty() {
        return Outcome::new(Exit::Done, "audit: no row\n", &json);
    }
    let mut paper = Paper::default();
    for (name, row) in &found {
        paper.line(format_args!("{name}: {} {}", row.what, row.found));
    }
    paper.line(format_args!("audit: {} rows", found.len()));
    Outcome::new(Exit::Attention, paper.done(), &json)
}
