//! The table of what was asked for, `seed.md`: its tests are there, and no operation is missing in it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use control_plane::config::PUBLIC_BASE_URL_DEFAULT;
use control_plane::router;

const TABLE: &str = include_str!("seed.md");

/// The cells of every row.
fn rows() -> impl Iterator<Item = Vec<&'static str>> {
    TABLE
        .lines()
        .filter(|line| line.starts_with("| "))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
}

/// Every `file::function` of the page.
fn tests() -> impl Iterator<Item = (&'static str, &'static str)> {
    TABLE
        .split('`')
        .filter_map(|text| text.split_once(".rs::"))
        .map(|(file, name)| (file, name.trim()))
}

#[test]
fn every_test_of_the_table_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut seen = 0;
    for (file, name) in tests() {
        let text = fs::read_to_string(root.join(format!("{file}.rs")));
        let text = text.unwrap_or_else(|error| panic!("{file}.rs: {error}"));
        assert!(
            is_test(&text, name),
            "{file}.rs has no test of the name {name}"
        );
        seen += 1;
    }
    assert!(seen > 100, "{seen} tests");
}

/// Whether a file has a test: a function under a test's attribute, or one that `trials!` lists.
fn is_test(text: &str, name: &str) -> bool {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    // Alone or among others, and perhaps with what may run beside its long form.
    let listed = lines.iter().any(|line| {
        let entry = line.strip_prefix("trials!(").unwrap_or(line);
        let entry = entry.trim_end_matches([',', ')', ';']);
        entry.split(" => ").next() == Some(name)
    });
    let function = format!("fn {name}(");
    lines.iter().enumerate().any(|(at, line)| {
        let marked = lines
            .get(at.saturating_sub(1))
            .is_some_and(|above| above.starts_with("#[") && above.contains("test"));
        line.contains(&function) && (listed || marked)
    })
}

#[test]
fn every_row_names_its_tests() {
    for row in rows() {
        let head = row.last() == Some(&"Tests");
        let tested = row.last().is_some_and(|cell| cell.contains(".rs::"));
        assert!(head || tested, "{row:?}");
    }
}

#[test]
fn every_operation_has_its_row_and_every_row_its_operation() {
    let document = router::openapi(PUBLIC_BASE_URL_DEFAULT);
    let mut served = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let path = path.replace('{', ":").replace('}', "");
            served.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    let told: BTreeSet<String> = rows()
        .filter(|row| row.get(1).is_some_and(|path| path.starts_with('/')))
        .map(|row| row[..2].join(" "))
        .collect();
    assert_eq!(told, served);
}
