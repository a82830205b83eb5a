//! `cargo dev k6`: load at a fixed rate against the stack that runs, and all books held together afterwards. The
//! scenarios lie in `loadtest/k6`.

mod books;
mod limits;
mod stage;
#[cfg(test)]
mod tests;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum as _;
use crochet_dev::Checkout;
use crochet_dev::install::{self, Part};

use self::books::{Books, Seen};
use self::limits::Limits;
use self::stage::Stage;
use super::{audit, python, running, say, shown};

/// How k6 ends when a threshold is crossed.
const CROSSED: i32 = 99;

/// One of the scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Scenario {
    /// Strangers buy one call each: 402, deposit, retries until 200, replay.
    PaidCall,
    /// Many ask for the price and nobody pays; who asks twice gets the same quote.
    QuoteFlood,
    /// Lists, searches, cursors, listings, reviews and scores.
    Browse,
    /// Everybody wants one listing, and two gateways redeem each payment at the same moment.
    HotListing,
    /// One seller is slow, or later than her deadline; whoever buys elsewhere must not notice.
    SellerSlow,
    /// A quiet trade that goes on (`--duration 10m`), with the processes' memory before and after.
    Soak,
    /// Ten times as many buyers from one moment to the next, and back.
    Spike,
    /// A market day: looks, quotes, purchases, books and mistakes.
    Mixed,
}

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// What to run.
    #[arg(required_unless_present = "list")]
    scenario: Option<Scenario>,
    /// Only show the scenarios.
    #[arg(long)]
    list: bool,
    /// Iterations a second, all parts of the scenario together; of `spike` at its height.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: Option<u32>,
    /// How long iterations begin: `40s`, `10m`, `1h`.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
    /// Options of k6 itself, such as `--out` or `--http-debug`.
    #[arg(last = true, value_name = "K6 OPTIONS")]
    options: Vec<String>,
}

pub(crate) async fn k6(arguments: Arguments) -> Result<ExitCode> {
    let Some(scenario) = arguments.scenario.filter(|_| !arguments.list) else {
        print!("{}", listed());
        return Ok(ExitCode::SUCCESS);
    };
    let checkout = Checkout::find()?;
    let stack = running(&checkout)?;
    let scripts = scripts(&checkout);
    let limits = Limits::read(&scripts)?;
    let directory = checkout.k6();
    install::install(&[Part::Python], say)?;
    python::packages(&checkout, &directory, &scripts.join("requirements.txt"))?;
    let run = Run {
        scenario,
        scripts,
        stage: directory.join("stage.json"),
        result: directory.join(format!("{}.json", scenario.name())),
        directory,
    };
    say("Registering buyers, sellers and what they sell");
    let stage = Stage::set(&stack).await?;
    stage.write(&run.stage)?;
    let before = Books::read(&stack, &stage).await?;
    let within = run.load(&arguments)?;
    let seen = Seen::read(&run.result)?;
    let agreed = books::agree(&stack, &stage, &before, &seen).await?;
    let grown = limits.memory_holds(
        &scenario.name(),
        &before,
        &Books::read(&stack, &stage).await?,
    );
    say(&format!("All figures: {}", shown(&checkout, &run.result)));
    let audited = audit::run(&checkout)?.success();
    Ok(if within && agreed && grown && audited {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Where the scripts lie.
fn scripts(checkout: &Checkout) -> PathBuf {
    checkout.root().join("loadtest/k6")
}

/// One line a scenario.
fn listed() -> String {
    let lines = Scenario::value_variants().iter().map(|scenario| {
        let about = scenario.to_possible_value();
        let about = about.as_ref().and_then(|value| value.get_help());
        format!(
            "  {:<12} {}\n",
            scenario.name(),
            about.map(ToString::to_string).unwrap_or_default()
        )
    });
    lines.collect()
}

/// `90s`, `10m`, `1h`: whole numbers of one unit.
fn duration(text: &str) -> Result<Duration, String> {
    let wanted = || format!("{text:?} is not a whole number with s, m or h");
    let (number, unit) = text
        .split_at_checked(text.len().saturating_sub(1))
        .ok_or_else(wanted)?;
    let number: u32 = number.parse().map_err(|_| wanted())?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return Err(wanted()),
    };
    if number == 0 {
        return Err("nothing would be begun".to_owned());
    }
    Ok(Duration::from_secs(u64::from(number) * seconds))
}

impl Scenario {
    /// As the script and its thresholds are called.
    fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }
}

/// The paths of one run.
struct Run {
    scenario: Scenario,
    scripts: PathBuf,
    directory: PathBuf,
    stage: PathBuf,
    result: PathBuf,
}

impl Run {
    /// Runs k6 with its output on the terminal; true when every threshold holds.
    fn load(&self, arguments: &Arguments) -> Result<bool> {
        // A file of an earlier run must not speak for this one.
        match std::fs::remove_file(&self.result) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).context("removing the last run's figures");
            }
            _ => {}
        }
        let status = self.command(arguments).status().context("starting k6")?;
        match status.code() {
            Some(0) => Ok(true),
            Some(CROSSED) => Ok(false),
            _ => bail!("k6 ended with {status}"),
        }
    }

    fn command(&self, arguments: &Arguments) -> Command {
        let mut command = Command::new(self.directory.join("python/bin/k6"));
        command.arg("run");
        // The progress redraws itself; in a file each second of it would be lines.
        if !std::io::stdout().is_terminal() {
            command.arg("--quiet");
        }
        command
            .args(&arguments.options)
            .arg(self.script())
            .current_dir(&self.directory)
            .envs(environment(arguments, &self.stage, &self.result));
        command
    }

    fn script(&self) -> PathBuf {
        self.scripts.join(format!("{}.js", self.scenario.name()))
    }
}

/// What the scripts are told; and k6 is told to speak to nobody but the stack.
fn environment(arguments: &Arguments, stage: &Path, result: &Path) -> Vec<(&'static str, String)> {
    let mut told = vec![
        ("CROCHET_STAGE", stage.display().to_string()),
        ("CROCHET_RESULT", result.display().to_string()),
        ("K6_NO_USAGE_REPORT", "true".to_owned()),
        ("K6_AUTO_EXTENSION_RESOLUTION", "false".to_owned()),
    ];
    told.extend(
        arguments
            .rate
            .map(|rate| ("CROCHET_RATE", rate.to_string())),
    );
    told.extend(
        arguments
            .duration
            .map(|time| ("CROCHET_SECONDS", time.as_secs().to_string())),
    );
    told
}
