//! The readers of fields: what one JSON value must be, and what it is told when it is not.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde_json::Value;
use serde_json::value::RawValue;

use super::Problem;

/// What a time that cannot be read is told.
pub(crate) const TIME_PROBLEM: &str = "must be an RFC 3339 time between the years 1 and 9999";

/// What a name may not hold, in stretches: characters that turn the direction of writing, those that have no
/// width or no ink (fillers, the blank of Braille), and the tags, which can hold a text that only machines read.
/// The two joiners are judged by what stands around them.
pub(crate) const HIDDEN: [(char, char); 16] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180e}', '\u{180e}'),
    ('\u{200b}', '\u{200b}'),
    ('\u{200e}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{2800}', '\u{2800}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff9}', '\u{fffb}'),
    ('\u{e0000}', '\u{e007f}'),
];

/// Largest JSON Schema or example, in bytes (contract, head: 32 KiB).
const DOCUMENT_BYTES_MAX: usize = 32 * 1024;

/// Text of `min` to `max` characters after trimming, without control characters.
pub fn text(min: usize, max: usize) -> impl Fn(&RawValue) -> Result<String, Problem> {
    move |raw| bounded(&any_text(raw)?, min, max)
}

/// A name of `min` to `max` characters after trimming: [`text`] in which every character shows.
///
/// What turns the direction of writing, and what has no width, makes one name look like another, so
/// both are refused like control characters. The two joiners stay where they belong: between
/// characters beyond ASCII, as in the names of some languages and in pictures made of several.
pub fn name(min: usize, max: usize) -> impl Fn(&RawValue) -> Result<String, Problem> {
    move |raw| visible(bounded(&any_text(raw)?, min, max)?)
}

fn visible(text: String) -> Result<String, Problem> {
    let chars: Vec<char> = text.chars().collect();
    let joins = |place: usize| {
        let beyond = |other: Option<&char>| other.is_some_and(|c| !c.is_ascii());
        place > 0 && beyond(chars.get(place - 1)) && beyond(chars.get(place + 1))
    };
    let hidden = chars.iter().enumerate().any(|(place, c)| match c {
        '\u{200c}' | '\u{200d}' => !joins(place),
        c => HIDDEN
            .iter()
            .any(|(first, last)| (first..=last).contains(&c)),
    });
    if hidden {
        Err("must not hold characters that are invisible or turn the direction of writing".into())
    } else {
        Ok(text)
    }
}

/// Text as it stands, untrimmed and of any content: for what is compared or decoded, not kept.
pub fn any_text(raw: &RawValue) -> Result<String, Problem> {
    if !raw.get().starts_with('"') {
        return Err("must be text".into());
    }
    serde_json::from_str(raw.get())
        .map_err(|_| "must be text in Unicode, without lone surrogates".into())
}

/// Text that a type reads itself from, such as an id.
pub fn parsed<T: FromStr>(problem: &'static str) -> impl Fn(&RawValue) -> Result<T, Problem> {
    move |raw| any_text(raw)?.parse().map_err(|_| problem.into())
}

/// One of a set of names.
pub fn one_of<'n, T: Copy>(
    names: &'n [(&'n str, T)],
) -> impl Fn(&RawValue) -> Result<T, Problem> + 'n {
    move |raw| {
        let text = any_text(raw)?;
        names
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, value)| *value)
            .ok_or_else(|| {
                let names: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
                format!("must be one of {}", names.join(", ")).into()
            })
    }
}

/// A whole number. Zeros behind a point change nothing: `4.0` is an integer to JSON Schema, and what
/// some languages write for 4.
pub fn integer(min: i64, max: i64) -> impl Fn(&RawValue) -> Result<i64, Problem> {
    move |raw| {
        let text = raw.get();
        let whole = text
            .split_once('.')
            .filter(|(_, fraction)| fraction.bytes().all(|b| b == b'0'))
            .map_or(text, |(whole, _)| whole);
        whole
            .parse::<i64>()
            .ok()
            .filter(|value| (min..=max).contains(value))
            .ok_or_else(|| format!("must be a whole number from {min} to {max}").into())
    }
}

/// `true` or `false`.
pub fn boolean(raw: &RawValue) -> Result<bool, Problem> {
    match raw.get() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("must be true or false".into()),
    }
}

/// An RFC 3339 time.
pub fn moment(raw: &RawValue) -> Result<DateTime<Utc>, Problem> {
    time(&any_text(raw)?).ok_or_else(|| TIME_PROBLEM.into())
}

/// A list of at most `count` names of `min` to `max` characters.
pub fn texts(
    count: usize,
    min: usize,
    max: usize,
) -> impl Fn(&RawValue) -> Result<Vec<String>, Problem> {
    move |raw| {
        let problem =
            || format!("must be a list of at most {count} texts of {min} to {max} characters");
        if !raw.get().starts_with('[') {
            return Err(problem().into());
        }
        let items: Vec<&RawValue> =
            serde_json::from_str(raw.get()).map_err(|_| Problem::from(problem()))?;
        if items.len() > count {
            return Err(problem().into());
        }
        items
            .into_iter()
            .map(|item| visible(bounded(&any_text(item)?, min, max)?))
            .collect::<Result<_, Problem>>()
            .map_err(|found| format!("{}: each {found}", problem()).into())
    }
}

