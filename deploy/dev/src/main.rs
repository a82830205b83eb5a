//! `cargo dev`: a whole Crochet on this machine, from one command.

mod command;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::command::{
    audit, bench, demo, documents, down, drill, fresh, fuzz, k6, logs, manifests, observe,
    operator, test, up,
};

/// Installs what is missing, builds, starts and shows a whole Crochet on this machine.
#[derive(Parser)]
#[command(
    name = "cargo dev",
    bin_name = "cargo dev",
    version,
    disable_help_subcommand = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what is missing to build and run, and do nothing else.
    Setup,
    /// Start everything, make a paid call with two agents, and stay up until Ctrl-C.
    Up(up::Arguments),
    /// Stop the stack that runs in this clone.
    Down,
    /// Make the paid call again, against the stack that runs.
    Demo(demo::Arguments),
    /// Hold the documents to the program: OpenAPI, SKILL.md, the pages in Chromium, schemathesis.
    Documents(documents::Arguments),
    /// Watch a stack with a Prometheus of its own; hold rules and dashboards to what it sees.
    Observe(observe::Arguments),
    /// Break a stack in every way there is an alert for, and see each fire; or upgrade one under load.
    Drill(drill::Arguments),
    /// Hold chart, compose file, Dockerfile and units to those who read them, as far as they can be had.
    Manifests,
    /// Run the tests with a Postgres and a Redis of their own.
    Test(test::Arguments),
    /// Build the control plane of the version before this one (`deploy/PREVIOUS`), which a test lets serve
    /// beside it.
    Previous,
    /// Drop all data, secrets and logs of this clone's stack.
    Fresh,
    /// Fuzz every parser of outside bytes (`loadtest/fuzz`).
    Fuzz(fuzz::Arguments),
    /// Show what the processes print.
    Logs(logs::Arguments),
    /// Check every invariant of money and state in the running stack's database.
    Audit,
    /// What an operator asks and does, in the running stack: `cargo dev operator status`, `… help`.
    #[command(disable_help_flag = true)]
    Operator(operator::Arguments),
    /// Measure, with release builds; what follows goes to the bench (`--quick`, `--help`).
    Bench(bench::Arguments),
    /// Load at a fixed rate against the stack that runs, then the books and the audit.
    K6(k6::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    let result = runtime.block_on(async {
        match arguments.command {
            Command::Setup => setup(),
            Command::Up(arguments) => Box::pin(up::up(arguments)).await,
            Command::Down => down::down().await,
            Command::Demo(arguments) => Box::pin(demo::demo(arguments)).await,
            Command::Documents(arguments) => Box::pin(documents::documents(arguments)).await,
            Command::Observe(arguments) => Box::pin(observe::observe(arguments)).await,
            Command::Drill(arguments) => Box::pin(drill::drill(arguments)).await,
            Command::Manifests => manifests::manifests(),
            Command::Test(arguments) => test::test(arguments).await,
            Command::Previous => previous(),
            Command::Fresh => fresh::fresh().await,
            Command::Fuzz(arguments) => fuzz::fuzz(&arguments),
            Command::Logs(arguments) => logs::logs(arguments).await,
            Command::Audit => audit::audit(),
            Command::Operator(arguments) => operator::operator(&arguments),
            Command::Bench(arguments) => bench::bench(&arguments),
            Command::K6(arguments) => Box::pin(k6::k6(arguments)).await,
        }
    });
    result.unwrap_or_else(|error| failed(&error))
}

fn setup() -> anyhow::Result<ExitCode> {
    crochet_dev::install::install_missing(command::say)?;
    command::say("Everything is there to build and to run");
    Ok(ExitCode::SUCCESS)
}

fn previous() -> anyhow::Result<ExitCode> {
    command::previous::build(&crochet_dev::Checkout::find()?)?;
    Ok(ExitCode::SUCCESS)
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("\ncargo dev: {error:#}");
    ExitCode::FAILURE
}
