//! The payment provider's stand-in as a program of its own.

use anyhow::{Context, Result};
use clap::Parser;
use relay_sandbox::Config;
use tokio::{
    net::TcpListener,
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};

fn main() -> Result<()> {
    let mut config = Config::parse();
    config.clock = config.clock.set_ahead(config.clock_offset_seconds);
    Builder::new_multi_thread()
        .worker_threads(usize::from(config.threads))
        .enable_all()
        .build()?
        .block_on(run(config))
}

async fn run(config: Config) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("listening on {}", config.listen))?;
    eprintln!(
        "relay-sandbox: listening on http://{}",
        listener.local_addr()?
    );
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    relay_sandbox::serve_until(listener, config, stop).await
}
