//! The `requirements` object of a 402: enough to pay without reading anything else.

use chrono::{DateTime, Utc};
use crochet_shared::clock::rfc3339_millis;
use crochet_shared::route::Route;
use serde::Serialize;
use serde_json::value::RawValue;

use super::relay::ProviderQuote;

#[derive(Serialize)]
struct Requirements<'a> {
    provider: &'static str,
    chain_id: i64,
    currency: Currency<'a>,
    amount: &'a str,
    amount_formatted: String,
    deposit_address: &'a str,
    steps: &'a RawValue,
    fees: Option<&'a RawValue>,
    time_estimate_seconds: Option<i64>,
    #[serde(with = "rfc3339_millis")]
    expires_at: DateTime<Utc>,
}

#[derive(Serialize)]
struct Currency<'a> {
    address: &'a str,
    symbol: &'a str,
    decimals: u8,
}

/// Writes the object as JSON text.
pub(super) fn write(
    route: &Route,
    quote: &ProviderQuote,
    expires_at: DateTime<Utc>,
) -> Result<String, serde_json::Error> {
    serde_json::to_string(&Requirements {
        provider: "relay",
        chain_id: route.chain_id,
        currency: Currency {
            address: &route.address,
            symbol: &route.symbol,
            decimals: route.decimals,
        },
        amount: &quote.amount,
        amount_formatted: quote
            .amount_formatted
            .clone()
            .unwrap_or_else(|| formatted(&quote.amount, route.decimals)),
        deposit_address: &quote.deposit_address,
        steps: &quote.steps,
        fees: quote.fees.as_deref(),
        time_estimate_seconds: quote.time_estimate_seconds,
        expires_at,
    })
}

/// Whole units of an atomic amount, exactly, without trailing zeros.
fn formatted(atomic: &str, decimals: u8) -> String {
    let decimals = usize::from(decimals);
    let padded = format!("{atomic:0>width$}", width = decimals + 1);
    let (whole, part) = padded.split_at(padded.len() - decimals);
    let part = part.trim_end_matches('0');
    if part.is_empty() {
        whole.to_owned()
    } else {
        format!("{whole}.{part}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_formatted_exactly() {
        assert_eq!(formatted("1020000", 6), "1.02");
        assert_eq!(formatted("5", 9), "0.000000005");
        assert_eq!(formatted("1000000000", 9), "1");
        assert_eq!(formatted("0", 6), "0");
    }
}
