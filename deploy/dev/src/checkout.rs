//! The clone we were started in: where its files are.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use demo_agent::hex;
use sha2::{Digest as _, Sha256};

use crate::account::Account;
use crate::files;

/// Which of Cargo's two builds the services are taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Build {
    /// Quick to build; what development and tests use.
    Debug,
    /// What is measured and shipped.
    Release,
}

impl Build {
    /// The folder below the target folder.
    pub const fn folder(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Release => "release",
        }
    }

    /// The build this very program was made with, so that a release bench starts release services.
    pub const fn of_this_program() -> Self {
        if cfg!(debug_assertions) {
            Self::Debug
        } else {
            Self::Release
        }
    }
}

/// A clone of the repository.
#[derive(Clone, Debug)]
pub struct Checkout {
    root: PathBuf,
    target: PathBuf,
}

impl Checkout {
    /// The clone around the current folder.
    pub fn find() -> Result<Self> {
        let here = std::env::current_dir().context("the current folder")?;
        let root = here
            .ancestors()
            .find(|folder| folder.join("deploy/dev/Cargo.toml").is_file());
        let Some(root) = root else {
            bail!("{} is not inside a clone of Crochet", here.display())
        };
        let program = std::env::current_exe().context("the path of this program")?;
        // Cargo marks its target folder, wherever the user's configuration put it.
        let target = program
            .ancestors()
            .find(|folder| folder.join("CACHEDIR.TAG").is_file());
        let target = target.map_or_else(|| root.join("target"), Path::to_path_buf);
        Ok(Self {
            root: root.to_path_buf(),
            target,
        })
    }

    /// The clone's own folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the checks of the documents keep their tools and pictures.
    pub fn documents(&self) -> PathBuf {
        self.target.join("documents")
    }

    /// Where fuzzing keeps its tool, its build and what it has learned.
    pub fn fuzz(&self) -> PathBuf {
        self.target.join("fuzz")
    }

    /// Where stacks that are watched live.
    pub fn watched(&self) -> PathBuf {
        self.target.join("watched")
    }

    /// Where what reads the manifests is kept.
    pub fn manifests(&self) -> PathBuf {
        self.target.join("manifests")
    }

    /// Where k6, what it is told and what it found are kept.
    pub fn k6(&self) -> PathBuf {
        self.target.join("k6")
    }

    /// Where the version before is built, and kept.
    pub fn previous(&self) -> PathBuf {
        self.root.join("target/previous")
    }

    /// A program that Cargo built.
    pub fn program(&self, build: Build, name: &str) -> PathBuf {
        self.target.join(build.folder()).join(name)
    }

    /// Where the development stack lives: `target/dev`, as the contract names it.
    pub fn dev(&self) -> PathBuf {
        self.root.join("target/dev")
    }

    /// Where the stores of `cargo dev test` live.
    pub fn test(&self) -> PathBuf {
        self.root.join("target/dev-test")
    }

    /// Where the stacks of tests live, a folder each.
    pub fn test_stacks(&self) -> PathBuf {
        self.root.join("target/dev-test-stacks")
    }
}

/// Where a server running as `account` may keep data that belongs to `directory`: inside it, or, when that
/// user cannot get there, in the system's variable-data folder under a name that no other clone has.
pub(crate) fn data_home(directory: &Path, account: Option<&Account>) -> PathBuf {
    match account {
        Some(account) if !account.reaches(directory) => system_data_home(directory),
        _ => directory.to_path_buf(),
    }
}

/// Makes a data folder that another user can get to, whatever our umask takes away.
pub(crate) fn make_data_home(home: &Path) -> Result<()> {
    const FOR_ALL: u32 = 0o755;
    files::make_directory(home)?;
    for folder in home
        .ancestors()
        .take_while(|folder| folder.starts_with(VARIABLE_DATA))
    {
        let permissions = std::fs::Permissions::from_mode(FOR_ALL);
        std::fs::set_permissions(folder, permissions)
            .with_context(|| format!("opening {} to other users", folder.display()))?;
    }
    Ok(())
}

/// Where a system keeps data that programs change.
const VARIABLE_DATA: &str = if cfg!(target_os = "linux") {
    "/var/lib/crochet-dev"
} else {
    "/usr/local/var/crochet-dev"
};

fn system_data_home(directory: &Path) -> PathBuf {
    const DIGEST_BYTES: usize = 8;
    let digest = Sha256::digest(directory.as_os_str().as_encoded_bytes());
    let name = hex(digest.get(..DIGEST_BYTES).unwrap_or(&digest));
    Path::new(VARIABLE_DATA).join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_clones_have_different_data_folders_outside() {
        let (one, two) = (
            system_data_home(Path::new("/home/a/target/dev")),
            system_data_home(Path::new("/home/b/target/dev")),
        );
        assert_ne!(one, two);
        assert_eq!(
            one,
            system_data_home(Path::new("/home/a/target/dev")),
            "and the same one every time"
        );
    }

    #[test]
    fn data_stays_in_the_clone_when_the_server_is_us() {
        assert_eq!(
            data_home(Path::new("/somewhere"), None),
            Path::new("/somewhere")
        );
    }
}
