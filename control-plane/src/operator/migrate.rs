//! `migrate`: the database's schema.

use serde_json::json;

use super::paper::Paper;
use super::{Change, Exit, Outcome};
use crate::db::Db;

/// Applies what is missing of the schema, or lists it, and tells of indexes whose building broke off. Those are built
/// anew by a person: beside another who does so, it would wait for him, and he for it.
pub async fn migrate(db: &Db, change: &Change) -> anyhow::Result<Outcome> {
    let missing = db.migrations_pending().await?;
    if !change.dry_run {
        db.migrate().await?;
    }
    // Behind the migrations, because one that is tried again may have left one behind at its first try.
    let broken = db.broken_indexes().await?;
    let mut paper = Paper::default();
    for (version, description) in &missing {
        let word = change.tense("applied", "missing");
        paper.line(format_args!("{word} {version:04} {description}"));
    }
    for index in &broken {
        paper.line(format_args!(
            "half built: the index {index}; build it anew with `reindex index concurrently {index}`, or drop it if it \
             ends in _ccnew or _ccold"
        ));
    }
    let is_whole = missing.is_empty() && broken.is_empty();
    if is_whole {
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
        format_args!(
            "{} migrations, {} broken indexes",
            missing.len(),
            broken.len()
        ),
        result,
    );
    let json = json!({ "dry_run": change.dry_run, "migrations": listed, "broken_indexes": broken });
    let exit = if change.dry_run && !is_whole {
        Exit::Attention
    } else {
        Exit::Done
    };
    Outcome::new(exit, paper.done(), &json)
}
