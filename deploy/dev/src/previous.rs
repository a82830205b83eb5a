//! The version that may still serve while this one is rolled out, as `deploy/PREVIOUS` names it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use crate::Checkout;

/// A version before this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Previous {
    /// Its commit, whole.
    pub commit: String,
    /// The number of the last migration it knows.
    pub migration: u32,
}

impl Previous {
    /// Reads which it is.
    pub fn read(checkout: &Checkout) -> Result<Self> {
        let path = checkout.root().join("deploy/PREVIOUS");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("reading {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} names no version", path.display()))
    }

    fn parse(text: &str) -> Option<Self> {
        let said = |name: &str| {
            let mut lines = text.lines();
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        };
        Some(Self {
            commit: said("commit")?.trim().to_owned(),
            migration: said("migration")?.trim().parse().ok()?,
        })
    }

    /// Its control plane, where that has been built.
    pub fn control_plane(&self, checkout: &Checkout) -> PathBuf {
        checkout
            .previous()
            .join(format!("control-plane-{}", self.commit))
    }

    /// Whether this clone has its source: a shallow one may not.
    pub fn is_here(&self, checkout: &Checkout) -> bool {
        Command::new("git")
            .current_dir(checkout.root())
            .args(["cat-file", "-e", &format!("{}^{{commit}}", self.commit)])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_names_a_whole_commit_and_a_migration() {
        let previous = Previous::read(&Checkout::find().unwrap()).unwrap();
        assert_eq!(previous.commit.len(), 40, "{previous:?}");
        assert!(previous.migration > 0);
        assert_eq!(Previous::parse("# commit\ncommit abc\n"), None);
        let said = Previous::parse("# x\ncommit abc\nmigration 7\n").unwrap();
        assert_eq!((said.commit.as_str(), said.migration), ("abc", 7));
    }
}
