//! What came out: figures, ratios, marks, and whether they can be believed.

mod chart;
mod grid;
pub(crate) mod json;
mod mark;
pub(crate) mod table;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;

use crate::config::Config;
use crate::idle::IdleConnections;
use crate::load::Outcome;
use crate::measure::Role;
use crate::postgres::{Each, Kind};
use crate::round_trips::RoundTrips;
use crate::rounds::Rounds;
use crate::statistics::{Summary, quantile};
use crate::subject::Subject;
pub(crate) use grid::Grid;
pub(crate) use mark::{Mark, at_most};
pub(crate) use table::{add_remarks, marks_table, megabytes, range, thousands};

/// One subject in one round.
#[derive(Clone, Debug, Default)]
pub(crate) struct Round {
    /// Requests answered as expected.
    pub(crate) requests: usize,
    /// CPU of the subject's own proxy, in microseconds a request.
    pub(crate) cpu_us: f64,
    /// CPU of everybody, in microseconds a request.
    pub(crate) box_us: BTreeMap<Role, f64>,
    /// Requests a second, first byte sent to last byte received.
    pub(crate) rate: f64,
    /// Median and 99th percentile in a closed loop, in milliseconds.
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

impl Round {
    /// From what the load saw.
    pub(crate) fn of(subject: Subject, outcome: &Outcome) -> Self {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a count of requests is far below 2^52"
        )]
        let requests = outcome.right.max(1) as f64;
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        let spent = outcome.after.since(&outcome.before);
        let box_us: BTreeMap<Role, f64> = spent
            .iter()
            .map(|(role, spent)| (*role, micros(spent.clock) / requests))
            .collect();
        let millis = |share: f64| f64::from(quantile(&outcome.latencies_us, share)) / 1e3;
        Self {
            requests: outcome.right,
            cpu_us: box_us.get(&subject.proxy()).copied().unwrap_or_default(),
            box_us,
            rate: requests / outcome.elapsed.as_secs_f64().max(f64::MIN_POSITIVE),
            p50_ms: millis(0.5),
            p99_ms: millis(0.99),
        }
    }
}

/// One subject over all rounds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) subject: Subject,
    /// Keep-alive connections, each with one request at a time.
    pub(crate) connections: u16,
    /// Requests measured, answered as expected.
    pub(crate) requests: usize,
    /// CPU of the subject's own proxy, in microseconds a request.
    pub(crate) cpu_us: Summary,
    /// That, as a multiple of the bare pingora's in the same round.
    pub(crate) against_pingora: Summary,
    /// The same of nginx's.
    pub(crate) against_nginx: Summary,
    /// Requests a second of the whole machine.
    pub(crate) rate: Summary,
    /// Medians over the rounds, in milliseconds, closed loop.
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// Medians over the rounds, in microseconds a request.
    pub(crate) box_us: BTreeMap<Role, f64>,
}

/// Resident bytes of the services.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Memory {
    /// Started, one call made.
    pub(crate) idle: BTreeMap<Role, u64>,
    /// After all rounds.
    pub(crate) after: BTreeMap<Role, u64>,
}

/// What paid calls ask of Postgres.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Durability {
    /// Bytes of its log for a call, images of whole pages left out.
    pub(crate) log_bytes: Summary,
    /// Bytes of images of whole pages for a call.
    pub(crate) log_image_bytes: Summary,
    /// Records of its log for a call.
    pub(crate) log_records: Summary,
    /// The same by what the records are, in the last round, the most bytes first.
    pub(crate) log_kinds: Vec<Kind>,
    /// None where the control plane could not be started again.
    pub(crate) round_trips: Option<RoundTrips>,
}

/// What a paid call takes longer than the call to the seller itself, both at the same fixed rate.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Added {
    /// Calls a second.
    pub(crate) rate: f64,
    /// Differences of the medians and of the 99th percentiles, in milliseconds.
    pub(crate) p50_ms: Summary,
    pub(crate) p99_ms: Summary,
    /// The median of one durable commit of a single row.
    pub(crate) commit_ms: Summary,
}

