//! Free ports on the loopback address.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Mutex;

use anyhow::{Result, bail};
use demo_agent::random_bytes;

/// Below the range from which systems pick the local ports of outgoing connections, so that a port found
/// free is not taken by somebody's connection before its server has bound it.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;
const TRIES: usize = 200;

/// What this process has given out already: parallel tests must not be given the same port twice.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// `preferred` when it is free, else any free one.
pub(crate) fn preferred_or_free(preferred: Option<u16>) -> Result<u16> {
    match preferred {
        Some(port) if is_free(port) => Ok(port),
        _ => free(),
    }
}

/// A port nobody listens on now. Somebody may before its server does: starting is then tried again with another.
pub fn free() -> Result<u16> {
    for _ in 0..TRIES {
        let port = FIRST + u16::from_le_bytes(random_bytes()?) % COUNT;
        let fresh = GIVEN.lock().is_ok_and(|mut given| given.insert(port));
        if fresh && is_free(port) {
            return Ok(port);
        }
    }
    bail!("no free port between {FIRST} and {}", FIRST + COUNT)
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_never_given() {
        let holder = TcpListener::bind((Ipv4Addr::LOCALHOST, free().unwrap())).unwrap();
        let taken = holder.local_addr().unwrap().port();
        assert!(!is_free(taken));
        let given = preferred_or_free(Some(taken)).unwrap();
        assert_ne!(given, taken);
        assert!(is_free(given));
    }

    #[test]
    fn a_free_preferred_port_is_kept() {
        let port = free().unwrap();
        assert_eq!(preferred_or_free(Some(port)).unwrap(), port);
    }

    #[test]
    fn no_port_is_given_twice() {
        let ports: Vec<u16> = (0..100).map(|_| free().unwrap()).collect();
        assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), ports.len());
    }
}
