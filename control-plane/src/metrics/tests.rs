use std::collections::BTreeSet;
use std::path::Path;

use crochet_shared::metric::table;
use crochet_shared::page::with_section;

use super::*;

const PAGE: &str = "../deploy/METRICS.md";

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_series_with_listed_labels_stands_from_the_start() {
    let recorder = recorder().unwrap().build_recorder();
    let handle = recorder.handle();
    metrics::with_local_recorder(&recorder, describe);
    let scrape = handle.render();
    let shown: BTreeSet<&str> = scrape
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let listed: BTreeSet<&str> = names::ALL
        .iter()
        .filter(|metric| !metric.series().is_empty())
        .map(|metric| metric.name)
        .collect();
    assert_eq!(shown, listed);
    assert!(scrape.contains("crochet_evidence_total{result=\"mismatch\"} 0"));
    assert!(scrape.contains("crochet_settlement_lag_seconds_bucket{le=\"86400\"} 0"));
    let distinct: BTreeSet<&str> = names::ALL.iter().map(|metric| metric.name).collect();
    assert_eq!(distinct.len(), names::ALL.len(), "a name stands twice");
}

/// What is counted under a name of its own would stand in no list and on no page.
#[test]
fn nothing_is_counted_but_by_a_name_of_the_list() {
    let mut folders = vec![here().join("src")];
    let mut counted = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let source = std::fs::read_to_string(&path).unwrap();
            for shape in ["counter", "gauge", "histogram"] {
                let call = format!("metrics::{shape}!(");
                for (at, _) in source.match_indices(&call) {
                    let argument = source[at + call.len()..].trim_start();
                    let known = argument.contains("names::") && argument.find("names::") < Some(20)
                        || argument.starts_with("metric.");
                    assert!(known || path.ends_with("tests.rs"), "{}", path.display());
                    counted += 1;
                }
            }
        }
    }
    assert!(counted > 20);
}

/// `CROCHET_WRITE=1 cargo test` writes the page instead.
#[test]
fn the_reference_page_shows_this_list() {
    let path = here().join(PAGE);
    let page = std::fs::read_to_string(&path).unwrap();
    let wanted = with_section(&page, "control-plane", &table(&names::ALL)).unwrap();
    if std::env::var_os("CROCHET_WRITE").is_some() {
        std::fs::write(&path, wanted).unwrap();
    } else {
        assert!(
            page == wanted,
            "{PAGE} is behind; write it with CROCHET_WRITE=1"
        );
    }
}
