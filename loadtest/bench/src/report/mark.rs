//! The marks, and whether they hold.

use serde::Serialize;

use super::Report;
use crate::statistics::Summary;
use crate::subject::Subject;

/// CPU of the gateway for a paid call, as a multiple of the bare pingora's for passing a request through
/// beside it. Not against pingora's own rows: those are measured at ten times the rate, where a proxy
/// finds several requests at each wake-up and warm caches, and pays a third to a half less for each.
const PAID_CPU_MAX: f64 = 1.3;
/// The same for a 402 whose quote is reused.
const QUOTE_CPU_MAX: f64 = 0.7;
/// Calls for each second of a gateway's CPU, against those of the x402 gateway's.
const X402_MIN: f64 = 10.0;
/// Durable paid calls a second, as a share of nginx's pass-through rate on the same machine.
const PAID_RATE_MIN: f64 = 0.1;
/// Round trips to Postgres for a batch of paid calls.
const ROUND_TRIPS_MAX: f64 = 2.0;
/// Postgres's log for a paid call, images of whole pages left out, in KiB.
const LOG_KIB_MAX: f64 = 2.5;
const KIB: f64 = 1024.0;
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
    let (at_most, at_least) = (Side::AtMost, Side::AtLeast);
    let mut marks = Vec::new();
    let mut mark = |name, measured, side, limit, unit| {
        marks.push(Mark {
            name,
            measured,
            side,
            limit,
            unit,
        });
    };
    let row = |subject| {
        report
            .row(subject)
            .filter(|_| report.row(Subject::Pingora).is_some())
    };
    if row(Subject::Beside).is_some() {
        mark(
            "gateway CPU, paid call",
            report.paid_against_pingora_beside,
            at_most,
            PAID_CPU_MAX,
            "× bare pingora beside it",
        );
    }
    if let Some(quote) = row(Subject::Quote) {
        mark(
            "gateway CPU, 402 reused",
            quote.against_pingora,
            at_most,
            QUOTE_CPU_MAX,
            "× bare pingora",
        );
    }
    if report.row(Subject::Paid).is_some() && report.row(Subject::Nginx).is_some() {
        mark(
            "durable paid calls a second",
            report.paid_rate_against_nginx,
            at_least,
            PAID_RATE_MIN,
            "× nginx's rate",
        );
    }
    if report.row(Subject::X402).is_some() && report.row(Subject::Paid).is_some() {
        mark(
            "paid calls for a second of gateway CPU",
            report.paid_against_x402,
            at_least,
            X402_MIN,
            "× x402 on Express",
        );
    }
    if let Some(round_trips) = report.durability.round_trips {
        mark(
            "Postgres round trips a batch",
            Summary::of([round_trips.a_batch]),
            at_most,
            ROUND_TRIPS_MAX,
            "",
        );
    }
    if report.row(Subject::Paid).is_some() {
        mark(
            "Postgres's log for a paid call",
            report.durability.log_bytes.times(1.0 / KIB),
            at_most,
            LOG_KIB_MAX,
            "KiB without page images",
        );
    }
    if !report.memory.idle.is_empty() {
        #[expect(
            clippy::cast_precision_loss,
            reason = "bytes of memory are far below 2^52"
        )]
        let idle = report.memory.idle.values().sum::<u64>() as f64 / 1e6;
        mark(
            "idle memory, both services",
            Summary::of([idle]),
            at_most,
            IDLE_MEGABYTES_MAX,
            "MB",
        );
    }
    marks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Durability;
    use crate::report::tests::report;
    use crate::round_trips::RoundTrips;

    #[test]
    fn marks_hold_up_to_their_limit_and_no_further() {
        let holds = |mut report: Report, round_trips: f64, log_bytes: f64| -> Vec<bool> {
            report.durability.log_bytes = Summary::of([log_bytes]);
            if let Some(counted) = &mut report.durability.round_trips {
                counted.a_batch = round_trips;
            }
            all(&report).iter().map(Mark::holds).collect()
        };
        let at_the_limit = report([100.0, 130.0, 70.0], [10_000.0, 1_000.0], 150, 0);
        assert_eq!(holds(at_the_limit, 2.0, 2_560.0), [true; 6]);
        let beyond = report([100.0, 131.0, 71.0], [10_000.0, 999.0], 151, 0);
        assert_eq!(holds(beyond, 2.01, 2_561.0), [false; 6]);
    }

    #[test]
    fn what_was_not_measured_does_not_hold() {
        let mut report = report([0.0, 60.0, 20.0], [0.0, 0.0], 0, 0);
        report.durability = Durability {
            round_trips: Some(RoundTrips::default()),
            ..Durability::default()
        };
        let marks = all(&report);
        assert!(marks.iter().all(|mark| !mark.holds()), "{marks:?}");
    }
}
