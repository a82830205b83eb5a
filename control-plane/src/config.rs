//! Every setting, read in one place: from the environment, or from flags of the same names.
//!
//! [`Settings`] is what clap reads and documents; [`Config`] is what the program uses, judged whole
//! before anything starts. A wrong setting is named with what would be right.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Parser, Subcommand};
use crochet_redis::Place;
use crochet_shared::egress::Egress;
use crochet_shared::seal::Keyring;
use crochet_traces::{TraceArgs, Traced};
use ipnet::IpNet;
use secrecy::SecretString;
use url::Url;

use crate::operator::Verb;

/// Shortest internal secret, in bytes (contract §1).
const INTERNAL_SECRET_BYTES_MIN: usize = 32;
/// The public origin when none is set (contract §1).
pub const PUBLIC_BASE_URL_DEFAULT: &str = "http://127.0.0.1:8080";
/// Proof of work beyond this takes a client minutes.
const POW_DIFFICULTY_MAX: u32 = 8;
/// Difficulty when none is set: raised under load from here.
const POW_DIFFICULTY_DEFAULT: u32 = 4;

/// The control plane's command line.
#[derive(Debug, Parser)]
#[command(name = "control-plane", version, about, args_override_self = true)]
pub struct Cli {
    /// What to do; `serve` when nothing is named.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The settings. Each is an environment variable; the flag of the same name overrides it.
    #[command(flatten, next_help_heading = "Settings")]
    pub settings: Settings,
}

/// What the program does.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Serve the public, internal and admin listeners. Refuses a database whose schema is behind.
    Serve,
    /// Print the OpenAPI document, as `control-plane/openapi.json` holds it. Needs nothing.
    Openapi,
    /// What an operator asks and does.
    #[command(flatten)]
    Operator(Verb),
}