/// All that was found out.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) rounds: Rounds,
    pub(crate) memory: Memory,
    pub(crate) round_trips: Option<RoundTrips>,
    pub(crate) idle_connections: Option<IdleConnections>,
    pub(crate) notes: Vec<String>,
}

/// Everything there is to show.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// `quick` or `full`
    pub(crate) name: &'static str,
    /// When the run ended, RFC 3339.
    pub(crate) at: String,
    pub(crate) cpus: usize,
    pub(crate) rounds: u32,
    pub(crate) answer_filler_bytes: u32,
    pub(crate) rows: Vec<Row>,
    /// Durable paid calls a second of the whole machine, as a share of nginx's rate in the same round.
    pub(crate) paid_rate_against_nginx: Summary,
    /// CPU of the gateway for a paid call, as a multiple of the bare pingora's for a request beside it.
    pub(crate) paid_against_pingora_beside: Summary,
    /// Paid calls for each second of the gateway's CPU, as a multiple of the x402 gateway's.
    pub(crate) paid_against_x402: Summary,
    pub(crate) durability: Durability,
    /// None where it was not measured.
    pub(crate) added: Option<Added>,
    /// None where it was not measured.
    pub(crate) idle_connections: Option<IdleConnections>,
    pub(crate) memory: Memory,
    pub(crate) marks: Vec<Mark>,
    /// Requests measured and answered as expected, all paths.
    pub(crate) requests: usize,
    /// Answers (or counts, or books) that were wrong; anything but zero makes the run worthless.
    pub(crate) wrong: usize,
    /// The first few of them.
    pub(crate) wrong_shown: Vec<String>,
    /// What to know before believing the figures.
    pub(crate) notes: Vec<String>,
}

impl Report {
    /// Sums up.
    pub(crate) fn new(config: &Config, findings: Findings) -> Self {
        let Findings {
            rounds: measured,
            memory,
            round_trips,
            idle_connections,
            notes,
        } = findings;
        let (rounds, wrong) = (&measured.done, measured.wrong);
        let series = |subject: Subject, value: fn(&Round) -> f64| -> Vec<f64> {
            rounds
                .get(&subject)
                .into_iter()
                .flatten()
                .map(value)
                .collect()
        };
        let cpu = |subject| series(subject, |round| round.cpu_us);
        let rate = |subject| series(subject, |round| round.rate);
        let (pingora, nginx) = (cpu(Subject::Pingora), cpu(Subject::Nginx));
        let row = |(subject, of_subject): (&Subject, &Vec<Round>)| Row {
            subject: *subject,
            connections: config.connections(*subject),
            requests: of_subject.iter().map(|round| round.requests).sum(),
            cpu_us: Summary::of(cpu(*subject)),
            against_pingora: Summary::of_ratios(&cpu(*subject), &pingora),
            against_nginx: Summary::of_ratios(&cpu(*subject), &nginx),
            rate: Summary::of(rate(*subject)),
            p50_ms: Summary::of(series(*subject, |round| round.p50_ms)).median,
            p99_ms: Summary::of(series(*subject, |round| round.p99_ms)).median,
            box_us: medians(of_subject),
        };
        let rows: Vec<Row> = rounds.iter().map(row).collect();
        let paid_rate_against_nginx =
            Summary::of_ratios(&rate(Subject::Paid), &rate(Subject::Nginx));
        let of_role = |subject, role| -> Vec<f64> {
            let rounds = rounds.get(&subject).into_iter().flatten();
            let us = |round: &Round| round.box_us.get(&role).copied().unwrap_or_default();
            rounds.map(us).collect()
        };
        let paid_against_pingora_beside = Summary::of_ratios(
            &of_role(Subject::Beside, Role::Gateway),
            &of_role(Subject::Beside, Role::Pingora),
        );
        let mut report = Self {
            name: config.name(),
            at: crochet_shared::clock::rfc3339(crochet_shared::clock::now()),
            cpus: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            rounds: config.rounds(),
            answer_filler_bytes: config.answer_bytes,
            requests: rows.iter().map(|row| row.requests).sum(),
            rows,
            paid_rate_against_nginx,
            paid_against_pingora_beside,
            paid_against_x402: Summary::of_ratios(&cpu(Subject::X402), &cpu(Subject::Paid)),
            durability: durability(&measured.log, round_trips),
            added: added(rounds),
            idle_connections,
            memory,
            marks: Vec::new(),
            wrong: wrong.count,
            wrong_shown: wrong.shown,
            notes,
        };
        report.marks = mark::all(&report);
        report
    }

