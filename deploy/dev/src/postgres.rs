//! A Postgres of our own: made once, kept in its folder, reachable on the loopback address by password.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use demo_agent::random_hex;
use nix::sys::signal::Signal;
use sqlx::{Connection as _, PgConnection};

use crate::account::Account;
use crate::checkout::{data_home, make_data_home};
use crate::process::{Process, Program};
use crate::{Deadline, files, install, ports};

const USER: &str = "crochet";
const PASSWORD_BYTES: usize = 24;
const START_LIMIT: std::time::Duration = std::time::Duration::from_mins(1);
/// Memory of its own for pages, in megabytes: enough for a development stack and for tests.
const SHARED_BUFFERS_MB: u16 = 128;
/// How often a start is tried again with another port.
const START_TRIES: usize = 5;

/// A database server's files and port; [`Cluster::start`] makes it run.
#[derive(Clone, Debug)]
pub struct Cluster {
    binaries: PathBuf,
    account: Option<Account>,
    home: PathBuf,
    password: String,
    port: u16,
    connections: u16,
    shared_buffers_mb: u16,
}

impl Cluster {
    /// The server whose files belong to `directory`; they are made when they are not there yet.
    /// `connections` is the most it takes at once.
    pub fn open(directory: &Path, connections: u16) -> Result<Self> {
        let account = Account::for_server(&["postgres", "nobody"])?;
        files::make_directory(directory)?;
        let home = data_home(directory, account.as_ref());
        make_data_home(&home)?;
        let home = home.join("postgres");
        files::make_directory(&home)?;
        if let Some(account) = &account {
            account.own(&home)?;
        }
        let binaries = install::postgres_binaries().context("Postgres is not installed")?;
        let password = password(&home, account.as_ref())?;
        let cluster = Self {
            binaries,
            account,
            home,
            password,
            port: ports::free()?,
            connections,
            shared_buffers_mb: SHARED_BUFFERS_MB,
        };
        if !cluster.data().join("PG_VERSION").is_file() {
            cluster.initialise()?;
        }
        Ok(cluster)
    }

    /// With other memory of its own for pages, in megabytes: for databases that are to be in memory.
    #[must_use]
    pub const fn shared_buffers_mb(mut self, megabytes: u16) -> Self {
        self.shared_buffers_mb = megabytes;
        self
    }

    /// Where the files are.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Removes the files of a server that does not run.
    pub fn remove(directory: &Path) -> Result<()> {
        files::remove(&directory.join("postgres"))?;
        let account = Account::for_server(&["postgres", "nobody"]).ok().flatten();
        let home = data_home(directory, account.as_ref());
        if home == directory {
            Ok(())
        } else {
            files::remove(&home)
        }
    }

    /// The URL of one of its databases.
    pub fn url(&self, database: &str) -> String {
        format!(
            "postgres://{USER}:{}@127.0.0.1:{}/{database}",
            self.password, self.port
        )
    }

    fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    /// `initdb` beside its place, then a rename: a half-made one is never taken for a server.
    fn initialise(&self) -> Result<()> {
        let (fresh, password_file) = (self.home.join("data.new"), self.home.join("password"));
        files::remove(&fresh)?;
        let mut command = Command::new(self.binaries.join("initdb"));
        command
            .arg("--pgdata")
            .arg(&fresh)
            .arg("--pwfile")
            .arg(&password_file);
        command.args([
            "--username",
            USER,
            "--auth",
            "scram-sha-256",
            "--encoding",
            "UTF8",
            "--lc-collate",
            "C",
        ]);
        command.args([
            "--locale",
            "C",
            "--lc-ctype",
            if cfg!(target_os = "macos") {
                "UTF-8"
            } else {
                "C.UTF-8"
            },
        ]);
        command.current_dir(&self.home).stdin(Stdio::null());
        if let Some(account) = &self.account {
            account.apply(&mut command);
        }
        let output = command.output().context("starting initdb")?;
        if !output.status.success() {
            bail!(
                "initdb ended with {}:\n{}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        std::fs::rename(&fresh, self.data()).context("moving the new data folder to its place")
    }

    /// The server as a program; the unix socket is off, so two clones share nothing but ports.
    pub(crate) fn program(&self) -> Program {
        let settings = [
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={}", self.port),
            "unix_socket_directories=".to_owned(),
            format!("max_connections={}", self.connections),
            format!("shared_buffers={}MB", self.shared_buffers_mb),
            "max_wal_size=2GB".to_owned(),
            "fsync=on".to_owned(),
            "synchronous_commit=on".to_owned(),
            "jit=off".to_owned(),
            "timezone=UTC".to_owned(),
            "log_timezone=UTC".to_owned(),
        ];
        let mut arguments = vec!["-D".to_owned(), self.data().display().to_string()];
        arguments.extend(
            settings
                .into_iter()
                .flat_map(|setting| ["-c".to_owned(), setting]),
        );
        Program {
            name: "postgres".to_owned(),
            path: self.binaries.join("postgres"),
            arguments,
            environment: BTreeMap::new(),
            account: self.account.clone(),
            directory: self.home.clone(),
            stop_signal: Signal::SIGINT,
            drop_signal: Signal::SIGQUIT,
        }
    }

    /// Starts it and waits until it answers; a port lost to somebody else is replaced.
    pub(crate) async fn start(&mut self, log: &Path) -> Result<Process> {
        for _ in 1..START_TRIES {
            match self.start_once(log).await {
                Err(error)
                    if error
                        .downcast_ref::<crate::Exited>()
                        .is_some_and(crate::Exited::address_was_taken) =>
                {
                    self.port = ports::free()?;
                }
                result => return result,
            }
        }
        self.start_once(log).await
    }

    /// Starts it on its port. After a kill its children may hold the shared memory a moment longer.
    pub(crate) async fn start_once(&self, log: &Path) -> Result<Process> {
        let deadline = Deadline::new("Postgres to answer", START_LIMIT);
        let mut process = Process::spawn(self.program(), log)?;
        while !answers(&self.url("postgres")).await {
            if let Some(exited) = process.exit_report() {
                if !exited.end.contains("pre-existing shared memory block") {
                    return Err(exited.into());
                }
                process = Process::spawn(self.program(), log)?;
            }
            deadline.tick().await.with_context(|| process.log_end())?;
        }
        Ok(process)
    }
}

/// The password of a server, made on first use and kept beside its data for the next start.
fn password(home: &Path, account: Option<&Account>) -> Result<String> {
    let path = home.join("password");
    if let Some(password) = files::read_if_there(&path)? {
        return Ok(password.trim().to_owned());
    }
    let password = random_hex::<PASSWORD_BYTES>()?;
    files::write_whole(&path, password.as_bytes())?;
    if let Some(account) = account {
        account.own(&path)?;
    }
    Ok(password)
}

async fn answers(url: &str) -> bool {
    match PgConnection::connect(url).await {
        Ok(connection) => connection.close().await.is_ok(),
        Err(_) => false,
    }
}

/// Makes a database named `name` on the server that `server_url` names, and gives back its URL.
pub(crate) async fn create_database(server_url: &str, name: &str) -> Result<String> {
    execute(server_url, format!("CREATE DATABASE {}", quoted(name)))
        .await
        .with_context(|| format!("making the database {name}"))?;
    database_url(server_url, name)
}

/// Makes the database where it is missing.
pub(crate) async fn create_database_if_missing(server_url: &str, name: &str) -> Result<String> {
    let url = database_url(server_url, name)?;
    if !answers(&url).await {
        create_database(server_url, name).await?;
    }
    Ok(url)
}

/// Drops a database, whoever is still connected to it.
pub(crate) async fn drop_database(server_url: &str, name: &str) -> Result<()> {
    execute(
        server_url,
        format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(name)),
    )
    .await
    .with_context(|| format!("dropping the database {name}"))
}

async fn execute(url: &str, statement: String) -> Result<()> {
    let mut connection = PgConnection::connect(url)
        .await
        .context("connecting to Postgres")?;
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement))
        .execute(&mut connection)
        .await?;
    connection.close().await.context("closing the connection")
}

/// The same server and user, another database.
fn database_url(server_url: &str, name: &str) -> Result<String> {
    let mut url: reqwest::Url = server_url.parse().context("DATABASE_URL")?;
    url.set_path(name);
    Ok(url.into())
}

fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_database_keeps_server_and_password() {
        let url = database_url(
            "postgres://crochet:secret@127.0.0.1:20001/postgres",
            "crochet_7",
        )
        .unwrap();
        assert_eq!(url, "postgres://crochet:secret@127.0.0.1:20001/crochet_7");
    }

    #[test]
    fn identifiers_are_quoted() {
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
    }
}
