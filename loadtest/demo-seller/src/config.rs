//! What the seller can be told from the command line or the environment.

use std::net::SocketAddr;

use clap::{Parser, builder::FalseyValueParser};

/// A seller's service for development, tests and benchmarks: verifies Crochet's signature and behaves as
/// the request body says under its key "seller".
#[derive(Debug, Clone, Parser)]
#[command(name = "demo-seller", version)]
pub struct Config {
    /// Where to listen.
    #[arg(long, env = "DEMO_SELLER_LISTEN", default_value = "127.0.0.1:8091")]
    pub listen: SocketAddr,

    /// Worker threads.
    #[arg(long, env = "DEMO_SELLER_THREADS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub threads: u16,

    /// Take calls without looking at their signature: for baselines that do not sign.
    #[arg(long, env = "DEMO_SELLER_SKIP_SIGNATURE", value_parser = FalseyValueParser::new())]
    pub unsigned: bool,
}

impl Default for Config {
    /// As with no arguments and an empty environment.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8091)),
            threads: 1,
            unsigned: false,
        }
    }
}
