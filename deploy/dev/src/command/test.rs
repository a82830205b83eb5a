//! `cargo dev test`: the workspace's tests, with stores of their own.

use std::process::{Command, ExitCode, ExitStatus};

use anyhow::{Context as _, Result, bail};
use crochet_dev::{Abandoned, Checkout, Stores, end_all_abandoned, end_leftovers, install};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::lock::{Found, take};
use super::signals::Signals;
use super::{compile, documents, fuzz, observe, previous, say};

/// Many stacks at once, each with a pool of its own.
const CONNECTIONS: u16 = 600;

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Only tests whose name contains this.
    filter: Option<String>,
    /// Let tests that have a long form run it (`CROCHET_TEST_FULL=1`), all of them whichever fails; without a
    /// filter, then hold the documents to the program (`cargo dev documents`), rules and dashboards to a
    /// Prometheus (`cargo dev observe --check`), and fuzz the parsers (`cargo dev fuzz`). Built first are a
    /// release of the services, for the tests that measure, and the version before (`deploy/PREVIOUS`), for
    /// the test that lets it serve beside this one.
    #[arg(long)]
    full: bool,
    /// Arguments of the test programs (`-- --nocapture`).
    #[arg(last = true)]
    rest: Vec<String>,
}

pub(crate) async fn test(arguments: Arguments) -> Result<ExitCode> {
    let checkout = Checkout::find()?;
    let directory = checkout.test();
    let Found::Free(_lock) = take(&directory)? else {
        bail!("tests of this clone already run")
    };
    let mut signals = Signals::listen()?;
    install::install_missing(say)?;
    println!("Building the programs that tests start");
    compile::build(&checkout, crochet_dev::Build::Debug, &compile::SERVICES)?;
    if arguments.full {
        compile::build(&checkout, crochet_dev::Build::Release, &compile::SERVICES)?;
        previous::build(&checkout)?;
    }
    end_leftovers(&directory).await?;
    end_all_abandoned(&checkout.test_stacks(), Abandoned::Remove).await?;
    say("Starting Postgres and Redis for the tests");
    let stores = Stores::start(&directory, CONNECTIONS).await?;
    let status = run(cargo_test(&checkout, &arguments, &stores), &mut signals).await;
    let mut held = Ok(true);
    // A long run tells all that it can, but for one that was interrupted.
    let ended = status.as_ref().is_ok_and(|status| status.code().is_some());
    if arguments.full && arguments.filter.is_none() && ended {
        let postgres = stores.database_url();
        held = tokio::select! {
            held = Box::pin(hold(&checkout, &postgres)) => {
                held.and_then(|held| Ok(fuzz::hold_all(&checkout)? && held))
            }
            () = signals.any() => Ok(false),
        };
    }
    // Tests that were interrupted have left their stacks. The logs of those that failed are kept until the next run.
    end_all_abandoned(&checkout.test_stacks(), Abandoned::Keep).await?;
    stores.stop().await?;
    crochet_dev::Cluster::remove(&directory)?;
    if !held? {
        return Ok(ExitCode::FAILURE);
    }
    let code = status?.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Documents, then rules and dashboards; true when all hold.
async fn hold(checkout: &Checkout, postgres: &str) -> Result<bool> {
    let documents = Box::pin(documents::hold(checkout, postgres, None)).await?;
    Ok(Box::pin(observe::hold(checkout, postgres)).await? && documents)
}

fn cargo_test(checkout: &Checkout, arguments: &Arguments, stores: &Stores) -> Command {
    let mut command = compile::cargo(checkout);
    command
        .args(["test", "--workspace"])
        .args(arguments.full.then_some("--no-fail-fast"))
        .args(&arguments.filter);
    if !arguments.rest.is_empty() {
        command.arg("--").args(&arguments.rest);
    }
    command
        .env("DATABASE_URL", stores.database_url())
        .env("REDIS_URL", stores.redis_url());
    if arguments.full {
        command.env("CROCHET_TEST_FULL", "1");
    }
    command
}

/// Ctrl-C reaches Cargo and the tests by themselves, other signals through us; we stay to clean up behind them.
async fn run(command: Command, signals: &mut Signals) -> Result<ExitStatus> {
    let mut child = tokio::process::Command::from(command)
        .spawn()
        .context("starting cargo")?;
    loop {
        tokio::select! {
            status = child.wait() => return status.context("waiting for cargo"),
            () = signals.any() => {
                if let Some(id) = child.id().and_then(|id| i32::try_from(id).ok()) {
                    // An error says that it has ended, which the next turn sees.
                    let _ended = kill(Pid::from_raw(id), Signal::SIGTERM);
                }
            }
        }
    }
}
