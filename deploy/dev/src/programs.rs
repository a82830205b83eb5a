//! The services as programs to run, and how each shows that it is ready.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;

use crate::environment::origin;
use crate::process::{Process, Program};
use crate::{Build, Checkout, Deadline};

/// The longest a service may take from its start to its readiness.
const READY_LIMIT: Duration = Duration::from_mins(1);
const PROBE_LIMIT: Duration = Duration::from_secs(2);

/// One of our own servers.
pub(crate) fn service(
    checkout: &Checkout,
    build: Build,
    name: &str,
    label: String,
    arguments: &[&str],
    environment: BTreeMap<String, String>,
) -> Result<Program> {
    let path: PathBuf = checkout.program(build, name);
    if !path.is_file() {
        let release = if build == Build::Release {
            " --release"
        } else {
            ""
        };
        bail!(
            "{} is not built: `cargo dev` builds it, and so does `cargo build --bins{release}`",
            path.display()
        );
    }
    Ok(Program {
        name: label,
        path,
        arguments: arguments
            .iter()
            .map(|&argument| argument.to_owned())
            .collect(),
        environment,
        account: None,
        directory: checkout.root().to_path_buf(),
        stop_signal: Signal::SIGTERM,
        drop_signal: Signal::SIGKILL,
    })
}

/// What must be seen before a service counts as started.
#[derive(Clone, Debug)]
pub(crate) enum Ready {
    /// `/readyz` answers 200.
    Readyz(u16),
    /// `/healthz` answers 200: the stand-ins are ready once they listen.
    Healthz(u16),
}

impl Ready {
    async fn holds(&self, http: &reqwest::Client) -> bool {
        let url = match self {
            Self::Readyz(port) => format!("{}/readyz", origin(*port)),
            Self::Healthz(port) => format!("{}/healthz", origin(*port)),
        };
        let response = http.get(url).timeout(PROBE_LIMIT).send().await;
        response.is_ok_and(|response| response.status().is_success())
    }
}

/// Waits until `process` shows `ready`; ends at once when the process does.
pub(crate) async fn wait_until_ready(
    process: &mut Process,
    ready: &Ready,
    http: &reqwest::Client,
) -> Result<()> {
    let deadline = Deadline::new(
        format!("{} to be ready", process.program().name),
        READY_LIMIT,
    );
    loop {
        let holds = ready.holds(http).await;
        // Looked at after the probe: where the process lost its port, a stranger answered in its place.
        if let Some(exited) = process.exit_report() {
            return Err(exited.into());
        }
        if holds {
            return Ok(());
        }
        deadline
            .tick()
            .await
            .with_context(|| format!("the end of its log:\n{}", process.log_end()))?;
    }
}
