//! The documents for agents: `/SKILL.md`, `/llms.txt` and `/.well-known/agent-protocol.json`.
//!
//! Their prose lies in `text/`; addresses, currencies, limits, codes and routes are filled in from the
//! configuration and the tables in force.

use std::fmt::Write as _;
use std::time::Duration;

use crochet_shared::code::Code;
use crochet_shared::header;
use crochet_shared::money::{FEE_RATE, Micros};
use crochet_shared::route::{Family, OriginCurrency, RouteTable};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::app::App;
use crate::identity::CHALLENGE_SECONDS;
use crate::router::API;

/// Where everything is, for discovery (contract §7).
#[derive(Debug, Serialize)]
pub(super) struct Protocol {
    name: &'static str,
    version: &'static str,
    api_base: String,
    openapi_url: String,
    skill_url: String,
    llms_url: String,
    errors_url: String,
    auth: Auth,
    payment: Payment,
}

#[derive(Debug, Serialize)]
struct Auth {
    scheme: &'static str,
    challenge_url: String,
    register_url: String,
    pow: ProofOfWork,
}

#[derive(Debug, Serialize)]
struct ProofOfWork {
    algorithm: &'static str,
    difficulty: u32,
}

#[derive(Debug, Serialize)]
struct Payment {
    providers: [&'static str; 1],
    origin_currencies: Vec<&'static str>,
    retry_header: String,
}

/// `/.well-known/agent-protocol.json`
pub(super) fn protocol(app: &App) -> Protocol {
    let base = &app.config.public_base_url;
    let at = |path: &str| format!("{base}{path}");
    Protocol {
        name: "Crochet",
        version: env!("CARGO_PKG_VERSION"),
        api_base: at(API),
        openapi_url: at("/api/openapi.json"),
        skill_url: at("/SKILL.md"),
        llms_url: at("/llms.txt"),
        errors_url: at("/docs/errors"),
        auth: Auth {
            scheme: "bearer",
            challenge_url: at(&format!("{API}/auth/challenge")),
            register_url: at(&format!("{API}/register")),
            pow: ProofOfWork {
                algorithm: "sha256",
                difficulty: app.config.pow_difficulty,
            },
        },
        payment: Payment {
            providers: ["relay"],
            origin_currencies: OriginCurrency::ALL.map(OriginCurrency::as_str).to_vec(),
            retry_header: shown(header::RELAY_REQUEST_ID),
        },
    }
}

/// `/SKILL.md`
pub(super) fn skill(app: &App) -> String {
    fill(include_str!("text/SKILL.md"), app, &[])
}

/// `/llms.txt`. `document` is the OpenAPI document.
pub(super) fn llms(app: &App, document: &Value) -> String {
    let more = [("operations", operations(document)), ("codes", codes())];
    fill(include_str!("text/llms.txt"), app, &more)
}

/// Fills in `{name}` for every name there is a value for.
fn fill(text: &str, app: &App, more: &[(&str, String)]) -> String {
    let config = &app.config;
    let base = &config.public_base_url;
    let currencies = OriginCurrency::ALL.map(|currency| format!("`{}`", currency.as_str()));
    let values = [
        ("base", base.clone()),
        ("api", format!("{base}{API}")),
        ("openapi", format!("{base}/api/openapi.json")),
        ("errors", format!("{base}/docs/errors")),
        ("retry_header", shown(header::RELAY_REQUEST_ID)),
        ("currencies", currencies.join(", ")),
        ("currency_table", currency_table()),
        ("evm_minimum", evm_minimum().to_string()),
        ("pow_difficulty", config.pow_difficulty.to_string()),
        (
            "pow_tries",
            16_u64.saturating_pow(config.pow_difficulty).to_string(),
        ),
        ("challenge_seconds", CHALLENGE_SECONDS.to_string()),
        ("max_attempts", config.max_attempts.to_string()),
        ("redeem_time", span(config.redeem)),
        ("limits", limits(app)),
        ("fee", format!("{} %", FEE_RATE.display() * 100.0)),
    ];
    let mut text = text.to_owned();
    for (name, value) in values.iter().chain(more) {
        text = text.replace(&format!("{{{name}}}"), value);
    }
    text
}

/// A length of time in whole hours, where it is some, else in seconds.
fn span(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds > 3_600 && seconds.is_multiple_of(3_600) => {
            format!("{} hours", seconds / 3_600)
        }
        seconds => format!("{seconds} seconds"),
    }
}

