//! What `--set NAME=VALUE` may say, which service hears it, and the limits a development stack lifts.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

/// Who reads a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    ControlPlane,
    Gateway,
    Relay,
    DemoSeller,
}

const BOTH: &[Service] = &[Service::ControlPlane, Service::Gateway];
const CONTROL_PLANE: &[Service] = &[Service::ControlPlane];
const GATEWAY: &[Service] = &[Service::Gateway];
const RELAY: &[Service] = &[Service::Relay];
const DEMO_SELLER: &[Service] = &[Service::DemoSeller];

/// Every name that may be set, with those who read it. Addresses, stores and the secrets between the
/// services are the runner's to decide and not here.
const NAMES: &[(&str, &[Service])] = &[
    ("AUDIT_SECONDS", CONTROL_PLANE),
    ("BODY_BUDGET_BYTES", GATEWAY),
    ("BREAKER_CONNECT_FAILURES", GATEWAY),
    ("BREAKER_FAILURE_PERCENT", GATEWAY),
    ("BREAKER_MIN_BUYERS", GATEWAY),
    ("BREAKER_MIN_CALLS", GATEWAY),
    ("BREAKER_OPEN_SECONDS", GATEWAY),
    ("BREAKER_OPEN_SECONDS_MAX", GATEWAY),
    ("BREAKER_WINDOW_SECONDS", GATEWAY),
    ("CROCHET_MASTER_KEYS", CONTROL_PLANE),
    ("DATABASE_CONNECTIONS", CONTROL_PLANE),
    ("DEMO_SELLER_SKIP_SIGNATURE", DEMO_SELLER),
    ("DEMO_SELLER_THREADS", DEMO_SELLER),
    ("DNS_SERVERS", BOTH),
    ("ENDPOINT_ALLOW_CIDRS", BOTH),
    ("ENDPOINT_ALLOW_HTTP", BOTH),
    ("ENDPOINT_EXTRA_CA_FILE", GATEWAY),
    ("ENDPOINT_PORTS", BOTH),
    ("GATEWAY_BODY_SECONDS", GATEWAY),
    ("GATEWAY_CACHE_KEYS", BOTH),
    ("GATEWAY_DRAIN_SECONDS", GATEWAY),
    ("GATEWAY_FINISH_SECONDS", GATEWAY),
    ("GATEWAY_HEAD_SECONDS", GATEWAY),
    ("GATEWAY_IDLE_SECONDS", GATEWAY),
    ("GATEWAY_THREADS", GATEWAY),
    ("GATEWAY_TLS_CERTIFICATE_FILE", GATEWAY),
    ("GATEWAY_TLS_KEY_FILE", GATEWAY),
    ("GATEWAY_TLS_LISTEN", GATEWAY),
    ("GATEWAY_UPGRADE_SOCKET", GATEWAY),
    ("LEASE_GRACE_SECONDS", CONTROL_PLANE),
    ("MAX_ATTEMPTS", CONTROL_PLANE),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", BOTH),
    ("OTEL_TRACES_SAMPLER_ARG", BOTH),
    ("POW_DIFFICULTY", CONTROL_PLANE),
    ("PUBLIC_BASE_URL", BOTH),
    ("QUOTE_TTL_SECONDS", CONTROL_PLANE),
    ("RATE_LIMIT_EMAIL_SIGN_IN_PER_MINUTE", CONTROL_PLANE),
    ("RATE_LIMIT_KEY_CALLS_PER_MINUTE", GATEWAY),
    ("RATE_LIMIT_KEY_READS_PER_MINUTE", CONTROL_PLANE),
    ("RATE_LIMIT_KEY_WRITES_PER_MINUTE", CONTROL_PLANE),
    ("RATE_LIMIT_OPEN_QUOTES", CONTROL_PLANE),
    ("RATE_LIMIT_PROVIDER_QUOTES_PER_SECOND", CONTROL_PLANE),
    ("RATE_LIMIT_PROVIDER_REQUESTS_PER_SECOND", CONTROL_PLANE),
    ("RATE_LIMIT_QUOTES_PER_SECOND", CONTROL_PLANE),
    ("RATE_LIMIT_SIGN_IN_PER_5_MINUTES", CONTROL_PLANE),
    ("RATE_LIMIT_UNKNOWN_KEYS_PER_MINUTE", BOTH),
    ("REDEEM_SECONDS", CONTROL_PLANE),
    ("RELAY_SANDBOX_CLOCK_OFFSET_SECONDS", RELAY),
    ("RELAY_SANDBOX_MINIMUMS", RELAY),
    ("RELAY_SANDBOX_OTHERS_PER_MINUTE", RELAY),
    ("RELAY_SANDBOX_QUOTES_PER_SECOND", RELAY),
    ("RELAY_SANDBOX_REFUND_MINIMUM", RELAY),
    ("RELAY_SANDBOX_REQUESTS_PER_SECOND", RELAY),
    ("RELAY_SANDBOX_STEP_MS", RELAY),
    ("RELAY_SANDBOX_THREADS", RELAY),
    ("RELAY_SANDBOX_WEBHOOK_BACKOFF_MS", RELAY),
    ("RELAY_SWEEP_SECONDS", CONTROL_PLANE),
    ("REVIEW_WINDOW_SECONDS", CONTROL_PLANE),
    ("SECRET_OVERLAP_SECONDS", CONTROL_PLANE),
    ("SETTLEMENT_ADDRESS", CONTROL_PLANE),
    ("TRUSTED_PROXIES", BOTH),
];

