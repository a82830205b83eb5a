//! Connections passed on, exchange by exchange.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::http1::{Message, Reader};
use crate::postgres::Replies;
use crate::share::Share;

/// Makes other bytes of an answer.
pub type Rewrite = Box<dyn FnOnce(&Message) -> Vec<u8> + Send>;

/// What becomes of one exchange.
pub enum Fate {
    /// Nothing happens to it.
    Pass,
    /// It is never passed on; the connection is cut.
    LoseRequest,
    /// It is passed on and answered; the answer is lost with the connection.
    LoseReply,
    /// It is passed on and answered; the answer waits for this.
    HoldReply(BoxFuture<'static, ()>),
    /// It is passed on; this makes the bytes that go back of its answer.
    Rewrite(Rewrite),
}

impl std::fmt::Debug for Fate {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str(match self {
            Self::Pass => "Pass",
            Self::LoseRequest => "LoseRequest",
            Self::LoseReply => "LoseReply",
            Self::HoldReply(_) => "HoldReply",
            Self::Rewrite(_) => "Rewrite",
        })
    }
}

/// A running proxy. It ends with all its connections when dropped.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl FaultProxy {
    /// In front of an HTTP server; `judge` says of each request what becomes of it.
    pub async fn http(
        upstream: SocketAddr,
        judge: impl Fn(&Message) -> Fate + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        Self::http_on(listener, upstream, judge)
    }

    /// The same on a listener of the caller's.
    pub fn http_on(
        listener: TcpListener,
        upstream: SocketAddr,
        judge: impl Fn(&Message) -> Fate + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let judge = Arc::new(judge);
        Self::start(listener, upstream, move |client, server| {
            let judge = Arc::clone(&judge);
            async move { exchange(client, server, &*judge).await }
        })
    }

    /// In front of a Postgres; a share of the replies to finished queries is lost.
    pub async fn postgres(upstream: SocketAddr, share: Share) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        Self::postgres_on(listener, upstream, share)
    }

    /// The same on a listener of the caller's.
    pub fn postgres_on(
        listener: TcpListener,
        upstream: SocketAddr,
        share: Share,
    ) -> io::Result<Self> {
        Self::start(listener, upstream, move |client, server| {
            let share = share.clone();
            async move { query(client, server, &share).await }
        })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Runs until the proxy's own task ends, which it does not.
    pub async fn serve(mut self) {
        // It ends by being aborted, and then there is nobody left to tell.
        drop((&mut self.task).await);
    }

    fn start<F>(
        listener: TcpListener,
        upstream: SocketAddr,
        pass: impl Fn(TcpStream, TcpStream) -> F + Clone + Send + 'static,
    ) -> io::Result<Self>
    where
        F: Future<Output = io::Result<()>> + Send,
    {
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let pass = pass.clone();
                // A cut connection is the point of this; both sides find out by themselves.
                connections.spawn(async move {
                    let server = TcpStream::connect(upstream).await?;
                    client.set_nodelay(true)?;
                    server.set_nodelay(true)?;
                    pass(client, server).await
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, task })
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// HTTP/1.1, one exchange after the other.
async fn exchange(
    client: TcpStream,
    server: TcpStream,
    judge: &(impl Fn(&Message) -> Fate + Sync),
) -> io::Result<()> {
    let (client_read, mut client_write) = client.into_split();
    let (server_read, mut server_write) = server.into_split();
    let (mut requests, mut answers) = (Reader::new(client_read), Reader::new(server_read));
    while let Some(request) = requests.request().await? {
        let fate = judge(&request);
        if matches!(fate, Fate::LoseRequest) {
            return Ok(());
        }
        server_write.write_all(&request.raw).await?;
        let Some(answer) = answers.answer(false).await? else {
            return Ok(());
        };
        match fate {
            Fate::LoseReply | Fate::LoseRequest => return Ok(()),
            Fate::HoldReply(wait) => wait.await,
            Fate::Rewrite(rewrite) => {
                client_write.write_all(&rewrite(&answer)).await?;
                continue;
            }
            Fate::Pass => {}
        }
        client_write.write_all(&answer.raw).await?;
    }
    Ok(())
}

/// Postgres's protocol: what the client says passes, what the server says passes reply by reply.
async fn query(client: TcpStream, server: TcpStream, share: &Share) -> io::Result<()> {
    let (mut client_read, mut client_write) = client.into_split();
    let (server_read, mut server_write) = server.into_split();
    let asked = async {
        tokio::io::copy(&mut client_read, &mut server_write).await?;
        server_write.shutdown().await
    };
    let told = async {
        let mut replies = Replies::new(server_read);
        while let Some(reply) = replies.next().await? {
            if reply.is_done && share.falls() {
                return Ok(());
            }
            client_write.write_all(&reply.raw).await?;
        }
        Ok(())
    };
    // Whoever ends first ends both: there is no half of such a conversation.
    tokio::select! {
        ended = asked => ended,
        ended = told => ended,
    }
}
