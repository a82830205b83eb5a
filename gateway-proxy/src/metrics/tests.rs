use std::collections::BTreeSet;
use std::path::Path;

use crochet_shared::metric::{Kind as Shape, table};
use crochet_shared::page::with_section;

use super::*;

const PAGE: &str = "../deploy/METRICS.md";

fn scrape() -> String {
    let recorder = recorder().unwrap().build_recorder();
    let handle = recorder.handle();
    metrics::with_local_recorder(&recorder, || {
        let metrics = Metrics::new();
        metrics.process.collect();
    });
    handle.render()
}

#[test]
fn the_list_and_a_scrape_name_the_same_metrics() {
    let scrape = scrape();
    let shown: BTreeSet<&str> = scrape
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .filter(|name| !name.starts_with("process_"))
        .collect();
    let listed: BTreeSet<&str> = names::ALL.iter().map(|metric| metric.name).collect();
    assert_eq!(listed.len(), names::ALL.len(), "a name stands twice");
    assert_eq!(shown, listed);
    assert!(scrape.contains("process_start_time_seconds"));
}

#[test]
fn every_series_with_listed_labels_stands_from_the_start() {
    let scrape = scrape();
    for metric in &names::ALL {
        for series in metric.series() {
            let labels: Vec<String> = series
                .iter()
                .map(|(name, value)| format!("{name}=\"{value}\""))
                .collect();
            let count = if metric.kind == Shape::Histogram {
                "_count"
            } else {
                ""
            };
            let shown = match labels.as_slice() {
                [] => format!("\n{}{count} ", metric.name),
                _ => format!("\n{}{count}{{{}}} ", metric.name, labels.join(",")),
            };
            assert!(scrape.contains(&shown), "{shown:?}");
        }
    }
}

#[test]
fn every_answer_has_a_counter_of_its_own() {
    let outcomes = [
        Kind::Delivered,
        Kind::Replayed,
        Kind::Pending,
        Kind::Tested,
        Kind::Preflight,
    ];
    let places: BTreeSet<usize> = Code::ALL
        .iter()
        .map(|code| place(Kind::Code(*code)))
        .chain(outcomes.map(place))
        .collect();
    assert_eq!(places.len(), Code::ALL.len() + outcomes.len());
    assert_eq!(places.last(), Some(&(answers("call").len() - 1)));
}

#[test]
fn an_internal_call_has_the_label_of_its_name() {
    assert_eq!(INTERNAL_CALLS[InternalCall::Keys as usize], "keys");
    assert_eq!(
        INTERNAL_CALLS[InternalCall::CreateQuote as usize],
        "quotes_create"
    );
    assert_eq!(INTERNAL_CALLS[InternalCall::Probes as usize], "probes");
    assert_eq!(INTERNAL_CALLS[InternalCall::KeysUsed as usize], "keys_used");
}

/// `CROCHET_WRITE=1 cargo test` writes the page instead.
#[test]
fn the_reference_page_shows_this_list() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = std::fs::read_to_string(&path).unwrap();
    let wanted = with_section(&page, "gateway-proxy", &table(&names::ALL)).unwrap();
    if std::env::var_os("CROCHET_WRITE").is_some() {
        std::fs::write(&path, wanted).unwrap();
    } else {
        assert!(
            page == wanted,
            "{PAGE} is behind; write it with CROCHET_WRITE=1"
        );
    }
}
