//! What the bench may be told.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{Args, Parser, Subcommand};

use crate::subject::Subject;

// What the marks are about; with anything else the figures are not comparable from run to run.
const CONNECTIONS: u16 = 64;
const RATE_CONNECTIONS: u16 = 256;
const PAID_CALLS: u32 = 4_000;
const REQUESTS: u32 = 20_000;
const ANSWER_BYTES: u32 = 970;
const LEDGER_ROWS: u32 = 10_000_000;
const MINUTES: u32 = 10;

/// What every run is called that is not a quick one; more is wanted of it.
pub(crate) const FULL_RUN: &str = "full";

/// Measures what a call costs, beside nginx and a bare pingora, in one run.
#[derive(Debug, Parser)]
#[command(name = "crochet-bench", bin_name = "cargo dev bench", version)]
pub(crate) struct Config {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    /// Three rounds instead of seven.
    #[arg(long)]
    pub(crate) quick: bool,

    /// Measure browsing instead: `GET /listings` among a thousand listings and among a million.
    #[arg(long)]
    pub(crate) browse: bool,

    /// Fail (exit 1) when a mark is missed, not only when an answer is wrong.
    #[arg(long)]
    pub(crate) check: bool,

    /// Measure the stack of this stack.json (or of the folder it is in) instead of starting one.
    /// It should be a release build that nobody else uses. `tls`, `cold` and `without-redis` are left out.
    #[arg(long, value_name = "PATH")]
    pub(crate) stack: Option<PathBuf>,

    /// Measure only these (comma separated); without any of Crochet's own no stack is started.
    /// What one of them needs is measured with it: a replay, for one, needs the paid call.
    #[arg(long, value_delimiter = ',', value_name = "PATHS")]
    pub(crate) only: Vec<Subject>,

    /// Rounds, each of which measures everything once; what comes after them is measured as often.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: Option<u32>,

    /// Keep-alive connections, each with one request at a time.
    #[arg(long, default_value_t = CONNECTIONS, value_parser = clap::value_parser!(u16).range(1..=512))]
    pub(crate) connections: u16,

    /// The same of the paths whose rates are compared, paid calls and nginx, and of those that differ from paid
    /// calls in one thing: enough to leave the machine no idle time. A paid call waits for the disk twice, and with few connections everybody waits with it.
    #[arg(long, default_value_t = RATE_CONNECTIONS, value_parser = clap::value_parser!(u16).range(1..=512))]
    pub(crate) rate_connections: u16,

    /// Paid calls a round; each is a payment made beforehand.
    #[arg(long, default_value_t = PAID_CALLS, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) paid_calls: u32,

    /// Requests a round of every other path.
    #[arg(long, default_value_t = REQUESTS, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) requests: u32,

    /// Filler in the seller's answer, in bytes; the answer is about 50 bytes longer.
    #[arg(long, default_value_t = ANSWER_BYTES, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub(crate) answer_bytes: u32,

    #[command(flatten)]
    pub(crate) alone: Alone,

    /// A setting of the services (`NAME=VALUE`), where the bench starts them; repeatable.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub(crate) settings: Vec<String>,
}

/// Of what runs by itself.
#[derive(Debug, Args)]
pub(crate) struct Alone {
    /// Of `--only flat`: rows in the large ledger, with a tenth as many listings and keys. Ten million take some
    /// 13 GB of disk while they are made; the database is kept below `target/bench` (as root where Postgres may
    /// reach it) and used by the next run that wants the same.
    #[arg(long, default_value_t = LEDGER_ROWS, value_parser = clap::value_parser!(u32).range(10_000..=100_000_000))]
    pub(crate) ledger_rows: u32,

    /// Of `--only flat`: remove the large database at the end of the run.
    #[arg(long)]
    pub(crate) discard: bool,

    /// Of `--only soak`: how long it lasts.
    #[arg(long, default_value_t = MINUTES, value_parser = clap::value_parser!(u32).range(1..=1_440))]
    pub(crate) minutes: u32,
}

/// The bench's own processes.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// A bare pingora that passes everything on: the baseline, started by the bench itself.
    #[command(hide = true)]
    PassThrough(PassThrough),
}

/// How the baseline runs.
#[derive(Debug, Args)]
pub(crate) struct PassThrough {
    /// Where it listens.
    #[arg(long)]
    pub(crate) listen: SocketAddr,

