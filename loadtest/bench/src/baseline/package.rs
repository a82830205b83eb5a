//! Programs out of the distribution's packages, without installing them: that would start a server on a port of
//! this machine and needs root. This does neither.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

const FOLDERS: [&str; 5] = [
    "/usr/sbin",
    "/usr/bin",
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/local/nginx/sbin",
];

/// A server that a baseline runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Package {
    /// The program in `/usr/sbin`.
    pub(super) program: &'static str,
    /// Sets of packages of which one holds the program and the libraries that a plain system lacks; which one
    /// depends on the distribution and its version.
    pub(super) sets: &'static [&'static [&'static str]],
    /// Arguments with which the program says its version and does nothing.
    pub(super) version: &'static [&'static str],
}

impl Package {
    /// The command that starts the program: this machine's own, or the one taken out of its package below
    /// `directory`.
    pub(super) fn command(&self, directory: &Path) -> Result<Command> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain(FOLDERS.iter().map(PathBuf::from));
        let mut places = folders.map(|folder| folder.join(self.program));
        if let Some(installed) = places.find(|place| place.is_file()) {
            return Ok(Command::new(installed));
        }
        let directory = directory.join(format!("{}-package", self.program));
        let unpacked = self.unpacked(&directory);
        if Path::new(unpacked.get_program()).is_file() {
            return Ok(unpacked);
        }
        self.unpack(&directory)
    }

    fn unpacked(&self, directory: &Path) -> Command {
        let files = directory.join("files");
        let mut command = Command::new(files.join("usr/sbin").join(self.program));
        let libraries = format!("{}-linux-gnu", std::env::consts::ARCH);
        command.env("LD_LIBRARY_PATH", files.join("usr/lib").join(libraries));
        command
    }

    fn unpack(&self, directory: &Path) -> Result<Command> {
        let program = self.program;
        eprintln!(
            "{program} is not here: taking it from apt's package into {}",
            directory.display()
        );
        let files = directory.join("files");
        for packages in self.sets {
            // A fresh directory: what an earlier attempt downloaded would be unpacked too.
            drop(std::fs::remove_dir_all(directory));
            std::fs::create_dir_all(&files)
                .with_context(|| format!("creating {}", files.display()))?;
            if download(packages, directory).is_err() {
                // The lists are missing or out of date on a machine that was never updated.
                drop(run(Command::new("apt-get").args(["-q", "update"])));
                drop(download(packages, directory));
            }
            for entry in std::fs::read_dir(directory)?.flatten() {
                let path = entry.path();
                if path.extension().is_some_and(|extension| extension == "deb") {
                    run(Command::new("dpkg-deb").arg("-x").arg(path).arg(&files))?;
                }
            }
            if run(self.unpacked(directory).args(self.version)).is_ok() {
                return Ok(self.unpacked(directory));
            }
        }
        bail!(
            "{program} is missing and apt did not give it; install it (for example `apt-get install {program}`) and try again"
        )
    }
}

fn download(packages: &[&str], directory: &Path) -> Result<()> {
    run(Command::new("apt-get")
        .args(["-q", "download"])
        .args(packages)
        .current_dir(directory))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("running {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?} ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}
