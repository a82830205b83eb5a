//! The proxy as a program, for a stack that was started by hand.

use std::net::SocketAddr;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use fault_proxy::{Fate, FaultProxy, Share};
use tokio::net::TcpListener;

/// Stands between two processes and loses a share of the replies right after they were given.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Who is really asked.
    #[arg(long)]
    upstream: SocketAddr,
    /// What they speak.
    #[arg(long)]
    protocol: Protocol,
    /// How many replies of a thousand are lost.
    #[arg(long, default_value_t = 100)]
    per_mille: u32,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Protocol {
    Http,
    Postgres,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let listener = TcpListener::bind(arguments.listen)
        .await
        .with_context(|| format!("listening on {}", arguments.listen))?;
    let (upstream, share) = (arguments.upstream, Share::of(arguments.per_mille));
    let proxy = match arguments.protocol {
        Protocol::Http => FaultProxy::http_on(listener, upstream, move |_| {
            if share.falls() {
                Fate::LoseReply
            } else {
                Fate::Pass
            }
        }),
        Protocol::Postgres => FaultProxy::postgres_on(listener, upstream, share),
    }?;
    say(&format!("{} → {upstream}", proxy.address()));
    proxy.serve().await;
    Ok(())
}

#[expect(
    clippy::print_stdout,
    reason = "a program for the terminal says where it listens"
)]
fn say(line: &str) {
    println!("{line}");
}
