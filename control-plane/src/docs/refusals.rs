//! The documented refusals of an operation, out of the one table of codes: what it names itself, and
//! what every operation of its kind can answer.

use std::collections::BTreeMap;

use crochet_shared::code::Code;
use crochet_shared::envelope::{BadField, DocLinks, Failure};
use serde_json::{Map, Value, json};

use super::examples;
use super::schemas::SCHEMAS;
use crate::describe::ERRORS;

/// What any operation can answer: a path that is not plain, headers beyond measure, faults of ours.
const ALWAYS: [Code; 4] = [
    Code::ValidationError,
    Code::HeadersTooLarge,
    Code::InternalError,
    Code::ServiceUnavailable,
];
/// What an operation with a credential can answer.
const WITH_CREDENTIAL: [Code; 3] = [Code::Unauthorized, Code::InvalidApiKey, Code::RateLimited];
/// What an operation with a JSON body can answer.
const WITH_BODY: [Code; 3] = [
    Code::InvalidJson,
    Code::BodyTooLarge,
    Code::UnsupportedMediaType,
];

/// Every code of an operation, in the table's order.
pub(super) fn codes(operation: &Map<String, Value>) -> Vec<Code> {
    let named = operation.get(ERRORS).and_then(Value::as_array);
    let named: Vec<&str> = named
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let credential = operation
        .get("security")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .any(|requirement| {
            requirement
                .as_object()
                .is_some_and(|kinds| !kinds.is_empty())
        });
    // Agents' alone: a person's session is no key there.
    let agents_only = operation.get("security") == Some(&json!([{ "bearer": [] }]));
    let json_body = operation.get("requestBody").is_some_and(|body| {
        body.pointer("/content/application~1json/schema/type") != Some(&json!("string"))
    });
    Code::ALL
        .iter()
        .copied()
        .filter(|code| {
            named.contains(&code.as_str())
                || ALWAYS.contains(code)
                || (credential && WITH_CREDENTIAL.contains(code))
                || (agents_only && *code == Code::AgentRequired)
                || (json_body && WITH_BODY.contains(code))
        })
        .collect()
}

/// Adds the refusals of an operation to its responses: each status a component, shared by the
/// operations that refuse with the same codes.
pub(super) fn add(
    operation: &mut Map<String, Value>,
    shared: &mut BTreeMap<String, Value>,
    document: &Value,
    docs: &DocLinks,
) {
    let codes = codes(operation);
    let is_call = operation.get("tags") == Some(&json!(["Gateway"]));
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    for code in &codes {
        by_status.entry(code.status()).or_default().push(*code);
    }
    operation.insert(
        ERRORS.to_owned(),
        codes.iter().map(|code| json!(code)).collect(),
    );
    let responses = operation.entry("responses").or_insert_with(|| json!({}));
    let Some(responses) = responses.as_object_mut() else {
        return;
    };
    for (status, codes) in by_status {
        let name = component_name(&codes, is_call);
        responses.insert(
            status.to_string(),
            json!({ "$ref": format!("#/components/responses/{name}") }),
        );
        shared
            .entry(name)
            .or_insert_with(|| response(status, &codes, is_call, document, docs));
    }
}

/// `UnauthorizedOrInvalidApiKey`, and what a call is refused with by a name of its own.
fn component_name(codes: &[Code], is_call: bool) -> String {
    let names: Vec<String> = codes.iter().map(|code| format!("{code:?}")).collect();
    names.join("Or") + if is_call { "OfCall" } else { "" }
}

fn response(
    status: u16,
    codes: &[Code],
    is_call: bool,
    document: &Value,
    docs: &DocLinks,
) -> Value {
    let description: Vec<String> = codes
        .iter()
        .map(|code| format!("`{}`: {}", code.as_str(), code.entry().message))
        .collect();
    let examples: Map<String, Value> = codes
        .iter()
        .map(|code| {
            let value = example(*code, document, docs);
            (code.as_str().to_owned(), json!({ "value": value }))
        })
        .collect();
    json!({
        "description": description.join("\n\n"),
        "headers": headers(status, codes, is_call),
        "content": { "application/json": { "schema": schema(codes), "examples": examples } },
    })
}

