//! Payment routes: which origin currencies there are, where they live, and their least price.

use serde::{Deserialize, Serialize};

use crate::money::Micros;

/// A currency a buyer can pay in (contract §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OriginCurrency {
    /// Solana native.
    #[serde(rename = "SOL")]
    Sol,
    /// USDC on Solana.
    #[serde(rename = "USDC_SOL")]
    UsdcSol,
    /// Base native.
    #[serde(rename = "ETH")]
    Eth,
    /// USDC on Base.
    #[serde(rename = "USDC")]
    Usdc,
}

/// A family of chains: wallets belong to one, and a payment needs a wallet of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Ethereum and its kin.
    Evm,
    /// Solana.
    Solana,
}

impl Family {
    /// The public name: a wallet's `chain`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Evm => "evm",
            Self::Solana => "solana",
        }
    }

    /// Reads the public name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Evm, Self::Solana]
            .into_iter()
            .find(|family| family.as_str() == text)
    }

    /// What a buyer pays in when she names nothing and this family's wallet is her default.
    pub const fn default_currency(self) -> OriginCurrency {
        match self {
            Self::Evm => OriginCurrency::Usdc,
            Self::Solana => OriginCurrency::Sol,
        }
    }
}

impl OriginCurrency {
    /// Every currency, in the order the documents show them.
    pub const ALL: [Self; 4] = [Self::Sol, Self::UsdcSol, Self::Eth, Self::Usdc];

    /// The public name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sol => "SOL",
            Self::UsdcSol => "USDC_SOL",
            Self::Eth => "ETH",
            Self::Usdc => "USDC",
        }
    }

    /// Reads the public name, exactly as spelled.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|currency| currency.as_str() == text)
    }

    /// The family whose wallet pays it.
    pub const fn family(self) -> Family {
        match self {
            Self::Sol | Self::UsdcSol => Family::Solana,
            Self::Eth | Self::Usdc => Family::Evm,
        }
    }
}

/// Relay's id of Solana.
pub const CHAIN_SOLANA: i64 = 792_703_809;
/// Base mainnet.
pub const CHAIN_BASE: i64 = 8453;
/// USDC on Base, where every deposit settles.
pub const USDC_BASE: &str = "0x833589fcd6edb6e08f4c7c32d4f71b54bda02913";

/// One origin currency as the provider knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The public name.
    pub currency: OriginCurrency,
    /// The provider's chain id.
    pub chain_id: i64,
    /// The token's address on that chain; the provider's null address for a native coin.
    pub address: String,
    /// The token's symbol.
    pub symbol: String,
    /// Decimals of its atomic unit.
    pub decimals: u8,
    /// The least price this route can carry.
    pub minimum_micros: Micros,
}

/// The routes in force. Configuration; these are the defaults (relay.link's documented ids).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RouteTable(pub Vec<Route>);

impl Default for RouteTable {
    fn default() -> Self {
        let route = |currency, chain_id, address: &str, symbol: &str, decimals, minimum| Route {
            currency,
            chain_id,
            address: address.to_owned(),
            symbol: symbol.to_owned(),
            decimals,
            minimum_micros: Micros(minimum),
        };
        Self(vec![
            route(
                OriginCurrency::Sol,
                CHAIN_SOLANA,
                "11111111111111111111111111111111",
                "SOL",
                9,
                0,
            ),
            route(
                OriginCurrency::UsdcSol,
                CHAIN_SOLANA,
                "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v",
                "USDC",
                6,
                0,
            ),
            route(
                OriginCurrency::Eth,
                CHAIN_BASE,
                "0x0000000000000000000000000000000000000000",
                "ETH",
                18,
                100_000,
            ),
            route(
                OriginCurrency::Usdc,
                CHAIN_BASE,
                USDC_BASE,
                "USDC",
                6,
                100_000,
            ),
        ])
    }
}

/// A price below what a route can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the price is below this route's minimum")]
pub struct BelowMinimum {
    /// The least price the route carries.
    pub minimum: Micros,
}

impl RouteTable {
    /// The route of a currency, when it is offered.
    pub fn get(&self, currency: OriginCurrency) -> Option<&Route> {
        self.0.iter().find(|route| route.currency == currency)
    }
}

impl Route {
    /// Whether this route can carry the price.
    pub fn admit(&self, price: Micros) -> Result<(), BelowMinimum> {
        if price < self.minimum_micros {
            return Err(BelowMinimum {
                minimum: self.minimum_micros,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evm_routes_refuse_below_ten_cents_and_solana_takes_all() {
        let table = RouteTable::default();
        for currency in OriginCurrency::ALL {
            let route = table.get(currency).unwrap();
            let evm = currency.family() == Family::Evm;
            assert_eq!(route.admit(Micros(99_999)).is_err(), evm);
            assert!(route.admit(Micros(100_000)).is_ok());
            assert_eq!(OriginCurrency::parse(currency.as_str()), Some(currency));
        }
        assert_eq!(OriginCurrency::parse("sol"), None);
    }
}
