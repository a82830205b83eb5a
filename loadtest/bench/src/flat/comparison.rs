//! What came out: figures of both, their ratios, and the marks.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde::Serialize;

use super::size::Size;
use crate::config::Config;
use crate::load::Wrong;
use crate::measure::Role;
use crate::report::{Grid, Mark, Round, add_remarks, at_most, marks_table, range, thousands};
use crate::statistics::Summary;

/// CPU of a paid call with the large database, as a multiple of that with the small one.
const CPU_MAX: f64 = 1.1;
/// The same of the 99th percentile of its time.
const P99_MAX: f64 = 1.5;

/// Something that was measured of both.
#[derive(Clone, Copy)]
struct Figure {
    name: &'static str,
    unit: &'static str,
    value: fn(&Round) -> f64,
    /// What its mark is called and how large the ratio may be.
    mark: Option<(&'static str, f64)>,
}

const FIGURES: [Figure; 6] = [
    Figure {
        name: "gateway's CPU",
        unit: "µs",
        value: |round| of_roles(round, &[Role::Gateway]),
        mark: Some(("gateway CPU, paid call", CPU_MAX)),
    },
    Figure {
        name: "control plane's and Postgres's CPU",
        unit: "µs",
        value: |round| of_roles(round, &[Role::ControlPlane, Role::Postgres]),
        mark: Some(("control plane and Postgres CPU, paid call", CPU_MAX)),
    },
    Figure {
        name: "everybody's CPU",
        unit: "µs",
        value: |round| round.box_us.values().sum(),
        mark: Some(("everybody's CPU, paid call", CPU_MAX)),
    },
    Figure {
        name: "p50",
        unit: "ms",
        value: |round| round.p50_ms,
        mark: None,
    },
    Figure {
        name: "p99",
        unit: "ms",
        value: |round| round.p99_ms,
        mark: Some(("p99, paid call", P99_MAX)),
    },
    Figure {
        name: "calls a second",
        unit: "",
        value: |round| round.rate,
        mark: None,
    },
];

fn of_roles(round: &Round, roles: &[Role]) -> f64 {
    let us = |role| round.box_us.get(role).copied().unwrap_or_default();
    roles.iter().map(us).sum()
}

/// A figure of both, over all rounds.
#[derive(Clone, Debug, Serialize)]
struct Compared {
    name: &'static str,
    unit: &'static str,
    small: Summary,
    large: Summary,
    /// Of the large to the small one, round by round.
    ratio: Summary,
}

/// Everything there is to show.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Comparison {
    at: String,
    cpus: usize,
    rounds: u32,
    connections: u16,
    small: Size,
    large: Size,
    figures: Vec<Compared>,
    marks: Vec<Mark>,
    /// Calls measured and answered as expected, of both.
    requests: usize,
    pub(super) wrong: usize,
    wrong_shown: Vec<String>,
    notes: Vec<String>,
}

impl Comparison {
    /// Of the rounds of the small and of the large one.
    pub(super) fn of(
        config: &Config,
        large: Size,
        rounds: &[Vec<Round>; 2],
        wrong: Wrong,
        notes: Vec<String>,
    ) -> Self {
        let figures: Vec<(Figure, Compared)> = FIGURES
            .into_iter()
            .map(|figure| (figure, compare(figure, rounds)))
            .collect();
        let mark = |(figure, compared): &(Figure, Compared)| {
            let (name, limit) = figure.mark?;
            Some(at_most(name, compared.ratio, limit, "× the small one's"))
        };
        Self {
            at: crochet_shared::clock::rfc3339(crochet_shared::clock::now()),
            cpus: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            rounds: config.rounds(),
            connections: config.connections,
            small: Size::SMALL,
            large,
            marks: figures.iter().filter_map(mark).collect(),
            figures: figures.into_iter().map(|(_, compared)| compared).collect(),
            requests: rounds.iter().flatten().map(|round| round.requests).sum(),
            wrong: wrong.count,
            wrong_shown: wrong.shown,
            notes,
        }
    }

