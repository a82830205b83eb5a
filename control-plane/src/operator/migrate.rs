//! `migrate`: the database's schema.

use serde_json::json;

use super::paper::Paper;
use super::{Change, Exit, Outcome};
use crate::db::Db;

/// Applies what is missing of the schema, or lists it.
pub async fn migrate(db: &Db, change: &Change) -> anyhow::Result<Outcome> {
    let missing = db.migrations_pending().await?;
    if !change.dry_run {
        db.migrate().await?;
    }
    let mut paper = Paper::default();
    for (version, description) in &missing {
        let word = change.tense("applied", "missing");
        paper.line(format_args!("{word} {version:04} {description}"));
    }
    if missing.is_empty() {
        paper.line("the schema is up to date");
    }
    let listed: Vec<_> = missing
        .iter()
        .map(|(version, description)| json!({ "version": version, "description": description }))
        .collect();
    let result = if missing.is_empty() {
        "up to date"
    } else {
        "applied"
    };
    change.log(
        "migrate",
        format_args!("{} migrations", missing.len()),
        result,
    );
    let json = json!({ "dry_run": change.dry_run, "migrations": listed });
    let exit = if change.dry_run && !missing.is_empty() {
        Exit::Attention
    } else {
        Exit::Done
    };
    Outcome::new(exit, paper.done(), &json)
}
