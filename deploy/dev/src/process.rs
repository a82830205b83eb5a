//! One child process: started into its own group with a log file, stopped by signal, never left behind.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::account::Account;
use crate::wait::Deadline;

/// How much of a log is shown when its process is in trouble.
const SHOWN_BYTES: u64 = 6_000;
/// What a process gets between the signal that asks and the one that does not.
const STOP_LIMIT: Duration = Duration::from_mins(1);
/// Dropping a stack is not polite but quick.
const DROP_LIMIT: Duration = Duration::from_secs(5);

/// What a child inherits of our environment; everything else it is told.
const INHERITED: [&str; 10] = [
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "RUST_LOG",
    "RUST_BACKTRACE",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "LLVM_PROFILE_FILE",
];

/// What to run and how.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// What it is called in messages, and its log file.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: BTreeMap<String, String>,
    /// Whom it runs as, when not as us.
    pub(crate) account: Option<Account>,
    pub(crate) directory: PathBuf,
    /// The signal that asks it to finish what it does and stop.
    pub(crate) stop_signal: Signal,
    /// The signal that makes it stop now, for a drop. SIGKILL leaves Postgres's children behind for a while.
    pub(crate) drop_signal: Signal,
}

impl Program {
    /// The command, with nothing of our environment but [`INHERITED`].
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command
            .args(&self.arguments)
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .env_clear();
        for name in INHERITED {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.envs(&self.environment);
        if let Some(account) = &self.account {
            account.apply(&mut command);
        }
        command
    }
}

/// A running (or ended) child.
#[derive(Debug)]
pub(crate) struct Process {
    program: Program,
    child: Child,
    log: PathBuf,
    /// Where the log of this run begins; an earlier run may have written before.
    log_begin: u64,
    status: Option<ExitStatus>,
}

impl Process {
    /// Starts `program`; what it prints goes to the end of `log`.
    pub(crate) fn spawn(program: Program, log: &Path) -> Result<Self> {
        let open = || {
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(log)
                .with_context(|| format!("opening {}", log.display()))
        };
        let file = open()?;
        let log_begin = file
            .metadata()
            .with_context(|| format!("reading {}", log.display()))?
            .len();
        let mut command = program.command();
        // A group of its own: Ctrl-C in a terminal reaches the runner alone, which then stops all in order.
        let child = command
            .stdout(file)
            .stderr(open()?)
            .process_group(0)
            .spawn();
        let child = child.with_context(|| format!("starting {}", program.path.display()))?;
        Ok(Self {
            program,
            child,
            log: log.to_path_buf(),
            log_begin,
            status: None,
        })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn program(&self) -> &Program {
        &self.program
    }

    /// How it ended, if it has.
    pub(crate) fn exited(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().ok().flatten();
        }
        self.status
    }

