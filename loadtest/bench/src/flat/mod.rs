//! `cargo dev bench --only flat`: whether a paid call costs the same however much there is.
//!
//! Two stacks, each with everything of its own: one on a thousand listings, keys and ledger rows, one on a million,
//! a million and ten million. Both run all the time and redeem paid calls in turns, A B A B, so that what the machine
//! does meanwhile meets both. Nothing is told to the gateways: what they do not know they ask for, as after a flush.
//!
//! Invariants: rows are as the product writes them, and `control-plane audit` finds no row in either database; both
//! servers have `fsync` on and the same memory; a database is used again only if it was filled whole and by the
//! same statements.

mod comparison;
mod room;
mod seed;
mod side;
mod size;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use crochet_dev::Build;

use self::comparison::Comparison;
use self::side::Side;
use self::size::Size;
use crate::config::Config;
use crate::load::Wrong;
use crate::report::{self, Round};
use crate::run::{self, Workplace};

/// Fills, pays, measures, prints. Fails with `--check` when a mark is missed.
pub(crate) async fn run(config: &Config) -> Result<ExitCode> {
    let workplace = Workplace::take()?;
    let [small, large] = side::places(&workplace.directory);
    // It grows by every call it was measured with, and is made again in seconds.
    discard(&small).await?;
    let comparison = Box::pin(compare(config, [&small, &large])).await?;
    println!("{}", comparison.render());
    if comparison.wrong == 0 {
        discard(&small).await?;
    }
    if config.alone.discard {
        discard(&large).await?;
    } else {
        eprintln!(
            "The large database is kept for the next run; --discard removes it at the end of one."
        );
    }
    let is_standard = config.is_standard_comparison() && Build::of_this_program() == Build::Release;
    let path = report::json::write_as("flat", &comparison, is_standard)?;
    println!("Also in {}", path.display());
    Ok(comparison.exit_code(config.check))
}

/// Removes a database whose server does not run, and what an earlier run left running.
async fn discard(directory: &Path) -> Result<()> {
    crochet_dev::end_leftovers(directory).await?;
    run::remove(directory)
}

async fn compare(config: &Config, [small, large]: [&Path; 2]) -> Result<Comparison> {
    let size = Size::of_rows(config.alone.ledger_rows);
    let mut sides = [
        Side::open(config, small, Size::SMALL).await?,
        Side::open(config, large, size).await?,
    ];
    for side in &mut sides {
        side.prepare(config.rounds()).await?;
    }
    let (mut rounds, mut wrong) = ([Vec::new(), Vec::new()], Wrong::default());
    for number in 1..=config.rounds() {
        for ((side, rounds), name) in sides.iter_mut().zip(&mut rounds).zip(["small", "large"]) {
            let (round, amiss) = side.round().await?;
            say(config, number, name, &round);
            for what in &amiss.shown {
                eprintln!("wrong, {name}: {what}");
            }
            rounds.push(round);
            wrong.merge(amiss);
        }
    }
    let mut notes: Vec<String> = sides.iter().flat_map(Side::notes).collect();
    notes.dedup();
    for side in sides {
        if let Some(rows) = side.close().await? {
            wrong.add(format!("`control-plane audit` found:\n{rows}"));
        }
    }
    Ok(Comparison::of(config, size, &rounds, wrong, notes))
}

fn say(config: &Config, number: u32, name: &str, round: &Round) {
    eprintln!(
        "round {number} of {}: {name} {:>6.1} µs of the gateway, {:>6.1} µs in all, p99 {:>6.2} ms, {:>7.0}/s",
        config.rounds(),
        round.cpu_us,
        round.box_us.values().sum::<f64>(),
        round.p99_ms,
        round.rate
    );
}
