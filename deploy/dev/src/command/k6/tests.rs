//! The command's own rules, and the folder of scripts held to them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use clap::Parser as _;
use serde_json::Value;

use super::books::{Books, Seen, differences};
use super::*;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    arguments: Arguments,
}

fn parse(words: &[&str]) -> Result<Arguments, clap::Error> {
    let words = std::iter::once("k6").chain(words.iter().copied());
    Line::try_parse_from(words).map(|line| line.arguments)
}

fn names() -> BTreeSet<String> {
    let all = Scenario::value_variants().iter();
    all.map(|scenario| scenario.name()).collect()
}

fn folder() -> PathBuf {
    scripts(&Checkout::find().unwrap())
}

#[test]
fn a_scenario_is_named_as_its_script_is() {
    let arguments = parse(&["paid_call"]).unwrap();
    assert_eq!(arguments.scenario, Some(Scenario::PaidCall));
    assert!(arguments.options.is_empty() && arguments.rate.is_none());
    let error = parse(&["paid-call"]).unwrap_err().to_string();
    assert!(error.contains("paid_call"), "{error}");
}

#[test]
fn without_a_scenario_only_the_list_is_shown() {
    parse(&[]).unwrap_err();
    assert!(parse(&["--list"]).unwrap().list);
    let list = listed();
    for name in names() {
        let line = list.lines().find(|line| line.trim().starts_with(&name));
        assert!(line.is_some_and(|line| line.len() > 30), "{name}: {list}");
    }
}

#[test]
fn options_of_k6_stand_after_two_dashes() {
    let arguments = parse(&["soak", "--rate", "5", "--", "--out", "csv=x", "--rate"]).unwrap();
    assert_eq!(arguments.options, ["--out", "csv=x", "--rate"]);
    assert_eq!(arguments.rate, Some(5));
    parse(&["soak", "--out", "csv=x"]).unwrap_err();
    parse(&["soak", "--rate", "0"]).unwrap_err();
}

#[test]
fn a_duration_is_a_whole_number_of_one_unit() {
    for (text, seconds) in [("40s", 40), ("10m", 600), ("2h", 7_200)] {
        assert_eq!(duration(text), Ok(Duration::from_secs(seconds)));
    }
    for text in ["", "s", "10", "1.5m", "1h30m", "-1s", "0s", "10d", "1€"] {
        duration(text).unwrap_err();
    }
}

#[test]
fn the_scripts_are_told_what_was_asked_for_and_nothing_else() {
    let told = |words: &[&str]| {
        let told = environment(&parse(words).unwrap(), Path::new("/s"), Path::new("/r"));
        let asked = told
            .into_iter()
            .filter(|(name, _)| matches!(*name, "CROCHET_RATE" | "CROCHET_SECONDS"));
        asked.map(|(_, value)| value).collect::<Vec<_>>()
    };
    assert!(told(&["browse"]).is_empty(), "a script knows its defaults");
    let asked = told(&["browse", "--rate=7", "--duration=2m"]);
    assert_eq!(asked, ["7", "120"]);
}

#[test]
fn k6_speaks_to_nobody_but_the_stack() {
    let told = environment(&parse(&["soak"]).unwrap(), Path::new("/s"), Path::new("/r"));
    assert!(told.contains(&("K6_NO_USAGE_REPORT", "true".to_owned())));
}

#[test]
fn every_script_of_the_folder_is_a_scenario_and_every_scenario_has_one() {
    let scripts: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "js"))
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(scripts, names());
}

