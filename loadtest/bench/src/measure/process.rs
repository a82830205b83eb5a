//! `/proc/PID/stat`, and who descends from whom.

use std::time::Duration;

use anyhow::{Context as _, Result};

/// Linux shows times to programs in hundredths of a second, whatever its own tick is (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// What is read of `/proc/PID/stat` (`man 5 proc_pid_stat`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    /// Field 4.
    pub(super) parent: u32,
    /// Fields 14 and 15 together: user and system time of all its threads, ended ones too.
    pub(super) cpu: Duration,
}

impl Stat {
    pub(super) fn read(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/stat");
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        Self::parse(&text).with_context(|| format!("{path} is not understood: {text}"))
    }

    fn parse(text: &str) -> Option<Self> {
        // The name, in parentheses, may itself hold spaces and parentheses: count from the last one.
        let (_, fields) = text.rsplit_once(')')?;
        // The first of these is field 3.
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        let number = |field: usize| fields.get(field.checked_sub(3)?)?.parse::<u32>().ok();
        let ticks = number(14)?.checked_add(number(15)?)?;
        Some(Self {
            parent: number(4)?,
            cpu: TICK * ticks,
        })
    }
}

/// `root` and every process that descends from it.
pub(crate) fn with_descendants(root: u32) -> Result<Vec<u32>> {
    let mut pairs = Vec::new();
    for entry in std::fs::read_dir("/proc")
        .context("reading /proc")?
        .flatten()
    {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // One that ended since it was listed descends from nobody.
        if let Ok(stat) = Stat::read(pid) {
            pairs.push((pid, stat.parent));
        }
    }
    Ok(descendants(root, &pairs))
}

fn descendants(root: u32, pairs: &[(u32, u32)]) -> Vec<u32> {
    let mut found = vec![root];
    let mut looked_at = 0;
    while let Some(&parent) = found.get(looked_at) {
        let children = pairs.iter().filter(|(_, its_parent)| *its_parent == parent);
        found.extend(children.map(|(pid, _)| *pid));
        looked_at += 1;
    }
    found
}

/// Whether a program was built without optimisation, as far as its path tells.
pub(crate) fn is_debug_build(pid: u32) -> bool {
    let program = std::fs::read_link(format!("/proc/{pid}/exe"));
    program.is_ok_and(|path| {
        path.parent()
            .is_some_and(|folder| folder.ends_with("debug"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let text = "22746 (a) b (c)) S 22705 22702 17591 0 -1 4194304 64 0 0 0 38 5 0 0 20 0 1 0 221373 2654208 358";
        let stat = Stat::parse(text).unwrap();
        assert_eq!(stat.parent, 22705);
        assert_eq!(stat.cpu, Duration::from_millis(430));
        assert_eq!(Stat::parse("1 (x) S 2"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn grandchildren_are_descendants_and_strangers_are_not() {
        let pairs = [(1, 0), (10, 1), (11, 10), (12, 11), (13, 11), (20, 1)];
        assert_eq!(descendants(10, &pairs), [10, 11, 12, 13]);
        assert_eq!(descendants(99, &pairs), [99]);
    }

    #[test]
    fn a_child_of_this_process_is_found() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let found = with_descendants(std::process::id()).unwrap();
        assert!(found.contains(&child.id()) && found.contains(&std::process::id()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
