//! Stands between the control plane and Postgres, passes everything on, and counts round trips.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::conversation::{Conversation, Messages, Tally};

const BUFFER_BYTES: usize = 64 * 1024;

/// A running one. It ends with all its connections when dropped.
#[derive(Debug)]
pub(crate) struct Wire {
    url: String,
    tally: Arc<Mutex<Tally>>,
    task: JoinHandle<()>,
}

impl Wire {
    /// In front of the server of this database.
    pub(crate) async fn before(database_url: &str) -> Result<Self> {
        let options: PgConnectOptions = database_url.parse().context("the database's URL")?;
        let server = (options.get_host().to_owned(), options.get_port());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let tally = Arc::new(Mutex::new(Tally::default()));
        let task = tokio::spawn(serve(listener, server, Arc::clone(&tally)));
        Ok(Self {
            url: through(options, address),
            tally,
            task,
        })
    }

    /// The database's URL with this in front of it.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What was counted since the last time.
    pub(crate) fn take(&self) -> Tally {
        std::mem::take(&mut *self.tally.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// In clear: what is encrypted could not be counted.
fn through(options: PgConnectOptions, address: SocketAddr) -> String {
    let host = address.ip().to_string();
    let options = options.host(&host).port(address.port());
    let options = options.ssl_mode(PgSslMode::Disable);
    options.to_url_lossy().to_string()
}

async fn serve(listener: TcpListener, server: (String, u16), tally: Arc<Mutex<Tally>>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let (server, tally) = (server.clone(), Arc::clone(&tally));
        // Either side finds out by itself that the other is gone.
        connections.spawn(async move { pass(client, server, &tally).await });
        while connections.try_join_next().is_some() {}
    }
}

async fn pass(
    mut client: TcpStream,
    server: (String, u16),
    tally: &Mutex<Tally>,
) -> io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let mut conversation = Conversation::default();
    let (mut asked, mut told) = (vec![0; BUFFER_BYTES], vec![0; BUFFER_BYTES]);
    let mut from_client = Messages::of_client();
    let mut from_server = Messages::default();
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let bytes = asked.get(..read?).filter(|bytes| !bytes.is_empty());
                let Some(bytes) = bytes else { return Ok(()) };
                from_client.take(bytes, |kind, body| conversation.asks(kind, body));
                server.write_all(bytes).await?;
            }
            read = server.read(&mut told) => {
                let bytes = told.get(..read?).filter(|bytes| !bytes.is_empty());
                let Some(bytes) = bytes else { return Ok(()) };
                {
                    let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                    from_server.take(bytes, |kind, body| conversation.is_told(kind, body, &mut tally));
                }
                client.write_all(bytes).await?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use sqlx::{Connection as _, PgConnection};

    use super::*;
    use crate::postgres::server::Server;

    #[tokio::test]
    async fn statements_looks_and_transactions_are_counted_as_sqlx_makes_them() {
        let server = Server::start("wire").await;
        let wire = Wire::before(&server.url()).await.unwrap();
        let mut connection = PgConnection::connect(wire.url()).await.unwrap();
        let batch = async |connection: &mut PgConnection| {
            sqlx::query("with item as (select unnest($1::int4[]) x) update gateway_request set x = 1 from item")
                .bind(vec![1, 2])
                .execute(connection)
                .await
                .unwrap();
        };
        sqlx::raw_sql("create table gateway_request (x int)")
            .execute(&mut connection)
            .await
            .unwrap();
        batch(&mut connection).await;
        wire.take();

        connection.ping().await.unwrap();
        batch(&mut connection).await;
        let tally = wire.take();
        assert_eq!((tally.batchs, tally.others, tally.preparing), (2, 0, 0));

        let mut transaction = connection.begin().await.unwrap();
        batch(&mut transaction).await;
        transaction.commit().await.unwrap();
        sqlx::raw_sql("select 1")
            .execute(&mut connection)
            .await
            .unwrap();
        let tally = wire.take();
        assert_eq!((tally.batchs, tally.others), (3, 1));
        server.stop().await;
    }
}
