//! CPU time of several processes at one moment, and what they spent between two.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::time::ClockId;
use nix::unistd::Pid;
use serde::Serialize;

use super::process::{Stat, with_descendants};

/// What a process is here for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// The gateway that is measured.
    Gateway,
    /// The control plane.
    ControlPlane,
    /// Postgres with all its backends.
    Postgres,
    /// The cache.
    Redis,
    /// The payment provider's stand-in.
    Relay,
    /// The seller behind the gateway: verifies signatures.
    Seller,
    /// The seller behind the baselines: the same program, verifying nothing.
    UnsignedSeller,
    /// What speaks TLS in front of the seller.
    TlsFront,
    /// The baseline in C, master and workers.
    Nginx,
    /// Another in C.
    Haproxy,
    /// The x402 gateway: node.
    X402,
    /// The baseline in Rust.
    Pingora,
    /// This program.
    Load,
}

impl Role {
    /// In the table.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::ControlPlane => "control plane",
            Self::Postgres => "Postgres",
            Self::Redis => "Redis",
            Self::Relay => "Relay sandbox",
            Self::Seller => "seller",
            Self::UnsignedSeller => "unsigned seller",
            Self::TlsFront => "TLS before the seller",
            Self::Nginx => "nginx",
            Self::Haproxy => "HAProxy",
            Self::X402 => "x402",
            Self::Pingora => "bare pingora",
            Self::Load => "load generator",
        }
    }
}

/// A process whose CPU is read, with what descends from it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watched {
    pub(crate) role: Role,
    pub(crate) pid: u32,
}

/// CPU time spent, told twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    /// By the process's CPU clock, in nanoseconds: what the figures come from.
    pub(crate) clock: Duration,
    /// `utime + stime` of `/proc/PID/stat`, in hundredths of a second: what the clock is checked with.
    pub(crate) stat: Duration,
}

/// CPU time of the watched processes at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readings {
    by_process: BTreeMap<(Role, u32), Spent>,
}

impl Readings {
    /// Reads everyone now. One that has ended in the meantime (a Postgres worker) is left out.
    pub(crate) fn take(watched: &[Watched]) -> Result<Self> {
        let mut readings = Self::default();
        for one in watched {
            let root =
                read(one.pid).with_context(|| format!("the {} is gone", one.role.label()))?;
            readings.by_process.insert((one.role, one.pid), root);
            if one.role == Role::Load {
                // Whatever the bench started is watched under its own name.
                continue;
            }
            for pid in with_descendants(one.pid)? {
                if let Ok(spent) = read(pid) {
                    readings.by_process.insert((one.role, pid), spent);
                }
            }
        }
        Ok(readings)
    }

    /// What each role spent since an earlier reading.
    pub(crate) fn since(&self, earlier: &Self) -> BTreeMap<Role, Spent> {
        let mut spent: BTreeMap<Role, Spent> = BTreeMap::new();
        for (&(role, pid), now) in &self.by_process {
            // A process that was not there has spent all it has since.
            let before = earlier
                .by_process
                .get(&(role, pid))
                .copied()
                .unwrap_or_default();
            let sum = spent.entry(role).or_default();
            sum.clock += now.clock.saturating_sub(before.clock);
            sum.stat += now.stat.saturating_sub(before.stat);
        }
        spent
    }
}

/// The process's CPU clock is the exact sum that `utime + stime` rounds down.
fn read(pid: u32) -> Result<Spent> {
    let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(i32::try_from(pid)?))?;
    Ok(Spent {
        clock: clock.now()?.into(),
        stat: Stat::read(pid)?.cpu,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spent(ms: u64) -> Spent {
        Spent {
            clock: Duration::from_millis(ms),
            stat: Duration::from_millis(ms / 10 * 10),
        }
    }

    fn readings(entries: &[(Role, u32, u64)]) -> Readings {
        let by_process = entries
            .iter()
            .map(|&(role, pid, ms)| ((role, pid), spent(ms)));
        Readings {
            by_process: by_process.collect(),
        }
    }

    #[test]
    fn workers_are_summed_and_newcomers_count_whole() {
        let before = readings(&[
            (Role::Nginx, 1, 100),
            (Role::Nginx, 2, 50),
            (Role::Redis, 3, 7),
        ]);
        let after = readings(&[
            (Role::Nginx, 1, 100),
            (Role::Nginx, 2, 90),
            (Role::Nginx, 9, 5),
            (Role::Redis, 3, 8),
        ]);
        let since = after.since(&before);
        assert_eq!(since[&Role::Nginx].clock, Duration::from_millis(45));
        assert_eq!(since[&Role::Redis].clock, Duration::from_millis(1));
    }

    #[test]
    fn the_clock_of_a_busy_process_agrees_with_its_stat() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "while :; do :; done"])
            .spawn()
            .unwrap();
        let watched = [Watched {
            role: Role::Relay,
            pid: child.id(),
        }];
        let before = Readings::take(&watched).unwrap();
        let spent = loop {
            let spent = Readings::take(&watched).unwrap().since(&before)[&Role::Relay];
            if spent.clock > Duration::from_millis(200) {
                break spent;
            }
        };
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(
            spent.clock.abs_diff(spent.stat) <= Duration::from_millis(20),
            "{spent:?}"
        );
        Readings::take(&watched).unwrap_err();
    }
}
