//! What stands before two of a service where Crochet really runs: it sends new connections to those that
//! say they are ready, and leaves open ones alone.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Between two looks at `/readyz`: much less than the time a service leaves between failing it and closing.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const LOOK_LIMIT: Duration = Duration::from_millis(400);

/// One of those it balances.
#[derive(Debug)]
struct Backend {
    admin: String,
    is_ready: AtomicBool,
}

/// Which of several processes are ready, looked at all the time.
#[derive(Debug)]
pub(super) struct Readiness {
    backends: Arc<Vec<Backend>>,
    next: AtomicUsize,
    looking: Vec<JoinHandle<()>>,
}

impl Readiness {
    /// Watches `/readyz` at these operators' origins.
    pub(super) fn of(http: &reqwest::Client, admins: &[String]) -> Self {
        let backends: Arc<Vec<Backend>> = Arc::new(
            admins
                .iter()
                .map(|admin| Backend {
                    admin: admin.clone(),
                    is_ready: AtomicBool::new(true),
                })
                .collect(),
        );
        let looking = (0..backends.len())
            .map(|number| tokio::spawn(look(Arc::clone(&backends), number, http.clone())))
            .collect();
        Self {
            backends,
            next: AtomicUsize::new(0),
            looking,
        }
    }

    /// Whose turn it is, among those that are ready.
    pub(super) fn turn(&self) -> usize {
        let count = self.backends.len();
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let turns = (first..first + count).map(|turn| turn % count);
        let mut ready = turns.filter(|&turn| self.is_ready(turn));
        ready.next().unwrap_or(first % count)
    }

    /// Whether one was ready when last looked at.
    pub(super) fn is_ready(&self, number: usize) -> bool {
        self.backends[number].is_ready.load(Ordering::Relaxed)
    }
}

impl Drop for Readiness {
    fn drop(&mut self) {
        for looking in &self.looking {
            looking.abort();
        }
    }
}

async fn look(backends: Arc<Vec<Backend>>, number: usize, http: reqwest::Client) {
    let backend = &backends[number];
    let url = format!("{}/readyz", backend.admin);
    let mut every = tokio::time::interval(LOOK_EVERY);
    loop {
        every.tick().await;
        let answer = http.get(&url).timeout(LOOK_LIMIT).send().await;
        let is_ready = answer.is_ok_and(|answer| answer.status().is_success());
        backend.is_ready.store(is_ready, Ordering::Relaxed);
    }
}

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
