//! How routes describe themselves in the API document: bounds and names out of the very constants and
//! tables that requests are judged by.
//!
//! A parameter has the type of a schema of these functions, named with [`schema_type`]
//! (`#[param(value_type = Sorts, required = false, inline)]`): a function of its own, `schema_with`,
//! costs a parameter its doc comment. A field of a body keeps its type and doc comment and names its
//! bounds in an extension, `#[schema(extensions(("x-text" = json!([1, NAME_CHARS_MAX]))))]`;
//! [`crate::docs`] turns [`TEXT`], [`NAME`], [`PATTERN`], [`TEXTS`], [`RANGE`], [`ONE_OF`] into JSON Schema. An
//! operation names the codes of its own with [`ERRORS`]; what every operation of its kind can answer is
//! added there.

use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};

/// `[min, max]`: text of so many characters after trimming, without control characters.
pub const TEXT: &str = "x-text";
/// `[min, max]`: such text in which every character shows, as [`crate::fields::name`] reads it.
pub const NAME: &str = "x-name";
/// A regular expression that the text is of.
pub const PATTERN: &str = "x-pattern";
/// `[count, min, max]`: a list of at most `count` such names.
pub const TEXTS: &str = "x-texts";
/// `[min, max]`: a whole number.
pub const RANGE: &str = "x-range";
/// Names, of which it is one.
pub const ONE_OF: &str = "x-one-of";
/// Codes of an operation.
pub const ERRORS: &str = "x-error-codes";

/// Makes a type of a schema: `schema_type!(Sorts = describe::one_of(&SORTS));`.
macro_rules! schema_type {
    ($name:ident = $schema:expr) => {
        #[doc = concat!("The schema `", stringify!($name), "`, for the API document.")]
        struct $name;

        impl ::utoipa::ToSchema for $name {}

        impl ::utoipa::PartialSchema for $name {
            fn schema() -> ::utoipa::openapi::RefOr<::utoipa::openapi::schema::Schema> {
                $schema.into()
            }
        }
    };
}
pub(crate) use schema_type;

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
pub fn integer(min: i64, max: i64) -> Schema {
    whole(min, max).into()
}

/// A whole number that is `default` where it is not given.
pub fn integer_or(min: i64, max: i64, default: i64) -> Schema {
    whole(min, max).default(Some(default.into())).into()
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
#[derive(Debug)]
pub struct Time;

impl ToSchema for Time {}

impl PartialSchema for Time {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .examples(["2026-01-31T12:00:00.000Z"])
            .into()
    }
}
