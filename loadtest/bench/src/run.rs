//! The whole run: a stack, the baselines, what is bought beforehand, the rounds, the report.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use crochet_dev::{Checkout, Cluster, end_leftovers};

use crate::apart;
use crate::baseline::Baselines;
use crate::config::Config;
use crate::crochet::Crochet;
use crate::idle;
use crate::market::Market;
use crate::measure::{Readings, Role, Spent};
use crate::report::{Findings, Memory, Report};
use crate::round_trips;
use crate::rounds::Rounds;
use crate::stack::Target;
use crate::subject::Subject;

/// The two ways of reading a process's CPU may differ by this much: rounding, and what passes between the two reads.
const CLOCKS_MAY_DIFFER: Duration = Duration::from_millis(50);

/// Where the bench's files are, which one run at a time may use.
pub(crate) struct Workplace {
    pub(crate) checkout: Checkout,
    pub(crate) directory: PathBuf,
    /// Held as long as this lives.
    _lock: File,
}

impl Workplace {
    /// Refuses when another run has it.
    pub(crate) fn take() -> Result<Self> {
        let checkout = Checkout::find()?;
        let directory = checkout.root().join("target/bench");
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("creating {}", directory.display()))?;
        let lock = File::create(directory.join("lock")).context("creating the lock")?;
        lock.try_lock()
            .context("another bench runs in this clone")?;
        Ok(Self {
            checkout,
            directory,
            _lock: lock,
        })
    }
}

/// Measures everything and says what came out.
pub(crate) async fn run(config: &Config) -> Result<Report> {
    let workplace = Workplace::take()?;
    let (checkout, directory) = (&workplace.checkout, &workplace.directory);
    let baselines = Baselines::start(checkout, directory, &config.subjects()).await?;
    if !config.needs_a_stack() {
        let (rounds, notes, _) = measure(config, &baselines, None).await?;
        return Ok(Report::new(
            config,
            Findings {
                rounds,
                notes,
                ..Findings::default()
            },
        ));
    }
    let stack = directory.join("stack");
    if config.stack.is_none() {
        // What an earlier run left when it failed or was killed.
        end_leftovers(&stack).await?;
        remove(&stack)?;
    }
    let report = measure_a_stack(config, &baselines, &stack).await;
    let kept = || format!("logs are in {}", stack.join("logs").display());
    let report = if config.stack.is_none() {
        report.with_context(kept)?
    } else {
        report?
    };
    if config.stack.is_none() && report.wrong == 0 {
        remove(&stack)?;
    }
    Ok(report)
}

/// Removes the files of a stack that does not run.
pub(crate) fn remove(stack: &Path) -> Result<()> {
    Cluster::remove(stack)?;
    match std::fs::remove_dir_all(stack) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", stack.display()))
        }
        _ => Ok(()),
    }
}

async fn measure_a_stack(
    config: &Config,
    baselines: &Baselines,
    directory: &Path,
) -> Result<Report> {
    let mut target = Target::open(config, directory).await?;
    let report = measure_crochet(config, baselines, &mut target).await?;
    target.stop().await?;
    Ok(report)
}

async fn measure_crochet(
    config: &Config,
    baselines: &Baselines,
    target: &mut Target,
) -> Result<Report> {
    let mut crochet = Crochet::prepare(config, target).await?;
    let idle = crochet.idle.clone();
    crochet.buy(config).await?;
    let (mut rounds, mut notes, market) = measure(config, baselines, Some(crochet)).await?;
    notes.extend(target.notes());
    let memory = Memory {
        idle,
        after: target.resident_bytes()?,
    };
    let mut round_trips = None;
    let mut idle_connections = None;
    let mut market = market.context("the traders are gone")?;
    apart::measure(config, target, &mut market, &mut rounds).await?;
    if counts_round_trips(config, target) {
        eprintln!("Counting round trips to Postgres");
        let connections = config.connections(Subject::Paid);
        let (counted, wrong) = round_trips::count(target, &mut market, connections).await?;
        round_trips = Some(counted);
        rounds.wrong.merge(wrong);
    }
    if config.wants(Subject::Idle) {
        eprintln!("Opening connections that are to be idle");
        let (measured, wrong) = idle::measure(target, &mut market).await?;
        idle_connections = Some(measured);
        rounds.wrong.merge(wrong);
    }
    if let Some(rows) = target.audit().await? {
        rounds
            .wrong
            .add(format!("`control-plane audit` found:\n{rows}"));
    }
    Ok(Report::new(
        config,
        Findings {
            rounds,
            memory,
            round_trips,
            idle_connections,
            notes,
        },
    ))
}

/// Where paid calls are measured, on a stack whose control plane may be started again.
fn counts_round_trips(config: &Config, target: &Target) -> bool {
    target.is_own() && config.subjects().contains(&Subject::Paid)
}

/// All rounds, what is to be known about the clocks they were measured with, and the traders.
async fn measure(
    config: &Config,
    baselines: &Baselines,
    crochet: Option<Crochet<'_>>,
) -> Result<(Rounds, Vec<String>, Option<Market>)> {
    let mut rounds = Rounds::default();
    let mut bench = crate::rounds::Bench::new(config, baselines, crochet).await?;
    let before = Readings::take(bench.watched())?;
    for number in 1..=config.rounds() {
        bench.round(number, &mut rounds).await?;
    }
    let spent = Readings::take(bench.watched())?.since(&before);
    Ok((rounds, disagreements(&spent), bench.end().await?))
}

/// Where a process's CPU clock and its `/proc/PID/stat` do not tell the same.
fn disagreements(spent: &BTreeMap<Role, Spent>) -> Vec<String> {
    let differ =
        |spent: &Spent| spent.clock.abs_diff(spent.stat) > CLOCKS_MAY_DIFFER + spent.clock / 50;
    let of = |(role, spent): (&Role, &Spent)| {
        let (role, clock, stat) = (role.label(), spent.clock, spent.stat);
        differ(spent).then(|| {
            format!("the CPU clock of the {role} says {clock:.2?}, its /proc/PID/stat {stat:.2?}")
        })
    };
    spent.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_clocks_that_tell_different_times_are_noted() {
        let spent = |clock, stat| Spent {
            clock: Duration::from_millis(clock),
            stat: Duration::from_millis(stat),
        };
        let notes =
            |role, clock, stat| disagreements(&BTreeMap::from([(role, spent(clock, stat))]));
        assert!(notes(Role::Gateway, 1_000, 990).is_empty());
        assert_eq!(notes(Role::Gateway, 1_000, 900).len(), 1);
        assert!(notes(Role::Postgres, 100_000, 98_100).is_empty());
    }
}
