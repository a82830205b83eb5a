//! What stands before two of a service where Crochet really runs: it sends new connections to those that
//! say they are ready, and leaves open ones alone.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use crochet_dev::Readiness;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// A listener before several.
#[derive(Debug)]
pub(super) struct Balancer {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Balancer {
    /// Before these addresses, in the order of `readiness`.
    pub(super) async fn before(upstreams: Vec<SocketAddr>, readiness: Arc<Readiness>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let upstream = upstreams[readiness.turn()];
                connections.spawn(async move {
                    let mut server = TcpStream::connect(upstream).await?;
                    client.set_nodelay(true)?;
                    server.set_nodelay(true)?;
                    tokio::io::copy_bidirectional(&mut client, &mut server).await
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, task }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
