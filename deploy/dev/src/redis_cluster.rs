//! A Redis Cluster of our own: three primaries without replicas, on the loopback address.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::checkout::{data_home, make_data_home};
use crate::process::Process;
use crate::redis::Cache;
use crate::{Deadline, files};

/// The slots of each node, first and last.
const SLOTS: [(u16, u16); 3] = [(0, 5_460), (5_461, 10_922), (10_923, 16_383)];
const FORM_LIMIT: Duration = Duration::from_secs(30);

/// A running cluster; dropping it ends it and removes what it kept.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<Node>,
    home: PathBuf,
}

#[derive(Debug)]
struct Node {
    cache: Cache,
    process: Process,
    log: PathBuf,
}

impl RedisCluster {
    /// Starts one that keeps its files below `directory`, and waits until it serves.
    pub async fn start(directory: &Path) -> Result<Self> {
        files::make_directory(directory)?;
        let probe = Cache::new()?;
        let home = data_home(directory, probe.account());
        make_data_home(&home)?;
        let mut cluster = Self {
            nodes: Vec::new(),
            home: home.join("redis-cluster"),
        };
        files::remove(&cluster.home)?;
        for number in 0..SLOTS.len() {
            let home = cluster.home.join(number.to_string());
            make_data_home(&home)?;
            let cache = Cache::node(&home)?;
            let log = directory.join(format!("redis-{number}.log"));
            let process = cache.start_once(&log).await?;
            cluster.nodes.push(Node {
                cache,
                process,
                log,
            });
        }
        cluster.form().await?;
        Ok(cluster)
    }

    /// `REDIS_URL` of it: its first two nodes, of which the third is learned.
    pub fn url(&self) -> String {
        let nodes: Vec<String> = self.nodes.iter().take(2).map(|n| n.cache.url()).collect();
        format!("cluster:{}", nodes.join(","))
    }

    /// What a node answers to a command in one line.
    pub async fn ask(&self, node: usize, command: &str) -> Result<String> {
        let node = self.nodes.get(node).context("no such node")?;
        let mut stream = TcpStream::connect(("127.0.0.1", node.cache.port())).await?;
        let line = format!("{command}\r\nQUIT\r\n");
        stream.write_all(line.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        ensure!(!answer.starts_with('-'), "{command}: {answer}");
        Ok(answer)
    }

    /// Kills a node; without its slots the cluster serves nobody.
    pub fn kill(&mut self, node: usize) -> Result<()> {
        let node = self.nodes.get_mut(node).context("no such node")?;
        node.process.kill().map(drop)
    }

    /// Starts the nodes that were killed, and waits until the cluster serves again.
    pub async fn start_again(&mut self) -> Result<()> {
        for node in &mut self.nodes {
            if node.process.exited().is_some() {
                node.process = node.cache.start_once(&node.log).await?;
            }
        }
        self.wait_until_it_serves().await
    }

    async fn form(&self) -> Result<()> {
        for (number, (first, last)) in SLOTS.into_iter().enumerate() {
            self.ask(number, &format!("CLUSTER ADDSLOTSRANGE {first} {last}"))
                .await?;
        }
        for node in self.nodes.iter().skip(1) {
            let bus = node.cache.bus().context("a node of a cluster")?;
            let meet = format!("CLUSTER MEET 127.0.0.1 {} {bus}", node.cache.port());
            self.ask(0, &meet).await?;
        }
        self.wait_until_it_serves().await
    }

    async fn wait_until_it_serves(&self) -> Result<()> {
        let deadline = Deadline::new("the Redis Cluster to serve", FORM_LIMIT);
        loop {
            let mut serving = 0;
            for number in 0..self.nodes.len() {
                let said = self.ask(number, "CLUSTER INFO").await.unwrap_or_default();
                let all = said.contains("cluster_known_nodes:3")
                    && said.contains("cluster_state:ok")
                    && said.contains("cluster_slots_ok:16384");
                serving += usize::from(all);
            }
            if serving == self.nodes.len() {
                return Ok(());
            }
            deadline.tick().await?;
        }
    }
}

impl Drop for RedisCluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            // An error says that it has ended.
            let _ended = node.process.kill();
        }
        drop(files::remove(&self.home));
    }
}
