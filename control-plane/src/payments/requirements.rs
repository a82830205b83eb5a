//! The `requirements` object of a 402: enough to pay without reading anything else.

use chrono::{DateTime, Utc};
use crochet_shared::clock::rfc3339_millis;
use crochet_shared::route::Route;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::relay::ProviderQuote;

/// What to pay, where to and until when.
#[derive(Serialize, ToSchema)]
#[schema(as = PaymentRequirements)]
pub(crate) struct Requirements<'a> {
    /// Always `relay`.
    #[schema(example = "relay")]
    provider: &'static str,
    /// The provider's id of the chain to pay on.
    #[schema(example = 8453)]
    chain_id: i64,
    currency: Currency<'a>,
    /// Atomic units, exactly.
    #[schema(example = "1020000")]
    amount: &'a str,
    /// The same in whole units.
    #[schema(example = "1.02")]
    amount_formatted: String,
    #[schema(example = "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23")]
    deposit_address: &'a str,
    /// The provider's own steps, as it gave them: transactions that pay.
    #[schema(value_type = Vec<Object>, example = json!([{"id": "deposit", "kind": "transaction"}]))]
    steps: &'a RawValue,
    /// The provider's own fees, as it gave them.
    #[schema(value_type = Option<Object>)]
    fees: Option<&'a RawValue>,
    #[schema(example = 5)]
    time_estimate_seconds: Option<i64>,
    /// Pay before.
    #[serde(with = "rfc3339_millis")]
    expires_at: DateTime<Utc>,
}

/// The token to pay in.
#[derive(Serialize, ToSchema)]
#[schema(as = PaymentCurrency)]
pub(crate) struct Currency<'a> {
    #[schema(example = "0x833589fcd6edb6e08f4c7c32d4f71b54bda02913")]
    address: &'a str,
    #[schema(example = "USDC")]
    symbol: &'a str,
    /// Decimals of its atomic unit.
    #[schema(example = 6)]
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