/// More than a million in each limit's own unit; five times that where the unit is five minutes.
const LIFTED: &str = "10000000";
/// What a development stack opens: endpoints on this machine, without TLS. And nobody balances load before
/// its gateways, so none has to be told that one is about to go.
const OPENED: [(&str, &str); 3] = [
    ("ENDPOINT_ALLOW_CIDRS", "127.0.0.0/8,::1/128"),
    ("ENDPOINT_ALLOW_HTTP", "true"),
    ("GATEWAY_DRAIN_SECONDS", "0"),
];
/// The difficulty development pins, whatever the load.
const DIFFICULTY: &str = "4";

/// Every name that may be set.
#[cfg(test)]
pub(crate) fn known() -> impl Iterator<Item = (&'static str, &'static [Service])> {
    NAMES.iter().copied()
}

/// Whether the limits of production hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Limits {
    /// Every limit is at least a million a minute, so that loops and load are not refused.
    #[default]
    Lifted,
    /// The production values.
    Default,
}

/// Settings for the services: what a development stack opens, then the limits, then what was asked for.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    limits: Limits,
    set: BTreeMap<String, String>,
}

impl Settings {
    /// The settings of a stack with these limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets one name; an unknown one is an error that lists the known.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        if !NAMES.iter().any(|(known, _)| *known == name) {
            let known: Vec<&str> = NAMES.iter().map(|(known, _)| *known).collect();
            bail!(
                "no service knows the setting {name:?}. Known are:\n  {}",
                known.join("\n  ")
            );
        }
        self.set.insert(name.to_owned(), value.to_owned());
        Ok(())
    }

    /// The same from `NAME=VALUE`.
    pub fn set_pair(&mut self, pair: &str) -> Result<()> {
        match pair.split_once('=') {
            Some((name, value)) => self.set(name.trim(), value),
            None => bail!("--set wants NAME=VALUE, not {pair:?}"),
        }
    }

    /// The value asked for, where one was.
    pub(crate) fn asked(&self, name: &str) -> Option<&str> {
        self.set.get(name).map(String::as_str)
    }

    /// What `service` is told of all this.
    pub(crate) fn for_service(&self, service: Service) -> BTreeMap<String, String> {
        let reads = |name: &str| {
            NAMES
                .iter()
                .any(|(known, readers)| *known == name && readers.contains(&service))
        };
        let mut told: BTreeMap<String, String> = BTreeMap::new();
        told.extend(OPENED.map(|(name, value)| (name.to_owned(), value.to_owned())));
        if self.limits == Limits::Lifted {
            let limits = NAMES
                .iter()
                .filter(|(name, _)| name.starts_with("RATE_LIMIT_"));
            told.extend(limits.map(|(name, _)| ((*name).to_owned(), LIFTED.to_owned())));
            told.insert("POW_DIFFICULTY".to_owned(), DIFFICULTY.to_owned());
        }
        told.extend(self.set.clone());
        told.retain(|name, _| reads(name));
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_an_error_that_lists_the_known() {
        let error = Settings::default()
            .set_pair("QUOTE_TTL=5")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("\"QUOTE_TTL\"") && error.contains("QUOTE_TTL_SECONDS"),
            "{error}"
        );
        Settings::default().set_pair("DATABASE_URL=x").unwrap_err();
        Settings::default()
            .set_pair("QUOTE_TTL_SECONDS")
            .unwrap_err();
    }

    #[test]
    fn every_name_the_contract_lists_can_be_set() {
        let mut settings = Settings::default();
        for name in [
            "QUOTE_TTL_SECONDS",
            "REDEEM_SECONDS",
            "MAX_ATTEMPTS",
            "SECRET_OVERLAP_SECONDS",
            "REVIEW_WINDOW_SECONDS",
            "POW_DIFFICULTY",
            "ENDPOINT_ALLOW_CIDRS",
            "ENDPOINT_ALLOW_HTTP",
            "DNS_SERVERS",
            "BREAKER_OPEN_SECONDS",
            "RATE_LIMIT_OPEN_QUOTES",
            "CROCHET_MASTER_KEYS",
        ] {
            settings.set_pair(&format!("{name}=1")).unwrap();
        }
    }

    #[test]
    fn limits_are_lifted_unless_the_default_is_asked_for() {
        let mut lifted = Settings::default().for_service(Service::ControlPlane);
        lifted.extend(Settings::default().for_service(Service::Gateway));
        let limits: Vec<_> = lifted
            .iter()
            .filter(|(name, _)| name.starts_with("RATE_LIMIT_"))
            .collect();
        assert_eq!(limits.len(), 10);
        assert!(
            limits
                .iter()
                .all(|(_, value)| value.parse::<u64>().unwrap() >= 5_000_000)
        );
        assert_eq!(lifted["POW_DIFFICULTY"], "4");
        let default = Settings::default()
            .with_limits(Limits::Default)
            .for_service(Service::ControlPlane);
        assert!(
            !default
                .keys()
                .any(|name| name.starts_with("RATE_LIMIT_") || name == "POW_DIFFICULTY"),
            "{default:?}"
        );
        assert_eq!(default["ENDPOINT_ALLOW_CIDRS"], "127.0.0.0/8,::1/128");
    }

    #[test]
    fn what_is_asked_for_wins_and_reaches_only_who_reads_it() {
        let mut settings = Settings::default();
        settings.set("RATE_LIMIT_OPEN_QUOTES", "3").unwrap();
        settings.set("BREAKER_MIN_CALLS", "7").unwrap();
        settings.set("ENDPOINT_ALLOW_HTTP", "false").unwrap();
        let (control_plane, gateway) = (
            settings.for_service(Service::ControlPlane),
            settings.for_service(Service::Gateway),
        );
        assert_eq!(control_plane["RATE_LIMIT_OPEN_QUOTES"], "3");
        assert_eq!(gateway["BREAKER_MIN_CALLS"], "7");
        assert!(!control_plane.contains_key("BREAKER_MIN_CALLS"));
        assert_eq!(gateway["ENDPOINT_ALLOW_HTTP"], "false");
        assert!(settings.for_service(Service::Relay).is_empty());
    }
}
