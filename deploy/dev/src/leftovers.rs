//! What a killed runner leaves behind: found by the record it kept, told from strangers by its start time.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::{Deadline, files};

const END_LIMIT: Duration = Duration::from_secs(10);
const FILE: &str = "processes.json";

/// Who started what, in one stack's folder.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    owner: Identity,
    children: Vec<Identity>,
}

/// A process that cannot be mistaken for a later one with the same id.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Identity {
    name: String,
    pid: u32,
    started: String,
}

impl Identity {
    fn of(name: &str, pid: u32) -> Self {
        Self {
            name: name.to_owned(),
            pid,
            started: start_time(pid).unwrap_or_default(),
        }
    }

    fn is_alive(&self) -> bool {
        start_time(self.pid).is_some_and(|started| started == self.started)
    }

    fn signal(&self, signal: Signal) {
        let Ok(pid) = i32::try_from(self.pid) else {
            return;
        };
        if self.is_alive() {
            // An error says that it went in between, which is what we wanted.
            let _gone = kill(Pid::from_raw(pid), signal);
        }
    }
}

/// When a process was started, in whatever form this system tells it; none when there is no such process.
fn start_time(pid: u32) -> Option<String> {
    if cfg!(target_os = "linux") {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may hold spaces: fields are counted after it; state is the first, the start the 20th.
        let (_, fields) = stat.rsplit_once(')')?;
        let mut fields = fields.split_whitespace();
        let state = fields.next()?;
        return (state != "Z").then(|| fields.nth(18).map(str::to_owned))?;
    }
    let output = Command::new("ps")
        .args(["-o", "lstart=", "-p", &pid.to_string()])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (!text.is_empty()).then_some(text)
}

/// Records the children of this process in `directory`.
pub(crate) fn record<'a>(
    directory: &Path,
    children: impl Iterator<Item = (&'a str, u32)>,
) -> Result<()> {
    let children = children
        .map(|(name, pid)| Identity::of(name, pid))
        .collect();
    let record = Record {
        owner: Identity::of("owner", std::process::id()),
        children,
    };
    files::write_whole(
        &directory.join(FILE),
        serde_json::to_string_pretty(&record)?.as_bytes(),
    )
}

/// Forgets the record of a stack that was stopped.
pub(crate) fn forget(directory: &Path) -> Result<()> {
    files::remove(&directory.join(FILE))
}

/// Ends what a runner that is no more left running in `directory`; gives back the names of what was ended.
/// The caller knows that no runner is alive there.
pub async fn end_leftovers(directory: &Path) -> Result<Vec<String>> {
    let Some(text) = files::read_if_there(&directory.join(FILE))? else {
        return Ok(Vec::new());
    };
    let Ok(record) = serde_json::from_str::<Record>(&text) else {
        return Ok(Vec::new());
    };
    let ended = end_recorded(&record).await?;
    forget(directory)?;
    Ok(ended)
}

async fn end_recorded(record: &Record) -> Result<Vec<String>> {
    let left: Vec<&Identity> = record
        .children
        .iter()
        .filter(|child| child.is_alive())
        .collect();
    for child in &left {
        // Postgres ends its own children on SIGQUIT; nobody else has any.
        child.signal(if child.name == "postgres" {
            Signal::SIGQUIT
        } else {
            Signal::SIGKILL
        });
    }
    let deadline = Deadline::new("what an earlier runner left to end", END_LIMIT);
    while left.iter().any(|child| child.is_alive()) {
        if let Err(error) = deadline.tick().await {
            for child in &left {
                child.signal(Signal::SIGKILL);
            }
            return Err(error);
        }
    }
    Ok(left.iter().map(|child| child.name.clone()).collect())
}

/// What becomes of the folder of a stack whose owner is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abandoned {
    /// It stays, for somebody to read its logs.
    Keep,
    /// It goes, with its data.
    Remove,
}

/// Ends what runs in the folders below `parent` whose owner has ended.
pub async fn end_all_abandoned(parent: &Path, abandoned: Abandoned) -> Result<()> {
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let directory = entry.path();
        let Some(text) = files::read_if_there(&directory.join(FILE))? else {
            continue;
        };
        let Ok(record) = serde_json::from_str::<Record>(&text) else {
            continue;
        };
        if record.owner.is_alive() {
            continue;
        }
        end_recorded(&record).await?;
        if abandoned == Abandoned::Remove {
            crate::Cluster::remove(&directory)?;
            files::remove(&directory)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;

    use super::*;

    fn directory(name: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("crochet-dev-{name}-{}", std::process::id()));
        files::make_directory(&path).unwrap();
        path
    }

    #[tokio::test]
    async fn what_was_recorded_is_ended_and_a_stranger_with_the_same_id_is_not() {
        let directory = directory("leftovers");
        let mut ours = Command::new("sleep")
            .arg("1000")
            .process_group(0)
            .spawn()
            .unwrap();
        let mut stranger = Command::new("sleep")
            .arg("1000")
            .process_group(0)
            .spawn()
            .unwrap();
        let owner = Identity {
            name: "owner".to_owned(),
            pid: 0,
            started: String::new(),
        };
        let mistaken = Identity {
            started: "another time".to_owned(),
            ..Identity::of("stranger", stranger.id())
        };
        let record = Record {
            owner,
            children: vec![Identity::of("ours", ours.id()), mistaken],
        };
        files::write_whole(&directory.join(FILE), &serde_json::to_vec(&record).unwrap()).unwrap();
        assert_eq!(end_leftovers(&directory).await.unwrap(), ["ours"]);
        assert!(!ours.wait().unwrap().success());
        assert!(stranger.try_wait().unwrap().is_none(), "the stranger lives");
        stranger.kill().unwrap();
        stranger.wait().unwrap();
        files::remove(&directory).unwrap();
    }

    #[test]
    fn this_process_is_alive_and_a_reaped_one_is_not() {
        assert!(Identity::of("me", std::process::id()).is_alive());
        let mut child = Command::new("true").spawn().unwrap();
        let identity = Identity::of("child", child.id());
        child.wait().unwrap();
        assert!(!identity.is_alive());
    }
}
