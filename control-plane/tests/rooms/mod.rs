//! The rules of the house that a compiler does not enforce.
#![expect(
    clippy::unwrap_used,
    reason = "a test that meets what it does not expect is to fail, there and then"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms in order: each may import those before it. A payment's state and its transfers move in one
/// statement, so payments post to the ledger, and the ledger knows nothing of payments.
const ROOMS: [&str; 8] = [
    "identity",
    "catalog",
    "endpoints",
    "ledger",
    "payments",
    "reviews",
    "docs",
    "operator",
];
/// Where each file is its statements: what posts to the ledger, what pays out, what sums it, what reads it and
/// what audits it.
const LEDGER_STATEMENTS: [&str; 6] = [
    "ledger/post.rs",
    "ledger/payout.rs",
    "ledger/totals.rs",
    "ledger/view.rs",
    "ledger/audit.rs",
    "ledger/audit/hours.rs",
];

fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
    found
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The code without its comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
}

#[test]
fn rooms_import_leftwards_only() {
    for (place, room) in ROOMS.iter().enumerate() {
        for (path, text) in sources(&source().join(room)) {
            for right in &ROOMS[place + 1..] {
                let wrong = code(&text).find(|line| names(line, right));
                assert_eq!(wrong, None, "{} imports {right}", path.display());
            }
        }
    }
}

/// Whether a line reaches into a room: `crate::room`, or `room` within `use crate::{…}`.
fn names(line: &str, room: &str) -> bool {
    let listed = line
        .trim_start()
        .strip_prefix("use crate::{")
        .is_some_and(|list| {
            list.split(|c: char| !c.is_alphanumeric() && c != '_')
                .any(|name| name == room)
        });
    line.contains(&format!("crate::{room}::"))
        || line.contains(&format!("crate::{room};"))
        || listed
}

#[test]
fn rooms_are_entered_through_their_door() {
    for (path, text) in sources(&source()) {
        for room in ["identity", "catalog", "endpoints", "reviews"] {
            if path.starts_with(source().join(room)) {
                continue;
            }
            for inside in
                code(&text).filter_map(|line| line.split(&format!("crate::{room}::")).nth(1))
            {
                let inner = inside.split("::").count() > 1
                    && inside
                        .split("::")
                        .next()
                        .is_some_and(|name| name.chars().all(|c| c.is_lowercase() || c == '_'));
                assert!(!inner, "{} reaches into {room}: {inside}", path.display());
            }
        }
    }
}

#[test]
fn sql_stands_in_stores_alone() {
    for (path, text) in sources(&source()) {
        let in_store = path.file_stem().is_some_and(|stem| stem == "store")
            || path.components().any(|part| part.as_os_str() == "store");
        let in_ledger = LEDGER_STATEMENTS.iter().any(|file| path.ends_with(file));
        if in_store || in_ledger || path.ends_with("db.rs") {
            continue;
        }
        for call in [
            "query!(",
            "query_as!(",
            "query_scalar!(",
            "sqlx::query(",
            "sqlx::query_as(",
            "sqlx::query_scalar(",
        ] {
            // A session's lock is no data of anyone's.
            let wrong = code(&text)
                .filter(|line| !line.contains("select pg_advisory_"))
                .find(|line| line.contains(call));
            assert_eq!(wrong, None, "{} holds SQL", path.display());
        }
    }
}
