//! `cargo dev fuzz`: every parser of outside bytes, fuzzed for a while each with cargo-fuzz. What it learns is
//! kept under the target folder; an input that broke something is printed with the command that tries it again.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use crochet_dev::{Checkout, install};

use super::{compile, say, shown};

/// The cargo-fuzz that is installed where there is none.
const CARGO_FUZZ: &str = "0.13.2";
/// Where the targets are, below the clone's root.
const FOLDER: &str = "loadtest/fuzz";
/// Seconds for each target where nothing else is said.
const SECONDS: u32 = 30;
/// Longest input, in bytes: a whole request's head.
const INPUT_BYTES_MAX: u32 = 32 * 1024;
/// An input that takes longer is a finding, in seconds.
const INPUT_SECONDS_MAX: u32 = 10;

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// Only this target.
    target: Option<String>,
    /// How long each target is fuzzed.
    #[arg(long, default_value_t = SECONDS)]
    seconds: u32,
}

pub(crate) fn fuzz(arguments: &Arguments) -> Result<ExitCode> {
    let checkout = Checkout::find()?;
    install::install_missing(say)?;
    let holds = hold(&checkout, arguments.target.as_deref(), arguments.seconds)?;
    Ok(if holds {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The same for the full run: every target for its usual time.
pub(crate) fn hold_all(checkout: &Checkout) -> Result<bool> {
    hold(checkout, None, SECONDS)
}

/// Fuzzes; true when nothing was found.
fn hold(checkout: &Checkout, only: Option<&str>, seconds: u32) -> Result<bool> {
    let targets: Vec<String> = targets(checkout)?
        .into_iter()
        .filter(|target| only.is_none_or(|only| only == target))
        .collect();
    ensure!(!targets.is_empty(), "there is no such target in {FOLDER}");
    let fuzzer = Fuzzer::ready(checkout)?;
    if let [target] = &targets[..] {
        println!("Fuzzing {target} for {seconds} s");
        let held = fuzzer.command(checkout, target, seconds)?.status();
        let held = held.context("starting cargo-fuzz")?.success();
        say(if held { "holds" } else { "FAILED" });
        return Ok(held);
    }
    fuzzer.run_all(checkout, &targets, seconds)
}

/// The targets, by the files they are made of.
fn targets(checkout: &Checkout) -> Result<Vec<String>> {
    let folder = checkout.root().join(FOLDER).join("targets");
    let files = std::fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let mut names: Vec<String> = files
        .filter_map(|file| Some(file.ok()?.path().file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    Ok(names)
}

/// cargo-fuzz, and where it keeps what it makes.
struct Fuzzer {
    program: PathBuf,
    /// What it has learned, a folder for each target.
    corpus: PathBuf,
    target: PathBuf,
}

impl Fuzzer {
    /// Installs cargo-fuzz below the target folder when it is not there.
    fn ready(checkout: &Checkout) -> Result<Self> {
        let home = checkout.fuzz();
        let program = home.join("bin/cargo-fuzz");
        if !program.is_file() {
            say(&format!(
                "Installing cargo-fuzz {CARGO_FUZZ} into {}",
                shown(checkout, &home)
            ));
            let status = compile::cargo(checkout)
                .args(["install", "cargo-fuzz", "--locked", "--quiet"])
                .args(["--version", CARGO_FUZZ, "--root"])
                .arg(&home)
                .status()
                .context("starting cargo")?;
            if !status.success() {
                bail!("cargo-fuzz could not be installed ({status})");
            }
        }
        Ok(Self {
            program,
            corpus: home.join("corpus"),
            target: home.join("target"),
        })
    }

    /// Fuzzes several, one on each core; what each says is shown when it has ended. True when nothing was found.
    fn run_all(&self, checkout: &Checkout, targets: &[String], seconds: u32) -> Result<bool> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        println!(
            "Fuzzing {} parsers, {seconds} s each, {cores} at once",
            targets.len()
        );
        let next = AtomicUsize::new(0);
        let work = || -> Result<bool> {
            let mut holds = true;
            while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
                let output = self.command(checkout, target, seconds)?.output();
                let output = output.context("starting cargo-fuzz")?;
                let held = output.status.success();
                // In one piece, for another may end at the same time.
                println!(
                    "\n{target}\n{}{}  {}",
                    String::from_utf8_lossy(&output.stdout),
                    String::from_utf8_lossy(&output.stderr),
                    if held { "holds" } else { "FAILED" }
                );
                holds &= held;
            }
            Ok(holds)
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
            let ended = workers.into_iter().map(|worker| {
                let ended = worker.join();
                ended.map_err(|_| anyhow!("a thread that fuzzed has panicked"))?
            });
            ended.collect::<Result<Vec<bool>>>()
        })
        .map(|held| held.into_iter().all(|held| held))
    }

    /// What fuzzes a target.
    fn command(&self, checkout: &Checkout, target: &str, seconds: u32) -> Result<Command> {
        let folder = checkout.root().join(FOLDER);
        let corpus = self.corpus.join(target);
        std::fs::create_dir_all(&corpus)?;
        // The services forbid unsafe code, so what an address sanitiser looks for is the libraries' alone,
        // and without it the instrumented build is made of the same parts as any other.
        let mut command = compile::cargo(checkout);
        command
            .env("RUSTC_BOOTSTRAP", "1")
            .args(["run", "--sanitizer", "none", "--fuzz-dir"])
            .arg(&folder)
            .arg("--target-dir")
            .arg(&self.target)
            .arg(target)
            .args([&corpus, &folder.join("seeds").join(target)])
            .arg("--")
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-max_len={INPUT_BYTES_MAX}"))
            .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
            .args(["-print_final_stats=1", "-verbosity=0"]);
        Ok(as_cargo_fuzz(&command, &self.program))
    }
}

/// The same command run by cargo-fuzz's own program, which need not be on the path.
fn as_cargo_fuzz(of_cargo: &Command, program: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(of_cargo.get_args());
    for (name, value) in of_cargo.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    if let Some(folder) = of_cargo.get_current_dir() {
        command.current_dir(folder);
    }
    command
}
