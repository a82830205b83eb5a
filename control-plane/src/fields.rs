//! Bodies, field by field: each route reads the members it knows, and every bad one is named at once.
//!
//! Members stay as JSON text until a reader judges them, so a price never passes through a float
//! and a lone surrogate is told as a problem of its own field. Unknown members are ignored.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use crochet_shared::envelope::{BadField, Failure};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::ApiError;

/// What is wrong with a value, as a clause: `must be 1 to 80 characters`.
pub type Problem = Cow<'static, str>;

/// What a time that cannot be read is told.
pub(crate) const TIME_PROBLEM: &str = "must be an RFC 3339 time between the years 2000 and 9999";

/// Largest JSON Schema or example, in bytes (contract, head: 32 KiB).
const DOCUMENT_BYTES_MAX: usize = 32 * 1024;

/// A request body that is read from the fields of a JSON object.
pub trait FromFields: Sized {
    /// Reads what it needs. `None` only after a problem was recorded.
    fn from_fields(fields: &mut Fields<'_>) -> Option<Self>;
}

/// The members of a JSON object, and what was found wrong with them so far.
#[derive(Debug, Default)]
pub struct Fields<'a> {
    members: BTreeMap<String, &'a RawValue>,
    twice: BTreeSet<String>,
    prefix: String,
    bad: Vec<BadField>,
}

impl<'a> Fields<'a> {
    /// Takes an object's text apart. Anything but an object has no fields to name.
    pub fn parse(text: &'a str) -> Result<Self, ApiError> {
        if !text.trim_start().starts_with('{') {
            return Err(ApiError::field("body", "must be a JSON object"));
        }
        let members: Members<'a> = serde_json::from_str(text)
            .map_err(|_| ApiError::from(crochet_shared::code::Code::InvalidJson))?;
        Ok(Self::of(members, String::new()))
    }

    fn of(members: Members<'a>, prefix: String) -> Self {
        Self {
            members: members.once,
            twice: members.twice,
            prefix,
            bad: Vec::new(),
        }
    }

    /// Records a problem with a field. The first is told: what follows from it is no news.
    pub fn refuse(&mut self, name: &str, problem: impl Into<Problem>) {
        if self.has_problem(name) {
            return;
        }
        self.bad.push(BadField {
            field: format!("{}{name}", self.prefix).into(),
            problem: problem.into(),
        });
    }

    /// Whether the field is there at all, `null` or not.
    pub fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// Whether the field is there and `null`.
    pub fn is_null(&self, name: &str) -> bool {
        self.members.get(name).is_some_and(|raw| is_null(raw))
    }

    /// Whether the field was found bad already.
    pub fn has_problem(&self, name: &str) -> bool {
        let field = format!("{}{name}", self.prefix);
        self.bad.iter().any(|bad| bad.field == field)
    }

    /// Whether the field or anything within it was found bad already.
    pub fn has_problem_within(&self, name: &str) -> bool {
        let within = format!("{}{name}.", self.prefix);
        self.has_problem(name) || self.bad.iter().any(|bad| bad.field.starts_with(&within))
    }

    /// A field's one value. One that stands twice is refused, for which is meant is a guess; an
    /// unknown one that stands twice is ignored like any unknown one.
    fn member(&mut self, name: &str) -> Option<&'a RawValue> {
        if self.twice.contains(name) {
            self.refuse(name, "must stand once");
            return None;
        }
        self.members.get(name).copied()
    }

    /// The names of the fields that are there.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }

    /// A field that must be there.
    pub fn required<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&'a RawValue) -> Result<T, Problem>,
    ) -> Option<T> {
        match self.member(name) {
            Some(raw) if !is_null(raw) => {
                let outcome = read(raw);
                self.keep(name, outcome)
            }
            _ => {
                self.refuse(name, "is required");
                None
            }
        }
    }

    /// A field that may be absent, or `null`, which means the same.
    pub fn optional<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&'a RawValue) -> Result<T, Problem>,
    ) -> Option<T> {
        self.change(name, read).flatten()
    }

    /// A field of a change: absent, `null` to clear it, or a new value.
    pub fn change<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&'a RawValue) -> Result<T, Problem>,
    ) -> Option<Option<T>> {
        let raw = self.member(name)?;
        if is_null(raw) {
            return Some(None);
        }
        let outcome = read(raw);
        self.keep(name, outcome).map(Some)
    }

    /// A field of a change that cannot be cleared: absent, or a new value.
    pub fn present<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&'a RawValue) -> Result<T, Problem>,
    ) -> Option<T> {
        let raw = self.member(name)?;
        if is_null(raw) {
            self.refuse(name, "must not be null");
            return None;
        }
        let outcome = read(raw);
        self.keep(name, outcome)
    }

    /// The fields of a nested object, whose problems are named with its name before them
    /// (`endpoint.timeout_ms`).
    pub fn nested<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Fields<'a>) -> Option<T>,
    ) -> Option<T> {
        let raw = self.member(name)?;
        if is_null(raw) {
            return None;
        }
        let Some(members) = object(raw) else {
            self.refuse(name, "must be a JSON object");
            return None;
        };
        let mut inner = Fields::of(members, format!("{}{name}.", self.prefix));
        let value = read(&mut inner);
        self.bad.append(&mut inner.bad);
        value
    }

    /// As [`Self::nested`], for an object that must be there.
    pub fn required_nested<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Fields<'a>) -> Option<T>,
    ) -> Option<T> {
        if !self.has(name) || self.is_null(name) {
            self.refuse(name, "is required");
            return None;
        }
        self.nested(name, read)
    }

    /// The value, or every problem found.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, ApiError> {
        match value {
            Some(value) if self.bad.is_empty() => Ok(value),
            None if self.bad.is_empty() => Err(ApiError::internal(anyhow::anyhow!(
                "a body was refused without a reason"
            ))),
            _ => Err(Failure::validation(&self.bad).into()),
        }
    }

    /// What was found wrong so far, for a handler that has more to look at before it refuses.
    pub fn into_findings(self) -> Findings {
        Findings { bad: self.bad }
    }

    fn keep<T>(&mut self, name: &str, outcome: Result<T, Problem>) -> Option<T> {
        match outcome {
            Ok(value) => Some(value),
            Err(problem) => {
                self.refuse(name, problem);
                None
            }
        }
    }
}