#[test]
fn every_scenario_has_thresholds_and_every_threshold_a_reason() {
    let text = std::fs::read_to_string(folder().join("thresholds.json")).unwrap();
    let limits: BTreeMap<String, Vec<BTreeMap<String, Value>>> =
        serde_json::from_str(&text).unwrap();
    let mut known = names();
    known.insert("every".to_owned());
    assert_eq!(limits.keys().cloned().collect::<BTreeSet<_>>(), known);
    let forms = [
        ["limit", "metric", "why"].as_slice(),
        &["metric", "share_of_planned", "why"],
        &["memory_growth_mib", "why"],
    ];
    for (scenario, limits) in &limits {
        assert!(!limits.is_empty(), "{scenario} has no thresholds");
        for limit in limits {
            let keys: Vec<&str> = limit.keys().map(String::as_str).collect();
            assert!(forms.contains(&keys.as_slice()), "{scenario}: {limit:?}");
            let why = limit["why"].as_str().unwrap();
            assert!(why.len() > 20, "{scenario}: {limit:?}");
        }
    }
}

#[test]
fn the_runner_reads_the_thresholds_that_are_its_own() {
    let limits = Limits::read(&folder()).unwrap();
    let weigh = |mib: u64| Books {
        memory: BTreeMap::from([("gateway 1".to_owned(), mib << 20)]),
        ..Books::default()
    };
    assert!(limits.memory_holds("soak", &weigh(30), &weigh(60)));
    assert!(!limits.memory_holds("soak", &weigh(30), &weigh(300)));
    assert!(limits.memory_holds("browse", &weigh(30), &weigh(300)));
}

/// Figures of k6 with so many answers delivered and so many purchases received.
fn seen(answers: u64, purchases: u64) -> Seen {
    let count = |count| serde_json::json!({ "values": { "count": count } });
    Seen::of(&serde_json::json!({ "metrics": {
        "gateway_answers": count(1_000),
        "gateway_answers{result:delivered}": count(answers),
        "purchases_delivered": count(purchases),
    }}))
    .unwrap()
}

/// Books in which a gateway delivered three calls, of which one was made before, as it was sold.
fn books(before: bool) -> Books {
    let mut books = Books::default();
    let delivered = if before { 1 } else { 3 };
    let metrics = format!(
        "# TYPE gateway_answers_total counter\n\
         gateway_answers_total{{route=\"call\",result=\"delivered\"}} {delivered}\n\
         gateway_answers_total{{result=\"SELLER_TIMEOUT\"}} 0\n\
         gateway_passed_total 9\n"
    );
    books::count_answers(&metrics, &mut books.answers);
    books.calls = (0..delivered).map(|n| (format!("gw_req_{n}"), 1)).collect();
    books.sold = delivered;
    books
}

#[test]
fn books_agree_when_all_tell_the_same_of_this_run() {
    let found = differences(&books(true), &books(false), &seen(2, 2));
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn a_call_that_somebody_counts_otherwise_is_told() {
    let found = differences(&books(true), &books(false), &seen(1, 2)).join("\n");
    assert!(found.contains("gateways counted 2, k6 saw 1"), "{found}");
    let found = differences(&books(true), &books(false), &seen(2, 1)).join("\n");
    assert!(found.contains("2 calls sold, k6 received 1"), "{found}");
    let mut twice = books(false);
    twice.calls.insert("gw_req_2".to_owned(), 2);
    let found = differences(&books(true), &twice, &seen(2, 2)).join("\n");
    assert!(
        found.contains("1 requests came to the seller more"),
        "{found}"
    );
    assert!(found.contains("called 3 times for 2 calls sold"), "{found}");
    let mut unsigned = books(false);
    unsigned.unsigned = 1;
    let found = differences(&books(true), &unsigned, &seen(2, 2));
    assert_eq!(found, ["1 calls came to the seller unsigned"]);
}

#[test]
fn a_call_that_failed_at_the_seller_is_not_missing_in_the_ledger() {
    let mut after = books(false);
    after.answers.insert("SELLER_TIMEOUT".to_owned(), 1);
    after.calls.insert("gw_req_late".to_owned(), 1);
    let mut seen = seen(2, 2);
    seen.answers.insert("SELLER_TIMEOUT".to_owned(), 1);
    assert_eq!(
        differences(&books(true), &after, &seen),
        Vec::<String>::new()
    );
}
