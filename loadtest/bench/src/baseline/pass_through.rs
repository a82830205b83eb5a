//! A bare pingora: a `ProxyHttp` that says where to go, and everything else as it comes.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use pingora::proxy::{ProxyHttp, Session, http_proxy_service};
use pingora::server::Server;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;

use super::child::Child;
use super::free_address;
use crate::config::PassThrough;

struct Bare {
    upstream: SocketAddr,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) -> Self::CTX {}

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        _ctx: &mut (),
    ) -> pingora::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.upstream, false, String::new())))
    }
}

/// Serves until told to stop; the subcommand of this program that the bench starts.
pub(crate) fn serve(arguments: &PassThrough) -> Result<ExitCode> {
    let conf = ServerConf {
        threads: arguments.threads,
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(0),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let bare = Bare {
        upstream: arguments.upstream,
    };
    let mut service = http_proxy_service(&server.configuration, bare);
    service.add_tcp(&arguments.listen.to_string());
    server.add_service(service);
    server.run_forever()
}

/// Starts this program a second time, as the pass-through.
pub(super) async fn start(directory: &Path, upstream: SocketAddr, threads: usize) -> Result<Child> {
    let address = free_address()?;
    let mut command = Command::new(std::env::current_exe().context("the path of this program")?);
    command.args(["pass-through", "--listen", &address.to_string()]);
    command.args([
        "--upstream",
        &upstream.to_string(),
        "--threads",
        &threads.to_string(),
    ]);
    Child::start("bare-pingora", command, address, directory).await
}
