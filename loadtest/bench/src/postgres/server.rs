//! A Postgres for one test.

use std::path::PathBuf;

use crochet_dev::{Cluster, Stores};

const CONNECTIONS: u16 = 10;

pub(super) struct Server {
    directory: PathBuf,
    stores: Stores,
}

impl Server {
    /// `name` is the test's own: its files are below it.
    pub(super) async fn start(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("bench-{name}-{}", std::process::id()));
        let cluster = Cluster::open(&directory, CONNECTIONS).unwrap();
        let stores = Stores::start_with(&directory, cluster).await.unwrap();
        Self { directory, stores }
    }

    pub(super) fn url(&self) -> String {
        self.stores.database_url()
    }

    pub(super) async fn stop(self) {
        self.stores.stop().await.unwrap();
        Cluster::remove(&self.directory).unwrap();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
