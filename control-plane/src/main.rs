//! The program: reads its settings, then serves, migrates or audits.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use control_plane::config::{Cli, Command, PUBLIC_BASE_URL_DEFAULT};
use control_plane::db::Db;
use secrecy::ExposeSecret as _;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let _points = crochet_shared::fault::told();
    let cli = Cli::parse();
    log_to_stderr();
    let run = async {
        match cli.command.unwrap_or(Command::Serve) {
            Command::Serve => control_plane::serve::serve(cli.settings.check()?).await,
            Command::Migrate => {
                let db = Db::patient(cli.settings.database_url()?.expose_secret())?;
                db.migrate().await?;
                tracing::info!("the schema is up to date");
                Ok(ExitCode::SUCCESS)
            }
            Command::Audit => {
                let db = Db::patient(cli.settings.database_url()?.expose_secret())?;
                control_plane::ledger::audit(&db).await
            }
            Command::Openapi => print_openapi(),
        }
    };
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(run));
    match outcome {
        Ok(code) => code,
        Err(error) => {
            // Also for a person at a terminal: the whole chain, in one line.
            tracing::error!(error = format!("{error:#}"), "control-plane stopped");
            // 1 is an audit's word for violations; this is "could not run".
            ExitCode::from(2)
        }
    }
}

/// The document as it is checked in, on standard output.
fn print_openapi() -> anyhow::Result<ExitCode> {
    let document = control_plane::router::openapi(PUBLIC_BASE_URL_DEFAULT);
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, &document)?;
    out.write_all(b"\n")?;
    Ok(ExitCode::SUCCESS)
}

/// JSON lines, one an event; plain text for a person at a terminal.
fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_default_directive(tracing::level_filters::LevelFilter::INFO.into())
        .from_env_lossy();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        log.init();
    } else {
        log.json().flatten_event(true).init();
    }
}
