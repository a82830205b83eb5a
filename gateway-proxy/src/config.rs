//! Configuration: read from the environment in this one place, judged before anything starts.
//!
//! [`Args`] is what can be said, with its documentation; [`Config`] is what was said, checked. Every
//! problem is told at once, with the name of the variable.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{ArgAction, Parser};
use crochet_redis::Place;
use crochet_shared::egress::Egress;
use crochet_shared::seal::Keyring;
use crochet_traces::{TraceArgs, Traced};
use ipnet::IpNet;
use secrecy::{ExposeSecret as _, SecretString};
use url::{Host, Url};

use crate::seller::BreakerConfig;
use tls::{Tls, TlsArgs};

/// Shortest internal secret (contract §1).
const SECRET_BYTES_MIN: usize = 32;

/// The front door of Crochet.
#[derive(Debug, Parser)]
#[command(name = "gateway-proxy", version, about)]
pub struct Args {
    /// Where everyone connects.
    #[arg(long, env = "GATEWAY_LISTEN", default_value = "127.0.0.1:8080")]
    pub gateway_listen: SocketAddr,
    /// TLS beside it.
    #[command(flatten)]
    pub tls: TlsArgs,
    /// Where operators read /metrics, /healthz and /readyz.
    #[arg(long, env = "GATEWAY_ADMIN_LISTEN", default_value = "127.0.0.1:9080")]
    pub gateway_admin_listen: SocketAddr,
    /// Where requests that are not the gateway's own go. Plain http, inside a trusted network.
    #[arg(
        long,
        env = "CONTROL_PLANE_URL",
        default_value = "http://127.0.0.1:8081"
    )]
    pub control_plane_url: String,
    /// The internal API. https unless it is on a loopback address.
    #[arg(
        long,
        env = "CONTROL_PLANE_INTERNAL_URL",
        default_value = "http://127.0.0.1:8082"
    )]
    pub control_plane_internal_url: String,
    /// PEM file of the authority that signed the internal API's certificate, besides the public ones.
    #[arg(long, env = "CONTROL_PLANE_CA_FILE")]
    pub control_plane_ca_file: Option<PathBuf>,
    /// Bearer secret of the internal API, at least 32 bytes.
    #[arg(long, env = "INTERNAL_SECRET", hide_env_values = true)]
    pub internal_secret: SecretString,
    /// Redis: a cache and the channel on which changes are told. A cluster is cluster: and some of its nodes, comma
    /// separated: cluster:redis://a:6379,redis://b:6379.
    #[arg(
        long,
        env = "REDIS_URL",
        default_value = "redis://127.0.0.1:6379",
        hide_env_values = true
    )]
    pub redis_url: SecretString,
    /// Keys that seal what is in Redis: id:base64 of 32 bytes, comma separated.
    #[arg(long, env = "GATEWAY_CACHE_KEYS", hide_env_values = true)]
    pub gateway_cache_keys: SecretString,
    /// The public origin, as clients see it.
    #[arg(long, env = "PUBLIC_BASE_URL", default_value = "http://127.0.0.1:8080")]
    pub public_base_url: String,
    /// Networks of proxies whose X-Forwarded-For is believed, comma separated.
    #[arg(long, env = "TRUSTED_PROXIES", default_value = "")]
    pub trusted_proxies: List<IpNet>,
    /// Networks that endpoints may be in although they are not public, on any port. Development only.
    #[arg(long, env = "ENDPOINT_ALLOW_CIDRS", default_value = "")]
    pub endpoint_allow_cidrs: List<IpNet>,
    /// Whether endpoints may be plain http. Development only.
    #[arg(long, env = "ENDPOINT_ALLOW_HTTP", default_value_t = false, action = ArgAction::Set)]
    pub endpoint_allow_http: bool,
    /// Ports endpoints may use besides 443, comma separated.
    #[arg(long, env = "ENDPOINT_PORTS", default_value = "")]
    pub endpoint_ports: List<u16>,
    /// PEM file of authorities that endpoints' certificates may come from, besides the public ones.
    #[arg(long, env = "ENDPOINT_EXTRA_CA_FILE")]
    pub endpoint_extra_ca_file: Option<PathBuf>,
    /// Name servers for endpoints' hosts, as address or address:port, comma separated; the system's
    /// when empty.
    #[arg(long, env = "DNS_SERVERS", default_value = "")]
    pub dns_servers: List<DnsServer>,
    /// Threads that serve requests. One serves a core; more than one of them wake each other.
    #[arg(long, env = "GATEWAY_THREADS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub gateway_threads: u16,
    /// Bytes of bodies held at once: half of it for requests' and half for sellers' answers above 64 KiB, of
    /// which, when others wait, the one that comes most slowly for its size has failed. Settled answers on their
    /// way to buyers may hold half as much besides, each above 64 KiB; beyond it the one that is read most slowly
    /// for its size is cut off, and asked for again.
    #[arg(long, env = "BODY_BUDGET_BYTES", default_value_t = 268_435_456)]
    pub body_budget_bytes: usize,
    /// Calls a minute for one API key.
    #[arg(long, env = "RATE_LIMIT_KEY_CALLS_PER_MINUTE", default_value_t = 6000, value_parser = clap::value_parser!(u32).range(1..))]
    pub rate_limit_key_calls_per_minute: u32,
    /// Unknown API keys a minute from one address.
    #[arg(long, env = "RATE_LIMIT_UNKNOWN_KEYS_PER_MINUTE", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    pub rate_limit_unknown_keys_per_minute: u32,
    /// Connect failures in a row that open an endpoint's breaker.
    #[arg(long, env = "BREAKER_CONNECT_FAILURES", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub breaker_connect_failures: u32,
    /// Calls in the window below which the share of failures means nothing.
    #[arg(long, env = "BREAKER_MIN_CALLS", default_value_t = 20)]
    pub breaker_min_calls: u32,
    /// Percent of failed calls in the window that opens the breaker.
    #[arg(long, env = "BREAKER_FAILURE_PERCENT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub breaker_failure_percent: u32,
    /// Distinct buyers in the window below which the fault may be theirs.
    #[arg(long, env = "BREAKER_MIN_BUYERS", default_value_t = 3)]
    pub breaker_min_buyers: u32,
    /// Length of the window, in seconds.
    #[arg(long, env = "BREAKER_WINDOW_SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub breaker_window_seconds: u64,
    /// How long a breaker stays open at first, in seconds.
    #[arg(long, env = "BREAKER_OPEN_SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub breaker_open_seconds: u64,
    /// How long a breaker stays open at most, in seconds.
    #[arg(long, env = "BREAKER_OPEN_SECONDS_MAX", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..))]
    pub breaker_open_seconds_max: u64,
    /// Seconds a client may take to send a request's head.
    #[arg(long, env = "GATEWAY_HEAD_SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub gateway_head_seconds: u64,
    /// Seconds a client may take to send the body of a gateway call.
    #[arg(long, env = "GATEWAY_BODY_SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub gateway_body_seconds: u64,
    /// Seconds a connection may stay open without a request.
    #[arg(long, env = "GATEWAY_IDLE_SECONDS", default_value_t = 75, value_parser = clap::value_parser!(u64).range(1..))]
    pub gateway_idle_seconds: u64,
    /// After SIGTERM: seconds during which /readyz fails and the listener still accepts.
    #[arg(long, env = "GATEWAY_DRAIN_SECONDS", default_value_t = 2)]
    pub gateway_drain_seconds: u64,
    /// After the drain: most seconds to wait for calls under way.
    #[arg(long, env = "GATEWAY_FINISH_SECONDS", default_value_t = 170)]
    pub gateway_finish_seconds: u64,
    /// Unix socket over which SIGQUIT hands the listeners to the gateway that takes this one's place; it
    /// is started with --upgrade first. Without it SIGQUIT is SIGTERM.
    #[arg(long, env = "GATEWAY_UPGRADE_SOCKET")]
    pub gateway_upgrade_socket: Option<String>,
    /// Take the listeners over from a running gateway, which is sent SIGQUIT next.
    #[arg(long, requires = "gateway_upgrade_socket")]
    pub upgrade: bool,
    /// Traces.
    #[command(flatten)]
    pub traces: TraceArgs,
    /// Which log lines to write: a level, or directives as in the tracing-subscriber manual.
    #[arg(
        long,
        env = "RUST_LOG",
        default_value = "info,pingora_core=warn,pingora_proxy=warn"
    )]
    pub log: String,
}

