//! `cargo dev up`: install, build, start, show a paid call, stay.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use crochet_dev::{
    Build, Checkout, Deadline, DemoKeys, Exited, Limits, Options, Settings, Stack, StackFile,
    end_leftovers, end_of, install,
};

use super::lock::{Found, Lock, take};
use super::signals::Signals;
use super::{audit, compile, say, shown, transcript};

/// How long a detached supervisor may take to be ready; everything is built by then.
const READY_LIMIT: Duration = Duration::from_mins(3);
/// Between two looks whether a process has ended.
const WATCH_EVERY: Duration = Duration::from_millis(200);

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Arguments {
    /// Return when everything is ready; `cargo dev down` stops it.
    #[arg(long)]
    detach: bool,
    /// Run optimised builds.
    #[arg(long)]
    release: bool,
    /// How many gateways to start.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    gateways: u8,
    /// `default` keeps the limits of production; otherwise they are lifted.
    #[arg(long, value_enum, default_value_t = Limits::Lifted)]
    limits: Limits,
    /// Configuration for the services; may be repeated. An unknown name is answered with the known ones.
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// The supervisor of `--detach`: everything is installed and built, and it gets a session of its own.
    #[arg(long, hide = true)]
    supervise: bool,
}

impl Arguments {
    fn build(&self) -> Build {
        if self.release {
            Build::Release
        } else {
            Build::Debug
        }
    }

    fn settings(&self) -> Result<Settings> {
        let mut settings = Settings::default().with_limits(self.limits);
        for pair in &self.set {
            settings.set_pair(pair)?;
        }
        Ok(settings)
    }

    /// The arguments of the supervisor that does the same.
    fn for_supervisor(&self) -> Vec<String> {
        let limits = if self.limits == Limits::Default {
            "default"
        } else {
            "lifted"
        };
        let mut words = vec![
            "up".to_owned(),
            "--supervise".to_owned(),
            format!("--gateways={}", self.gateways),
            format!("--limits={limits}"),
        ];
        words.extend(self.release.then(|| "--release".to_owned()));
        words.extend(self.set.iter().map(|pair| format!("--set={pair}")));
        words
    }
}

pub(crate) async fn up(arguments: Arguments) -> Result<ExitCode> {
    let checkout = Checkout::find()?;
    let settings = arguments.settings()?;
    let lock = take_or_refuse(&checkout)?;
    if arguments.supervise {
        nix::unistd::setsid().context("beginning a session of its own")?;
        return supervise(&checkout, &arguments, settings, lock).await;
    }
    install::install_missing(say)?;
    println!("Building");
    compile::build(&checkout, arguments.build(), &compile::SERVICES)?;
    if arguments.detach {
        return detach(&checkout, &arguments, lock).await;
    }
    supervise(&checkout, &arguments, settings, lock).await
}

fn take_or_refuse(checkout: &Checkout) -> Result<Lock> {
    match take(&checkout.dev())? {
        Found::Free(lock) => Ok(lock),
        Found::Held(_) => {
            let at = StackFile::read(&checkout.dev())?
                .map_or_else(String::new, |stack| format!(" at {}", stack.base_url));
            bail!("a stack of this clone already runs{at}; `cargo dev down` stops it")
        }
    }
}

/// Runs the stack until a signal or a crash.
async fn supervise(
    checkout: &Checkout,
    arguments: &Arguments,
    settings: Settings,
    lock: Lock,
) -> Result<ExitCode> {
    const INTERRUPTED: u8 = 130;
    let mut signals = Signals::listen()?;
    let directory = checkout.dev();
    StackFile::remove(&directory)?;
    for name in end_leftovers(&directory).await? {
        say(&format!(
            "Ended {name}, left over from a runner that was killed"
        ));
    }
    empty_logs(&directory.join("logs"))?;
    println!("Starting");
    let options = Options::for_development(checkout)
        .build(arguments.build())
        .gateways(arguments.gateways.into())
        .settings(settings)
        .say(say);
    let started = tokio::select! {
        started = Box::pin(start(options)) => started,
        () = signals.any() => {
            println!("\nStopped before everything was up");
            return Ok(ExitCode::from(INTERRUPTED));
        }
    };
    let (mut stack, demo) = started?;
    audit::keep_environment(checkout, arguments.build(), &stack)?;
    let file = stack.describe(demo);
    print!("{}", transcript::by_hand(&file));
    println!(
        "Ready: {}  (logs: {}, stop: {})",
        file.base_url,
        shown(checkout, &directory.join("logs")),
        if arguments.supervise {
            "cargo dev down"
        } else {
            "Ctrl-C"
        }
    );
    std::io::stdout().flush()?;
    file.write(&directory)?;
    let crashed = watch(&mut stack, &mut signals).await;
    StackFile::remove(&directory)?;
    println!("\nStopping");
    let stopped = tokio::select! {
        stopped = Box::pin(stack.stop()) => stopped,
        // Asked twice: what is dropped here is killed.
        () = signals.any() => Ok(()),
    };
    drop(lock);
    match crashed {
        Some(exited) => Err(exited.into()),
        None => stopped.map(|()| ExitCode::SUCCESS),
    }
}

