//! Prices, read exactly from their text. Pure.

use crochet_shared::money::{Micros, PRICE_MAX, PriceError};
use serde_json::value::RawValue;

use crate::fields::{Problem, any_text};

/// No price that is in range has more digits on either side of its point.
const SHIFT_MAX: usize = 64;

/// Reads a price given as a JSON number or as decimal text.
///
/// A number is judged by how it is written: `0.1+0.2` arrives as `0.30000000000000004` and is
/// refused for its decimals. Exponents are how some clients write small numbers, so `1e-06` is the
/// number it means.
pub(super) fn price(raw: &RawValue) -> Result<Micros, Problem> {
    let text = raw.get();
    let outcome = match text.as_bytes().first() {
        Some(b'"') => Micros::from_dollars(any_text(raw)?.trim()),
        Some(b'-' | b'0'..=b'9') => plain(text).and_then(|text| Micros::from_dollars(&text)),
        _ => return Err("must be a number or decimal text".into()),
    };
    outcome.map_err(|error| error.to_string().into())
}

/// A bound of prices in a query string. One above every price is a bound as well.
pub(super) fn price_bound(text: &str) -> Option<Micros> {
    match Micros::from_dollars(text) {
        Ok(price) => Some(price),
        Err(PriceError::OutOfRange) => Some(Micros(PRICE_MAX.0 + 1)),
        Err(PriceError::NotDecimal | PriceError::TooPrecise) => None,
    }
}

/// A JSON number without its exponent.
fn plain(number: &str) -> Result<String, PriceError> {
    let Some((mantissa, exponent)) = number.split_once(['e', 'E']) else {
        return Ok(number.to_owned());
    };
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.starts_with('-') {
        return Err(PriceError::OutOfRange);
    }
    if [whole, part]
        .iter()
        .all(|digits| digits.bytes().all(|b| b == b'0'))
    {
        return Ok("0".to_owned());
    }
    let negative = exponent.starts_with('-');
    let shift = exponent
        .trim_start_matches(['+', '-'])
        .trim_start_matches('0');
    let shift = match shift {
        "" => 0,
        digits => digits.parse::<usize>().unwrap_or(usize::MAX),
    };
    if shift > SHIFT_MAX {
        return Err(if negative {
            PriceError::TooPrecise
        } else {
            PriceError::OutOfRange
        });
    }
    let digits = format!("{whole}{part}");
    // Where the point stands among the digits, moved by the exponent; zeros fill what is missing.
    Ok(if negative {
        let padded = format!("{}{digits}", "0".repeat(shift));
        let point = padded.len() - part.len() - shift;
        let (whole, part) = padded.split_at(point);
        format!("{whole}.{part}")
    } else {
        let padded = format!("{digits}{}", "0".repeat(shift));
        let point = whole.len() + shift;
        let (whole, part) = padded.split_at(point.min(padded.len()));
        if part.is_empty() {
            whole.to_owned()
        } else {
            format!("{whole}.{part}")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<i64, String> {
        let raw = RawValue::from_string(text.to_owned()).unwrap();
        price(&raw)
            .map(|price| price.0)
            .map_err(Problem::into_owned)
    }

    #[test]
    fn numbers_mean_what_is_written() {
        for (text, micros) in [
            ("1", 1_000_000),
            ("1.0", 1_000_000),
            ("0.01", 10_000),
            ("1e-06", 1),
            ("1e-6", 1),
            ("1.5E-3", 1_500),
            ("25e-1", 2_500_000),
            ("1e3", 1_000_000_000),
            ("1.25e+1", 12_500_000),
            ("0e999999999999", 0),
            ("\"0.000001\"", 1),
            ("\" 2.50 \"", 2_500_000),
        ] {
            assert_eq!(read(text), Ok(micros), "{text}");
        }
    }

    #[test]
    fn what_is_not_exact_is_refused() {
        for text in [
            "0.30000000000000004",
            "1e-7",
            "1.5e-6",
            "1e308",
            "1e999999999999999999999",
            "1e-999999999999999999999",
            "10000.000001",
            "-1",
            "-1e3",
            "-0.01",
            "true",
            "null",
            "[1]",
            "{}",
            "\"1e3\"",
            "\"NaN\"",
            "\"Infinity\"",
            "\"0x10\"",
            "\"1,5\"",
            "\"\"",
            "\"-1\"",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_bound_may_be_above_every_price() {
        assert_eq!(price_bound("0.5"), Some(Micros(500_000)));
        assert_eq!(price_bound("10000"), Some(PRICE_MAX));
        assert!(price_bound("99999999999999999999").is_some_and(|bound| bound > PRICE_MAX));
        for text in ["", "-1", "1e3", "0.0000001", "1,5", " 1", "NaN"] {
            assert_eq!(price_bound(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn moving_the_point_changes_nothing(micros in 0_i64..10_000_000_000, shift in 0_usize..30) {
            let dollars = Micros(micros).dollars();
            prop_assert_eq!(read(&dollars), Ok(micros));
            let exponent = format!("{micros}e-6");
            prop_assert_eq!(read(&exponent), Ok(micros));
            let padded = format!("{micros}{}e-{}", "0".repeat(shift), shift + 6);
            prop_assert_eq!(read(&padded), Ok(micros));
        }
    }
}