fn currency_table() -> String {
    let mut table = "| currency | wallet | Relay chain id | token | least price of a call |\n|---|---|---|---|---|\n".to_owned();
    for route in RouteTable::default().0 {
        let _ = writeln!(
            table,
            "| `{}` | {} | {} | {} `{}` | {} |",
            route.currency.as_str(),
            route.currency.family().as_str(),
            route.chain_id,
            route.symbol,
            route.address,
            route.minimum_micros,
        );
    }
    table.trim_end().to_owned()
}

/// The least price that every EVM route carries.
fn evm_minimum() -> Micros {
    let routes = RouteTable::default().0;
    let minimums = routes
        .iter()
        .filter(|route| route.currency.family() == Family::Evm)
        .map(|route| route.minimum_micros);
    minimums.max().unwrap_or(Micros::ZERO)
}

fn limits(app: &App) -> String {
    let limits = &app.config.limits;
    format!(
        "Per API key {} reads and {} writes a minute; per address {} challenge and sign-in calls in 5 minutes; per buyer {} new quotes a second and {} open unpaid quotes. `RateLimit` tells what is left, `Retry-After` how long to wait.",
        limits.key_reads_per_minute,
        limits.key_writes_per_minute,
        limits.sign_in_per_5_minutes,
        limits.quotes_per_second,
        limits.open_quotes,
    )
}

fn operations(document: &Value) -> String {
    let mut lines = String::new();
    let paths = document.get("paths").and_then(Value::as_object);
    for (path, item) in paths.into_iter().flatten() {
        for (method, operation) in item.as_object().into_iter().flatten() {
            let _ = writeln!(
                lines,
                "- `{} {path}`{}: {}",
                method.to_ascii_uppercase(),
                credential(operation),
                operation
                    .get("summary")
                    .and_then(Value::as_str)
                    .unwrap_or_default(),
            );
        }
    }
    lines.trim_end().to_owned()
}

/// Which credential an operation takes, as a remark.
fn credential(operation: &Value) -> String {
    let kinds: Vec<&str> = operation
        .get("security")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
        .flat_map(Map::keys)
        .map(String::as_str)
        .collect();
    if kinds.is_empty() {
        String::new()
    } else {
        format!(" ({})", kinds.join(" or "))
    }
}

fn codes() -> String {
    let mut lines = String::new();
    for code in Code::ALL {
        let entry = code.entry();
        let _ = writeln!(
            lines,
            "- {} `{}` → `{}`: {}",
            entry.status,
            entry.name,
            entry.next_action.as_str(),
            entry.summary,
        );
    }
    lines.trim_end().to_owned()
}

/// A header's name as people write it: `X-Crochet-Relay-Request-Id`.
fn shown(name: &str) -> String {
    let parts = name.split('-').map(|part| {
        let (first, rest) = part.split_at_checked(1).unwrap_or((part, ""));
        first.to_ascii_uppercase() + rest
    });
    parts.collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_currencies_are_the_tables() {
        assert_eq!(
            shown(header::RELAY_REQUEST_ID),
            "X-Crochet-Relay-Request-Id"
        );
        let table = currency_table();
        for currency in OriginCurrency::ALL {
            assert!(table.contains(&format!("| `{}` |", currency.as_str())));
        }
        assert_eq!(evm_minimum(), Micros(100_000));
    }
}
