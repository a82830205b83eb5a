//! `migrate`: the database's schema.

use serde_json::json;
use sqlx::AssertSqlSafe;

use super::paper::Paper;
use super::{Change, Exit, Outcome};
use crate::db::Db;

/// Indexes whose building broke off, and is not going on. Postgres keeps one and writes to it, reads nothing by
/// it, and `create index if not exists` takes it for done.
const BROKEN_INDEXES: &str = "select format('%I', c.relname)
    from pg_index i join pg_class c on c.oid = i.indexrelid
    where not i.indisvalid and c.relkind = 'i' and c.relnamespace = current_schema()::regnamespace
        and not exists (select from pg_stat_progress_create_index p where p.index_relid = i.indexrelid)
    order by c.relname";
/// How Postgres names what a rebuilding that broke off leaves beside the index it was to replace.
const HALF_REBUILT: &str = "_ccnew";

/// Applies what is missing of the schema and builds broken indexes anew, or lists both.
pub async fn migrate(db: &Db, change: &Change) -> anyhow::Result<Outcome> {
    let missing = db.migrations_pending().await?;
    if !change.dry_run {
        db.migrate().await?;
    }
    // Behind the migrations, because one that is tried again may have left one behind at its first try.
    let broken = broken_indexes(db).await?;
    if !change.dry_run {
        for index in &broken {
            build_anew(db, index).await?;
        }
    }
    let mut paper = Paper::default();
    for (version, description) in &missing {
        let word = change.tense("applied", "missing");
        paper.line(format_args!("{word} {version:04} {description}"));
    }
    for index in &broken {
        let word = change.tense("built anew: the index", "half built: the index");
        paper.line(format_args!("{word} {index}"));
    }
    let is_whole = missing.is_empty() && broken.is_empty();
    if is_whole {
        paper.line("the schema is up to date");
    }
    let listed: Vec<_> = missing
        .iter()
        .map(|(version, description)| json!({ "version": version, "description": description }))
        .collect();
    let result = if is_whole { "up to date" } else { "applied" };
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

/// Their names, quoted where they have to be.
async fn broken_indexes(db: &Db) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(BROKEN_INDEXES)
        .fetch_all(db.pool())
        .await
}

/// Concurrently: calls go on meanwhile.
async fn build_anew(db: &Db, index: &str) -> Result<(), sqlx::Error> {
    let statement = if index.contains(HALF_REBUILT) {
        format!("drop index concurrently if exists {index}")
    } else {
        format!("reindex index concurrently {index}")
    };
    sqlx::raw_sql(AssertSqlSafe(statement))
        .execute(db.pool())
        .await
        .map(drop)
}
