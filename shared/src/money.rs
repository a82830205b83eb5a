//! Money as whole micro-dollars. No floating point comes near a price.
//!
//! One micro is $0.000001, the precision of a price (contract §4) and of USDC on chain. Cents exist
//! only for display (contract §5, "Money").
#![deny(clippy::arithmetic_side_effects)]

use std::fmt;

use serde::{Deserialize, Serialize};

/// Micro-dollars in a dollar.
pub const MICROS_PER_DOLLAR: i64 = 1_000_000;
/// Micro-dollars in a cent.
pub const MICROS_PER_CENT: i64 = 10_000;
/// The lowest price of a `per_call` listing: $0.000001.
pub const PRICE_MIN: Micros = Micros(1);
/// The highest price of a listing: $10,000.
pub const PRICE_MAX: Micros = Micros(10_000 * MICROS_PER_DOLLAR);
/// Decimals of a price.
const PRICE_DECIMALS: usize = 6;

/// An amount of US dollars in millionths, never negative where it names a price, fee or payment.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Micros(pub i64);

/// Why text is not a price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PriceError {
    /// Not plain decimal text: digits with at most one point. No sign, exponent, space or separator.
    #[error("must be a plain decimal number of US dollars")]
    NotDecimal,
    /// More than six decimals.
    #[error("must have at most 6 decimals")]
    TooPrecise,
    /// Below zero dollars or above [`PRICE_MAX`].
    #[error("must be between 0.000001 and 10000")]
    OutOfRange,
}

impl Micros {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// The sum, or `None` on overflow.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, or `None` on overflow.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// Whole cents for display, rounded half up.
    pub const fn cents(self) -> i64 {
        // Euclidean, so that halves round up on both sides of zero; the divisor is a constant.
        self.0
            .saturating_add(MICROS_PER_CENT / 2)
            .div_euclid(MICROS_PER_CENT)
    }

    /// The amount as decimal dollars without trailing zeros: `1`, `0.01`, `0.000001`.
    pub fn dollars(self) -> String {
        let magnitude = self.0.unsigned_abs();
        let unit = MICROS_PER_DOLLAR.unsigned_abs();
        let whole = magnitude.checked_div(unit).unwrap_or(0);
        let part = magnitude.checked_rem(unit).unwrap_or(0);
        let sign = if self.0 < 0 { "-" } else { "" };
        if part == 0 {
            return format!("{sign}{whole}");
        }
        let digits = format!("{part:06}");
        format!("{sign}{whole}.{}", digits.trim_end_matches('0'))
    }

    /// Reads a price in dollars, exactly: `"0.01"` is 10,000 micros. Zero is allowed here; whether a
    /// listing may be free is the listing's rule.
    pub fn from_dollars(text: &str) -> Result<Self, PriceError> {
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        let no_digits = whole.is_empty() || (text.contains('.') && part.is_empty());
        if no_digits || !digits(whole) || !digits(part) {
            return Err(PriceError::NotDecimal);
        }
        let part = part.trim_end_matches('0');
        if part.len() > PRICE_DECIMALS {
            return Err(PriceError::TooPrecise);
        }
        let micros = format!("{part:0<6}")
            .parse::<i64>()
            .map_err(|_| PriceError::NotDecimal)?;
        let whole = whole.trim_start_matches('0');
        let whole = if whole.is_empty() { "0" } else { whole };
        let price = whole
            .parse::<i64>()
            .ok()
            .and_then(|dollars| dollars.checked_mul(MICROS_PER_DOLLAR))
            .and_then(|dollars| dollars.checked_add(micros))
            .map(Self)
            .ok_or(PriceError::OutOfRange)?;
        if price > PRICE_MAX {
            Err(PriceError::OutOfRange)
        } else {
            Ok(price)
        }
    }
}

impl fmt::Display for Micros {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "${}", self.dollars())
    }
}

/// The marketplace's share, in millionths of the gross: 49,000 is 4.9 %.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FeeRate(pub i64);

/// The marketplace's fee: 4.9 % (seed: `fee_rate` 0.049).
pub const FEE_RATE: FeeRate = FeeRate(49_000);

/// What a charge divides into. `fee + seller = gross`, always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// What the buyer paid.
    pub gross: Micros,
    /// What the marketplace keeps.
    pub fee: Micros,
    /// What the seller is owed.
    pub seller: Micros,
}