    /// A wrong answer always fails; a missed mark does when asked to.
    pub(super) fn exit_code(&self, check_marks: bool) -> ExitCode {
        let missed = check_marks && self.marks.iter().any(|mark| !mark.holds());
        if self.wrong > 0 || missed {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }

    /// For a person.
    pub(super) fn render(&self) -> String {
        let (few, many) = (
            thousands(self.small.ledger_rows),
            thousands(self.large.ledger_rows),
        );
        let others = thousands(self.large.listings);
        let mut text = String::new();
        // Writing to memory cannot fail.
        let _ = writeln!(
            text,
            "\nPaid calls among {few} ledger rows, listings and keys, and among {many} rows, {others} listings and keys\n\
             {}: {} rounds in turns, {} CPUs, {} connections\n",
            self.at, self.rounds, self.cpus, self.connections
        );
        let mut grid = Grid::new(&[
            "paid call",
            &few,
            "min–max",
            &many,
            "min–max",
            "×",
            "min–max",
        ]);
        for figure in &self.figures {
            let decimals = if figure.unit.is_empty() { 0 } else { 2 };
            let median = |summary: &Summary| format!("{:.decimals$}", summary.median);
            grid.row(vec![
                format!("{} {}", figure.name, figure.unit)
                    .trim_end()
                    .to_owned(),
                median(&figure.small),
                range(&figure.small, decimals),
                median(&figure.large),
                range(&figure.large, decimals),
                format!("{:.3}", figure.ratio.median),
                range(&figure.ratio, 3),
            ]);
        }
        let _ = writeln!(text, "{}\n\n{}\n", grid.render(), marks_table(&self.marks));
        let _ = writeln!(
            text,
            "{} calls measured and right, {} answers wrong",
            thousands(self.requests),
            self.wrong
        );
        add_remarks(&mut text, &self.wrong_shown, &self.notes);
        text
    }
}

fn compare(figure: Figure, rounds: &[Vec<Round>; 2]) -> Compared {
    let [small, large] = rounds
        .each_ref()
        .map(|rounds| rounds.iter().map(figure.value).collect::<Vec<f64>>());
    Compared {
        name: figure.name,
        unit: figure.unit,
        ratio: Summary::of_ratios(&large, &small),
        small: Summary::of(small),
        large: Summary::of(large),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use clap::Parser as _;

    use super::*;

    fn rounds(gateway: f64, postgres: f64, p99_ms: f64) -> Vec<Round> {
        let round = Round {
            requests: 10,
            box_us: BTreeMap::from([
                (Role::Gateway, gateway),
                (Role::ControlPlane, 40.0),
                (Role::Postgres, postgres),
            ]),
            rate: 1_000.0,
            p50_ms: 1.0,
            p99_ms,
            ..Round::default()
        };
        vec![round; 3]
    }

    fn comparison(large: Vec<Round>) -> Comparison {
        let config = Config::parse_from(["crochet-bench", "--only", "flat"]);
        let rounds = [rounds(50.0, 60.0, 10.0), large];
        let size = Size::of_rows(10_000_000);
        Comparison::of(&config, size, &rounds, Wrong::default(), Vec::new())
    }

    #[test]
    fn each_mark_holds_up_to_its_limit_and_no_further() {
        let holds = |large| -> Vec<bool> {
            let comparison = comparison(large);
            comparison.marks.iter().map(Mark::holds).collect()
        };
        assert_eq!(holds(rounds(54.9, 69.9, 14.9)), [true; 4]);
        assert_eq!(holds(rounds(55.1, 70.1, 15.1)), [false; 4]);
        assert_eq!(holds(Vec::new()), [false; 4]);
    }

    #[test]
    fn the_table_shows_both_and_how_many_times() {
        let text = comparison(rounds(60.0, 60.0, 12.0)).render();
        let line = |begin: &str| text.lines().find(|line| line.starts_with(begin)).unwrap();
        assert!(line("gateway's CPU µs").contains("50.00"), "{text}");
        assert!(line("gateway's CPU µs").contains("1.200"), "{text}");
        assert!(line("gateway CPU, paid call").ends_with("MISSES"), "{text}");
        assert!(line("p99, paid call").ends_with("holds"), "{text}");
    }
}
