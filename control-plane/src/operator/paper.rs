//! Text for a person at a terminal: lines, and columns that stand under each other.

use std::fmt::{self, Write as _};

use chrono::{DateTime, TimeDelta, Utc};
use crochet_shared::clock;

/// Between two columns.
const GAP: usize = 2;

/// Lines being written.
#[derive(Debug, Default)]
pub(super) struct Paper(String);

impl Paper {
    /// One more line.
    pub(super) fn line(&mut self, line: impl fmt::Display) -> &mut Self {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "{line}");
        self
    }

    /// A name and what it is, under the others.
    pub(super) fn pair(&mut self, name: &str, value: impl fmt::Display) -> &mut Self {
        self.line(format_args!("{name:<18} {value}"))
    }

    /// Rows under their heads, each column as wide as its widest cell.
    pub(super) fn table<const N: usize>(
        &mut self,
        heads: [&str; N],
        rows: &[[String; N]],
    ) -> &mut Self {
        let mut widths = heads.map(|head| head.chars().count());
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        self.row(&heads.map(str::to_owned), &widths);
        for row in rows {
            self.row(row, &widths);
        }
        self
    }

    fn row<const N: usize>(&mut self, cells: &[String; N], widths: &[usize; N]) {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(widths) {
            let _ = write!(line, "{cell:<width$}{:GAP$}", "");
        }
        self.line(line.trim_end());
    }

    /// All of it.
    pub(super) fn done(self) -> String {
        self.0
    }
}

/// A time for people: UTC, to the millisecond.
pub(super) fn moment(time: DateTime<Utc>) -> String {
    clock::rfc3339(time).replace('T', " ").replace('Z', "")
}

/// A time, or a dash.
pub(super) fn moment_or_dash(time: Option<DateTime<Utc>>) -> String {
    time.map_or_else(|| "-".to_owned(), moment)
}

/// How long something takes, in its two greatest units: `3 d 4 h`, `12 min 5 s`, `0.4 s`.
pub(super) fn span(span: TimeDelta) -> String {
    let millis = span.num_milliseconds().max(0);
    let (seconds, minutes, hours, days) = (
        millis / 1_000,
        millis / 60_000,
        millis / 3_600_000,
        millis / 86_400_000,
    );
    if days > 0 {
        format!("{days} d {} h", hours % 24)
    } else if hours > 0 {
        format!("{hours} h {} min", minutes % 60)
    } else if minutes > 0 {
        format!("{minutes} min {} s", seconds % 60)
    } else {
        format!("{}.{} s", seconds, millis % 1_000 / 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other() {
        let mut paper = Paper::default();
        paper.table(
            ["a", "long head"],
            &[
                ["wide cell".into(), "1".into()],
                ["x".into(), String::new()],
            ],
        );
        assert_eq!(paper.done(), "a          long head\nwide cell  1\nx\n");
    }

    #[test]
    fn spans_are_told_in_two_units() {
        for (millis, told) in [
            (450, "0.4 s"),
            (61_000, "1 min 1 s"),
            (3_660_000, "1 h 1 min"),
            (90_000_000, "1 d 1 h"),
            (-5, "0.0 s"),
        ] {
            assert_eq!(span(TimeDelta::milliseconds(millis)), told);
        }
    }
}