/// A comma-separated list; empty text is an empty list.
#[derive(Clone, Debug, Default)]
pub struct List<T>(pub Vec<T>);

impl<T: FromStr> FromStr for List<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(|item| {
                item.parse()
                    .map_err(|_| format!("{item:?} is not one of these"))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// A name server: an address, on port 53 when none is named.
#[derive(Clone, Copy, Debug)]
pub struct DnsServer(pub SocketAddr);

impl FromStr for DnsServer {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self(SocketAddr::new(ip, 53)));
        }
        text.parse().map(Self)
    }
}

/// A configuration that makes sense.
#[derive(Debug)]
#[expect(missing_docs, reason = "as in `Args`, whose help documents them")]
pub struct Config {
    pub listen: SocketAddr,
    pub tls: Option<Tls>,
    pub admin_listen: SocketAddr,
    /// Host and port of the control plane's public API.
    pub control_plane: String,
    /// Origin of the internal API, without a trailing slash.
    pub internal_url: String,
    pub internal_ca_file: Option<PathBuf>,
    pub internal_secret: SecretString,
    pub redis_url: SecretString,
    pub cache_keys: Keyring,
    /// Without a trailing slash.
    pub public_base_url: String,
    pub trusted_proxies: Vec<IpNet>,
    pub egress: Egress,
    pub extra_ca_file: Option<PathBuf>,
    pub dns_servers: Vec<SocketAddr>,
    pub threads: usize,
    pub body_budget_bytes: usize,
    pub key_calls_per_minute: u32,
    pub unknown_keys_per_minute: u32,
    pub breaker: BreakerConfig,
    pub head_time: Duration,
    pub body_time: Duration,
    pub idle_time: Duration,
    pub drain_time: Duration,
    pub finish_time: Duration,
    pub upgrade_socket: Option<String>,
    pub upgrade: bool,
    pub traces: Option<Traced>,
}

