//! A Redis of our own: a cache without persistence, on the loopback address.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::account::Account;
use crate::process::{Process, Program};
use crate::{Deadline, install, ports};

const START_LIMIT: Duration = Duration::from_secs(30);
const PROBE_LIMIT: Duration = Duration::from_millis(500);
const START_TRIES: usize = 5;

/// A Redis server that keeps nothing.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    program: std::path::PathBuf,
    account: Option<Account>,
    port: u16,
    /// Where the nodes of a cluster speak to each other; none for a server alone.
    bus: Option<u16>,
    home: std::path::PathBuf,
}

impl Cache {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            program: install::redis_server().context("Redis is not installed")?,
            account: Account::for_server(&["redis", "valkey", "postgres", "nobody"])?,
            port: ports::free()?,
            bus: None,
            home: "/".into(),
        })
    }

    /// A node of a cluster, which keeps what it knows of the others in `home`.
    pub(crate) fn node(home: &Path) -> Result<Self> {
        let mut node = Self::new()?;
        if let Some(account) = &node.account {
            account.own(home)?;
        }
        node.bus = Some(ports::free()?);
        node.home = home.to_path_buf();
        Ok(node)
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// Where a node speaks to the others.
    pub(crate) const fn bus(&self) -> Option<u16> {
        self.bus
    }

    /// Which user it runs as.
    pub(crate) const fn account(&self) -> Option<&Account> {
        self.account.as_ref()
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    pub(crate) fn program(&self) -> Program {
        let (port, home) = (self.port.to_string(), self.home.display().to_string());
        let mut arguments = vec![
            "--port",
            &port,
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--daemonize",
            "no",
            "--dir",
            &home,
        ];
        let bus = self.bus.map(|bus| bus.to_string());
        if let Some(bus) = &bus {
            arguments.extend(["--cluster-enabled", "yes", "--cluster-port", bus]);
            arguments.extend(["--cluster-node-timeout", "1000"]);
        }
        Program {
            name: "redis".to_owned(),
            path: self.program.clone(),
            arguments: arguments.into_iter().map(str::to_owned).collect(),
            environment: BTreeMap::new(),
            account: self.account.clone(),
            directory: "/".into(),
            stop_signal: Signal::SIGTERM,
            drop_signal: Signal::SIGKILL,
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

    pub(crate) async fn start_once(&self, log: &Path) -> Result<Process> {
        let deadline = Deadline::new("Redis to answer", START_LIMIT);
        let mut process = Process::spawn(self.program(), log)?;
        loop {
            // The exit is looked for first: on a lost port it is somebody else who answers.
            if let Some(exited) = process.exit_report() {
                return Err(exited.into());
            }
            if self.answers(process.id()).await {
                return Ok(process);
            }
            deadline.tick().await.with_context(|| process.log_end())?;
        }
    }

    /// Whether the server on our port is the process `id`.
    async fn answers(&self, id: u32) -> bool {
        let ask = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
            stream.write_all(b"INFO server\r\nQUIT\r\n").await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            std::io::Result::Ok(
                answer
                    .lines()
                    .any(|line| line.trim_end() == format!("process_id:{id}")),
            )
        };
        matches!(tokio::time::timeout(PROBE_LIMIT, ask).await, Ok(Ok(true)))
    }
}
