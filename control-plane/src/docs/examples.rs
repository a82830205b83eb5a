//! Examples of whole bodies, put together from the examples of their fields.
//!
//! A schema's own example wins; else an object is made of its properties' examples, a list of one
//! item, a choice of its first branch. A test holds every example to its schema.

use serde_json::{Map, Value, json};

use super::schemas::SCHEMAS;

/// Deeper than any schema here nests.
const DEPTH_MAX: u8 = 16;

/// An example of `schema`, whose references are looked up in `document`.
pub(super) fn of(document: &Value, schema: &Value) -> Value {
    compose(document, schema, DEPTH_MAX)
}

fn compose(document: &Value, schema: &Value, depth: u8) -> Value {
    let Some(depth) = depth.checked_sub(1) else {
        return Value::Null;
    };
    if let Some(example) = own(schema) {
        return example;
    }
    if let Some(name) = schema
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|to| to.strip_prefix(SCHEMAS))
    {
        let target = document.pointer(&format!("/components/schemas/{name}"));
        return target.map_or(Value::Null, |target| compose(document, target, depth));
    }
    if let Some(parts) = schema.get("allOf").and_then(Value::as_array) {
        let mut whole = Map::new();
        for part in parts {
            if let Value::Object(members) = compose(document, part, depth) {
                whole.extend(members);
            }
        }
        return whole.into();
    }
    for key in ["oneOf", "anyOf"] {
        let branches = schema.get(key).and_then(Value::as_array);
        let telling = branches
            .into_iter()
            .flatten()
            .find(|branch| branch.get("type").is_none_or(|kind| kind != "null"));
        if let Some(branch) = telling {
            return compose(document, branch, depth);
        }
    }
    of_type(document, schema, depth)
}

/// What the schema itself says.
fn own(schema: &Value) -> Option<Value> {
    let listed = |key: &str| schema.get(key)?.as_array()?.first().cloned();
    schema
        .get("example")
        .or_else(|| schema.get("const"))
        .cloned()
        .or_else(|| listed("examples"))
        .or_else(|| listed("enum"))
}

fn of_type(document: &Value, schema: &Value, depth: u8) -> Value {
    let kind = match schema.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().find(|kind| *kind != "null"),
        kind => kind,
    };
    match kind.and_then(Value::as_str) {
        Some("object") => {
            let properties = schema.get("properties").and_then(Value::as_object);
            let members = properties
                .into_iter()
                .flatten()
                .map(|(name, property)| (name.clone(), compose(document, property, depth)));
            Value::Object(members.collect())
        }
        Some("array") => {
            let item = schema.get("items").unwrap_or(&Value::Null);
            json!([compose(document, item, depth)])
        }
        Some("string") => match schema.get("format").and_then(Value::as_str) {
            Some("uuid") => json!("01890a5d-ac96-774b-bcce-b302099a8057"),
            Some("date-time") => json!("2026-01-31T12:00:00.000Z"),
            _ => json!("text"),
        },
        Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or(json!(1)),
        Some("boolean") => json!(true),
        _ => Value::Null,
    }
}
