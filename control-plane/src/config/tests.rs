//! What is refused, and what stands when nothing is said.

use super::*;

const KEY: &str = "k:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn check(more: &[&str]) -> Result<Config, String> {
    let keys = format!("--crochet-master-keys={KEY}");
    let cache = format!("--gateway-cache-keys={KEY}");
    let mut args = vec![
        "control-plane",
        "--database-url=postgres://127.0.0.1/crochet",
        "--internal-secrets=0123456789abcdef0123456789abcdef",
        &keys,
        &cache,
        "--relay-api-key=key",
        "--settlement-address=0x52908400098527886e0f7030069857d2e4169ee7",
    ];
    args.extend(more);
    let cli = Cli::try_parse_from(args).map_err(|error| error.to_string())?;
    cli.settings.check().map_err(|error| format!("{error:#}"))
}

#[test]
fn the_production_values_are_the_defaults() {
    let config = check(&[]).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8081");
    assert_eq!(config.public_domain, "127.0.0.1:8080");
    assert_eq!((config.pow_difficulty, config.pow_pinned), (4, false));
    assert_eq!(config.limits.key_reads_per_minute, 60);
    assert!(config.egress.allow_cidrs.is_empty() && !config.egress.allow_http);
    assert_eq!(
        config.settlement_address,
        "0x52908400098527886E0F7030069857D2E4169EE7"
    );
}

#[test]
fn nonsense_is_refused_by_its_name() {
    for (setting, named) in [
        ("--database-url=mysql://x", "DATABASE_URL"),
        ("--database-url=", "DATABASE_URL"),
        ("--redis-url=nonsense", "REDIS_URL"),
        ("--internal-secrets=short", "INTERNAL_SECRETS"),
        ("--internal-secrets=", "INTERNAL_SECRETS"),
        ("--crochet-master-keys=k:AAAA", "CROCHET_MASTER_KEYS"),
        ("--gateway-cache-keys=", "GATEWAY_CACHE_KEYS"),
        ("--public-base-url=https://x/path", "PUBLIC_BASE_URL"),
        ("--public-base-url=ftp://x", "PUBLIC_BASE_URL"),
        ("--relay-base-url=nonsense", "RELAY_BASE_URL"),
        ("--relay-api-key= ", "RELAY_API_KEY"),
        ("--settlement-address=0x1", "SETTLEMENT_ADDRESS"),
        ("--trusted-proxies=everyone", "TRUSTED_PROXIES"),
        (
            "--endpoint-allow-cidrs=127.0.0.1/99",
            "ENDPOINT_ALLOW_CIDRS",
        ),
        ("--endpoint-ports=70000", "ENDPOINT_PORTS"),
        ("--dns-servers=ns.example", "DNS_SERVERS"),
        ("--pow-difficulty=9", "pow-difficulty"),
        ("--max-attempts=0", "max-attempts"),
        (
            "--rate-limit-key-reads-per-minute=0",
            "rate-limit-key-reads-per-minute",
        ),
        ("--control-plane-listen=nowhere", "control-plane-listen"),
    ] {
        let Err(refusal) = check(&[setting]) else {
            panic!("{setting} is taken");
        };
        assert!(refusal.contains(named), "{setting}: {refusal}");
    }
    let three = ["a"; 3].map(|letter| letter.repeat(32)).join(",");
    assert!(check(&[&format!("--internal-secrets={three}")]).is_err());
}

#[test]
fn secrets_are_not_shown() {
    let config = check(&["--relay-api-key=hush-hush"]).unwrap();
    assert!(!format!("{config:?}").contains("hush-hush"));
}

#[test]
fn every_setting_stands_in_the_sample() {
    use clap::CommandFactory as _;
    let sample = include_str!("../../control-plane.env.sample");
    for argument in Cli::command().get_arguments() {
        if let Some(name) = argument.get_env().and_then(|name| name.to_str()) {
            assert!(sample.contains(&format!("{name}=")), "{name}");
        }
    }
}
