//! What the sandbox can be told from the command line or the environment.

use std::{net::SocketAddr, path::PathBuf};

use clap::Parser;

use crate::{clock::Clock, currency::Minimums};

/// A stand-in for the payment provider Relay: the same HTTP API, no money, and controls for tests.
///
/// It moves nothing and believes whoever says "deposit": for development only.
#[derive(Debug, Clone, Parser)]
#[command(name = "relay-sandbox", version)]
pub struct Config {
    /// Where to listen.
    #[arg(long, env = "RELAY_SANDBOX_LISTEN", default_value = "127.0.0.1:8090")]
    pub listen: SocketAddr,

    /// Journal that survives restarts; without it the sandbox forgets everything when it ends.
    #[arg(long, env = "RELAY_SANDBOX_STATE")]
    pub state: Option<PathBuf>,

    /// The key clients send as `x-api-key`; webhooks are signed with it.
    #[arg(
        long,
        env = "RELAY_API_KEY",
        default_value = "relay-sandbox-key",
        hide_env_values = true
    )]
    pub api_key: String,

    /// Where status changes are posted (`http://…`); none are when left out.
    #[arg(long, env = "RELAY_WEBHOOK_URL")]
    pub webhook_url: Option<url::Url>,

    /// First pause before a webhook is tried again, in milliseconds; doubles each time, up to 10 s.
    #[arg(long, env = "RELAY_SANDBOX_WEBHOOK_BACKOFF_MS", default_value_t = 100)]
    pub webhook_backoff_ms: u64,

    /// Time between two statuses of a payment, in milliseconds; 0 makes a deposit a success at once.
    #[arg(long, env = "RELAY_SANDBOX_STEP_MS", default_value_t = 20)]
    pub step_ms: u64,

    /// Smallest output of each route in micro-dollars.
    #[arg(long, env = "RELAY_SANDBOX_MINIMUMS", default_value_t = Minimums::default())]
    pub minimums: Minimums,

    /// Refunds worth less than this, in micro-dollars, are not sent.
    #[arg(long, env = "RELAY_SANDBOX_REFUND_MINIMUM", default_value_t = 0)]
    pub refund_minimum: u64,

    /// Limit on `/quote/v2`, per second (the provider: 10 with an elevated key); none when left out.
    #[arg(long, env = "RELAY_SANDBOX_QUOTES_PER_SECOND")]
    pub quotes_per_second: Option<u32>,

    /// Limit on `/requests/v3`, per second (the provider: 20 with an elevated key); none when left out.
    #[arg(long, env = "RELAY_SANDBOX_REQUESTS_PER_SECOND")]
    pub requests_per_second: Option<u32>,

    /// Limit on the other provider calls, per minute (the provider: 200); none when left out.
    #[arg(long, env = "RELAY_SANDBOX_OTHERS_PER_MINUTE")]
    pub others_per_minute: Option<u32>,

    /// Worker threads.
    #[arg(long, env = "RELAY_SANDBOX_THREADS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub threads: u16,

    /// Seconds by which its clock is ahead of the machine's, or behind when negative.
    #[arg(
        long,
        env = "RELAY_SANDBOX_CLOCK_OFFSET_SECONDS",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    pub clock_offset_seconds: i64,

    /// Where time comes from.
    #[arg(skip)]
    pub clock: Clock,
}

impl Default for Config {
    /// As with no arguments and an empty environment.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8090)),
            state: None,
            api_key: "relay-sandbox-key".to_owned(),
            webhook_url: None,
            webhook_backoff_ms: 100,
            step_ms: 20,
            minimums: Minimums::default(),
            refund_minimum: 0,
            quotes_per_second: None,
            requests_per_second: None,
            others_per_minute: None,
            threads: 1,
            clock_offset_seconds: 0,
            clock: Clock::default(),
        }
    }
}