/// Settings as they are written. See `control-plane.env.sample`.
#[derive(Clone, Args)]
pub struct Settings {
    /// Traces
    #[command(flatten)]
    pub traces: TraceArgs,
    /// Postgres, as a URL
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, global = true)]
    pub database_url: Option<String>,
    /// Most connections to Postgres
    #[arg(long, env = "DATABASE_CONNECTIONS", default_value_t = 16, value_parser = clap::value_parser!(u32).range(3..=1000), global = true)]
    pub database_connections: u32,
    /// Redis, as a URL, or cluster: and such URLs of some of a cluster's nodes; the control plane runs
    /// without it, gateways then ask it directly
    #[arg(
        long,
        env = "REDIS_URL",
        hide_env_values = true,
        default_value = "redis://127.0.0.1:6379",
        global = true
    )]
    pub redis_url: String,
    /// Public API, reached through the gateway
    #[arg(
        long,
        env = "CONTROL_PLANE_LISTEN",
        default_value = "127.0.0.1:8081",
        global = true
    )]
    pub control_plane_listen: SocketAddr,
    /// Internal API, for gateways only
    #[arg(
        long,
        env = "CONTROL_PLANE_INTERNAL_LISTEN",
        default_value = "127.0.0.1:8082",
        global = true
    )]
    pub control_plane_internal_listen: SocketAddr,
    /// Metrics and health, for operators
    #[arg(
        long,
        env = "CONTROL_PLANE_ADMIN_LISTEN",
        default_value = "127.0.0.1:9081",
        global = true
    )]
    pub control_plane_admin_listen: SocketAddr,
    /// One or two bearer secrets of gateways, comma separated, at least 32 bytes each
    #[arg(long, env = "INTERNAL_SECRETS", hide_env_values = true, global = true)]
    pub internal_secrets: Option<String>,
    /// Keys that seal secrets in Postgres, `id:base64 of 32 bytes`, comma separated; the first seals
    #[arg(
        long,
        env = "CROCHET_MASTER_KEYS",
        hide_env_values = true,
        global = true
    )]
    pub crochet_master_keys: Option<String>,
    /// Keys that seal records in Redis, in the same form; the gateways hold the same
    #[arg(
        long,
        env = "GATEWAY_CACHE_KEYS",
        hide_env_values = true,
        global = true
    )]
    pub gateway_cache_keys: Option<String>,
    /// Public origin of the whole API, without a path
    #[arg(
        long,
        env = "PUBLIC_BASE_URL",
        default_value = PUBLIC_BASE_URL_DEFAULT,
        global = true
    )]
    pub public_base_url: String,
    /// The Relay API, or the Relay sandbox
    #[arg(
        long,
        env = "RELAY_BASE_URL",
        default_value = "https://api.relay.link",
        global = true
    )]
    pub relay_base_url: String,
    /// Key of the Relay API; signs its webhooks too
    #[arg(long, env = "RELAY_API_KEY", hide_env_values = true, global = true)]
    pub relay_api_key: Option<String>,
    /// Where deposits settle: the operator's EVM address on Base
    #[arg(long, env = "SETTLEMENT_ADDRESS", global = true)]
    pub settlement_address: Option<String>,
    /// Networks whose X-Forwarded-For is read, comma separated: those of the gateways
    #[arg(
        long,
        env = "TRUSTED_PROXIES",
        default_value = "127.0.0.0/8,::1/128",
        value_delimiter = ',',
        global = true
    )]
    pub trusted_proxies: Vec<String>,
    /// How long a quote may be paid, in seconds
    #[arg(long, env = "QUOTE_TTL_SECONDS", default_value_t = 900, value_parser = clap::value_parser!(u64).range(1..=86_400), global = true)]
    pub quote_ttl_seconds: u64,
    /// How long a paid call may be redeemed, in seconds
    #[arg(long, env = "REDEEM_SECONDS", default_value_t = 86_400, value_parser = clap::value_parser!(u64).range(1..=2_592_000), global = true)]
    pub redeem_seconds: u64,
    /// Delivery attempts of a paid call
    #[arg(long, env = "MAX_ATTEMPTS", default_value_t = 5, value_parser = clap::value_parser!(i32).range(1..=100), global = true)]
    pub max_attempts: i32,
    /// How long a rotated signing secret still signs, in seconds
    #[arg(long, env = "SECRET_OVERLAP_SECONDS", default_value_t = 86_400, value_parser = clap::value_parser!(u64).range(0..=2_592_000), global = true)]
    pub secret_overlap_seconds: u64,
    /// How long after a delivered call it may be reviewed, in seconds
    #[arg(long, env = "REVIEW_WINDOW_SECONDS", default_value_t = 2_592_000, value_parser = clap::value_parser!(u64).range(1..=31_536_000), global = true)]
    pub review_window_seconds: u64,
    /// Leading hex zeros of a proof of work, pinned; 4 and raised under load when not set
    #[arg(long, env = "POW_DIFFICULTY", value_parser = clap::value_parser!(u32).range(0..=i64::from(POW_DIFFICULTY_MAX)), global = true)]
    pub pow_difficulty: Option<u32>,
    /// Networks that endpoints may be in although they are not public, comma separated
    #[arg(
        long,
        env = "ENDPOINT_ALLOW_CIDRS",
        value_delimiter = ',',
        global = true
    )]
    pub endpoint_allow_cidrs: Vec<String>,
    /// Whether endpoints may be plain http
    #[arg(long, env = "ENDPOINT_ALLOW_HTTP", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", global = true)]
    pub endpoint_allow_http: bool,
    /// Ports of endpoints besides 443, comma separated
    #[arg(long, env = "ENDPOINT_PORTS", value_delimiter = ',', global = true)]
    pub endpoint_ports: Vec<String>,
    /// DNS servers, `address` or `address:port`, comma separated; the system's when not set
    #[arg(long, env = "DNS_SERVERS", value_delimiter = ',', global = true)]
    pub dns_servers: Vec<String>,
    /// Pause between sweeps of the provider's records, in seconds
    #[arg(long, env = "RELAY_SWEEP_SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600), global = true)]
    pub relay_sweep_seconds: u64,
    /// Pause between runs of the invariants and looks for refunds due, in seconds
    #[arg(long, env = "AUDIT_SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400), global = true)]
    pub audit_seconds: u64,
    /// How long after a lease's end its settlement is still taken, in seconds
    #[arg(long, env = "LEASE_GRACE_SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(0..=3600), global = true)]
    pub lease_grace_seconds: u64,
    /// The limits of callers.
    #[command(flatten)]
    pub limits: Limits,
}

