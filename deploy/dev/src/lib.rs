//! Starts, watches and stops a whole Crochet on this machine, with stores of its own.
//!
//! `cargo dev` (the program of this crate), the tests of both services and the bench use it:
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use crochet_dev::{Options, Role, Stack};
//! let mut stack = Stack::start(Options::for_test("a_killed_gateway")?.gateways(2)).await?;
//! stack.kill(Role::Gateway(0))?;
//! stack.start_again(Role::Gateway(0)).await?;
//! stack.stop().await?; // or drop it
//! # Ok(()) }
//! ```
//!
//! Invariants: no server runs as root; every child has a process group, a log file and an entry in
//! `processes.json`, so that whoever comes after a killed runner can end what it left; a child is
//! stopped by SIGTERM and killed only after a deadline; nothing waits for time to pass, only for a
//! condition with a deadline.

mod account;
mod adjust;
mod checkout;
mod environment;
mod files;
mod leftovers;
mod options;
mod ports;
mod postgres;
mod previous;
mod process;
mod programs;
mod prometheus;
mod readiness;
mod redis;
mod redis_cluster;
mod role;
mod secrets;
mod settings;
mod stack;
mod stack_file;
mod stores;
mod view;
mod wait;

pub mod install;

pub use checkout::{Build, Checkout};
pub use leftovers::{Abandoned, end_all_abandoned, end_leftovers};
pub use options::{Options, Store};
pub use ports::free as free_port;
pub use postgres::Cluster;
pub use previous::Previous;
pub use process::{Exited, end_of};
pub use prometheus::{Alert, Prometheus, Rule};
pub use readiness::Readiness;
pub use redis_cluster::RedisCluster;
pub use role::Role;
pub use settings::{Limits, Settings};
pub use stack::Stack;
pub use stack_file::{DemoKeys, GatewayEntry, Pids, StackFile};
pub use stores::Stores;
pub use wait::Deadline;
