//! The report as text for a person.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::grid::Grid;
use super::mark::{Mark, Side};
use super::{Added, Durability, Report, Row};
use crate::idle::IdleConnections;
use crate::measure::Role;
use crate::statistics::Summary;
use crate::subject::Subject;

/// The whole report.
pub(crate) fn render(report: &Report) -> String {
    let mut text = String::new();
    // Writing to memory cannot fail.
    let _ = writeln!(
        text,
        "\nCrochet bench ({}), {}: {} rounds in turns, {} CPUs, answers of {} bytes and some\n",
        report.name, report.at, report.rounds, report.cpus, report.answer_filler_bytes
    );
    let parts = [
        Some(paths(report)),
        Some(whole_box(report)),
        (!report.marks.is_empty()).then(|| marks_table(&report.marks)),
    ];
    for part in parts.into_iter().flatten() {
        let _ = writeln!(text, "{part}\n");
    }
    if report.row(Subject::Paid).is_some() {
        let _ = writeln!(text, "{}", durability(&report.durability));
    }
    if let Some(added) = report.added {
        let _ = writeln!(text, "{}", latency(&added));
    }
    if let Some(idle) = report.idle_connections {
        let _ = writeln!(text, "{}", idle_connections(idle));
    }
    if !report.memory.idle.is_empty() {
        let _ = writeln!(text, "{}", memory(report));
    }
    let _ = writeln!(
        text,
        "{} requests measured and right, {} answers wrong",
        thousands(report.requests),
        report.wrong
    );
    add_remarks(&mut text, &report.wrong_shown, &report.notes);
    text
}

/// Adds what was wrong, and what a reader should know, a line each.
pub(crate) fn add_remarks(text: &mut String, wrong: &[String], notes: &[String]) {
    for what in wrong {
        let _ = writeln!(text, "  wrong: {what}");
    }
    for note in notes {
        let _ = writeln!(text, "  note: {note}");
    }
}

/// In the order of a round.
fn ordered(report: &Report) -> impl Iterator<Item = &Row> {
    Subject::ALL
        .into_iter()
        .filter_map(|subject| report.row(subject))
}

fn paths(report: &Report) -> String {
    let mut grid = Grid::new(&[
        "proxy's own CPU, a request",
        "µs",
        "min–max",
        "× pingora",
        "min–max",
        "× nginx",
        "requests",
        "connections",
        "a second",
        "p50 ms",
        "p99 ms",
    ]);
    for row in ordered(report) {
        grid.row(vec![
            row.subject.label().to_owned(),
            format!("{:.1}", row.cpu_us.median),
            range(&row.cpu_us, 1),
            if_it_has_a_proxy(row, format!("{:.2}", row.against_pingora.median)),
            if_it_has_a_proxy(row, range(&row.against_pingora, 2)),
            if_it_has_a_proxy(row, format!("{:.2}", row.against_nginx.median)),
            thousands(row.requests),
            row.connections.to_string(),
            format!("{:.0}", row.rate.median),
            format!("{:.2}", row.p50_ms),
            format!("{:.2}", row.p99_ms),
        ]);
    }
    grid.render()
}

/// Nothing to compare where there is no proxy.
fn if_it_has_a_proxy(row: &Row, cell: String) -> String {
    if row.subject.has_a_proxy() {
        cell
    } else {
        "·".to_owned()
    }
}

/// Who the CPU of the whole machine went to.
fn whole_box(report: &Report) -> String {
    const LEAST_US: f64 = 0.05;
    let roles: BTreeMap<Role, f64> = report.rows.iter().flat_map(|row| row.box_us.clone()).fold(
        BTreeMap::new(),
        |mut all, (role, us)| {
            let most = all.entry(role).or_insert(us);
            *most = most.max(us);
            all
        },
    );
    let shown: Vec<Role> = roles
        .into_iter()
        .filter(|(_, us)| *us >= LEAST_US)
        .map(|(role, _)| role)
        .collect();
    let mut head = vec!["everybody's CPU, µs a request"];
    head.extend(shown.iter().map(|role| role.label()));
    head.push("all");
    let mut grid = Grid::new(&head);
    for row in ordered(report) {
        let us = |role: &Role| row.box_us.get(role).copied().unwrap_or_default();
        let mut cells = vec![row.subject.label().to_owned()];
        cells.extend(shown.iter().map(|role| {
            if us(role) < LEAST_US {
                "·".to_owned()
            } else {
                format!("{:.1}", us(role))
            }
        }));
        cells.push(format!("{:.1}", row.box_us.values().sum::<f64>()));
        grid.row(cells);
    }
    grid.render()
}

/// Each mark with what was measured, and whether it holds.
pub(crate) fn marks_table(marks: &[Mark]) -> String {
    let mut grid = Grid::new(&["mark", "measured", "min–max", "wanted", ""]);
    for mark in marks {
        grid.row(vec![
            mark.name.to_owned(),
            format!("{:.2}", mark.measured.median),
            range(&mark.measured, 2),
            wanted(mark),
            if mark.holds() { "holds" } else { "MISSES" }.to_owned(),
        ]);
    }
    grid.render()
}

fn wanted(mark: &Mark) -> String {
    let sign = match mark.side {
        Side::AtMost => "≤",
        Side::AtLeast => "≥",
    };
    format!("{sign} {} {}", rounded(mark.limit), mark.unit)
        .trim_end()
        .to_owned()
}

