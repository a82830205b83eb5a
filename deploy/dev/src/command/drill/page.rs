//! The commands of a page, run as they stand there, with somebody else in systemd's place.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};

/// What stands in for `systemctl`: writes down what it is asked, and waits until somebody has done it, or
/// who asked is gone.
const SYSTEMCTL: &str = r#"#!/bin/sh
echo "$@" > "$ASKED/$$.part" && mv "$ASKED/$$.part" "$ASKED/$$.ask"
while [ ! -e "$ASKED/$$.done" ]; do kill -0 "$PPID" && sleep 0.05 || exit 1; done
exit "$(cat "$ASKED/$$.done")"
"#;

/// The blocks of commands of a page: what stands in its fences of `sh`.
pub(crate) fn blocks(page: &str) -> Vec<String> {
    let fences = page.split("```").skip(1).step_by(2);
    fences
        .filter_map(|fence| fence.strip_prefix("sh\n"))
        .map(str::to_owned)
        .collect()
}

/// A host on which commands are run.
pub(super) struct Shell {
    directory: PathBuf,
    /// `NAME=value` of what the page lets a host say otherwise.
    says: Vec<(String, String)>,
}

/// What `systemctl` was asked: a verb and a unit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) verb: String,
    pub(super) unit: String,
    done: PathBuf,
}

impl Asked {
    /// Lets the one who asked go on.
    pub(super) fn done(&self) -> Result<()> {
        let part = self.done.with_extension("part");
        fs::write(&part, "0").and_then(|()| fs::rename(&part, &self.done))?;
        Ok(())
    }
}

impl Shell {
    /// A host that keeps its notes in `directory`.
    pub(super) fn new(directory: PathBuf, says: &[(&str, &str)]) -> Result<Self> {
        const PROGRAM: u32 = 0o755;
        let program = directory.join("bin/systemctl");
        fs::create_dir_all(directory.join("bin"))?;
        fs::write(&program, SYSTEMCTL)?;
        fs::set_permissions(&program, fs::Permissions::from_mode(PROGRAM))?;
        let says = says
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Ok(Self { directory, says })
    }

    /// Starts a block of commands, each of which must succeed.
    pub(super) fn start(&self, block: &str) -> Result<tokio::process::Child> {
        let programs = std::env::var_os("PATH").unwrap_or_default();
        let ours = self.directory.join("bin");
        let path = std::iter::once(ours).chain(std::env::split_paths(&programs));
        let path = std::env::join_paths(path).context("the search path")?;
        tokio::process::Command::new("sh")
            .args(["-e", "-c", block])
            .env("PATH", path)
            .env("ASKED", &self.directory)
            .envs(self.says.iter().cloned())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("starting sh")
    }

    /// What was asked and is not done.
    pub(super) fn asked(&self) -> Result<Option<Asked>> {
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|kind| kind == "ask") {
                let asked = read(&path)?;
                fs::remove_file(&path)?;
                return Ok(Some(asked));
            }
        }
        Ok(None)
    }
}

fn read(path: &Path) -> Result<Asked> {
    let text = fs::read_to_string(path)?;
    let words: Vec<&str> = text.split_whitespace().collect();
    let [verb, unit] = words.as_slice() else {
        bail!("systemctl cannot do {text:?} here");
    };
    ensure!(
        ["start", "stop", "restart"].contains(verb),
        "systemctl cannot {verb} here"
    );
    Ok(Asked {
        verb: (*verb).to_owned(),
        unit: (*unit).to_owned(),
        done: path.with_extension("done"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upgrades_page_has_a_block_for_once_and_one_for_each_host() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../UPGRADE.md");
        let blocks = blocks(&fs::read_to_string(page).unwrap());
        assert_eq!(blocks.len(), 2, "{blocks:?}");
        assert!(blocks[0].starts_with("# once") && blocks[0].contains("crochet-migrate"));
        assert!(blocks[1].starts_with("# on each host in turn"));
    }

    #[tokio::test]
    async fn a_block_waits_for_what_it_asks_and_ends_with_what_fails() {
        let directory = std::env::temp_dir().join(format!("crochet-page-{}", std::process::id()));
        let shell = Shell::new(directory.clone(), &[("SAID", "yes")]).unwrap();
        let block = "test \"$SAID\" = yes\nsystemctl restart a-unit\nfalse\ntrue";
        let mut child = shell.start(block).unwrap();
        let asked = loop {
            if let Some(asked) = shell.asked().unwrap() {
                break asked;
            }
            tokio::task::yield_now().await;
        };
        assert_eq!(
            (asked.verb.as_str(), asked.unit.as_str()),
            ("restart", "a-unit")
        );
        assert!(child.try_wait().unwrap().is_none(), "it waits");
        asked.done().unwrap();
        assert!(!child.wait().await.unwrap().success());
        fs::remove_dir_all(directory).unwrap();
    }
}
