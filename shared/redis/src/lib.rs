//! The connection of both services to Redis: one server, or a Redis Cluster.
//!
//! `redis://host:6379` is one server, or a name behind which a primary stands. After `cluster:` stand nodes of a
//! cluster, `cluster:redis://a:6379,redis://b:6379`; they are asked for the others.
//!
//! Owns how commands find their node. It never retries what may have been done, and knows no keys.
//!
//! Invariants:
//! - Every command and script of the services is about one key, so none needs two nodes, and a pipeline, which is
//!   never a transaction, may be sent in parts.
//! - Nobody is contacted before the first command; what is away costs its own time and is tried again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::try_join_all;
use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig, PubSub};
use redis::cluster::{ClusterClientBuilder, ClusterConfig};
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::{Client, Cmd, Pipeline, RedisFuture, RedisResult, Value};

/// What stands before the nodes of a cluster.
const CLUSTER: &str = "cluster:";
/// Commands that may wait for a connection's writer.
const PIPELINE_MAX: usize = 1024;

/// An address that names no Redis.
#[derive(Debug, thiserror::Error)]
#[error(
    "not redis://[user:password@]host[:port][/database], nor cluster: and such nodes of one user, comma separated"
)]
pub struct NoAddress;

/// Where Redis is.
#[derive(Clone, Debug)]
pub struct Place {
    nodes: Arc<[Client]>,
    is_cluster: bool,
    next: Arc<AtomicUsize>,
}

/// How long it is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Longest to a connection.
    pub connect: Duration,
    /// Longest from a command to its answer.
    pub answer: Duration,
    /// How often a broken connection is made again within one command.
    pub retries: u8,
}

/// How long a node of a cluster may leave what it was sent unacknowledged.
const SILENT_TIME: Duration = Duration::from_secs(2);
/// How often a command follows what a cluster says of where its key is now: a slot that moves is asked for twice.
const REDIRECTS_MAX: u8 = 2;

impl Place {
    /// Reads an address; contacts nobody.
    pub fn parse(address: &str) -> Result<Self, NoAddress> {
        let (nodes, is_cluster) = match address.strip_prefix(CLUSTER) {
            Some(nodes) => (nodes.split(',').collect(), true),
            None => (vec![address], false),
        };
        let nodes = nodes.into_iter().map(|node| Client::open(node.trim()));
        let nodes: Vec<Client> = nodes.collect::<RedisResult<_>>().map_err(|_| NoAddress)?;
        let place = Self {
            nodes: nodes.into(),
            is_cluster,
            next: Arc::default(),
        };
        if is_cluster {
            // Also refuses nodes that differ in user or password.
            place.cluster().build().map_err(|_| NoAddress)?;
        }
        Ok(place)
    }

    fn cluster(&self) -> ClusterClientBuilder {
        let nodes = self.nodes.iter();
        ClusterClientBuilder::new(nodes.map(|node| node.get_connection_info().clone()))
    }

    /// A connection, which is made at its first command. Inside a runtime of tokio only.
    pub fn connection(&self, patience: Patience) -> RedisResult<Connection> {
        if self.is_cluster {
            // A node that has gone silent is found out by its connection alone: a command whose answer is late neither
            // closes it nor asks who has its slots now. And a command that was sent to another node was not executed.
            let client = self
                .cluster()
                .connection_timeout(patience.connect)
                .response_timeout(patience.answer * 2)
                .tcp_settings(TcpSettings::default().set_user_timeout(SILENT_TIME))
                .retries(u32::from(patience.retries.max(REDIRECTS_MAX)))
                .build()?;
            let config = ClusterConfig::new().set_response_timeout(patience.answer);
            let connection = client.get_pending_async_connection_with_config(config);
            return Ok(Connection::Cluster(connection));
        }
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(patience.connect))
            .set_response_timeout(Some(patience.answer))
            .set_number_of_retries(patience.retries.into())
            .set_pipeline_buffer_size(PIPELINE_MAX);
        // One server has one node.
        let node = self.nodes.first().cloned();
        let node = node.ok_or((redis::ErrorKind::InvalidClientConfig, "no node"))?;
        ConnectionManager::new_lazy_with_config(node, config).map(Connection::One)
    }

    /// A connection that hears what is published. In a cluster every node tells everything, so each call asks the
    /// next one.
    pub async fn hearing(&self) -> RedisResult<PubSub> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.nodes.len().max(1);
        let node = self.nodes.get(turn);
        let node = node.ok_or((redis::ErrorKind::InvalidClientConfig, "no node"))?;
        node.get_async_pubsub().await
    }
}

/// A connection that many may use at once.
#[derive(Clone)]
pub enum Connection {
    /// To one server.
    One(ConnectionManager),
    /// To all nodes of a cluster.
    Cluster(ClusterConnection),
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str(match self {
            Self::One(_) => "One",
            Self::Cluster(_) => "Cluster",
        })
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(connection) => connection.req_packed_command(command),
            Self::Cluster(connection) => connection.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => {
                // The whole of a transaction belongs to one node; we have none.
                if pipeline.is_transaction() {
                    return connection.req_packed_commands(pipeline, offset, count);
                }
                spread(connection, pipeline).boxed()
            }
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

/// Sends each command to the node of its key, all at once. On the wire those of one node stand together again.
async fn spread(cluster: &ClusterConnection, pipeline: &Pipeline) -> RedisResult<Vec<Value>> {
    let asked = pipeline.cmd_iter().map(|command| {
        let mut cluster = cluster.clone();
        async move { cluster.req_packed_command(command).await }
    });
    try_join_all(asked).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_server_or_a_cluster() {
        let of = |address: &str| {
            let place = Place::parse(address).ok()?;
            Some((place.nodes.len(), place.is_cluster))
        };
        assert_eq!(of("redis://a:6379"), Some((1, false)));
        assert_eq!(of("redis://u:p@a:6379/3"), Some((1, false)));
        assert_eq!(of("cluster:redis://a"), Some((1, true)));
        assert_eq!(
            of("cluster:redis://u:p@a:1, redis://u:p@b:2"),
            Some((2, true))
        );
        for wrong in [
            "",
            "a:6379",
            "http://a",
            "cluster:",
            "cluster:redis://a,",
            "cluster:redis://u:p@a,redis://u:q@b",
            "redis://a,redis://b",
        ] {
            assert_eq!(of(wrong), None, "{wrong:?}");
        }
    }
}
