//! A process that listens, is waited for, and is ended with what it started.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use crochet_dev::{Deadline, end_of};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const READY_LIMIT: Duration = Duration::from_secs(20);
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// A running baseline. Dropping it asks it to stop, and kills it when it does not.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) address: SocketAddr,
    process: std::process::Child,
}

impl Child {
    /// Starts `command`, with what it prints in `directory/NAME.log`, and waits until `address` accepts.
    pub(super) async fn start(
        name: &str,
        mut command: Command,
        address: SocketAddr,
        directory: &Path,
    ) -> Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let file = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        let program = PathBuf::from(command.get_program());
        let process = command
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let mut child = Self { address, process };
        child.wait_until_it_listens(name, &log).await?;
        Ok(child)
    }

    async fn wait_until_it_listens(&mut self, name: &str, log: &Path) -> Result<()> {
        let deadline = Deadline::new(format!("{name} to listen on {}", self.address), READY_LIMIT);
        while tokio::net::TcpStream::connect(self.address).await.is_err() {
            if let Some(status) = self.process.try_wait()? {
                bail!("{name} ended by itself ({status}):\n{}", end_of(log, 0));
            }
            deadline.tick().await?;
        }
        Ok(())
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    fn is_gone(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(Some(_)))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // SIGTERM, not SIGKILL: nginx's master has workers to end.
        if let Ok(pid) = i32::try_from(self.process.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let deadline = Deadline::new("a baseline to end", STOP_LIMIT);
        while !self.is_gone() {
            if deadline.tick_blocking().is_err() {
                drop(self.process.kill());
                drop(self.process.wait());
            }
        }
    }
}