    /// Whom it passes requests to.
    #[arg(long)]
    pub(crate) upstream: SocketAddr,

    /// Its threads; the gateway's default.
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
}

impl Config {
    /// How many rounds are measured.
    pub(crate) fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 3 } else { 7 })
    }

    /// What is measured, in the order of a round.
    pub(crate) fn subjects(&self) -> Vec<Subject> {
        let wanted = |subject: &Subject| self.wants(*subject);
        Subject::ALL.into_iter().filter(wanted).collect()
    }

    /// Whether something is measured, in the rounds or once.
    pub(crate) fn wants(&self, subject: Subject) -> bool {
        if self.only.is_empty() {
            // A gateway has to be told whom to trust, and one that serves others is not ended.
            let needs_its_own = subject == Subject::Tls || subject.is_after_the_rounds();
            let is_elsewhere = needs_its_own && self.stack.is_some();
            let is_left_out = is_elsewhere || self.quick && subject.is_for_the_full_run();
            return !(is_left_out || subject.is_by_itself());
        }
        let brought = |by: &Subject| by.brings().contains(&subject);
        self.only.contains(&subject) || self.only.iter().any(brought)
    }

    /// Whether a Crochet has to run.
    pub(crate) fn needs_a_stack(&self) -> bool {
        let of_a_stack = |subject: Subject| subject.is_crochets() || subject == Subject::Commit;
        self.wants(Subject::Idle) || self.subjects().into_iter().any(of_a_stack)
    }

    /// How many connections carry a path's requests.
    pub(crate) const fn connections(&self, subject: Subject) -> u16 {
        match subject {
            Subject::Paid
            | Subject::Nginx
            | Subject::Haproxy
            | Subject::Hundred
            | Subject::TenThousand
            | Subject::Tls
            | Subject::Slow
            | Subject::Direct
            | Subject::Half => self.rate_connections,
            // Each holds an answer of a megabyte, and the whole machine a few hundred of them.
            Subject::Mib1 => self.connections.div_ceil(4),
            Subject::Commit => 1,
            Subject::Pingora
            | Subject::Beside
            | Subject::X402
            | Subject::Quote
            | Subject::Refused
            | Subject::Replay
            | Subject::Fresh
            | Subject::Connect
            | Subject::Kib64
            | Subject::Cold
            | Subject::WithoutRedis
            | Subject::Idle
            | Subject::Flat
            | Subject::Soak => self.connections,
        }
    }

    /// What was named that runs by itself, if anything was.
    pub(crate) fn by_itself(&self) -> Result<Option<Subject>> {
        let mut named = self.only.iter().copied();
        let Some(subject) = named.find(|subject| subject.is_by_itself()) else {
            return Ok(None);
        };
        ensure!(
            self.only.len() == 1 && self.stack.is_none(),
            "\"{}\" runs by itself, on stacks of its own",
            subject.label()
        );
        Ok(Some(subject))
    }

    /// Whether this run can be compared with others of its name: everything, as it comes, on a stack of its own.
    pub(crate) fn is_standard(&self) -> bool {
        self.only.is_empty() && self.is_as_it_comes()
    }

    /// The same of the comparison of a small and a large database, which needs all its rounds.
    pub(crate) fn is_standard_comparison(&self) -> bool {
        !self.quick && self.alone.ledger_rows == LEDGER_ROWS && self.is_as_it_comes()
    }

    /// The same of a soak.
    pub(crate) fn is_standard_soak(&self) -> bool {
        self.alone.minutes == MINUTES && self.is_as_it_comes()
    }

    fn is_as_it_comes(&self) -> bool {
        self.stack.is_none()
            && self.settings.is_empty()
            && self.rounds.is_none()
            && (self.connections, self.rate_connections) == (CONNECTIONS, RATE_CONNECTIONS)
            && self.paid_calls == PAID_CALLS
            && (self.requests, self.answer_bytes) == (REQUESTS, ANSWER_BYTES)
    }

    /// What the run is called: in the table's head and in the name of its JSON.
    pub(crate) const fn name(&self) -> &'static str {
        if self.quick { "quick" } else { FULL_RUN }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Config::command().debug_assert();
    }

    #[test]
    fn quick_is_three_rounds_unless_told_otherwise() {
        let of = |arguments: &[&str]| Config::parse_from(arguments).rounds();
        assert_eq!(of(&["crochet-bench", "--quick"]), 3);
        assert_eq!(of(&["crochet-bench"]), 7);
        assert_eq!(of(&["crochet-bench", "--quick", "--rounds", "5"]), 5);
    }

    #[test]
    fn a_part_keeps_the_order_and_a_replay_brings_its_paid_call() {
        let of = |only: &str| Config::parse_from(["crochet-bench", "--only", only]).subjects();
        assert_eq!(of("nginx,pingora"), [Subject::Pingora, Subject::Nginx]);
        assert_eq!(of("replay"), [Subject::Paid, Subject::Replay]);
        let half = [
            Subject::Paid,
            Subject::Direct,
            Subject::Half,
            Subject::Commit,
        ];
        assert_eq!(of("half"), half);
        assert_eq!(
            Config::parse_from(["crochet-bench"]).subjects(),
            Subject::ALL
        );
    }

    #[test]
    fn a_quick_run_has_what_its_marks_need_and_no_more() {
        let quick = [
            Subject::Pingora,
            Subject::Beside,
            Subject::Paid,
            Subject::Nginx,
            Subject::Quote,
            Subject::Refused,
            Subject::Replay,
        ];
        let of = |arguments: &[&str]| Config::parse_from(arguments).subjects();
        assert_eq!(of(&["crochet-bench", "--quick"]), quick);
        // The gateway of a stack that runs has not been told of the bench's certificate.
        let elsewhere = of(&["crochet-bench", "--stack", "x"]);
        for subject in [Subject::Tls, Subject::Cold, Subject::WithoutRedis] {
            assert!(!elsewhere.contains(&subject), "{subject:?}");
        }
        assert_eq!(of(&["crochet-bench", "--only", "cold"]), [Subject::Cold]);
    }

    #[test]
    fn idle_connections_are_for_the_full_run_and_need_a_stack() {
        let of = |arguments: &[&str]| Config::parse_from(arguments);
        assert!(of(&["crochet-bench"]).wants(Subject::Idle));
        assert!(!of(&["crochet-bench", "--quick"]).wants(Subject::Idle));
        let alone = of(&["crochet-bench", "--only", "idle"]);
        assert!(alone.needs_a_stack() && alone.subjects().is_empty());
        assert!(!of(&["crochet-bench", "--only", "nginx"]).needs_a_stack());
    }

    #[test]
    fn what_runs_by_itself_is_in_no_other_run_and_stands_alone() {
        let of = |arguments: &[&str]| Config::parse_from(arguments);
        for subject in [Subject::Flat, Subject::Soak] {
            assert!(!of(&["crochet-bench"]).wants(subject));
        }
        let by_itself = |only| of(&["crochet-bench", "--only", only]).by_itself();
        assert_eq!(by_itself("flat").unwrap(), Some(Subject::Flat));
        assert_eq!(by_itself("soak").unwrap(), Some(Subject::Soak));
        assert_eq!(by_itself("paid").unwrap(), None);
        by_itself("flat,paid").unwrap_err();
        by_itself("flat,soak").unwrap_err();
    }

    #[test]
    fn a_comparison_that_is_kept_has_all_rounds_and_rows() {
        let is_standard = |more: &[&str]| {
            let arguments = [&["crochet-bench", "--only", "flat"], more].concat();
            Config::parse_from(arguments).is_standard_comparison()
        };
        assert!(is_standard(&[]) && is_standard(&["--discard"]));
        assert!(!is_standard(&["--quick"]) && !is_standard(&["--ledger-rows", "1000000"]));
    }

    #[test]
    fn a_run_with_anything_changed_is_not_the_standard_one() {
        let of = |arguments: &[&str]| {
            Config::parse_from([&["crochet-bench", "--quick"], arguments].concat()).is_standard()
        };
        assert!(of(&[]) && of(&["--check"]));
        for changed in [
            ["--only", "paid"],
            ["--rounds", "3"],
            ["--connections", "8"],
            ["--rate-connections", "8"],
            ["--set", "A=B"],
            ["--stack", "x"],
            ["--requests", "5"],
        ] {
            assert!(!of(&changed), "{changed:?}");
        }
    }
}
