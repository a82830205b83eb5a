use super::*;

const GOOD: [(&str, &str); 2] = [
    ("--internal-secret", "0123456789abcdef0123456789abcdef"),
    (
        "--gateway-cache-keys",
        "k:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    ),
];

/// A configuration with its secrets, and what else is said.
pub(crate) fn check(more: &[(&str, &str)]) -> Result<Config, String> {
    let said: Vec<_> = GOOD
        .iter()
        .filter(|(name, _)| !more.iter().any(|(other, _)| other == name))
        .chain(more)
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let args = std::iter::once("gateway-proxy".to_owned()).chain(said);
    Args::try_parse_from(args)
        .map_err(|error| error.to_string())?
        .check()
        .map_err(|error| error.to_string())
}

#[test]
fn the_defaults_make_sense_once_the_secrets_are_given() {
    let config = check(&[]).unwrap();
    assert_eq!(config.control_plane, "127.0.0.1:8081");
    assert_eq!(config.internal_url, "http://127.0.0.1:8082");
    assert!(Args::try_parse_from(["gateway-proxy"]).is_err());
}

#[test]
fn nonsense_is_refused_by_name() {
    for (name, value, said) in [
        ("--internal-secret", "short", "INTERNAL_SECRET"),
        ("--gateway-cache-keys", "nonsense", "GATEWAY_CACHE_KEYS"),
        (
            "--control-plane-internal-url",
            "http://10.0.0.1:8082",
            "CONTROL_PLANE_INTERNAL_URL",
        ),
        (
            "--control-plane-url",
            "https://example.com",
            "CONTROL_PLANE_URL",
        ),
        ("--public-base-url", "http://x/path", "PUBLIC_BASE_URL"),
        ("--public-base-url", "ftp://x", "PUBLIC_BASE_URL"),
        ("--trusted-proxies", "10.0.0.0/33", "10.0.0.0/33"),
        ("--endpoint-allow-cidrs", "lan", "lan"),
        ("--body-budget-bytes", "1", "BODY_BUDGET_BYTES"),
        ("--breaker-open-seconds", "301", "BREAKER_OPEN_SECONDS"),
        ("--redis-url", "http://x", "REDIS_URL"),
        ("--gateway-admin-listen", "127.0.0.1:8080", "must differ"),
        ("--gateway-threads", "0", "0"),
    ] {
        let error = check(&[(name, value)]).unwrap_err();
        assert!(error.contains(said), "{name}={value}: {error}");
    }
    let error = check(&[("--internal-secret", "short"), ("--public-base-url", "x")]).unwrap_err();
    assert!(error.contains("INTERNAL_SECRET") && error.contains("PUBLIC_BASE_URL"));
}

#[test]
fn secrets_do_not_show_themselves() {
    let config = check(&[]).unwrap();
    assert!(!format!("{config:?}").contains("0123456789abcdef"));
}

#[test]
fn https_takes_the_internal_api_anywhere_and_lists_may_be_empty() {
    let config = check(&[
        ("--control-plane-internal-url", "https://cp.example:8443/"),
        ("--endpoint-allow-cidrs", "127.0.0.0/8, ::1/128"),
        ("--dns-servers", "1.1.1.1,[::1]:5353"),
        ("--public-base-url", "https://api.example"),
    ])
    .unwrap();
    assert_eq!(config.internal_url, "https://cp.example:8443");
    assert_eq!(config.egress.allow_cidrs.len(), 2);
    assert_eq!(config.dns_servers[0].port(), 53);
    assert_eq!(config.egress.own_host.as_deref(), Some("api.example"));
    assert!(config.trusted_proxies.is_empty());
}
