//! How routes describe themselves in the API document: bounds and names out of the very constants and
//! tables that requests are judged by.
//!
//! Parameters take a schema of these functions (`#[param(schema_with = …)]`). A field of a body keeps
//! its type and doc comment and names its bounds in an extension, `#[schema(extensions(("x-text" =
//! json!([1, NAME_CHARS_MAX]))))]`; [`crate::docs`] turns [`TEXT`], [`TEXTS`], [`RANGE`], [`ONE_OF`] into
//! JSON Schema. An operation names the codes of its own with [`ERRORS`]; what every operation of its
//! kind can answer is added there.

use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};

/// `[min, max]`: text of so many characters after trimming, without control characters.
pub const TEXT: &str = "x-text";
/// `[count, min, max]`: a list of at most `count` such texts.
pub const TEXTS: &str = "x-texts";
/// `[min, max]`: a whole number.
pub const RANGE: &str = "x-range";
/// Names, of which it is one.
pub const ONE_OF: &str = "x-one-of";
/// Codes of an operation.
pub const ERRORS: &str = "x-error-codes";

/// The names of a table, for [`ONE_OF`].
pub fn names<'n, T>(table: &[(&'n str, T)]) -> Vec<&'n str> {
    table.iter().map(|(name, _)| *name).collect()
}

/// A parameter that is one of a table's names.
pub fn one_of<T>(table: &[(&str, T)]) -> Schema {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(names(table)))
        .into()
}

/// A whole number.
pub fn integer<const MIN: i64, const MAX: i64>() -> Schema {
    whole(MIN, MAX).into()
}

/// A whole number that is `DEFAULT` where it is not given.
pub fn integer_or<const MIN: i64, const MAX: i64, const DEFAULT: i64>() -> Schema {
    whole(MIN, MAX).default(Some(DEFAULT.into())).into()
}

fn whole(min: i64, max: i64) -> ObjectBuilder {
    // Through text, because the library's numbers are floats and these need not fit one exactly.
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
        .extensions(Some(
            utoipa::openapi::extensions::ExtensionsBuilder::new()
                .add(RANGE, serde_json::json!([min, max]))
                .build(),
        ))
}

/// Text of a form.
pub fn pattern(regex: &str, example: &str) -> Schema {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(regex))
        .examples([example])
        .into()
}

/// An RFC 3339 time.
pub fn time() -> Schema {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
        .examples(["2026-01-31T12:00:00.000Z"])
        .into()
}