impl FeeRate {
    /// The rate as a JSON number, for display.
    pub fn display(self) -> f64 {
        let millionths = i32::try_from(self.0).unwrap_or(i32::MAX);
        f64::from(millionths) / 1_000_000.0
    }

    /// Divides a charge: `fee = round_half_up(gross × rate / 1,000,000)`, `seller = gross − fee`.
    ///
    /// Returns `None` for a negative gross or one above [`PRICE_MAX`].
    pub fn split(self, gross: Micros) -> Option<Split> {
        if gross.0 < 0 || gross > PRICE_MAX || self.0 < 0 || self.0 > 1_000_000 {
            return None;
        }
        let fee = gross
            .0
            .checked_mul(self.0)?
            .checked_add(500_000)?
            .checked_div(1_000_000)?;
        let fee = Micros(fee);
        Some(Split {
            gross,
            fee,
            seller: gross.checked_sub(fee)?,
        })
    }
}

impl Split {
    /// The fee in cents, for display.
    pub const fn fee_cents(&self) -> i64 {
        self.fee.cents()
    }

    /// What the seller receives in cents, for display: charged cents less fee cents, so that the
    /// three displayed figures add up.
    pub const fn seller_cents(&self) -> i64 {
        self.gross.cents().saturating_sub(self.fee.cents())
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "plain sums in tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_contracts_examples_hold() {
        let split = FEE_RATE.split(Micros(1_000_000)).unwrap();
        assert_eq!((split.fee.0, split.seller.0), (49_000, 951_000));
        assert_eq!((split.fee_cents(), split.seller_cents()), (5, 95));
        let split = FEE_RATE.split(Micros(10_000)).unwrap();
        assert_eq!((split.fee.0, split.seller.0), (490, 9_510));
        assert_eq!((split.fee_cents(), split.seller_cents()), (0, 1));
    }

    #[test]
    fn prices_are_exact_or_refused() {
        for (text, want) in [
            ("0.01", Ok(Micros(10_000))),
            ("1", Ok(Micros(1_000_000))),
            ("001.50", Ok(Micros(1_500_000))),
            ("0.000001", Ok(Micros(1))),
            ("0.30000000000000004", Err(PriceError::TooPrecise)),
            ("0.1000000000", Ok(Micros(100_000))),
            ("10000", Ok(PRICE_MAX)),
            ("10000.000001", Err(PriceError::OutOfRange)),
            ("99999999999999999999", Err(PriceError::OutOfRange)),
            ("1e3", Err(PriceError::NotDecimal)),
            ("-1", Err(PriceError::NotDecimal)),
            ("+1", Err(PriceError::NotDecimal)),
            (".5", Err(PriceError::NotDecimal)),
            ("5.", Err(PriceError::NotDecimal)),
            ("", Err(PriceError::NotDecimal)),
            ("1.2.3", Err(PriceError::NotDecimal)),
            ("１", Err(PriceError::NotDecimal)),
        ] {
            assert_eq!(Micros::from_dollars(text), want, "{text}");
        }
    }

    #[test]
    fn cents_round_half_up() {
        assert_eq!(Micros(4_999).cents(), 0);
        assert_eq!(Micros(5_000).cents(), 1);
        assert_eq!(Micros(14_999).cents(), 1);
        assert_eq!(Micros(15_000).cents(), 2);
    }

    proptest! {
        #[test]
        fn a_split_loses_nothing(gross in 0..=PRICE_MAX.0) {
            let split = FEE_RATE.split(Micros(gross)).unwrap();
            prop_assert_eq!(split.fee.0 + split.seller.0, gross);
            prop_assert!(split.fee.0 >= 0 && split.seller.0 >= 0);
            // Half up: the fee is the nearest whole micro, and never half a micro below.
            let twice = 2 * gross * FEE_RATE.0 - 2 * split.fee.0 * 1_000_000;
            prop_assert!((-1_000_000..1_000_000).contains(&twice));
            prop_assert_eq!(split.fee_cents() + split.seller_cents(), Micros(gross).cents());
        }

        #[test]
        fn a_price_reads_back(micros in 0..=PRICE_MAX.0) {
            prop_assert_eq!(Micros::from_dollars(&Micros(micros).dollars()), Ok(Micros(micros)));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = Micros::from_dollars(&text);
        }
    }
}