    /// Sends a signal to the process and what it started; one that has ended is left alone.
    pub(crate) fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.exited().is_some() {
            return Ok(());
        }
        let group = Pid::from_raw(i32::try_from(self.id()).context("a process id beyond 31 bits")?);
        killpg(group, signal).with_context(|| format!("sending {signal} to {}", self.program.name))
    }

    /// Asks it to stop, and kills it when it does not within the limit.
    pub(crate) async fn stop(&mut self) -> Result<ExitStatus> {
        self.signal(self.program.stop_signal)?;
        self.end().await
    }

    /// Waits for the end of a process that was asked to stop, and kills it when that does not come.
    pub(crate) async fn end(&mut self) -> Result<ExitStatus> {
        let deadline = Deadline::new(format!("{} to stop", self.program.name), STOP_LIMIT);
        while self.exited().is_none() {
            if deadline.tick().await.is_err() {
                return self.kill();
            }
        }
        self.status.context("a process that ended without a status")
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::SIGKILL)?;
        let status = self
            .child
            .wait()
            .with_context(|| format!("waiting for {}", self.program.name))?;
        self.status = Some(status);
        Ok(status)
    }

    /// The end of what this run has printed.
    pub(crate) fn log_end(&self) -> String {
        end_of(&self.log, self.log_begin)
    }

    /// What to say about a process that ended and should not have.
    pub(crate) fn exit_report(&mut self) -> Option<Exited> {
        let status = self.exited()?;
        Some(Exited {
            name: self.program.name.clone(),
            status,
            log: self.log.clone(),
            end: self.log_end(),
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.signal(self.program.drop_signal).is_err() {
            return;
        }
        let deadline = Deadline::new(format!("{} to end", self.program.name), DROP_LIMIT);
        while self.exited().is_none() {
            if deadline.tick_blocking().is_err() {
                drop(self.kill());
            }
        }
    }
}

/// A child ended by itself.
#[derive(Debug, thiserror::Error)]
#[error("{name} ended by itself ({status}); the end of {}:\n{end}", .log.display())]
pub struct Exited {
    /// Which one.
    pub name: String,
    /// How.
    pub status: ExitStatus,
    /// Where all it printed is.
    pub log: PathBuf,
    /// The last it printed.
    pub end: String,
}

impl Exited {
    /// Whether it lost its port to somebody else between our look and its start.
    pub(crate) fn address_was_taken(&self) -> bool {
        self.end.to_lowercase().contains("address already in use")
            || self.end.contains("EADDRINUSE")
    }
}

/// The last few kilobytes of a file after `begin`, from the start of a line.
pub fn end_of(log: &Path, begin: u64) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        let from = begin.max(length.saturating_sub(SHOWN_BYTES));
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(SHOWN_BYTES).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let cut = if from > begin {
            text.find('\n').map_or(0, |at| at + 1)
        } else {
            0
        };
        Ok(text.get(cut..).unwrap_or_default().trim_end().to_owned())
    };
    read().unwrap_or_else(|error| format!("({} cannot be read: {error})", log.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Program {
        Program {
            name: "shell".to_owned(),
            path: "/bin/sh".into(),
            arguments: vec!["-c".to_owned(), script.to_owned()],
            environment: BTreeMap::from([("GREETING".to_owned(), "hello".to_owned())]),
            account: None,
            directory: "/".into(),
            stop_signal: Signal::SIGTERM,
            drop_signal: Signal::SIGKILL,
        }
    }

    fn log(name: &str) -> PathBuf {
        let path =
            std::env::temp_dir().join(format!("crochet-dev-{name}-{}.log", std::process::id()));
        drop(std::fs::remove_file(&path));
        path
    }

    #[tokio::test]
    async fn a_child_sees_its_own_environment_alone_and_its_output_is_kept() {
        let log = log("environment");
        let mut process =
            Process::spawn(shell("echo $GREETING $CARGO_PKG_NAME; exit 3"), &log).unwrap();
        assert_eq!(process.child.wait().unwrap().code(), Some(3));
        let report = process.exit_report().unwrap();
        assert_eq!(report.end, "hello");
        assert!(report.to_string().contains("exit status: 3"), "{report}");
    }

    #[tokio::test]
    async fn stopping_asks_first_and_a_deaf_child_is_killed() {
        let mut polite = Process::spawn(
            shell("trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done"),
            &log("polite"),
        )
        .unwrap();
        let deadline = Deadline::new("the shell to set its trap", Duration::from_secs(10));
        while polite.log_end() != "up" {
            deadline.tick().await.unwrap();
        }
        assert_eq!(polite.stop().await.unwrap().code(), Some(7));
        let mut deaf = Process::spawn(shell("trap '' TERM; sleep 1000"), &log("deaf")).unwrap();
        assert_eq!(deaf.kill().unwrap().code(), None);
    }

    #[test]
    fn a_dropped_child_is_gone() {
        let process = Process::spawn(shell("sleep 1000"), &log("dropped")).unwrap();
        let id = Pid::from_raw(i32::try_from(process.id()).unwrap());
        drop(process);
        assert!(nix::sys::signal::kill(id, None).is_err());
    }

    #[test]
    fn the_end_of_a_log_begins_with_a_whole_line() {
        let path = log("long");
        let lines: Vec<String> = (0..2_000).map(|line| format!("line {line}\n")).collect();
        let lines = lines.concat();
        std::fs::write(&path, &lines).unwrap();
        let end = end_of(&path, 0);
        assert!(end.starts_with("line ") && end.ends_with("line 1999"));
        let last = lines.len() as u64 - 10;
        assert_eq!(
            end_of(&path, last),
            "line 1999",
            "what an earlier run printed is not shown"
        );
    }
}
