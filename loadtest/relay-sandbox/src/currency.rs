//! The chains and currencies the sandbox knows, what they cost, and amounts as the provider shows them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::SerializeStruct};

/// Base, by the provider's chain id.
pub const BASE: u64 = 8453;
/// Solana, by the provider's chain id.
pub const SOLANA: u64 = 792_703_809;

/// An amount in a currency's smallest unit; text in JSON, as wei do not fit a JSON number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Atomic(pub u128);

impl Serialize for Atomic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Atomic {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Atomic;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an amount in the smallest unit, as text or integer")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Atomic, E> {
                if !text.bytes().all(|digit| digit.is_ascii_digit()) {
                    return Err(E::custom("amount has to be digits"));
                }
                text.parse().map(Atomic).map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, amount: u64) -> Result<Atomic, E> {
                Ok(Atomic(u128::from(amount)))
            }
        }
        deserializer.deserialize_any(Text)
    }
}

/// What a buyer can pay with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// Solana's native coin.
    #[serde(rename = "SOL")]
    Sol,
    /// USDC on Solana.
    #[serde(rename = "USDC_SOL")]
    UsdcSol,
    /// Base's native ether.
    #[serde(rename = "ETH")]
    Eth,
    /// USDC on Base.
    #[serde(rename = "USDC")]
    Usdc,
}

impl Origin {
    /// All of them, in the order of [`Minimums`].
    pub const ALL: [Self; 4] = [Self::Sol, Self::UsdcSol, Self::Eth, Self::Usdc];

    /// The one with this address on this chain; EVM addresses compare case-insensitively.
    pub fn find(chain_id: u64, address: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|origin| {
            let currency = origin.currency();
            currency.chain_id == chain_id && currency.has_address(address)
        })
    }

    /// Its facts.
    pub const fn currency(self) -> &'static Currency {
        match self {
            Self::Sol => &SOL,
            Self::UsdcSol => &USDC_SOLANA,
            Self::Eth => &ETH,
            Self::Usdc => &USDC_BASE,
        }
    }

    /// Its name in configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sol => "SOL",
            Self::UsdcSol => "USDC_SOL",
            Self::Eth => "ETH",
            Self::Usdc => "USDC",
        }
    }
}

/// A currency on a chain.
#[derive(Debug, PartialEq, Eq)]
pub struct Currency {
    /// The provider's id of the chain.
    pub chain_id: u64,
    /// Contract or mint; zeros or ones for a native coin.
    pub address: &'static str,
    /// Ticker.
    pub symbol: &'static str,
    /// Name for people.
    pub name: &'static str,
    /// Digits after the point in one whole unit.
    pub decimals: u8,
    /// Picture.
    pub logo: &'static str,
    /// Is it the chain's own coin?
    pub native: bool,
    /// What one whole unit costs, in micro-dollars. Fixed, so that tests can compute amounts.
    pub price_micros: u128,
}

/// Solana's native coin, at 150 USD.
pub const SOL: Currency = Currency {
    chain_id: SOLANA,
    address: "11111111111111111111111111111111",
    symbol: "SOL",
    name: "Solana",
    decimals: 9,
    logo: "https://assets.relay.link/icons/792703809/light.png",
    native: true,
    price_micros: 150_000_000,
};

/// USDC on Solana.
pub const USDC_SOLANA: Currency = Currency {
    chain_id: SOLANA,
    address: "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v",
    symbol: "USDC",
    name: "USD Coin",
    decimals: 6,
    logo: "https://assets.relay.link/icons/currencies/usdc.png",
    native: false,
    price_micros: 1_000_000,
};

/// Base's native ether, at 3000 USD.
pub const ETH: Currency = Currency {
    chain_id: BASE,
    address: "0x0000000000000000000000000000000000000000",
    symbol: "ETH",
    name: "Ether",
    decimals: 18,
    logo: "https://assets.relay.link/icons/1/light.png",
    native: true,
    price_micros: 3_000_000_000,
};

/// USDC on Base: what everything settles to.
pub const USDC_BASE: Currency = Currency {
    chain_id: BASE,
    address: "0x833589fcd6edb6e08f4c7c32d4f71b54bda02913",
    symbol: "USDC",
    name: "USD Coin",
    decimals: 6,
    logo: "https://assets.relay.link/icons/currencies/usdc.png",
    native: false,
    price_micros: 1_000_000,
};

impl Currency {
    /// Is this its address? EVM addresses compare case-insensitively.
    pub fn has_address(&self, address: &str) -> bool {
        if self.chain_id == SOLANA {
            self.address == address
        } else {
            self.address.eq_ignore_ascii_case(address)
        }
    }

    /// The least amount worth at least so many micro-dollars; `None` when it does not fit.
    pub fn worth(&self, micros: u128) -> Option<Atomic> {
        let scaled = micros.checked_mul(10_u128.checked_pow(u32::from(self.decimals))?)?;
        Some(Atomic(scaled.div_ceil(self.price_micros)))
    }

    /// What an amount is worth, in whole micro-dollars.
    pub fn micros(&self, amount: Atomic) -> u128 {
        let unit = 10_u128.saturating_pow(u32::from(self.decimals));
        amount.0.saturating_mul(self.price_micros) / unit
    }

