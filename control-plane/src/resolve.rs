//! Names of sellers' hosts, resolved when an endpoint is saved (contract §4, "Endpoint URLs").

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use crochet_shared::egress::{Egress, Forbidden, Target, TargetHost};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;

/// A name that takes longer does not resolve.
const RESOLVE_SECONDS_MAX: u64 = 3;
/// DNS answers are kept no longer.
const ANSWER_SECONDS_MAX: u64 = 60;

/// Makes the resolver: of the named servers, or of the system's.
pub fn resolver(servers: &[SocketAddr]) -> anyhow::Result<TokioResolver> {
    let mut builder = if servers.is_empty() {
        TokioResolver::builder_tokio().context("the system's DNS configuration cannot be read")?
    } else {
        let servers = servers.iter().map(name_server).collect();
        TokioResolver::builder_with_config(
            ResolverConfig::from_parts(None, Vec::new(), servers),
            TokioRuntimeProvider::default(),
        )
    };
    let options = builder.options_mut();
    options.timeout = Duration::from_secs(RESOLVE_SECONDS_MAX);
    options.attempts = 1;
    options.positive_max_ttl = Some(Duration::from_secs(ANSWER_SECONDS_MAX));
    options.negative_max_ttl = Some(Duration::from_secs(ANSWER_SECONDS_MAX));
    builder.build().context("the DNS resolver cannot be made")
}

/// Judges a URL and every address its host has now. Contacts nobody but DNS.
pub async fn check(
    egress: &Egress,
    resolver: &TokioResolver,
    url: &str,
) -> Result<Target, Forbidden> {
    let target = egress.check_url(url)?;
    let TargetHost::Name(name) = &target.host else {
        return Ok(target);
    };
    // The dot keeps search domains of this machine out of it.
    let lookup = resolver.lookup_ip(format!("{name}."));
    let answer = tokio::time::timeout(Duration::from_secs(RESOLVE_SECONDS_MAX), lookup)
        .await
        .map_err(|_| Forbidden::Unresolved)?
        .map_err(|_| Forbidden::Unresolved)?;
    let mut addresses = answer.iter().peekable();
    if addresses.peek().is_none() {
        return Err(Forbidden::Unresolved);
    }
    for address in addresses {
        egress.check_address(address, target.port)?;
    }
    Ok(target)
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()]
        .map(|mut connection| {
            connection.port = address.port();
            connection
        })
        .to_vec();
    NameServerConfig::new(address.ip(), true, connections)
}
