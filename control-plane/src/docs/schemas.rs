//! From what fields say of themselves to JSON Schema: the extensions of [`crate::describe`], and which
//! keys of an answer are always there.

use serde_json::{Map, Value, json};

use crate::describe::{NAME, ONE_OF, PATTERN, RANGE, TEXT, TEXTS};
use crate::fields::HIDDEN;

/// A prefix of references to components.
pub(super) const SCHEMAS: &str = "#/components/schemas/";
/// What no text holds, as the inside of a character class.
const CONTROLS: &str = r"\u0000-\u001f\u007f-\u009f";
/// What a name says of itself, beside its pattern.
const SHOWS: &str = "Every character shows: none is invisible or turns the direction of writing. A \
    joiner (U+200C, U+200D) stands between characters beyond ASCII.";

/// Turns every extension of [`crate::describe`] below `node` into JSON Schema.
pub(super) fn resolve(node: &mut Value) {
    match node {
        Value::Array(items) => items.iter_mut().for_each(resolve),
        Value::Object(members) => {
            bound_list(members);
            members.values_mut().for_each(resolve);
            resolve_one(members);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn resolve_one(schema: &mut Map<String, Value>) {
    if let Some(names) = schema.remove(ONE_OF) {
        let mut names = names.as_array().cloned().unwrap_or_default();
        if is_nullable(schema) {
            names.push(Value::Null);
        }
        schema.insert("enum".to_owned(), names.into());
    }
    if let Some(range) = schema.remove(RANGE) {
        schema.insert("minimum".to_owned(), number(&range, 0));
        schema.insert("maximum".to_owned(), number(&range, 1));
    }
    if let Some(pattern) = schema.remove(PATTERN) {
        schema.insert("pattern".to_owned(), pattern);
    }
    if let Some(bounds) = schema.remove(TEXT) {
        text(schema, &number(&bounds, 0), &number(&bounds, 1), CONTROLS);
    }
    if let Some(bounds) = schema.remove(NAME) {
        name(schema, &number(&bounds, 0), &number(&bounds, 1));
        say(schema, SHOWS);
    }
}

/// The library puts what a list's field says of itself on the list's items.
fn bound_list(list: &mut Map<String, Value>) {
    let Some(items) = list.get_mut("items").and_then(Value::as_object_mut) else {
        return;
    };
    if let Some(bounds) = items.remove(TEXTS) {
        name(items, &number(&bounds, 1), &number(&bounds, 2));
        list.insert("maxItems".to_owned(), number(&bounds, 0));
        say(list, SHOWS);
    }
}

fn number(list: &Value, place: usize) -> Value {
    list.get(place).cloned().unwrap_or_default()
}

/// Text in which every character shows.
fn name(schema: &mut Map<String, Value>, min: &Value, max: &Value) {
    let hidden: String = HIDDEN
        .iter()
        .map(|(first, last)| stretch(*first, *last))
        .collect();
    text(schema, min, max, &format!("{CONTROLS}{hidden}"));
}

/// A part of a character class.
fn stretch(first: char, last: char) -> String {
    if first == last {
        member(first)
    } else {
        format!("{}-{}", member(first), member(last))
    }
}

/// One character of a class. Beyond four digits there is no escape that every dialect knows.
fn member(character: char) -> String {
    match u32::from(character) {
        code @ ..=0xffff => format!(r"\u{code:04x}"),
        _ => character.to_string(),
    }
}

/// Adds a sentence to what a schema says of itself.
fn say(schema: &mut Map<String, Value>, sentence: &str) {
    let said = schema.get("description").and_then(Value::as_str);
    let said = said.map_or_else(|| sentence.to_owned(), |said| format!("{said} {sentence}"));
    schema.insert("description".to_owned(), said.into());
}

/// Text without what is forbidden. The pattern counts, because the bounds are of the text without the
/// spaces around it and `maxLength` would count those too.
fn text(schema: &mut Map<String, Value>, min: &Value, max: &Value, forbidden: &str) {
    let (least, most) = (min.as_u64().unwrap_or(0), max.as_u64().unwrap_or(0));
    let inner = (least.saturating_sub(2), most.saturating_sub(2));
    let ends = format!(r"[^\s{forbidden}]");
    let tail = format!("[^{forbidden}]{{{},{}}}{ends}", inner.0, inner.1);
    let pattern = match least {
        0 => format!(r"^\s*({ends}({tail})?)?\s*$"),
        1 => format!(r"^\s*{ends}({tail})?\s*$"),
        _ => format!(r"^\s*{ends}{tail}\s*$"),
    };
    schema.insert("minLength".to_owned(), min.clone());
    schema.insert("pattern".to_owned(), pattern.into());
    let bounds = match least {
        0 => format!("At most {most} characters, not counting spaces around them."),
        _ => format!("{least} to {most} characters, not counting spaces around them."),
    };
    say(schema, &bounds);
}

/// Whether a schema takes `null`.
pub(super) fn is_nullable(schema: &Map<String, Value>) -> bool {
    let null = |value: &Value| value == "null";
    match schema.get("type") {
        Some(Value::Array(types)) => types.iter().any(null),
        Some(kind) => null(kind),
        None => ["oneOf", "anyOf"]
            .iter()
            .filter_map(|key| schema.get(*key)?.as_array())
            .flatten()
            .any(|branch| branch.get("type").is_some_and(null)),
    }
}

/// Whether a schema takes anything.
fn is_any(schema: &Map<String, Value>) -> bool {
    !["type", "$ref", "oneOf", "anyOf", "allOf", "enum"]
        .iter()
        .any(|key| schema.contains_key(*key))
}

/// Listed keys of an answer are always present, `null` when unknown (contract, head): in schemas of
/// answers, what may be `null` is required. A key that may be absent is never `null`.
pub(super) fn require_nullable(document: &mut Value) {
    let mut answers: Vec<String> = Vec::new();
    if let Some(paths) = document.get("paths") {
        each_success(paths, &mut |schema| collect(schema, &mut answers));
    }
    let mut next = 0;
    while let Some(name) = answers.get(next).cloned() {
        next += 1;
        if let Some(schema) = document.pointer_mut(&format!("/components/schemas/{name}")) {
            collect(schema, &mut answers);
            require(schema);
        }
    }
}

/// Every schema of a successful answer.
fn each_success(paths: &Value, see: &mut impl FnMut(&Value)) {
    let operations = paths
        .as_object()
        .into_iter()
        .flat_map(Map::values)
        .filter_map(Value::as_object)
        .flat_map(Map::values);
    for operation in operations {
        let responses = operation.get("responses").and_then(Value::as_object);
        for (status, response) in responses.into_iter().flatten() {
            if status.starts_with('2') {
                see(response);
            }
        }
    }
}

/// The names of components that `node` refers to, each once.
fn collect(node: &Value, names: &mut Vec<String>) {
    match node {
        Value::Array(items) => items.iter().for_each(|item| collect(item, names)),
        Value::Object(members) => {
            let name = members
                .get("$ref")
                .and_then(Value::as_str)
                .and_then(|to| to.strip_prefix(SCHEMAS));
            if let Some(name) = name
                && !names.iter().any(|had| had == name)
            {
                names.push(name.to_owned());
            }
            members.values().for_each(|value| collect(value, names));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn require(node: &mut Value) {
    match node {
        Value::Array(items) => items.iter_mut().for_each(require),
        Value::Object(schema) => {
            schema.values_mut().for_each(require);
            let properties = schema.get("properties").and_then(Value::as_object);
            let nullable: Vec<Value> = properties
                .into_iter()
                .flatten()
                .filter(|(_, property)| {
                    property
                        .as_object()
                        .is_some_and(|property| is_nullable(property) || is_any(property))
                })
                .map(|(name, _)| json!(name))
                .collect();
            if nullable.is_empty() {
                return;
            }
            let required = schema.entry("required").or_insert_with(|| json!([]));
            if let Some(required) = required.as_array_mut() {
                required.extend(nullable);
                required.sort_by_key(|name| name.as_str().map(str::to_owned));
                required.dedup();
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