/// What is wrong with a configuration, all of it.
#[derive(Debug, thiserror::Error)]
#[error("the configuration does not make sense:\n  {}", .0.join("\n  "))]
pub struct BadConfig(pub Vec<String>);

impl Args {
    /// Judges what was said.
    pub fn check(self) -> Result<Config, BadConfig> {
        let mut problems = Vec::new();
        let mut note = |problem: Result<(), String>| problems.extend(problem.err());

        note(check_secret(&self.internal_secret));
        note(check_breaker(&self));
        note(check_budget(self.body_budget_bytes));
        note(check_redis(&self.redis_url));
        let internal_url = internal_url(&self.control_plane_internal_url)
            .map_err(|problem| note(Err(problem)))
            .ok();
        let control_plane = control_plane(&self.control_plane_url)
            .map_err(|problem| note(Err(problem)))
            .ok();
        let public = public_base(&self.public_base_url)
            .map_err(|problem| note(Err(problem)))
            .ok();
        let keys = Keyring::parse(self.gateway_cache_keys.expose_secret())
            .map_err(|error| note(Err(format!("GATEWAY_CACHE_KEYS: {error}"))))
            .ok();
        if self.gateway_listen == self.gateway_admin_listen {
            note(Err(
                "GATEWAY_LISTEN and GATEWAY_ADMIN_LISTEN must differ".into()
            ));
        }
        let others = [self.gateway_listen, self.gateway_admin_listen];
        let tls = self.tls.check(others).map_err(|bad| note(Err(bad))).ok();
        let traces = self.traces.check().map_err(|bad| note(Err(bad))).ok();
        let (
            Some(internal_url),
            Some(control_plane),
            Some((public_base_url, own_host)),
            Some(keys),
            Some(tls),
            Some(traces),
        ) = (internal_url, control_plane, public, keys, tls, traces)
        else {
            return Err(BadConfig(problems));
        };
        if !problems.is_empty() {
            return Err(BadConfig(problems));
        }
        Ok(Config {
            listen: self.gateway_listen,
            tls,
            admin_listen: self.gateway_admin_listen,
            control_plane,
            internal_url,
            internal_ca_file: self.control_plane_ca_file,
            internal_secret: self.internal_secret,
            redis_url: self.redis_url,
            cache_keys: keys,
            trusted_proxies: self.trusted_proxies.0,
            egress: Egress {
                allow_cidrs: self.endpoint_allow_cidrs.0,
                allow_http: self.endpoint_allow_http,
                ports: self.endpoint_ports.0,
                own_host,
                own_port: crochet_shared::egress::port_of(&public_base_url),
            },
            public_base_url,
            extra_ca_file: self.endpoint_extra_ca_file,
            dns_servers: self
                .dns_servers
                .0
                .into_iter()
                .map(|server| server.0)
                .collect(),
            threads: usize::from(self.gateway_threads),
            body_budget_bytes: self.body_budget_bytes,
            key_calls_per_minute: self.rate_limit_key_calls_per_minute,
            unknown_keys_per_minute: self.rate_limit_unknown_keys_per_minute,
            breaker: BreakerConfig {
                connect_failures: self.breaker_connect_failures,
                min_calls: self.breaker_min_calls,
                failure_percent: self.breaker_failure_percent,
                min_buyers: self.breaker_min_buyers,
                window: Duration::from_secs(self.breaker_window_seconds),
                open: Duration::from_secs(self.breaker_open_seconds),
                open_max: Duration::from_secs(self.breaker_open_seconds_max),
            },
            head_time: Duration::from_secs(self.gateway_head_seconds),
            body_time: Duration::from_secs(self.gateway_body_seconds),
            idle_time: Duration::from_secs(self.gateway_idle_seconds),
            drain_time: Duration::from_secs(self.gateway_drain_seconds),
            finish_time: Duration::from_secs(self.gateway_finish_seconds),
            upgrade_socket: self.gateway_upgrade_socket,
            upgrade: self.upgrade,
            traces,
        })
    }
}

