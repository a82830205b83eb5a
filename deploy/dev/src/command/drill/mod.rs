//! `cargo dev drill`: every alert is made to fire by its own fault, in a real Prometheus over a real
//! stack, and to end with it.
//!
//! The rules are the repository's with shorter windows: thresholds and expressions stay. An alert
//! that no drill makes fire is an error here, so that a new one brings its fault along.

mod certificate;
mod faults;
pub(crate) mod page;
mod stage;
mod traffic;
mod unsaid;
mod upgrade;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use crochet_dev::install::{self, Part};
use crochet_dev::{Build, Checkout, Prometheus};

use super::{compile, say, watched};
use stage::Stage;

/// How often Prometheus looks.
const SCRAPE: &str = "1s";
/// Longest from a fault to its alert.
const FIRE_LIMIT: Duration = Duration::from_mins(2);
/// Longest from the end of a fault to the end of its alerts.
const END_LIMIT: Duration = Duration::from_mins(2);
/// How long nothing may fire before the first fault, while calls are made.
const QUIET: Duration = Duration::from_secs(12);
const LOOK_EVERY: Duration = Duration::from_millis(250);

#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    /// Only faults whose name contains this.
    only: Option<String>,
    #[command(subcommand)]
    other: Option<Other>,
}

/// A drill without a fault.
#[derive(clap::Subcommand, Debug)]
enum Other {
    /// Upgrade a stack of two hosts by the commands of `deploy/UPGRADE.md`, under load, and count what is
    /// refused: nothing may be.
    Upgrade(upgrade::Arguments),
}

pub(crate) async fn drill(arguments: Arguments) -> Result<ExitCode> {
    if let Some(Other::Upgrade(arguments)) = arguments.other {
        return Box::pin(upgrade::upgrade(&arguments)).await;
    }
    let checkout = Checkout::find()?;
    install::install_missing(say)?;
    install::install(&[Part::Prometheus], say)?;
    compile::build(&checkout, Build::Debug, &compile::SERVICES)?;
    let mut stage = Stage::set().await?;
    let rules = quickened(&watched::rules(&checkout)?);
    let prometheus =
        Prometheus::start(&checkout.watched(), &stage.describe(), &rules, SCRAPE).await?;
    let mut drill = Drill {
        prometheus,
        fired: BTreeMap::new(),
    };
    let drilled = Box::pin(faults::all(
        &mut drill,
        &mut stage,
        arguments.only.as_deref(),
    ))
    .await;
    let shown = drill.show(arguments.only.is_none()).await;
    drill.prometheus.stop().await?;
    stage.stack.stop().await?;
    drilled?;
    shown?;
    Ok(ExitCode::SUCCESS)
}

/// Watches alerts and remembers how long each took.
struct Drill {
    prometheus: Prometheus,
    fired: BTreeMap<String, (String, Duration)>,
}

impl Drill {
    /// Waits until all of `alerts` fire, since `began`, under the fault of this name.
    async fn wait_for(&mut self, fault: &str, alerts: &[&str], began: Instant) -> Result<()> {
        let mut waiting: Vec<&str> = alerts.to_vec();
        while !waiting.is_empty() {
            let firing = self.firing().await?;
            waiting.retain(|alert| {
                let fires = firing.iter().any(|name| name == alert);
                if fires {
                    let took = began.elapsed();
                    println!("    {alert} fired after {:.1} s", took.as_secs_f64());
                    self.fired
                        .entry((*alert).to_owned())
                        .or_insert((fault.to_owned(), took));
                }
                !fires
            });
            ensure!(
                waiting.is_empty() || began.elapsed() < FIRE_LIMIT,
                "{fault}: {} did not fire in {FIRE_LIMIT:?}; firing: {firing:?}",
                waiting.join(", ")
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Waits until nothing fires any more.
    async fn wait_for_quiet(&self, fault: &str) -> Result<()> {
        let began = Instant::now();
        loop {
            let firing = self.firing().await?;
            if firing.is_empty() {
                println!(
                    "    over {:.1} s after its fault",
                    began.elapsed().as_secs_f64()
                );
                return Ok(());
            }
            ensure!(
                began.elapsed() < END_LIMIT,
                "{fault} is over, and these still fire: {firing:?}"
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Demands that nothing fires for a while.
    async fn stays_quiet(&self) -> Result<()> {
        let began = Instant::now();
        while began.elapsed() < QUIET {
            let firing = self.firing().await?;
            ensure!(firing.is_empty(), "without a fault these fire: {firing:?}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    async fn firing(&self) -> Result<Vec<String>> {
        let alerts = self.prometheus.alerts().await?;
        let mut firing: Vec<String> = alerts
            .iter()
            .filter(|alert| alert.is_firing())
            .map(|alert| alert.name().to_owned())
            .collect();
        firing.sort();
        firing.dedup();
        Ok(firing)
    }

    /// The table; an error when `all` are wanted and one did not fire.
    async fn show(&self, all: bool) -> Result<()> {
        println!("\n  {:<26} {:<34} {:>8}", "alert", "fault", "seconds");
        for (alert, (fault, took)) in &self.fired {
            println!("  {alert:<26} {fault:<34} {:>8.1}", took.as_secs_f64());
        }
        let rules = self.prometheus.rules().await.context("reading the rules")?;
        let left: Vec<&str> = rules
            .iter()
            .map(|rule| rule.name.as_str())
            .filter(|name| !self.fired.contains_key(*name))
            .collect();
        say(&format!(
            "{} of {} alerts fired",
            self.fired.len(),
            rules.len()
        ));
        ensure!(!all || left.is_empty(), "never fired: {}", left.join(", "));
        Ok(())
    }
}

/// The rules with windows and patience of seconds, for a Prometheus that looks every second.
fn quickened(rules: &str) -> String {
    let quick: Vec<String> = rules
        .lines()
        .map(|line| {
            if let Some(begin) = line
                .find("for: ")
                .filter(|_| line.trim().starts_with("for: "))
            {
                return format!("{}for: 2s", line.get(..begin).unwrap_or_default());
            }
            let mut line = line.to_owned();
            for window in ["[5m]", "[15m]", "[30m]", "[1h]"] {
                line = line.replace(window, "[15s]");
            }
            line
        })
        .collect();
    quick.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_windows_and_patience_are_quickened() {
        let rules =
            "        expr: |\n          rate(a[5m]) > 0.02\n        for: 15m\n        labels:\n";
        assert_eq!(
            quickened(rules),
            "        expr: |\n          rate(a[15s]) > 0.02\n        for: 2s\n        labels:\n"
        );
    }

    #[test]
    fn no_window_of_the_rules_is_left_long() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../prometheus/rules.yml");
        let rules = quickened(&std::fs::read_to_string(path).unwrap());
        for (at, _) in rules.match_indices('[') {
            assert!(rules[at..].starts_with("[15s]"), "{}", &rules[at..at + 8]);
        }
    }
}