/// What a caller may do in a time (contract §2). Production values by default.
#[derive(Clone, Debug, Args)]
pub struct Limits {
    /// Reads of an API key, a minute
    #[arg(long = "rate-limit-key-reads-per-minute", env = "RATE_LIMIT_KEY_READS_PER_MINUTE", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..), global = true)]
    pub key_reads_per_minute: u32,
    /// Writes of an API key, a minute
    #[arg(long = "rate-limit-key-writes-per-minute", env = "RATE_LIMIT_KEY_WRITES_PER_MINUTE", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..), global = true)]
    pub key_writes_per_minute: u32,
    /// Sign-in and challenge calls of an address, in 5 minutes
    #[arg(long = "rate-limit-sign-in-per-5-minutes", env = "RATE_LIMIT_SIGN_IN_PER_5_MINUTES", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..), global = true)]
    pub sign_in_per_5_minutes: u32,
    /// Sign-ins to one e-mail address, a minute, from wherever
    #[arg(long = "rate-limit-email-sign-in-per-minute", env = "RATE_LIMIT_EMAIL_SIGN_IN_PER_MINUTE", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..), global = true)]
    pub email_sign_in_per_minute: u32,
    /// Unknown keys of an address, a minute
    #[arg(long = "rate-limit-unknown-keys-per-minute", env = "RATE_LIMIT_UNKNOWN_KEYS_PER_MINUTE", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..), global = true)]
    pub unknown_keys_per_minute: u32,
    /// New quotes of a buyer, a second
    #[arg(long = "rate-limit-quotes-per-second", env = "RATE_LIMIT_QUOTES_PER_SECOND", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..), global = true)]
    pub quotes_per_second: u32,
    /// Open unpaid quotes of a buyer
    #[arg(long = "rate-limit-open-quotes", env = "RATE_LIMIT_OPEN_QUOTES", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..), global = true)]
    pub open_quotes: u32,
    /// Quotes asked of the provider, a second
    #[arg(long = "rate-limit-provider-quotes-per-second", env = "RATE_LIMIT_PROVIDER_QUOTES_PER_SECOND", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..), global = true)]
    pub provider_quotes_per_second: u32,
    /// Other requests to the provider, a second
    #[arg(long = "rate-limit-provider-requests-per-second", env = "RATE_LIMIT_PROVIDER_REQUESTS_PER_SECOND", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..), global = true)]
    pub provider_requests_per_second: u32,
}

/// The configuration in force.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where traces go; nowhere by default.
    pub traces: Option<Traced>,
    /// Postgres.
    pub database_url: SecretString,
    /// Most connections to it.
    pub database_connections: u32,
    /// Redis.
    pub redis_url: SecretString,
    /// Public API.
    pub listen: SocketAddr,
    /// Internal API.
    pub internal_listen: SocketAddr,
    /// Metrics and health.
    pub admin_listen: SocketAddr,
    /// Bearer secrets of gateways; one, or two while rotating.
    pub internal_secrets: Vec<SecretString>,
    /// Seals secrets in Postgres.
    pub master_keys: Keyring,
    /// Seals records in Redis.
    pub cache_keys: Keyring,
    /// Public origin, without a trailing slash.
    pub public_base_url: String,
    /// `host[:port]` of the public origin: the domain of signed messages.
    pub public_domain: String,
    /// The provider.
    pub relay_base_url: Url,
    /// The provider's key.
    pub relay_api_key: SecretString,
    /// Where deposits settle, in EIP-55 form.
    pub settlement_address: String,
    /// Whose `X-Forwarded-For` is read.
    pub trusted_proxies: Vec<IpNet>,
    /// Life of a quote.
    pub quote_ttl: Duration,
    /// Life of a payment.
    pub redeem: Duration,
    /// Delivery attempts of a paid call.
    pub max_attempts: i32,
    /// How long a rotated secret still signs.
    pub secret_overlap: Duration,
    /// How long after a delivery it may be reviewed.
    pub review_window: Duration,
    /// Leading hex zeros of a proof of work.
    pub pow_difficulty: u32,
    /// Whether the difficulty stays as it is under load.
    pub pow_pinned: bool,
    /// Where endpoints may be.
    pub egress: Egress,
    /// DNS servers; the system's when empty.
    pub dns_servers: Vec<SocketAddr>,
    /// Pause between sweeps of the provider's records.
    pub relay_sweep: Duration,
    /// Pause between runs of the invariants.
    pub audit_every: Duration,
    /// How long after a lease's end its settlement is still taken.
    pub lease_grace: Duration,
    /// What callers may do in a time.
    pub limits: Limits,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Half of them are secrets, as text.
        to.write_str("Settings([redacted])")
    }
}

