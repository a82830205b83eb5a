//! The program, under both of its names: reads its command line and settings, then does what it is told.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, CommandFactory as _, FromArgMatches as _};

use crate::config::{Cli, Command, PUBLIC_BASE_URL_DEFAULT};

/// The operators' name of the program. Under it nothing is served by default.
pub const CROCHET: &str = "crochet";
/// What serves, and so takes every setting. The other commands' help leaves the settings to theirs.
const SERVE: &str = "serve";

/// Runs the program. `name` is what it was built as; a link that is called `crochet` makes it that.
pub fn run(name: &'static str) -> ExitCode {
    let started_as = std::env::args_os().next().map(PathBuf::from);
    let is_crochet = started_as.is_some_and(|path| path.file_name() == Some(CROCHET.as_ref()));
    let name = if is_crochet { CROCHET } else { name };
    let cli = match Cli::from_arg_matches(&command(name).get_matches()) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    log_to_stderr();
    let run = async {
        match cli.command.unwrap_or(Command::Serve) {
            Command::Serve => crate::serve::serve(cli.settings.check()?).await,
            Command::Openapi => print_openapi(),
            Command::Operator(verb) => crate::operator::run(verb, cli.settings).await,
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
            tracing::error!(error = format!("{error:#}"), "{name} stopped");
            // 1 is an answer's word for what needs a person; this is "could not run".
            ExitCode::from(2)
        }
    }
}

/// The command line under a name. Settings are taken everywhere and told where they matter.
pub fn command(name: &'static str) -> clap::Command {
    let mut command = Cli::command().name(name).bin_name(name);
    if name == CROCHET {
        command = command
            .about(
                "The operator's tool of a Crochet marketplace. Each verb's own --help tells more.",
            )
            .subcommand_required(true)
            .arg_required_else_help(true);
    }
    command.build();
    if name == CROCHET {
        command = command.mut_args(hide_settings);
    }
    command.mut_subcommands(|sub| {
        if sub.get_name() == SERVE {
            sub
        } else {
            quiet(sub)
        }
    })
}

/// Leaves the settings out of a command's help, and of those below it.
fn quiet(command: clap::Command) -> clap::Command {
    command.mut_args(hide_settings).mut_subcommands(quiet)
}

fn hide_settings(arg: Arg) -> Arg {
    let shown = !arg.is_global_set() || arg.get_id() == "database_url";
    arg.hide(!shown)
}

/// The document as it is checked in, on standard output.
fn print_openapi() -> anyhow::Result<ExitCode> {
    let document = crate::router::openapi(PUBLIC_BASE_URL_DEFAULT);
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
