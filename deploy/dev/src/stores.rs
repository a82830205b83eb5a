//! Postgres and Redis alone, for tests that start no service or many stacks.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::process::Process;
use crate::redis::Cache;
use crate::{Cluster, files, leftovers};

/// Both stores, running. Dropping them ends the servers; the data stays until [`Cluster::remove`].
#[derive(Debug)]
pub struct Stores {
    directory: PathBuf,
    cluster: Cluster,
    cache: Cache,
    redis: Process,
    postgres: Process,
}

impl Stores {
    /// Starts both with their logs in `directory`; Postgres takes `connections` at once.
    pub async fn start(directory: &Path, connections: u16) -> Result<Self> {
        Self::start_with(directory, Cluster::open(directory, connections)?).await
    }

    /// As [`Self::start`], with this Postgres.
    pub async fn start_with(directory: &Path, mut cluster: Cluster) -> Result<Self> {
        let logs = directory.join("logs");
        files::make_directory(&logs)?;
        let mut cache = Cache::new()?;
        let postgres = cluster.start(&logs.join("postgres.log")).await?;
        let redis = cache.start(&logs.join("redis.log")).await?;
        leftovers::record(
            directory,
            [("postgres", postgres.id()), ("redis", redis.id())].into_iter(),
        )?;
        Ok(Self {
            directory: directory.to_path_buf(),
            cluster,
            cache,
            redis,
            postgres,
        })
    }

    /// The server's own database, in which others can be made.
    pub fn database_url(&self) -> String {
        self.cluster.url("postgres")
    }

    /// The cache.
    pub fn redis_url(&self) -> String {
        self.cache.url()
    }

    /// Stops both and lets Postgres write what it holds.
    pub async fn stop(mut self) -> Result<()> {
        self.redis.stop().await?;
        self.postgres.stop().await?;
        leftovers::forget(&self.directory)
    }
}
