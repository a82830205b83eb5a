//! What a connection costs that is kept open and has nothing to do.
//!
//! The gateway is started again first: one that has been under load holds memory that connections would be given
//! without its growing.

use anyhow::{Context as _, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::Serialize;

use crate::load::{self, Job, Wrong};
use crate::market::Market;
use crate::measure::resident_bytes;
use crate::stack::Target;

/// Connections, each of which has made one request.
const CONNECTIONS: usize = 10_000;
/// Requests beforehand, so that what every gateway takes with its first ones is not counted.
const WARM_UP: usize = 2_000;
const WARM_UP_CONNECTIONS: usize = 64;
/// Files the process has open beside those connections.
const OTHER_FILES: u64 = 500;
const KIB: f64 = 1024.0;

/// What came out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct IdleConnections {
    pub(crate) connections: usize,
    /// Resident bytes of the gateway without them.
    pub(crate) before: u64,
    /// And with them.
    pub(crate) after: u64,
}

impl IdleConnections {
    /// KiB of the gateway for each.
    pub(crate) fn kib_each(self) -> f64 {
        #[expect(
            clippy::cast_precision_loss,
            reason = "bytes of memory are far below 2^52"
        )]
        let each = self.after.saturating_sub(self.before) as f64 / self.connections.max(1) as f64;
        each / KIB
    }
}

/// Lets this process, and what it starts, have as many files open as the system lets it.
pub(crate) fn allow_files() -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("raising the limit of open files")
}

/// Opens the connections and compares.
pub(crate) async fn measure(
    target: &mut Target,
    market: &mut Market,
) -> Result<(IdleConnections, Wrong)> {
    target.fresh_gateway().await?;
    let exchanges = market.quoted().await?;
    let (address, gateway) = (target.gateway()?, target.file.pids.gateway);
    let warm_up = Job {
        address,
        connections: WARM_UP_CONNECTIONS,
        warm_up: Vec::new(),
        measured: exchanges.iter().cloned().cycle().take(WARM_UP).collect(),
        pace: None,
        beside: None,
        anew: false,
        watched: Vec::new(),
    };
    let mut wrong = load::run(warm_up).await?.wrong;
    let before = resident_bytes([gateway])?;
    let connections = usize::try_from(allowed()?)?.min(CONNECTIONS);
    let look = move || resident_bytes([gateway]);
    let (after, not_kept) = load::hold(address, exchanges, connections, look).await?;
    wrong.merge(not_kept);
    let idle = IdleConnections {
        connections,
        before,
        after,
    };
    Ok((idle, wrong))
}

/// How many connections may be open.
fn allowed() -> Result<u64> {
    let (now, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(now.saturating_sub(OTHER_FILES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_shared_out_among_connections() {
        let idle = IdleConnections {
            connections: 100,
            before: 1_000_000,
            after: 1_000_000 + 100 * 20 * 1_024,
        };
        assert!((idle.kib_each() - 20.0).abs() < 1e-9);
        assert!(IdleConnections::default().kib_each().abs() < 1e-9);
    }

    #[test]
    fn the_limit_of_open_files_is_as_high_as_it_may_be() {
        allow_files().unwrap();
        let (now, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(now, most);
    }
}
