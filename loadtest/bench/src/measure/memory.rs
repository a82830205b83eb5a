//! How much memory a process holds.

use anyhow::{Context as _, Result};

/// Resident memory of a process and of what it started, in bytes.
pub(crate) fn resident_bytes(pids: impl IntoIterator<Item = u32>) -> Result<u64> {
    pids.into_iter().map(resident_bytes_of_one).sum()
}

fn resident_bytes_of_one(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    parse_resident(&status).with_context(|| format!("no VmRSS in {path}"))
}

/// `VmRSS: 1648 kB`, where kB are 1024 bytes.
fn parse_resident(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_in_bytes() {
        let status = "Name:\tsh\nVmPeak:\t    2592 kB\nVmHWM:\t  9999 kB\nVmRSS:\t    1648 kB\nThreads:\t1\n";
        assert_eq!(parse_resident(status), Some(1_687_552));
        assert_eq!(parse_resident("Name:\tkthreadd\n"), None);
    }

    #[test]
    fn this_process_holds_some_memory() {
        assert!(resident_bytes([std::process::id()]).unwrap() > 100_000);
    }
}
