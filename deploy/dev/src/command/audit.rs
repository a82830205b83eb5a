//! `cargo dev audit`: the control plane's invariants, against the running stack's database.

use std::collections::BTreeMap;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use crochet_dev::{Build, Checkout, Stack};
use serde::{Deserialize, Serialize};

/// What a command beside the running control plane needs, kept while the stack runs.
#[derive(Serialize, Deserialize)]
struct Kept {
    build: Build,
    environment: BTreeMap<String, String>,
}

const FILE: &str = "control-plane.json";

/// Keeps the running control plane's environment, readable by its owner alone.
pub(crate) fn keep_environment(checkout: &Checkout, build: Build, stack: &Stack) -> Result<()> {
    let path = checkout.dev().join(FILE);
    let kept = Kept {
        build,
        environment: stack.control_plane_environment(),
    };
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path);
    serde_json::to_writer_pretty(
        file.with_context(|| format!("opening {}", path.display()))?,
        &kept,
    )
    .with_context(|| format!("writing {}", path.display()))
}

pub(crate) fn audit() -> Result<ExitCode> {
    let checkout = Checkout::find()?;
    let status = run(&checkout)?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs `control-plane audit` with its output on the terminal.
pub(crate) fn run(checkout: &Checkout) -> Result<std::process::ExitStatus> {
    beside(checkout)?
        .arg("audit")
        .status()
        .context("starting control-plane audit")
}

/// The control plane's program with the running one's environment, for a command beside it.
pub(crate) fn beside(checkout: &Checkout) -> Result<Command> {
    super::running(checkout)?;
    let text = std::fs::read_to_string(checkout.dev().join(FILE))
        .context("reading the running stack's configuration")?;
    let kept: Kept =
        serde_json::from_str(&text).context("reading the running stack's configuration")?;
    let mut command = Command::new(checkout.program(kept.build, "control-plane"));
    command.envs(kept.environment);
    Ok(command)
}