impl Settings {
    /// The database alone, which is all that `migrate` and `audit` need.
    pub fn database_url(&self) -> anyhow::Result<SecretString> {
        let url = wanted("DATABASE_URL", self.database_url.as_deref())?;
        let scheme = url.starts_with("postgres://") || url.starts_with("postgresql://");
        // What cannot be read is not repeated: it may hold a password.
        ensure!(
            scheme && url.parse::<sqlx::postgres::PgConnectOptions>().is_ok(),
            "DATABASE_URL: not a Postgres URL such as postgres://user@host:5432/crochet"
        );
        Ok(url.into())
    }

    /// The master keys alone, which is all that wrapping secrets anew needs beside the database.
    pub fn master_keys(&self) -> anyhow::Result<Keyring> {
        keyring("CROCHET_MASTER_KEYS", self.crochet_master_keys.as_deref())
    }

    /// Judges everything that serving needs.
    pub fn check(self) -> anyhow::Result<Config> {
        let public = origin("PUBLIC_BASE_URL", &self.public_base_url)?;
        let public_domain = domain(&public)?;
        let egress = self.egress(&public)?;
        let internal_secrets = internal_secrets(self.internal_secrets.as_deref())?;
        // It speaks plain HTTP: TLS for gateways on other hosts ends in front of it, on this host.
        ensure!(
            self.control_plane_internal_listen.ip().is_loopback(),
            "CONTROL_PLANE_INTERNAL_LISTEN: {} is not loopback; listen on loopback and end TLS in front of it",
            self.control_plane_internal_listen
        );
        Place::parse(&self.redis_url).context("REDIS_URL")?;
        let traces = self.traces.check().map_err(anyhow::Error::msg)?;
        Ok(Config {
            traces,
            database_url: self.database_url()?,
            database_connections: self.database_connections,
            redis_url: self.redis_url.clone().into(),
            listen: self.control_plane_listen,
            internal_listen: self.control_plane_internal_listen,
            admin_listen: self.control_plane_admin_listen,
            internal_secrets,
            master_keys: self.master_keys()?,
            cache_keys: keyring("GATEWAY_CACHE_KEYS", self.gateway_cache_keys.as_deref())?,
            public_base_url: public.as_str().trim_end_matches('/').to_owned(),
            public_domain,
            relay_base_url: base("RELAY_BASE_URL", &self.relay_base_url)?,
            relay_api_key: wanted("RELAY_API_KEY", self.relay_api_key.as_deref())?.into(),
            settlement_address: settlement(self.settlement_address.as_deref())?,
            trusted_proxies: list(
                "TRUSTED_PROXIES",
                &self.trusted_proxies,
                "a network such as 10.0.0.0/8",
            )?,
            quote_ttl: Duration::from_secs(self.quote_ttl_seconds),
            redeem: Duration::from_secs(self.redeem_seconds),
            max_attempts: self.max_attempts,
            secret_overlap: Duration::from_secs(self.secret_overlap_seconds),
            review_window: Duration::from_secs(self.review_window_seconds),
            pow_difficulty: self.pow_difficulty.unwrap_or(POW_DIFFICULTY_DEFAULT),
            pow_pinned: self.pow_difficulty.is_some(),
            egress,
            dns_servers: dns_servers(&self.dns_servers)?,
            relay_sweep: Duration::from_secs(self.relay_sweep_seconds),
            audit_every: Duration::from_secs(self.audit_seconds),
            lease_grace: Duration::from_secs(self.lease_grace_seconds),
            limits: self.limits,
        })
    }

