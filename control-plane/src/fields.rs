//! Bodies, field by field: each route reads the members it knows, and every bad one is named at once.
//!
//! Members stay as JSON text until a reader judges them, so a price never passes through a float
//! and a lone surrogate is told as a problem of its own field. Unknown members are ignored.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crochet_shared::envelope::{BadField, Failure};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::ApiError;

mod read;

pub(crate) use read::{HIDDEN, TIME_PROBLEM, time};
pub use read::{
    any_text, boolean, bounded, document, integer, moment, name, one_of, parsed, schema, text,
    texts, web_url,
};

/// What is wrong with a value, as a clause: `must be 1 to 80 characters`.
pub type Problem = Cow<'static, str>;

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
    pub fn is_null(&mut self, name: &str) -> bool {
        self.member(name).is_some_and(is_null)
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

fn is_null(raw: &RawValue) -> bool {
    raw.get() == "null"
}

fn object(raw: &RawValue) -> Option<Members<'_>> {
    raw.get()
        .starts_with('{')
        .then(|| serde_json::from_str(raw.get()).ok())
        .flatten()
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
}
