//! How memory went, minute by minute, and whether it stood still.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde::Serialize;

use crate::load::Wrong;
use crate::report::{Grid, Mark, add_remarks, at_most, marks_table, megabytes, range, thousands};
use crate::statistics::Summary;

/// Memory of the last third of a run, as a multiple of that of the second third. The first fills caches, pools
/// and the allocator's reserves and says nothing.
const GROWTH_MAX: f64 = 1.1;
/// How often memory is read.
pub(super) const SAMPLES_A_MINUTE: usize = 6;

/// Memory at one moment.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Sample {
    /// Made since the last sample.
    pub(super) purchases: usize,
    /// Resident bytes.
    pub(super) gateway: u64,
    pub(super) control_plane: u64,
}

/// A whole run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Course {
    at: String,
    minutes: u32,
    /// Whole purchases a second that the machine makes at the most.
    saturated: f64,
    /// The share of all CPUs' time that was used meanwhile.
    pub(super) busy: f64,
    samples: Vec<Sample>,
    marks: Vec<Mark>,
    pub(super) wrong: usize,
    wrong_shown: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// A service's bytes in a sample.
type Of = fn(&Sample) -> u64;

const SERVICES: [(&str, Of); 2] = [
    ("gateway's memory, last third", |sample| sample.gateway),
    ("control plane's memory, last third", |sample| {
        sample.control_plane
    }),
];

impl Course {
    pub(super) fn new(minutes: u32, saturated: f64) -> Self {
        Self {
            at: String::new(),
            minutes,
            saturated,
            busy: 0.0,
            samples: Vec::new(),
            marks: Vec::new(),
            wrong: 0,
            wrong_shown: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, sample: Sample) {
        self.samples.push(sample);
    }

    /// When all is over: what was wrong, and the marks.
    pub(super) fn judge(&mut self, wrong: Wrong) {
        self.at = crochet_shared::clock::rfc3339(crochet_shared::clock::now());
        (self.wrong, self.wrong_shown) = (wrong.count, wrong.shown);
        let growth = |(name, of)| {
            at_most(
                name,
                growth(&self.samples, of),
                GROWTH_MAX,
                "× the second third",
            )
        };
        self.marks = SERVICES.into_iter().map(growth).collect();
    }

    /// A wrong answer always fails; growth does when asked to.
    pub(super) fn exit_code(&self, check_marks: bool) -> ExitCode {
        let missed = check_marks && self.marks.iter().any(|mark| !mark.holds());
        if self.wrong > 0 || missed {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }

    /// For who watches, when a minute is full.
    pub(super) fn last_minute(&self) -> Option<String> {
        let (minutes, none) = self.samples.as_chunks::<SAMPLES_A_MINUTE>();
        let last = minutes.last().filter(|_| none.is_empty())?;
        let [gateway, control_plane] = SERVICES.map(|(_, of)| median(last, of));
        Some(format!(
            "minute {} of {}: gateway {gateway:.1} MB, control plane {control_plane:.1} MB",
            minutes.len(),
            self.minutes
        ))
    }

    /// For a person.
    pub(super) fn render(&self) -> String {
        let mut grid = Grid::new(&["minute", "purchases", "gateway MB", "control plane MB"]);
        for (before, samples) in self.samples.chunks(SAMPLES_A_MINUTE).enumerate() {
            let [gateway, control_plane] = SERVICES.map(|(_, of)| median(samples, of));
            grid.row(vec![
                (before + 1).to_string(),
                thousands(samples.iter().map(|sample| sample.purchases).sum::<usize>()),
                format!("{gateway:.1}"),
                format!("{control_plane:.1}"),
            ]);
        }
        let mut text = format!(
            "\nMemory over {} minutes of whole purchases at half of {:.0} a second, all CPUs {:.0} % busy\n{}\n\n",
            self.minutes,
            self.saturated,
            self.busy * 100.0,
            self.at
        );
        // Writing to memory cannot fail.
        let _ = writeln!(text, "{}\n\n{}\n", grid.render(), marks_table(&self.marks));
        for (name, of) in SERVICES {
            let all = Summary::of(self.samples.iter().map(|sample| megabytes(of(sample))));
            let _ = writeln!(
                text,
                "{}: {} MB over the run",
                name.replace(", last third", ""),
                range(&all, 1)
            );
        }
        let purchases: usize = self.samples.iter().map(|sample| sample.purchases).sum();
        let _ = writeln!(
            text,
            "{} purchases, {} answers wrong",
            thousands(purchases),
            self.wrong
        );
        add_remarks(&mut text, &self.wrong_shown, &self.notes);
        text
    }
}

/// Median megabytes.
fn median(samples: &[Sample], of: Of) -> f64 {
    Summary::of(samples.iter().map(|sample| megabytes(of(sample)))).median
}

/// The last third against the median of the second, its median and how far its samples lie apart; nothing when
/// there are too few.
fn growth(samples: &[Sample], of: Of) -> Summary {
    let third = samples.len() / 3;
    let of_third = |begin: usize| samples.get(begin..begin + third).unwrap_or_default();
    let second = median(of_third(samples.len() - 2 * third), of);
    if second <= 0.0 {
        return Summary::default();
    }
    let last = of_third(samples.len() - third);
    Summary::of(last.iter().map(|sample| megabytes(of(sample)) / second))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten minutes of which `gateway` says the megabytes by the number of the sample.
    fn course(gateway: impl Fn(u64) -> u64) -> Course {
        let mut course = Course::new(10, 250.0);
        for number in 1..=60 {
            course.push(Sample {
                purchases: 1_000,
                gateway: gateway(number) * 1_000_000,
                control_plane: 40_000_000,
            });
        }
        course.judge(Wrong::default());
        course
    }

    fn holds(course: &Course) -> Vec<bool> {
        course.marks.iter().map(Mark::holds).collect()
    }

    #[test]
    fn memory_that_stands_after_a_warm_up_is_flat_and_a_leak_is_not() {
        assert_eq!(holds(&course(|number| 30 + number.min(20))), [true, true]);
        // A spike is no growth; its median counts.
        assert_eq!(
            holds(&course(|number| if number == 55 { 90 } else { 50 })),
            [true, true]
        );
        assert_eq!(holds(&course(|number| 30 + number / 2)), [false, true]);
    }

    #[test]
    fn too_few_samples_do_not_hold() {
        let mut course = Course::new(10, 250.0);
        course.judge(Wrong::default());
        assert_eq!(holds(&course), [false, false]);
    }

    #[test]
    fn each_minute_is_a_row() {
        let text = course(|_| 50).render();
        let minutes = text.lines().filter(|line| line.contains("6,000")).count();
        assert_eq!(minutes, 10, "{text}");
        assert!(text.contains("60,000 purchases, 0 answers wrong"), "{text}");
    }
}
