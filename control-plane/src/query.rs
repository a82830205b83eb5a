//! Query strings: what a route reads of one, with every bad parameter named at once.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use chrono::{DateTime, Utc};
use crochet_shared::envelope::{BadField, Failure};
use http::request::Parts;

use crate::app::App;
use crate::error::ApiError;

/// The parameters of a query string. Take with `query: Query` as a handler's argument; read; then
/// call [`Self::finish`], which refuses everything found wrong.
#[derive(Debug, Default)]
pub struct Query {
    pairs: Vec<(String, String)>,
    /// Names that stand more than once.
    twice: Vec<String>,
    bad: Vec<BadField>,
}

impl Query {
    /// Splits `a=b&c=d`.
    pub fn parse(text: &str) -> Self {
        let mut query = Self::default();
        for (name, value) in url::form_urlencoded::parse(text.as_bytes()) {
            if query.pairs.iter().any(|(had, _)| *had == name) {
                query.twice.push(name.into_owned());
            } else {
                query.pairs.push((name.into_owned(), value.into_owned()));
            }
        }
        query
    }

    /// Records a problem with a parameter.
    pub fn refuse(
        &mut self,
        field: impl Into<Cow<'static, str>>,
        problem: impl Into<Cow<'static, str>>,
    ) {
        self.bad.push(BadField {
            field: field.into(),
            problem: problem.into(),
        });
    }

    /// The text of a parameter. Empty is a value; absent is `None`. One that stands twice is refused, because
    /// which is meant is a guess; one that nobody reads may stand as often as it likes.
    pub fn text(&mut self, name: &'static str) -> Option<&str> {
        if self.twice.iter().any(|had| had == name) {
            self.twice.retain(|had| had != name);
            self.refuse(name, "must stand once");
        }
        self.pairs
            .iter()
            .find(|(had, _)| had == name)
            .map(|(_, value)| value.as_str())
    }

    /// A whole number within bounds.
    pub fn integer(&mut self, name: &'static str, min: i64, max: i64) -> Option<i64> {
        let text = self.text(name)?.to_owned();
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        match text.parse::<i64>() {
            Ok(value) if digits && (min..=max).contains(&value) => Some(value),
            _ => {
                self.refuse(name, format!("must be a whole number from {min} to {max}"));
                None
            }
        }
    }

    /// One of a set of names.
    pub fn one_of<T: Copy>(&mut self, name: &'static str, names: &[(&str, T)]) -> Option<T> {
        let text = self.text(name)?;
        let found = names.iter().find(|(known, _)| *known == text);
        let value = found.map(|(_, value)| *value);
        if value.is_none() {
            let known: Vec<&str> = names.iter().map(|(known, _)| *known).collect();
            self.refuse(name, format!("must be one of {}", known.join(", ")));
        }
        value
    }

    /// Anything that reads itself from text, such as a typed id.
    pub fn parsed<T: std::str::FromStr>(
        &mut self,
        name: &'static str,
        problem: &'static str,
    ) -> Option<T> {
        let text = self.text(name)?;
        let value = text.parse().ok();
        if value.is_none() {
            self.refuse(name, problem);
        }
        value
    }

    /// An RFC 3339 time.
    pub fn time(&mut self, name: &'static str) -> Option<DateTime<Utc>> {
        let text = self.text(name)?;
        let time = crate::fields::time(text);
        if time.is_none() {
            self.refuse(name, crate::fields::TIME_PROBLEM);
        }
        time
    }

    /// Refuses when anything was wrong.
    pub fn finish(self) -> Result<(), ApiError> {
        if self.bad.is_empty() {
            Ok(())
        } else {
            Err(Failure::validation(&self.bad).into())
        }
    }
}

impl FromRequestParts<Arc<App>> for Query {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<App>) -> Result<Self, ApiError> {
        Ok(Self::parse(parts.uri.query().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_twice_is_refused_only_where_it_is_read() {
        let mut query = Query::parse("utm=a&utm=b&limit=5&page=1&page=2&page=3");
        assert_eq!(query.integer("limit", 1, 100), Some(5));
        assert_eq!(query.text("q"), None);
        query.finish().unwrap();
        let mut query = Query::parse("page=1&page=2&page=3");
        let _ = query.integer("page", 1, 100);
        let _ = query.text("page");
        assert_eq!(query.bad.len(), 1, "named once: {:?}", query.bad);
    }
}
