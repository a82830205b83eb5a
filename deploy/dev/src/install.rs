//! Finds Postgres, Redis and CMake on this machine, or installs them with the system's package manager.
//!
//! CMake builds the C library under pingora's compression (zlib-ng); nothing runs it afterwards.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use anyhow::{Context as _, Result, bail};
use nix::unistd::Uid;

/// Where distributions put Postgres's own programs, which are rarely on the PATH.
const POSTGRES_FOLDERS: [(&str, &str); 5] = [
    ("/usr/lib/postgresql", "bin"),
    ("/usr/pgsql", "bin"),
    ("/opt/homebrew/opt", "bin"),
    ("/usr/local/opt", "bin"),
    ("/usr/local/pgsql", "bin"),
];
const COMMON_FOLDERS: [&str; 6] = [
    "/usr/bin",
    "/usr/sbin",
    "/usr/local/bin",
    "/usr/local/sbin",
    "/opt/homebrew/bin",
    "/usr/libexec",
];

/// The folder that holds `postgres` and `initdb`, the newest version first.
pub fn postgres_binaries() -> Option<PathBuf> {
    let installed = POSTGRES_FOLDERS.iter().flat_map(|(parent, below)| {
        let mut versions: Vec<PathBuf> = std::fs::read_dir(parent)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path().join(below))
            .collect();
        versions.sort_by_key(|folder| std::cmp::Reverse(version_in(folder)));
        versions.push(Path::new(parent).join(below));
        versions
    });
    installed
        .chain(search_path())
        .find(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file())
}

/// The first number in a path: `/usr/lib/postgresql/15/bin` is 15, `…/opt/postgresql@17/bin` is 17.
fn version_in(folder: &Path) -> u32 {
    let text = folder.to_string_lossy();
    let digits: String = text
        .chars()
        .skip_while(|c| !c.is_ascii_digit())
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().unwrap_or_default()
}

/// The Redis server's program, or Valkey's, which speaks the same.
pub fn redis_server() -> Option<PathBuf> {
    let folders: Vec<PathBuf> = search_path()
        .chain(COMMON_FOLDERS.iter().map(PathBuf::from))
        .collect();
    let programs = ["redis-server", "valkey-server"];
    programs
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|path| path.is_file())
}

fn search_path() -> impl Iterator<Item = PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).collect::<Vec<_>>().into_iter()
}

fn is_on_path(program: &str) -> bool {
    on_path(program).is_some()
}

/// A program on the PATH.
pub fn on_path(program: &str) -> Option<PathBuf> {
    search_path()
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// Installs what is missing, telling `say` what it does; where it cannot, the error says the command.
pub fn install_missing(say: fn(&str)) -> Result<()> {
    install(&[Part::Postgres, Part::Redis, Part::CMake], say)
}

/// Installs which of these parts are missing.
pub fn install(parts: &[Part], say: fn(&str)) -> Result<()> {
    /// Tests ask for it at the same moment; the package manager serves one at a time.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock();
    let missing: Vec<Part> = parts
        .iter()
        .copied()
        .filter(|part| !part.is_there())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let plan = Plan::for_this_machine(&missing)?;
    for command in &plan.commands {
        say(&format!(
            "Installing {}: {}",
            names(&missing),
            command.join(" ")
        ));
        run(command)?;
    }
    match missing.iter().find(|part| !part.is_there()) {
        Some(part) => bail!(
            "{} was installed, but its program was not found",
            part.name()
        ),
        None => Ok(()),
    }
}

/// The browser, when there is one.
pub fn chromium() -> Option<PathBuf> {
    let programs = [
        "chromium",
        "chromium-browser",
        "google-chrome",
        "google-chrome-stable",
    ];
    programs
        .iter()
        .flat_map(|name| search_path().map(move |folder| folder.join(name)))
        .find(|path| path.is_file())
}

/// Whether there is a Python that can make virtual environments.
fn python() -> bool {
    Command::new("python3")
        .args(["-c", "import ensurepip, venv"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Something that is installed with the system's package manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The database.
    Postgres,
    /// The cache.
    Redis,
    /// Builds pingora's compression.
    CMake,
    /// Runs the checks of the documents.
    Python,
    /// Shows the pages to them.
    Chromium,
    /// Counts system calls in a test. Linux only.
    Strace,
    /// Runs the checks of signatures in JavaScript.
    Node,
    /// Watches, with `promtool`.
    Prometheus,
}

impl Part {
    const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "Postgres",
            Self::Redis => "Redis",
            Self::CMake => "CMake",
            Self::Python => "Python",
            Self::Chromium => "Chromium",
            Self::Strace => "strace",
            Self::Node => "Node.js",
            Self::Prometheus => "Prometheus",
        }
    }

    const fn apt_package(self) -> &'static str {
        match self {
            Self::Postgres => "postgresql",
            Self::Redis => "redis-server",
            Self::CMake => "cmake",
            Self::Python => "python3-venv",
            Self::Chromium => "chromium",
            Self::Strace => "strace",
            Self::Node => "npm",
            Self::Prometheus => "prometheus",
        }
    }

    const fn brew_formula(self) -> &'static str {
        match self {
            Self::Postgres => "postgresql@17",
            Self::Redis => "redis",
            Self::CMake => "cmake",
            Self::Python => "python",
            Self::Chromium => "chromium",
            Self::Strace => "strace",
            Self::Node => "node",
            Self::Prometheus => "prometheus",
        }
    }

    fn is_there(self) -> bool {
        match self {
            Self::Postgres => postgres_binaries().is_some(),
            Self::Redis => redis_server().is_some(),
            Self::CMake => is_on_path("cmake"),
            Self::Python => python(),
            Self::Chromium => chromium().is_some(),
            Self::Strace => is_on_path("strace"),
            Self::Node => is_on_path("node") && is_on_path("npm"),
            Self::Prometheus => is_on_path("prometheus") && is_on_path("promtool"),
        }
    }
}

