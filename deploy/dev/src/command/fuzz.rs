//! `cargo dev fuzz`: every parser of outside bytes, fuzzed for a while each with cargo-fuzz. What it learns is
//! kept under the target folder; an input that broke something is printed with the command that tries it again.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail, ensure};
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
    println!("Fuzzing {} parsers, {seconds} s each", targets.len());
    let mut holds = true;
    for (number, target) in targets.iter().enumerate() {
        println!("\n[{}/{}] {target}", number + 1, targets.len());
        let held = fuzzer.run(checkout, target, seconds)?;
        say(if held { "holds" } else { "FAILED" });
        holds &= held;
    }
    Ok(holds)
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

    fn run(&self, checkout: &Checkout, target: &str, seconds: u32) -> Result<bool> {
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
        let status = as_cargo_fuzz(&command, &self.program).status();
        Ok(status.context("starting cargo-fuzz")?.success())
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
