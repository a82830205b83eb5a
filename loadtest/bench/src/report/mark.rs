//! The marks, and whether they hold.

use serde::Serialize;

use super::Report;
use crate::config::FULL_RUN;
use crate::statistics::Summary;
use crate::subject::Subject;

/// What is wanted of calls.
struct OfCalls {
    /// CPU of the gateway for a paid call, as a multiple of the bare pingora's for passing a request through
    /// beside it. Not against pingora's own rows: those are measured at ten times the rate, where a proxy
    /// finds several requests at each wake-up and warm caches, and pays a third to a half less for each.
    paid_cpu_max: f64,
    /// The same for a 402 whose quote is reused.
    quote_cpu_max: f64,
    /// Durable paid calls a second, as a share of nginx's pass-through rate on the same machine.
    paid_rate_min: f64,
}

/// Of every version: what a change must not make worse.
const QUICK: OfCalls = OfCalls {
    paid_cpu_max: 1.3,
    quote_cpu_max: 0.7,
    paid_rate_min: 0.1,
};
/// What is aimed at.
const FULL: OfCalls = OfCalls {
    paid_cpu_max: 1.0,
    quote_cpu_max: 0.5,
    paid_rate_min: 0.15,
};
/// Calls for each second of a gateway's CPU, against those of the x402 gateway's.
const X402_MIN: f64 = 10.0;
/// Round trips to Postgres for a batch of paid calls.
const ROUND_TRIPS_MAX: f64 = 2.0;
/// Postgres's log for a paid call, images of whole pages left out, in KiB.
const LOG_KIB_MAX: f64 = 2.5;
const KIB: f64 = 1024.0;
/// What a paid call may take longer than the call to the seller itself, at half of saturation: multiples of one
/// durable commit, which it needs two of, or milliseconds where those are more.
const ADDED_P50_COMMITS: f64 = 3.0;
const ADDED_P50_MS: f64 = 2.0;
const ADDED_P99_COMMITS: f64 = 5.0;
const ADDED_P99_MS: f64 = 6.0;
/// The gateway's memory for a connection that is kept open, in KiB.
const IDLE_CONNECTION_KIB_MAX: f64 = 20.0;
/// Gateway and control plane together, idle, in millions of bytes.
const IDLE_MEGABYTES_MAX: f64 = 150.0;

/// Which side of the limit is the good one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Side {
    AtMost,
    AtLeast,
}

/// Something that is wanted of the figures.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Mark {
    pub(crate) name: &'static str,
    /// What was measured; the median is what counts.
    pub(crate) measured: Summary,
    pub(crate) side: Side,
    pub(crate) limit: f64,
    pub(crate) unit: &'static str,
}

impl Mark {
    /// Whether it is met. What was not measured is not met.
    pub(crate) fn holds(&self) -> bool {
        let value = self.measured.median;
        value > 0.0
            && match self.side {
                Side::AtMost => value <= self.limit,
                Side::AtLeast => value >= self.limit,
            }
    }
}

/// The marks of what was measured.
pub(super) fn all(report: &Report) -> Vec<Mark> {
    [
        of_calls(report),
        of_postgres(report),
        of_time_and_room(report),
    ]
    .concat()
}

/// Wanted at the most.
pub(crate) fn at_most(
    name: &'static str,
    measured: Summary,
    limit: f64,
    unit: &'static str,
) -> Mark {
    Mark {
        name,
        measured,
        side: Side::AtMost,
        limit,
        unit,
    }
}

fn at_least(name: &'static str, measured: Summary, limit: f64, unit: &'static str) -> Mark {
    Mark {
        side: Side::AtLeast,
        ..at_most(name, measured, limit, unit)
    }
}

/// What calls cost and how many there are, beside others.
fn of_calls(report: &Report) -> Vec<Mark> {
    let mut marks = Vec::new();
    let wanted = if report.name == FULL_RUN { FULL } else { QUICK };
    let is_there = |subject| report.row(subject).is_some();
    if is_there(Subject::Beside) && is_there(Subject::Pingora) {
        marks.push(at_most(
            "gateway CPU, paid call",
            report.paid_against_pingora_beside,
            wanted.paid_cpu_max,
            "× bare pingora beside it",
        ));
    }
    let quote = report.row(Subject::Quote);
    if let Some(quote) = quote.filter(|_| is_there(Subject::Pingora)) {
        marks.push(at_most(
            "gateway CPU, 402 reused",
            quote.against_pingora,
            wanted.quote_cpu_max,
            "× bare pingora",
        ));
    }
    if is_there(Subject::Paid) && is_there(Subject::Nginx) {
        marks.push(at_least(
            "durable paid calls a second",
            report.paid_rate_against_nginx,
            wanted.paid_rate_min,
            "× nginx's rate",
        ));
    }
    if is_there(Subject::X402) && is_there(Subject::Paid) {
        marks.push(at_least(
            "paid calls for a second of gateway CPU",
            report.paid_against_x402,
            X402_MIN,
            "× x402 on Express",
        ));
    }
    marks
}