    /// The row of a subject, where it was measured.
    pub(crate) fn row(&self, subject: Subject) -> Option<&Row> {
        self.rows.iter().find(|row| row.subject == subject)
    }

    /// A wrong answer always fails; a missed mark does when asked to.
    pub(crate) fn exit_code(&self, check_marks: bool) -> ExitCode {
        let missed = check_marks && self.marks.iter().any(|mark| !mark.holds());
        if self.wrong > 0 || missed {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }
}

fn added(rounds: &BTreeMap<Subject, Vec<Round>>) -> Option<Added> {
    let (half, direct) = (rounds.get(&Subject::Half)?, rounds.get(&Subject::Direct)?);
    let commit = rounds.get(&Subject::Commit)?;
    let differences = |value: fn(&Round) -> f64| {
        let pairs = half.iter().zip(direct);
        Summary::of(pairs.map(|(half, direct)| value(half) - value(direct)))
    };
    Some(Added {
        rate: Summary::of(half.iter().map(|round| round.rate)).median,
        p50_ms: differences(|round| round.p50_ms),
        p99_ms: differences(|round| round.p99_ms),
        commit_ms: Summary::of(commit.iter().map(|round| round.p50_ms)),
    })
}

fn durability(log: &[Each], round_trips: Option<RoundTrips>) -> Durability {
    let summary = |value: fn(&Each) -> f64| Summary::of(log.iter().map(value));
    Durability {
        log_bytes: summary(|each| each.bytes),
        log_image_bytes: summary(|each| each.image_bytes),
        log_records: summary(|each| each.records),
        log_kinds: log
            .last()
            .map(|each| each.kinds.clone())
            .unwrap_or_default(),
        round_trips,
    }
}

fn medians(rounds: &[Round]) -> BTreeMap<Role, f64> {
    let roles = rounds.iter().flat_map(|round| round.box_us.keys().copied());
    roles
        .map(|role| {
            (
                role,
                Summary::of(
                    rounds
                        .iter()
                        .filter_map(|round| round.box_us.get(&role).copied()),
                )
                .median,
            )
        })
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::load::Wrong;

    /// A run of two rounds with the given CPU of pingora, paid call and 402, and rates of nginx and paid
    /// call. The paid calls with pingora beside them take what the others do.
    pub(crate) fn report(cpu: [f64; 3], rate: [f64; 2], idle_mb: u64, wrong: usize) -> Report {
        let [pingora, paid, quote] = cpu;
        let [nginx_rate, paid_rate] = rate;
        let round = |subject: Subject, cpu_us: f64, rate: f64| {
            let box_us = BTreeMap::from([(subject.proxy(), cpu_us), (Role::Load, 9.0)]);
            (
                subject,
                vec![
                    Round {
                        requests: 10,
                        cpu_us,
                        box_us,
                        rate,
                        p50_ms: 1.0,
                        p99_ms: 2.0
                    };
                    2
                ],
            )
        };
        let beside = |pingora, paid| {
            let (subject, mut rounds) = round(Subject::Beside, paid, 1.0);
            for one in &mut rounds {
                one.box_us.insert(Role::Pingora, pingora);
            }
            (subject, rounds)
        };
        let paced = |subject, p50_ms, p99_ms| {
            let (subject, mut rounds) = round(subject, 1.0, 1_000.0);
            for one in &mut rounds {
                (one.p50_ms, one.p99_ms) = (p50_ms, p99_ms);
            }
            (subject, rounds)
        };
        let done = BTreeMap::from([
            round(Subject::Pingora, pingora, 9_000.0),
            round(Subject::Nginx, 25.0, nginx_rate),
            beside(pingora, paid),
            round(Subject::Paid, paid, paid_rate),
            round(Subject::Quote, quote, 20_000.0),
            paced(Subject::Direct, 0.1, 0.2),
            paced(Subject::Half, 1.1, 4.2),
            paced(Subject::Commit, 0.5, 0.9),
        ]);
        let memory = Memory {
            idle: BTreeMap::from([(Role::Gateway, idle_mb * 1_000_000)]),
            after: BTreeMap::from([(Role::Gateway, 1)]),
        };
        let wrong = Wrong {
            count: wrong,
            shown: Vec::new(),
        };
        let each = Each {
            bytes: 2_048.0,
            image_bytes: 100.0,
            records: 11.0,
            kinds: vec![Kind {
                name: "Heap/INSERT".to_owned(),
                records: 4.0,
                bytes: 1_000.0,
            }],
        };
        let findings = Findings {
            rounds: Rounds {
                done,
                log: vec![each; 2],
                wrong,
            },
            memory,
            round_trips: Some(RoundTrips {
                batches: 100,
                calls_a_batch: 40.0,
                a_batch: 2.0,
                others_a_batch: 0.1,
            }),
            idle_connections: Some(IdleConnections {
                connections: 1_000,
                before: 30_000_000,
                after: 30_000_000 + 1_000 * 10 * 1_024,
            }),
            notes: Vec::new(),
        };
        Report::new(&Config::parse_from(["crochet-bench", "--quick"]), findings)
    }

    #[test]
    fn ratios_are_taken_against_the_same_rounds() {
        let report = report([50.0, 60.0, 20.0], [10_000.0, 2_000.0], 60, 0);
        let paid = report.row(Subject::Paid).unwrap();
        let median = |summary: &Summary| format!("{:.3}", summary.median);
        assert_eq!(median(&paid.against_pingora), "1.200");
        assert_eq!(median(&paid.against_nginx), "2.400");
        assert_eq!(median(&report.paid_rate_against_nginx), "0.200");
        assert_eq!(median(&report.paid_against_pingora_beside), "1.200");
        assert_eq!(report.requests, 160);
        let added = report.added.unwrap();
        assert_eq!(
            (median(&added.p50_ms), median(&added.p99_ms)),
            ("1.000".to_owned(), "4.000".to_owned())
        );
        assert_eq!(median(&added.commit_ms), "0.500");
        assert_eq!(format!("{}", paid.box_us[&Role::Load]), "9");
        assert!(report.row(Subject::Replay).is_none());
    }

    #[test]
    fn a_wrong_answer_fails_and_a_missed_mark_only_when_asked() {
        let fine = report([50.0, 60.0, 20.0], [10_000.0, 2_000.0], 60, 0);
        let slow = report([50.0, 90.0, 20.0], [10_000.0, 2_000.0], 60, 0);
        let wrong = report([50.0, 60.0, 20.0], [10_000.0, 2_000.0], 60, 1);
        let code = |report: &Report, check| format!("{:?}", report.exit_code(check));
        let (success, failure) = (
            format!("{:?}", ExitCode::SUCCESS),
            format!("{:?}", ExitCode::FAILURE),
        );
        assert_eq!(code(&fine, true), success);
        assert_eq!(code(&slow, false), success);
        assert_eq!(code(&slow, true), failure);
        assert_eq!(code(&wrong, false), failure);
    }
}