fn durability(durability: &Durability) -> String {
    const LEAST_BYTES: f64 = 20.0;
    let mut text = format!(
        "Postgres's log for a paid call: {:.0} bytes ({}) in {:.1} records, and {:.0} bytes of page images",
        durability.log_bytes.median,
        range(&durability.log_bytes, 0),
        durability.log_records.median,
        durability.log_image_bytes.median,
    );
    let kinds = durability
        .log_kinds
        .iter()
        .filter(|kind| kind.bytes >= LEAST_BYTES);
    let told: Vec<String> = kinds
        .map(|kind| {
            format!(
                "{} {:.1} of {:.0} bytes in all",
                kind.name, kind.records, kind.bytes
            )
        })
        .collect();
    if !told.is_empty() {
        let _ = write!(text, "\n  of it: {}", told.join(", "));
    }
    if let Some(counted) = durability.round_trips {
        let _ = write!(
            text,
            "\nround trips to Postgres: {:.2} a batch, in {} batches of {:.1} calls, and {:.2} of background work",
            counted.a_batch, counted.batches, counted.calls_a_batch, counted.others_a_batch
        );
    }
    text
}

/// A limit that follows from a measurement has more digits than anybody reads.
fn rounded(limit: f64) -> f64 {
    (limit * 100.0).round() / 100.0
}

fn latency(added: &Added) -> String {
    format!(
        "added to the seller's own latency at {:.0} paid calls a second: p50 {:.2} ms ({}), p99 {:.2} ms ({}); \
         a durable commit of one row: {:.2} ms ({})",
        added.rate,
        added.p50_ms.median,
        range(&added.p50_ms, 2),
        added.p99_ms.median,
        range(&added.p99_ms, 2),
        added.commit_ms.median,
        range(&added.commit_ms, 2),
    )
}

fn idle_connections(idle: IdleConnections) -> String {
    format!(
        "gateway with {} idle connections: {:.1} MB, without {:.1} MB, {:.1} KiB for each",
        thousands(idle.connections),
        megabytes(idle.after),
        megabytes(idle.before),
        idle.kib_each()
    )
}

fn memory(report: &Report) -> String {
    let list = |memory: &BTreeMap<Role, u64>| {
        let each: Vec<String> = memory
            .iter()
            .map(|(role, bytes)| format!("{} {:.1} MB", role.label(), megabytes(*bytes)))
            .collect();
        format!(
            "{}, together {:.1} MB",
            each.join(", "),
            megabytes(memory.values().sum())
        )
    };
    format!(
        "memory idle: {}; after the run: {}",
        list(&report.memory.idle),
        list(&report.memory.after)
    )
}

/// Millions of bytes.
#[expect(
    clippy::cast_precision_loss,
    reason = "bytes of memory are far below 2^52"
)]
pub(crate) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// From the smallest to the largest.
pub(crate) fn range(summary: &Summary, decimals: usize) -> String {
    format!("{:.decimals$}–{:.decimals$}", summary.min, summary.max)
}

/// 1234567 as 1,234,567.
pub(crate) fn thousands(number: impl std::fmt::Display) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn thousands_are_grouped() {
        let cases = [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_234_567, "1,234,567"),
        ];
        for (number, text) in cases {
            assert_eq!(thousands(number), text);
        }
    }

    #[test]
    fn the_table_says_which_marks_hold() {
        let text = render(&report([50.0, 80.0, 20.0], [10_000.0, 2_000.0], 60, 0));
        let line = |begin: &str| {
            text.lines()
                .find(|line| line.starts_with(begin))
                .unwrap()
                .to_owned()
        };
        assert!(
            line("gateway CPU, paid").contains("1.60")
                && line("gateway CPU, paid").ends_with("MISSES"),
            "{text}"
        );
        assert!(
            line("gateway CPU, 402").contains("0.40")
                && line("gateway CPU, 402").ends_with("holds"),
            "{text}"
        );
        assert!(line("durable paid").ends_with("holds"), "{text}");
        assert!(
            line("memory idle: gateway 60.0 MB").contains("together 60.0 MB"),
            "{text}"
        );
        assert!(
            text.contains("160 requests measured and right, 0 answers wrong"),
            "{text}"
        );
    }

    #[test]
    fn what_stands_below_the_tables_is_told() {
        let text = render(&report([50.0, 60.0, 20.0], [10_000.0, 2_000.0], 60, 0));
        for told in [
            "2048 bytes (2048–2048) in 11.0 records, and 100 bytes of page images",
            "of it: Heap/INSERT 4.0 of 1000 bytes in all",
            "2.00 a batch, in 100 batches of 40.0 calls",
            "p50 1.00 ms (1.00–1.00), p99 4.00 ms (4.00–4.00); a durable commit of one row: 0.50 ms",
            "1,000 idle connections: 40.2 MB, without 30.0 MB, 10.0 KiB for each",
        ] {
            assert!(text.contains(told), "{told} is missing in {text}");
        }
    }

    #[test]
    fn rows_stand_in_the_order_of_a_round() {
        let text = render(&report([50.0, 60.0, 20.0], [10_000.0, 2_000.0], 60, 0));
        let place = |subject: Subject| text.find(subject.label()).unwrap();
        assert!(
            place(Subject::Pingora) < place(Subject::Paid)
                && place(Subject::Paid) < place(Subject::Nginx)
        );
    }
}