/// Any JSON of at most 32 KiB that Postgres can keep, as its text.
pub fn document(raw: &RawValue) -> Result<Box<RawValue>, Problem> {
    if raw.get().len() > DOCUMENT_BYTES_MAX {
        return Err("must be JSON of at most 32 KiB".into());
    }
    let value: Value = serde_json::from_str(raw.get())
        .map_err(|_| "must be JSON without lone surrogates or numbers beyond double precision")?;
    if holds_nul(&value) {
        return Err("must not hold NUL characters".into());
    }
    Ok(raw.to_owned())
}

/// A JSON Schema: an object, or one of the two schemas that are not.
pub fn schema(raw: &RawValue) -> Result<Box<RawValue>, Problem> {
    if !matches!(raw.get().as_bytes().first(), Some(b'{' | b't' | b'f')) {
        return Err("must be a JSON Schema: an object, true or false".into());
    }
    document(raw)
}

/// An absolute http or https URL of at most 2048 characters, as its owner wrote it.
pub fn web_url(raw: &RawValue) -> Result<String, Problem> {
    let text = any_text(raw)?.trim().to_owned();
    let problem = "must be an http or https URL of at most 2048 characters";
    if text.chars().count() > crochet_shared::egress::URL_CHARS_MAX
        || text.chars().any(|c| c.is_control() || c.is_whitespace())
    {
        return Err(problem.into());
    }
    match url::Url::parse(&text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(text),
        _ => Err(problem.into()),
    }
}

/// Reads an RFC 3339 time that both we and Postgres can write again.
pub(crate) fn time(text: &str) -> Option<DateTime<Utc>> {
    use chrono::Datelike as _;
    let time = DateTime::parse_from_rfc3339(text).ok()?.to_utc();
    (1..=9999).contains(&time.year()).then_some(time)
}

/// Trims and judges text. Bounds are in characters.
pub fn bounded(text: &str, min: usize, max: usize) -> Result<String, Problem> {
    let text = text.trim();
    if text.chars().any(char::is_control) {
        return Err("must not hold control characters".into());
    }
    if !(min..=max).contains(&text.chars().count()) {
        return Err(match min {
            0 => format!("must be at most {max} characters").into(),
            _ => format!("must be {min} to {max} characters").into(),
        });
    }
    Ok(text.to_owned())
}

fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(holds_nul),
        Value::Object(members) => members
            .iter()
            .any(|(name, value)| name.contains('\0') || holds_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_shows_every_character_it_has() {
        let judge = |text: &str| {
            let raw = RawValue::from_string(serde_json::to_string(text).unwrap()).unwrap();
            name(1, 80)(&raw).is_ok()
        };
        for shown in [
            "Echo",
            "Wetter \u{fc}berall",
            "\u{5e9}\u{5dc}\u{5d5}\u{5dd}",
            "\u{1f468}\u{200d}\u{1f469}",
            "\u{645}\u{6cc}\u{200c}\u{62e}",
        ] {
            assert!(judge(shown), "{shown:?}");
        }
        for hidden in [
            "Echo\u{202e}lakcap",
            "Ec\u{200b}ho",
            "Ec\u{200d}ho",
            "\u{feff}Echo",
            "Echo\u{2066}x\u{2069}",
            "Echo\u{200f}",
            "Ec\u{ad}ho",
        ] {
            assert!(!judge(hidden), "{hidden:?}");
        }
    }

    #[test]
    fn a_whole_number_may_have_zeros_behind_its_point() {
        let read = |text: &str| integer(1, 5)(&RawValue::from_string(text.to_owned()).unwrap());
        assert_eq!(read("4"), Ok(4));
        assert_eq!(read("4.0"), Ok(4));
        assert_eq!(read("4.000"), Ok(4));
        for other in [
            "4.5", "4.01", "40e-1", "4e0", "4.0e0", "6.0", "\"4.0\"", "[4]",
        ] {
            assert!(read(other).is_err(), "{other}");
        }
    }

    #[test]
    fn documents_that_postgres_cannot_keep_are_refused() {
        let judge = |text: &str| document(&RawValue::from_string(text.to_owned()).unwrap()).is_ok();
        assert!(judge(r#"{"a":[1,1e308,null]}"#));
        assert!(!judge(r#"["\u0000"]"#));
        assert!(!judge(r#"{"\u0000":1}"#));
        assert!(!judge(r#"["\udc00"]"#));
        assert!(!judge("[1e999]"));
        assert!(!judge(&format!("\"{}\"", "a".repeat(DOCUMENT_BYTES_MAX))));
    }
}