fn check_secret(secret: &SecretString) -> Result<(), String> {
    let bytes = secret.expose_secret().as_bytes();
    if bytes.len() < SECRET_BYTES_MIN {
        return Err(format!(
            "INTERNAL_SECRET must be at least {SECRET_BYTES_MIN} bytes, it is {}",
            bytes.len()
        ));
    }
    if !bytes.iter().all(u8::is_ascii_graphic) {
        return Err("INTERNAL_SECRET must be visible ASCII".into());
    }
    Ok(())
}

fn check_breaker(args: &Args) -> Result<(), String> {
    if args.breaker_open_seconds > args.breaker_open_seconds_max {
        return Err("BREAKER_OPEN_SECONDS must not be above BREAKER_OPEN_SECONDS_MAX".into());
    }
    Ok(())
}

fn check_budget(bytes: usize) -> Result<(), String> {
    let least = 2 * crate::call::body::BODY_BYTES_MAX;
    if bytes < least {
        return Err(format!(
            "BODY_BUDGET_BYTES must be at least {least}, twice the largest body"
        ));
    }
    Ok(())
}

fn check_redis(url: &SecretString) -> Result<(), String> {
    Place::parse(url.expose_secret())
        .map(drop)
        .map_err(|error| format!("REDIS_URL: {error}"))
}

/// The internal API carries secrets: TLS, or it does not leave this machine.
fn internal_url(text: &str) -> Result<String, String> {
    let name = "CONTROL_PLANE_INTERNAL_URL";
    let url = origin(name, text)?;
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(&url) => {}
        _ => {
            return Err(format!(
                "{name} must be https, or http on a loopback address"
            ));
        }
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn control_plane(text: &str) -> Result<String, String> {
    let name = "CONTROL_PLANE_URL";
    let url = origin(name, text)?;
    if url.scheme() != "http" {
        return Err(format!("{name} must be http, inside a trusted network"));
    }
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or(80);
    Ok(format!("{host}:{port}"))
}

/// The public origin and its host, which no endpoint may be.
fn public_base(text: &str) -> Result<(String, Option<String>), String> {
    let url = origin("PUBLIC_BASE_URL", text)?;
    let host = match url.host() {
        Some(Host::Domain(name)) => Some(name.to_owned()),
        Some(Host::Ipv4(ip)) => Some(ip.to_string()),
        Some(Host::Ipv6(ip)) => Some(ip.to_string()),
        None => None,
    };
    Ok((text.trim_end_matches('/').to_owned(), host))
}

/// A URL that is scheme, host and perhaps port, nothing else.
fn origin(name: &str, text: &str) -> Result<Url, String> {
    let bad = || format!("{name} must be an origin like http://127.0.0.1:8080, without a path");
    let url = Url::parse(text).map_err(|_| bad())?;
    let plain = matches!(url.scheme(), "http" | "https")
        && url.host().is_some()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none();
    if plain { Ok(url) } else { Err(bad()) }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

pub mod tls;

#[cfg(test)]
mod reference;

#[cfg(test)]
pub(crate) mod tests;