    /// The amount in the provider's shape.
    pub fn show(&'static self, amount: Atomic) -> Shown<'static> {
        Shown {
            currency: Face {
                chain_id: self.chain_id,
                currency: self,
                address: self.address,
            },
            amount,
        }
    }
}

impl Serialize for Face<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut shape = serializer.serialize_struct("Currency", 6)?;
        shape.serialize_field("chainId", &self.chain_id)?;
        shape.serialize_field("address", self.address)?;
        shape.serialize_field("symbol", self.currency.symbol)?;
        shape.serialize_field("name", self.currency.name)?;
        shape.serialize_field("decimals", &self.currency.decimals)?;
        shape.serialize_field(
            "metadata",
            &Metadata {
                logo_uri: self.currency.logo,
                verified: true,
                is_native: self.currency.native,
            },
        )?;
        shape.end()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(rename = "logoURI")]
    logo_uri: &'static str,
    verified: bool,
    is_native: bool,
}

/// A currency as shown, its chain and address replaceable by a scenario.
#[derive(Debug, Clone, Copy)]
pub struct Face<'a> {
    /// Chain shown.
    pub chain_id: u64,
    /// Address shown.
    pub address: &'a str,
    /// The rest.
    pub currency: &'static Currency,
}

/// An amount in the provider's shape, `C` in the README.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    /// Of which currency.
    pub currency: Face<'a>,
    /// How much.
    pub amount: Atomic,
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let currency = self.currency.currency;
        let usd = currency.micros(self.amount);
        let mut shape = serializer.serialize_struct("Amount", 5)?;
        shape.serialize_field("currency", &self.currency)?;
        shape.serialize_field("amount", &self.amount)?;
        shape.serialize_field(
            "amountFormatted",
            &decimal(self.amount.0, currency.decimals),
        )?;
        shape.serialize_field("amountUsd", &decimal(usd, 6))?;
        shape.serialize_field("minimumAmount", &self.amount)?;
        shape.end()
    }
}

/// `1500000` with 6 decimals is `1.5`.
pub fn decimal(amount: u128, decimals: u8) -> String {
    let unit = 10_u128.saturating_pow(u32::from(decimals));
    let (whole, part) = (amount / unit, amount % unit);
    if part == 0 {
        return whole.to_string();
    }
    let text = format!("{whole}.{part:0>width$}", width = usize::from(decimals));
    text.trim_end_matches('0').to_owned()
}

/// The smallest output of each route, in micro-dollars, in the order of [`Origin::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Minimums([u64; 4]);

impl Default for Minimums {
    fn default() -> Self {
        Self([0, 0, 100_000, 100_000])
    }
}

impl Minimums {
    /// The minimum of one route.
    pub const fn of(self, origin: Origin) -> u64 {
        let Self([sol, usdc_sol, eth, usdc]) = self;
        match origin {
            Origin::Sol => sol,
            Origin::UsdcSol => usdc_sol,
            Origin::Eth => eth,
            Origin::Usdc => usdc,
        }
    }
}

impl FromStr for Minimums {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut minimums = Self::default();
        for pair in text.split(',').filter(|pair| !pair.trim().is_empty()) {
            let (name, micros) = pair
                .split_once('=')
                .ok_or_else(|| format!("`{pair}` is not NAME=MICRO_DOLLARS"))?;
            let micros = micros
                .trim()
                .parse()
                .map_err(|_| format!("`{micros}` is not a number of micro-dollars"))?;
            let slot = Origin::ALL
                .iter()
                .zip(&mut minimums.0)
                .find(|(origin, _)| origin.name() == name.trim())
                .ok_or_else(|| format!("`{name}` is none of SOL, USDC_SOL, ETH, USDC"))?;
            *slot.1 = micros;
        }
        Ok(minimums)
    }
}

impl fmt::Display for Minimums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, origin) in Origin::ALL.into_iter().enumerate() {
            let comma = if position == 0 { "" } else { "," };
            write!(f, "{comma}{}={}", origin.name(), self.of(origin))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_rounded_up_so_that_it_is_never_worth_less() {
        assert_eq!(SOL.worth(30_000), Some(Atomic(200_000)));
        assert_eq!(SOL.worth(1), Some(Atomic(7)));
        assert_eq!(ETH.worth(1_020_000), Some(Atomic(340_000_000_000_000)));
        assert_eq!(USDC_BASE.worth(u128::MAX), None);
    }

    #[test]
    fn decimals_lose_their_trailing_zeros() {
        assert_eq!(decimal(1_500_000, 6), "1.5");
        assert_eq!(decimal(2_000_000, 6), "2");
        assert_eq!(decimal(1, 18), "0.000000000000000001");
    }

    #[test]
    fn minimums_are_read_by_name_and_shown_alike() {
        let minimums: Minimums = "USDC=5,SOL=1".parse().unwrap();
        assert_eq!(minimums.of(Origin::Usdc), 5);
        assert_eq!(minimums.to_string(), "SOL=1,USDC_SOL=0,ETH=100000,USDC=5");
        assert!("DOGE=1".parse::<Minimums>().is_err());
        assert!("SOL".parse::<Minimums>().is_err());
    }
}