/// What is wrong with a body: of its fields, and then of what they name.
#[derive(Debug, Default)]
pub struct Findings {
    bad: Vec<BadField>,
}

impl Findings {
    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.bad.is_empty()
    }

    /// Whether the field was found bad already.
    pub fn has_problem(&self, field: &str) -> bool {
        self.bad.iter().any(|bad| bad.field == field)
    }

    /// Records a problem with a field, unless it has one.
    pub fn refuse(&mut self, field: &'static str, problem: impl Into<Problem>) {
        if !self.has_problem(field) {
            self.bad.push(BadField {
                field: field.into(),
                problem: problem.into(),
            });
        }
    }

    /// Refuses when anything was wrong, naming all of it.
    pub fn finish(self) -> Result<(), ApiError> {
        if self.bad.is_empty() {
            Ok(())
        } else {
            Err(Failure::validation(&self.bad).into())
        }
    }
}

// --- readers -----------------------------------------------------------------------------------

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
        '\u{ad}'
        | '\u{61c}'
        | '\u{180e}'
        | '\u{200b}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}' => true,
        _ => false,
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

/// A whole number, written as one.
pub fn integer(min: i64, max: i64) -> impl Fn(&RawValue) -> Result<i64, Problem> {
    move |raw| {
        raw.get()
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
    (2000..=9999).contains(&time.year()).then_some(time)
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

fn is_null(raw: &RawValue) -> bool {
    raw.get() == "null"
}

fn object(raw: &RawValue) -> Option<Members<'_>> {
    raw.get()
        .starts_with('{')
        .then(|| serde_json::from_str(raw.get()).ok())
        .flatten()
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

/// An object's members, and the names that stand more than once.
struct Members<'a> {
    once: BTreeMap<String, &'a RawValue>,
    twice: BTreeSet<String>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Members<'de>;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Members {
                    once: BTreeMap::new(),
                    twice: BTreeSet::new(),
                };
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    if let Some(_standing) = members.once.insert(name.clone(), value) {
                        members.twice.insert(name);
                    }
                }
                Ok(members)
            }
        }
        from.deserialize_map(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str, read: impl FnOnce(&mut Fields<'_>)) -> Vec<(String, String)> {
        let mut fields = Fields::parse(text).unwrap();
        read(&mut fields);
        fields
            .bad
            .into_iter()
            .map(|bad| (bad.field.into_owned(), bad.problem.into_owned()))
            .collect()
    }

    #[test]
    fn every_bad_field_is_named() {
        let found = problems(
            r#"{"a":"\ud800","b":"  ","c":1.5,"d":null,"e":"x\u0000","f":"é","g":{"h":1},"i":1,"i":2,"j":1,"j":2}"#,
            |fields| {
                fields.required("a", text(1, 5));
                fields.required("b", text(1, 5));
                fields.required("c", integer(0, 5));
                fields.required("d", boolean);
                fields.optional("e", text(1, 5));
                assert_eq!(fields.required("f", text(1, 1)).as_deref(), Some("é"));
                fields.nested("g", |inner| inner.required("h", text(1, 2)));
                assert_eq!(fields.optional("absent", text(1, 5)), None);
                fields.required("i", boolean);
                fields.refuse("i", "is required");
                fields.required_nested("k", |inner| inner.required("l", boolean));
            },
        );
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        // Once each; and `j`, which nobody reads, is ignored although it stands twice.
        assert_eq!(names, ["a", "b", "c", "d", "e", "g.h", "i", "k"]);
    }

    #[test]
    fn null_clears_only_what_can_be_cleared() {
        let mut fields = Fields::parse(r#"{"a":null,"b":null}"#).unwrap();
        assert_eq!(fields.change("a", boolean), Some(None));
        assert_eq!(fields.change("c", boolean), None);
        assert_eq!(fields.present("b", boolean), None);
        assert!(fields.finish(Some(())).is_err());
    }

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