/// Headers that the answers of a status carry.
fn headers(status: u16, codes: &[Code], is_call: bool) -> Value {
    let mut names = vec!["X-Request-Id"];
    if is_call {
        names.push("X-Crochet-Request-Id");
    }
    if codes
        .iter()
        .any(|code| code.entry().retry_after_seconds.is_some())
    {
        names.push("Retry-After");
    }
    if status == 401 {
        names.push("WWW-Authenticate");
    }
    if status == 429 {
        names.extend(["RateLimit-Policy", "RateLimit"]);
    }
    header_references(&names)
}

/// References to described headers.
pub(super) fn header_references(names: &[&str]) -> Value {
    names
        .iter()
        .map(|name| {
            let to = json!({ "$ref": format!("#/components/headers/{name}") });
            ((*name).to_owned(), to)
        })
        .collect::<Map<String, Value>>()
        .into()
}

/// What stands beside `error`, by code.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "all other codes have nothing beside their error"
)]
const fn data_of(code: Code) -> Option<&'static str> {
    match code {
        Code::PaymentRequired | Code::PaymentFailed => Some("PaymentRequiredData"),
        Code::ResponseNoLongerStored => Some("DeliveredFacts"),
        Code::SellerError
        | Code::SellerUnreachable
        | Code::SellerInvalidResponse
        | Code::SellerResponseTooLarge
        | Code::SellerTimeout => Some("FailedAttempt"),
        _ => None,
    }
}

/// The failure envelope with one of these codes, and its `data` where codes have one.
fn schema(codes: &[Code]) -> Value {
    let mut kinds: Vec<Option<&str>> = Vec::new();
    for code in codes {
        if !kinds.contains(&data_of(*code)) {
            kinds.push(data_of(*code));
        }
    }
    let of_kind = |kind: Option<&str>| {
        let names: Vec<&str> = codes
            .iter()
            .filter(|code| data_of(**code) == kind)
            .map(|code| code.as_str())
            .collect();
        let mut narrow = json!({
            "type": "object",
            "properties": { "error": { "type": "object", "properties": { "code": { "enum": names } } } },
        });
        if let (Some(name), Some(narrow)) = (kind, narrow.as_object_mut()) {
            narrow.insert("required".to_owned(), json!(["data"]));
            if let Some(properties) = narrow.get_mut("properties").and_then(Value::as_object_mut) {
                properties.insert(
                    "data".to_owned(),
                    json!({ "$ref": format!("{SCHEMAS}{name}") }),
                );
            }
        }
        json!({ "allOf": [{ "$ref": format!("{SCHEMAS}Failure") }, narrow] })
    };
    match kinds.as_slice() {
        [one] => of_kind(*one),
        many => json!({ "anyOf": many.iter().copied().map(of_kind).collect::<Vec<Value>>() }),
    }
}

/// The code's refusal as it is written, with what stands beside it.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "all other codes are told as the table has them"
)]
pub(super) fn example(code: Code, document: &Value, docs: &DocLinks) -> Value {
    let mut failure = match code {
        Code::PaymentRouteMinimumNotMet => Failure::route_minimum_not_met(),
        Code::ValidationError => Failure::validation(&[BadField {
            field: "limit".into(),
            problem: "must be a whole number from 1 to 100".into(),
        }]),
        code => Failure::from(code),
    };
    if let Some(name) = data_of(code) {
        let schema = json!({ "$ref": format!("{SCHEMAS}{name}") });
        failure = failure.with_data(examples::of(document, &schema));
    }
    serde_json::from_slice(&failure.to_json(docs)).unwrap_or_default()
}