/// What a paid call asks of Postgres.
fn of_postgres(report: &Report) -> Vec<Mark> {
    let mut marks = Vec::new();
    if let Some(round_trips) = report.durability.round_trips {
        marks.push(at_most(
            "Postgres round trips a batch",
            Summary::of([round_trips.a_batch]),
            ROUND_TRIPS_MAX,
            "",
        ));
    }
    if report.row(Subject::Paid).is_some() {
        marks.push(at_most(
            "Postgres's log for a paid call",
            report.durability.log_bytes.times(1.0 / KIB),
            LOG_KIB_MAX,
            "KiB without page images",
        ));
    }
    marks
}

/// What is waited for, and what is held meanwhile.
fn of_time_and_room(report: &Report) -> Vec<Mark> {
    let mut marks = Vec::new();
    if let Some(added) = report.added {
        let commit = added.commit_ms.median;
        marks.push(at_most(
            "added latency at half of saturation, p50",
            added.p50_ms,
            (ADDED_P50_COMMITS * commit).max(ADDED_P50_MS),
            "ms",
        ));
        marks.push(at_most(
            "added latency at half of saturation, p99",
            added.p99_ms,
            (ADDED_P99_COMMITS * commit).max(ADDED_P99_MS),
            "ms",
        ));
    }
    if let Some(idle) = report.idle_connections {
        marks.push(at_most(
            "gateway's memory, an idle connection",
            Summary::of([idle.kib_each()]),
            IDLE_CONNECTION_KIB_MAX,
            "KiB",
        ));
    }
    if !report.memory.idle.is_empty() {
        #[expect(
            clippy::cast_precision_loss,
            reason = "bytes of memory are far below 2^52"
        )]
        let idle = report.memory.idle.values().sum::<u64>() as f64 / 1e6;
        marks.push(at_most(
            "idle memory, both services",
            Summary::of([idle]),
            IDLE_MEGABYTES_MAX,
            "MB",
        ));
    }
    marks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::idle::IdleConnections;
    use crate::report::Durability;
    use crate::report::tests::report;
    use crate::round_trips::RoundTrips;

    #[test]
    fn marks_hold_up_to_their_limit_and_no_further() {
        let holds = |mut report: Report,
                     round_trips: f64,
                     log_bytes: f64,
                     bytes_each: u64,
                     p50_ms,
                     p99_ms|
         -> Vec<bool> {
            report.durability.log_bytes = Summary::of([log_bytes]);
            if let Some(counted) = &mut report.durability.round_trips {
                counted.a_batch = round_trips;
            }
            if let Some(added) = &mut report.added {
                // A commit of 1 ms allows 3 ms of the median; of the 99th percentile 6 ms, for five are less.
                added.commit_ms = Summary::of([1.0]);
                (added.p50_ms, added.p99_ms) = (Summary::of([p50_ms]), Summary::of([p99_ms]));
            }
            if let Some(idle) = &mut report.idle_connections {
                idle.after = idle.before + bytes_each * 1_000;
            }
            all(&report).iter().map(Mark::holds).collect()
        };
        let at_the_limit = report([100.0, 130.0, 70.0], [10_000.0, 1_000.0], 150, 0);
        assert_eq!(
            holds(at_the_limit, 2.0, 2_560.0, 20_480, 3.0, 6.0),
            [true; 9]
        );
        let beyond = report([100.0, 131.0, 71.0], [10_000.0, 999.0], 151, 0);
        assert_eq!(holds(beyond, 2.01, 2_561.0, 20_490, 3.01, 6.01), [false; 9]);
    }

    #[test]
    fn more_is_wanted_of_a_full_run() {
        let limits = |name| {
            let mut report = report([100.0, 130.0, 70.0], [10_000.0, 1_000.0], 150, 0);
            report.name = name;
            of_calls(&report)
                .iter()
                .map(|mark| mark.limit)
                .collect::<Vec<_>>()
        };
        assert_eq!(limits("quick"), [1.3, 0.7, 0.1]);
        assert_eq!(limits(FULL_RUN), [1.0, 0.5, 0.15]);
    }

    #[test]
    fn what_was_not_measured_does_not_hold() {
        let mut report = report([0.0, 60.0, 20.0], [0.0, 0.0], 0, 0);
        report.durability = Durability {
            round_trips: Some(RoundTrips::default()),
            ..Durability::default()
        };
        report.idle_connections = Some(IdleConnections::default());
        report.added = None;
        let marks = all(&report);
        assert!(marks.iter().all(|mark| !mark.holds()), "{marks:?}");
    }
}
