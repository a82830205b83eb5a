//! Whom a server runs as: never root.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use nix::unistd::{Gid, Uid, User};

/// An unprivileged user of this machine. There is none to choose when we are not root ourselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    uid: u32,
    gid: u32,
}

impl Account {
    /// The first of `preferred` that exists when we are root; none when a child may simply be us.
    pub(crate) fn for_server(preferred: &[&str]) -> Result<Option<Self>> {
        if !Uid::effective().is_root() {
            return Ok(None);
        }
        for name in preferred {
            if let Some(user) =
                User::from_name(name).with_context(|| format!("looking up the user {name}"))?
            {
                return Ok(Some(Self {
                    name: (*name).to_owned(),
                    uid: user.uid.as_raw(),
                    gid: user.gid.as_raw(),
                }));
            }
        }
        anyhow::bail!(
            "servers are not run as root, and none of the users {} exists",
            preferred.join(", ")
        )
    }

    /// Makes `command` run as this user, without root's groups.
    pub(crate) fn apply(&self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }

    /// Hands `path` over to this user.
    pub(crate) fn own(&self, path: &Path) -> Result<()> {
        nix::unistd::chown(
            path,
            Some(Uid::from_raw(self.uid)),
            Some(Gid::from_raw(self.gid)),
        )
        .with_context(|| format!("handing {} over to {}", path.display(), self.name))
    }

    /// Whether this user can get to `directory`; a clone below a private home it cannot.
    pub(crate) fn reaches(&self, directory: &Path) -> bool {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "cd \"$1\"", "sh"])
            .arg(directory)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.apply(&mut command);
        command.status().is_ok_and(|status| status.success())
    }
}