/// Everything up and the paid call made; on failure the logs are shown and all is stopped in order.
async fn start(options: Options) -> Result<(Stack, DemoKeys)> {
    let mut stack = Stack::start(options).await?;
    let file = stack.describe(DemoKeys::default());
    let error = match Box::pin(transcript::tell(&file)).await {
        Ok(demo) => return Ok((stack, demo)),
        Err(error) => error,
    };
    let error = if let Some(exited) = stack.crashed() {
        exited.into()
    } else {
        eprintln!("\n{}", ends_of_logs(&stack));
        error.context("the paid call failed (the ends of the logs are above)")
    };
    stack.stop().await?;
    Err(error)
}

fn ends_of_logs(stack: &Stack) -> String {
    let ends = stack
        .roles()
        .into_iter()
        .map(|role| format!("--- {role}\n{}", end_of(&stack.log(role), 0)));
    ends.collect::<Vec<_>>().join("\n")
}

/// Waits for the first process that ends by itself, or for a signal.
async fn watch(stack: &mut Stack, signals: &mut Signals) -> Option<Exited> {
    loop {
        tokio::select! {
            () = signals.any() => return None,
            () = tokio::time::sleep(WATCH_EVERY) => {}
        }
        if let Some(exited) = stack.crashed() {
            return Some(exited);
        }
    }
}

/// Each start begins its logs anew.
fn empty_logs(logs: &Path) -> Result<()> {
    std::fs::create_dir_all(logs).with_context(|| format!("making {}", logs.display()))?;
    for entry in std::fs::read_dir(logs)?.flatten() {
        if entry.file_name() != SUPERVISOR_LOG {
            std::fs::remove_file(entry.path())
                .with_context(|| format!("removing {}", entry.path().display()))?;
        }
    }
    Ok(())
}

const SUPERVISOR_LOG: &str = "up.log";

/// Starts the supervisor in the background and shows what it says until it is ready.
async fn detach(checkout: &Checkout, arguments: &Arguments, lock: Lock) -> Result<ExitCode> {
    let directory = checkout.dev();
    std::fs::create_dir_all(directory.join("logs"))?;
    StackFile::remove(&directory)?;
    let path = directory.join("logs").join(SUPERVISOR_LOG);
    let log = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .open(&path)?;
    let mut command = Command::new(std::env::current_exe().context("the path of this program")?);
    command
        .args(arguments.for_supervisor())
        .current_dir(checkout.root())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    // The supervisor takes it for itself; should somebody be quicker, it says so and ends.
    drop(lock);
    let mut supervisor = command.spawn().context("starting the supervisor")?;
    let mut reader = File::open(&path)?;
    match Box::pin(follow_until_ready(&mut supervisor, &mut reader, &directory)).await {
        Ok(true) => Ok(ExitCode::SUCCESS),
        Ok(false) => bail!("the stack did not come up"),
        Err(error) => {
            // Asked to stop, it stops what it started; `down` waits for that.
            super::down::stop_and_wait(checkout).await?;
            Err(error)
        }
    }
}

/// Copies the supervisor's words to the terminal; true once the stack is ready, false when the supervisor ended.
async fn follow_until_ready(
    supervisor: &mut Child,
    log: &mut File,
    directory: &Path,
) -> Result<bool> {
    let mut signals = Signals::listen()?;
    let deadline = Deadline::new("the stack to be ready", READY_LIMIT);
    loop {
        let ready = StackFile::read(directory)?.is_some();
        let ended = supervisor.try_wait()?.is_some();
        copy(log)?;
        if ready || ended {
            return Ok(ready && !ended);
        }
        tokio::select! {
            tick = deadline.tick() => tick?,
            () = signals.any() => bail!("interrupted"),
        }
    }
}

fn copy(log: &mut File) -> Result<()> {
    let mut bytes = Vec::new();
    log.read_to_end(&mut bytes)?;
    std::io::stdout().write_all(&bytes)?;
    Ok(std::io::stdout().flush()?)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(subcommand)]
        command: Sub,
    }

    #[derive(clap::Subcommand)]
    enum Sub {
        Up(Arguments),
    }

    fn parse(words: &[&str]) -> Arguments {
        let Sub::Up(arguments) =
            Line::try_parse_from(std::iter::once("dev").chain(words.iter().copied()))
                .unwrap()
                .command;
        arguments
    }

    #[test]
    fn the_supervisor_is_told_everything_it_needs() {
        let asked = parse(&[
            "up",
            "--detach",
            "--release",
            "--gateways",
            "3",
            "--limits",
            "default",
            "--set",
            "QUOTE_TTL_SECONDS=5",
            "--set",
            "ENDPOINT_ALLOW_CIDRS=",
        ]);
        let words = asked.for_supervisor();
        let told = parse(&words.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(told.supervise && !told.detach && told.release);
        assert_eq!(
            (told.gateways, told.limits, told.set),
            (3, Limits::Default, asked.set)
        );
    }

    #[test]
    fn limits_are_lifted_and_one_gateway_is_started_when_nothing_is_said() {
        let plain = parse(&["up"]);
        assert_eq!(
            (plain.gateways, plain.limits, plain.release, plain.detach),
            (1, Limits::Lifted, false, false)
        );
        assert!(Line::try_parse_from(["dev", "up", "--gateways", "0"]).is_err());
    }
}