fn names(parts: &[Part]) -> String {
    parts
        .iter()
        .map(|part| part.name())
        .collect::<Vec<_>>()
        .join(" and ")
}

/// The commands that install something, in order.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    commands: Vec<Vec<String>>,
}

impl Plan {
    fn for_this_machine(missing: &[Part]) -> Result<Self> {
        if is_on_path("apt-get") {
            let root = Uid::effective().is_root();
            if !root && !is_on_path("sudo") {
                let packages: Vec<&str> = missing.iter().map(|part| part.apt_package()).collect();
                bail!(
                    "{} is missing; as root: apt-get install {}",
                    names(missing),
                    packages.join(" ")
                );
            }
            return Ok(Self::apt(missing, root));
        }
        if is_on_path("brew") {
            return Ok(Self::brew(missing));
        }
        bail!(
            "{} is missing and neither apt nor brew is here. Install Postgres 14 or newer, Redis 6 or newer and CMake with this system's package manager \
             (for example `dnf install postgresql-server redis cmake`, `apk add postgresql redis cmake`, `pacman -S postgresql redis cmake`), then try again.",
            names(missing)
        )
    }

    fn apt(missing: &[Part], root: bool) -> Self {
        // `env` because sudo drops variables; the lock is waited for, other installations may be running.
        let begin = [
            "env",
            "DEBIAN_FRONTEND=noninteractive",
            "apt-get",
            "-q",
            "-o",
            "DPkg::Lock::Timeout=300",
        ];
        let command = |rest: &[&str]| {
            let sudo = if root { &[][..] } else { &["sudo"][..] };
            sudo.iter()
                .chain(&begin)
                .chain(rest)
                .map(|&word| word.to_owned())
                .collect()
        };
        let mut install = vec!["install", "-y", "--no-install-recommends"];
        install.extend(missing.iter().map(|part| part.apt_package()));
        Self {
            commands: vec![command(&["update"]), command(&install)],
        }
    }

    fn brew(missing: &[Part]) -> Self {
        let install = ["brew", "install"]
            .into_iter()
            .chain(missing.iter().map(|part| part.brew_formula()));
        Self {
            commands: vec![install.map(str::to_owned).collect()],
        }
    }
}

/// Runs one command in front of the user, who may be asked for a password by it.
fn run(command: &[String]) -> Result<()> {
    let (program, arguments) = command.split_first().context("an empty command")?;
    let quiet = arguments.iter().any(|word| word == "update");
    let mut child = Command::new(program);
    child.args(arguments);
    if quiet {
        child.stdout(Stdio::null());
    }
    let status = child
        .status()
        .with_context(|| format!("starting {program}"))?;
    // An update may fail for one source of many; whether it mattered, the installation shows.
    if !status.success() && !quiet {
        bail!("`{}` ended with {status}", command.join(" "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_the_folder() {
        assert_eq!(version_in(Path::new("/usr/lib/postgresql/15/bin")), 15);
        assert_eq!(
            version_in(Path::new("/opt/homebrew/opt/postgresql@17/bin")),
            17
        );
        assert_eq!(version_in(Path::new("/usr/local/pgsql/bin")), 0);
    }

    #[test]
    fn apt_installs_only_what_is_missing_and_asks_nothing() {
        let plan = Plan::apt(&[Part::Redis], false);
        assert_eq!(plan.commands.len(), 2);
        assert!(
            plan.commands
                .iter()
                .all(|command| command[0] == "sudo"
                    && command[2] == "DEBIAN_FRONTEND=noninteractive")
        );
        assert_eq!(plan.commands[1].last().unwrap(), "redis-server");
        assert!(!plan.commands[1].contains(&"postgresql".to_owned()));
        assert_eq!(
            Plan::apt(&[Part::Redis], true).commands[0][0],
            "env",
            "root needs no sudo"
        );
    }

    #[test]
    fn brew_installs_both() {
        assert_eq!(
            Plan::brew(&[Part::Postgres, Part::Redis]).commands,
            [["brew", "install", "postgresql@17", "redis"]]
        );
    }
}
