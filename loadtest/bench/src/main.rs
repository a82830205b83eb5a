//! `cargo dev bench`: what a call costs, beside nginx and a bare pingora, measured in one run.
//!
//! `config` → `run` (stack, baselines, market, rounds) → `report`. What is measured and how to read
//! it stands in `loadtest/README.md`.
//!
//! Invariants: every answer's status and body are compared with the one expected, and one wrong
//! answer fails the whole run, because a fast error is no measurement; whatever is compared was
//! measured in the same run, in turns; nothing is prepared, paid or checked inside a measured window
//! but what the path itself does.

mod apart;
mod baseline;
mod browse;
mod config;
mod crochet;
mod flat;
mod idle;
mod load;
mod market;
mod measure;
mod postgres;
mod report;
mod request;
mod round_trips;
mod rounds;
mod run;
mod soak;
mod stack;
mod statistics;
mod subject;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{Command, Config};
use crate::subject::Subject;

/// The gateway's allocator, so that the bare pingora differs from it in nothing but what it does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let config = Config::parse();
    let result = match &config.command {
        Some(Command::PassThrough(arguments)) => baseline::pass_through::serve(arguments),
        None => measure_and_show(&config),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("crochet-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the bench, prints its table and writes its JSON.
fn measure_and_show(config: &Config) -> Result<ExitCode> {
    idle::allow_files()?;
    // One thread: preparing and waiting need no more, and the load has a thread of its own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut terminated = signal(SignalKind::terminate())?;
        let run = async {
            if config.browse {
                return browse::run(config).await;
            }
            let by_itself = config.by_itself()?;
            if by_itself == Some(Subject::Flat) {
                return Box::pin(flat::run(config)).await;
            }
            if by_itself == Some(Subject::Soak) {
                return soak::run(config).await;
            }
            let report = run::run(config).await?;
            println!("{}", report::table::render(&report));
            let path = report::json::write(&report, config)?;
            println!("Also in {}", path.display());
            Ok(report.exit_code(config.check))
        };
        tokio::select! {
            outcome = run => outcome,
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
            _ = terminated.recv() => bail!("terminated"),
        }
    })
}
