//! Starts the gateway: reads the configuration, judges it, serves until told to stop.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;
use gateway_proxy::config::Args;
use gateway_proxy::gateway::Gateway;
use gateway_proxy::{metrics, serve};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let _points = crochet_shared::fault::told();
    let args = Args::parse();
    if let Err(error) = log_to_stderr(&args.log) {
        return refuse(&error);
    }
    let config = match args.check() {
        Ok(config) => config,
        Err(bad) => return refuse(&bad.into()),
    };
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(&error),
    }
}

fn run(config: gateway_proxy::config::Config) -> anyhow::Result<()> {
    let scrape = metrics::install()?;
    let traces = crochet_traces::start("crochet-gateway", config.traces.as_ref())?;
    let gateway = Gateway::new(config)?;
    let served = serve::run(gateway, scrape);
    traces.end();
    served
}

/// Lines of JSON, or of text on a terminal; also what pingora says through `log`.
fn log_to_stderr(directives: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::builder().parse(directives)?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        lines.finish().try_init()?;
    } else {
        lines.json().flatten_event(true).finish().try_init()?;
    }
    Ok(())
}

fn refuse(error: &anyhow::Error) -> ExitCode {
    tracing::error!("{error:#}");
    ExitCode::FAILURE
}