    fn egress(&self, public: &Url) -> anyhow::Result<Egress> {
        Ok(Egress {
            allow_cidrs: list(
                "ENDPOINT_ALLOW_CIDRS",
                &self.endpoint_allow_cidrs,
                "a network such as 127.0.0.0/8",
            )?,
            allow_http: self.endpoint_allow_http,
            ports: list(
                "ENDPOINT_PORTS",
                &self.endpoint_ports,
                "a port from 1 to 65535",
            )?,
            own_host: public.host_str().map(str::to_owned),
            own_port: public.port_or_known_default(),
        })
    }
}

fn wanted<'a>(name: &str, value: Option<&'a str>) -> anyhow::Result<&'a str> {
    match value.map(str::trim) {
        Some(value) if !value.is_empty() => Ok(value),
        _ => bail!("{name}: is required"),
    }
}

fn keyring(name: &str, value: Option<&str>) -> anyhow::Result<Keyring> {
    Keyring::parse(wanted(name, value)?).with_context(|| name.to_owned())
}

fn internal_secrets(value: Option<&str>) -> anyhow::Result<Vec<SecretString>> {
    const NAME: &str = "INTERNAL_SECRETS";
    let secrets: Vec<&str> = wanted(NAME, value)?.split(',').map(str::trim).collect();
    ensure!(
        secrets.len() <= 2,
        "{NAME}: one secret, or two while rotating"
    );
    for secret in &secrets {
        let visible = secret.bytes().all(|b| b.is_ascii_graphic());
        ensure!(
            secret.len() >= INTERNAL_SECRET_BYTES_MIN && visible,
            "{NAME}: each secret must be at least {INTERNAL_SECRET_BYTES_MIN} visible ASCII characters"
        );
    }
    Ok(secrets.into_iter().map(SecretString::from).collect())
}

fn base(name: &str, value: &str) -> anyhow::Result<Url> {
    let url = Url::parse(value).with_context(|| format!("{name}: not a URL"))?;
    ensure!(
        matches!(url.scheme(), "http" | "https") && url.has_host(),
        "{name}: must be an http or https URL"
    );
    Ok(url)
}

fn origin(name: &str, value: &str) -> anyhow::Result<Url> {
    let url = base(name, value)?;
    ensure!(
        url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none(),
        "{name}: must be an origin, without path, query, fragment or credentials"
    );
    Ok(url)
}

fn domain(origin: &Url) -> anyhow::Result<String> {
    let host = origin.host_str().context("PUBLIC_BASE_URL: has no host")?;
    Ok(match origin.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    })
}

fn settlement(value: Option<&str>) -> anyhow::Result<String> {
    let address = wanted("SETTLEMENT_ADDRESS", value)?;
    crate::identity::evm_address(address)
        .context("SETTLEMENT_ADDRESS: must be an EVM address, 0x and 40 hex digits")
}

fn list<T: std::str::FromStr>(name: &str, values: &[String], what: &str) -> anyhow::Result<Vec<T>> {
    values
        .iter()
        .map(|value| value.trim())
        .filter(|value| !value.is_empty())
        .map(|value| {
            value
                .parse()
                .map_err(|_| anyhow::anyhow!("{name}: {value:?} is not {what}"))
        })
        .collect()
}

fn dns_servers(values: &[String]) -> anyhow::Result<Vec<SocketAddr>> {
    const DNS_PORT: u16 = 53;
    values
        .iter()
        .map(|value| value.trim())
        .filter(|value| !value.is_empty())
        .map(|value| {
            value
                .parse::<SocketAddr>()
                .or_else(|_| {
                    value
                        .parse::<IpAddr>()
                        .map(|ip| SocketAddr::new(ip, DNS_PORT))
                })
                .map_err(|_| {
                    anyhow::anyhow!("DNS_SERVERS: {value:?} is not an address or address:port")
                })
        })
        .collect()
}

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
