//! What a metric is, as operators read of it: a name, a kind, labels with their values, a sentence.
//!
//! Each service has one list of its metrics. What is described to the recorder, what stands at zero
//! before anything happened, and the reference page are made from that list, so that none of them can
//! name what another does not.

use std::fmt::Write as _;

/// How a metric counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises; starts anew with the process.
    Counter,
    /// What is now.
    Gauge,
    /// How many, and how much, by size.
    Histogram,
}

/// A label and its values; none listed are values of the code's own (routes, codes, names of
/// transactions), which are bounded too. No label ever names a listing, a key or an agent.
pub type Label = (&'static str, &'static [&'static str]);

/// A metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Its labels.
    pub labels: &'static [Label],
    /// What it says, in a sentence.
    pub says: &'static str,
}

impl Metric {
    /// A counter.
    pub const fn counter(name: &'static str, labels: &'static [Label], says: &'static str) -> Self {
        Self::new(name, Kind::Counter, labels, says)
    }

    /// A gauge.
    pub const fn gauge(name: &'static str, labels: &'static [Label], says: &'static str) -> Self {
        Self::new(name, Kind::Gauge, labels, says)
    }

    /// A histogram.
    pub const fn histogram(
        name: &'static str,
        labels: &'static [Label],
        says: &'static str,
    ) -> Self {
        Self::new(name, Kind::Histogram, labels, says)
    }

    const fn new(
        name: &'static str,
        kind: Kind,
        labels: &'static [Label],
        says: &'static str,
    ) -> Self {
        Self {
            name,
            kind,
            labels,
            says,
        }
    }

    /// Every series it has, as names and values of its labels. None when a label's values are not
    /// listed: those series appear when they are first counted.
    pub fn series(&self) -> Vec<Vec<(&'static str, &'static str)>> {
        let mut series = vec![Vec::new()];
        for (name, values) in self.labels {
            series = series
                .into_iter()
                .flat_map(|before| {
                    values.iter().map(move |value| {
                        let mut labels = before.clone();
                        labels.push((*name, *value));
                        labels
                    })
                })
                .collect();
        }
        series
    }
}

/// The list as a table of the reference page.
pub fn table(metrics: &[Metric]) -> String {
    let mut table = String::from("| name | kind | labels | says |\n|---|---|---|---|\n");
    for metric in metrics {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<String> = metric.labels.iter().map(label).collect();
        // Writing into memory cannot fail.
        let _ = writeln!(
            table,
            "| `{}` | {kind} | {} | {} |",
            metric.name,
            labels.join("<br>"),
            metric.says
        );
    }
    table
}

fn label((name, values): &Label) -> String {
    let values: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
    if values.is_empty() {
        format!("`{name}`")
    } else {
        format!("`{name}`: {}", values.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_every_combination_and_none_where_values_are_not_listed() {
        let two = Metric::counter("a", &[("x", &["1", "2"]), ("y", &["3"])], "");
        assert_eq!(
            two.series(),
            [[("x", "1"), ("y", "3")], [("x", "2"), ("y", "3")]]
        );
        assert_eq!(Metric::gauge("b", &[], "").series(), [[]; 1]);
        let open = Metric::gauge("c", &[("x", &["1"]), ("route", &[])], "");
        assert!(open.series().is_empty());
    }
}
