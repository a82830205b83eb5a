//! `HAProxy` as a pass-through.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::child::Child;
use super::free_address;
use super::package::Package;

const PACKAGE: Package = Package {
    program: "haproxy",
    // Debian 12's, with the libraries that it alone needs; elsewhere the package may stand alone.
    sets: &[
        &[
            "haproxy",
            "liblua5.3-0",
            "libopentracing-c-wrapper0",
            "libopentracing1",
        ],
        &["haproxy", "liblua5.4-0"],
        &["haproxy"],
    ],
    version: &["-v"],
};

/// Starts `HAProxy` with `threads` threads.
pub(super) async fn start(directory: &Path, upstream: SocketAddr, threads: usize) -> Result<Child> {
    let (address, configuration) = (free_address()?, directory.join("haproxy.cfg"));
    std::fs::write(&configuration, configure(address, upstream, threads))
        .context("writing haproxy.cfg")?;
    let mut command = PACKAGE.command(directory)?;
    command.arg("-db").arg("-f").arg(&configuration);
    Child::start("haproxy", command, address, directory).await
}

/// As an operator would tune it: kept connections both ways, shared between clients, and nothing logged.
fn configure(listen: SocketAddr, upstream: SocketAddr, threads: usize) -> String {
    format!(
        "\
global
    nbthread {threads}
    maxconn 4096
defaults
    mode http
    option http-keep-alive
    option http-no-delay
    http-reuse always
    timeout connect 5s
    timeout client 1h
    timeout server 1h
frontend front
    bind {listen}
    default_backend sellers
backend sellers
    server seller {upstream} maxconn 512 pool-max-conn 512 pool-purge-delay 1h
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_names_both_ends_and_shares_connections() {
        let (listen, upstream) = ("127.0.0.1:5".parse(), "127.0.0.1:6".parse());
        let text = configure(listen.unwrap(), upstream.unwrap(), 2);
        for line in [
            "bind 127.0.0.1:5\n",
            "server seller 127.0.0.1:6 ",
            "nbthread 2\n",
            "http-reuse always\n",
        ] {
            assert!(text.contains(line), "{line} is missing in {text}");
        }
    }
}
