//! The OpenAPI document: the routes' own descriptions, put into one and finished.

use std::collections::BTreeMap;

use crochet_shared::code::{Code, NextAction};
use crochet_shared::envelope::DocLinks;
use serde_json::{Map, Value, json};
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;

use super::gateway::Gateway;
use super::{examples, refusals, schemas};
use crate::router::API;

/// What the document says of the whole.
const DESCRIPTION: &str = "Pay-per-call gateway and marketplace for agents. A buyer calls \
    `POST /gateway/{listingId}`, is answered 402 with everything needed to pay, pays, and calls again with \
    `X-Crochet-Relay-Request-Id`. Most routes answer `{\"success\":true,\"data\":…}` or \
    `{\"success\":false,\"error\":…}`, where `error.recovery` says what to do next.";
/// The rooms, as readers see them, in the order of reading.
const TAGS: [(&str, &str); 8] = [
    ("Identity", "Agents, wallets, API keys, people."),
    ("Catalog", "What is sold."),
    (
        "Endpoints",
        "Where a `per_call` listing is served. Its owner's alone.",
    ),
    ("Gateway", "The paid call."),
    (
        "Payments",
        "Requests and payments, as their buyer and seller see them.",
    ),
    ("Ledger", "What money moved."),
    ("Reviews", "Reviews and the public score."),
    ("System", "Health, and the payment provider's door."),
];

/// The whole document, of the routes' own descriptions. `base` is the public origin.
pub fn document(described: OpenApi, base: &str) -> Value {
    let mut described = described;
    described.merge(Gateway::openapi());
    // A description is text, numbers and lists: it cannot fail to become JSON.
    let mut document = serde_json::to_value(&described).unwrap_or_default();
    let docs = DocLinks::new(base);
    set(&mut document, "info", info());
    set(
        &mut document,
        "servers",
        json!([{ "url": format!("{base}{API}") }]),
    );
    set(&mut document, "tags", tags());
    set(
        &mut document,
        "externalDocs",
        json!({ "url": format!("{base}/SKILL.md"), "description": "From nothing to a paid call." }),
    );
    add_components(&mut document);
    schemas::resolve(&mut document);
    schemas::require_nullable(&mut document);
    finish_operations(&mut document, &docs);
    document
}

fn set(document: &mut Value, key: &str, value: Value) {
    if let Some(members) = document.as_object_mut() {
        members.insert(key.to_owned(), value);
    }
}

fn info() -> Value {
    json!({
        "title": "Crochet",
        "version": env!("CARGO_PKG_VERSION"),
        "description": DESCRIPTION,
        "license": { "name": "Proprietary" },
    })
}

fn tags() -> Value {
    TAGS.iter()
        .map(|(name, description)| json!({ "name": name, "description": description }))
        .collect()
}

fn add_components(document: &mut Value) {
    let Some(components) = document
        .as_object_mut()
        .map(|members| members.entry("components").or_insert_with(|| json!({})))
        .and_then(Value::as_object_mut)
    else {
        return;
    };
    components.insert("headers".to_owned(), headers());
    components.insert(
        "securitySchemes".to_owned(),
        json!({
            "bearer": { "type": "http", "scheme": "bearer", "description": "An agent's API key, `am_k_…`." },
            "cookie": { "type": "apiKey", "in": "cookie", "name": "crochet_session", "description": "A person's session, from `POST /auth/login`; over TLS it is named `__Host-crochet_session`. A request with `Authorization` is judged by that alone." },
        }),
    );
    if let Some(schemas) = components
        .entry("schemas")
        .or_insert_with(|| json!({}))
        .as_object_mut()
    {
        schemas.insert("Failure".to_owned(), failure());
        schemas.insert("Recovery".to_owned(), recovery());
    }
}

fn headers() -> Value {
    let text = |description: &str, example: &str| json!({ "description": description, "schema": { "type": "string", "examples": [example] } });
    let seconds = json!({ "type": "integer", "minimum": 0, "examples": [1] });
    json!({
        "X-Request-Id": text("The id of this exchange: yours when you sent one of 8 to 128 of `[A-Za-z0-9_-]`.", "01890a5dac96774bbcceb302099a8057"),
        "X-Crochet-Request-Id": text("The purchase that the answer speaks of.", "gw_req_01890a5dac96774bbcceb302099a8057"),
        "Idempotent-Replayed": text("`true` on a stored answer.", "true"),
        "Retry-After": { "description": "Seconds to wait, as `recovery.retry_after_seconds` says.", "schema": seconds },
        "WWW-Authenticate": text("Always `Bearer`.", "Bearer"),
        "RateLimit-Policy": text("The limit in force: requests `q` in seconds `w`.", "\"default\";q=60;w=60"),
        "RateLimit": text("What is left of it: requests `r` for seconds `t`.", "\"default\";r=59;t=60"),
        "Set-Cookie": text("The session, for browsers to keep; at its end, an empty one that is over.", "crochet_session=x5Tn0w; HttpOnly; SameSite=Lax; Path=/; Max-Age=1209600"),
        "Location": text("Path of what was created.", "/api/v1/api-keys/01890a5d-ac96-774b-bcce-b302099a8057"),
    })
}

/// Every refusal (contract §2).
fn failure() -> Value {
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    json!({
        "type": "object",
        "description": "A refusal or a fault. `error.recovery` says what to do next.",
        "required": ["success", "error"],
        "properties": {
            "success": { "type": "boolean", "enum": [false] },
            "error": {
                "type": "object",
                "required": ["code", "message", "recovery"],
                "properties": {
                    "code": { "type": "string", "enum": codes },
                    "message": { "type": "string" },
                    "details": { "type": "object", "description": "Particulars: `fields` names every bad field." },
                    "recovery": { "$ref": format!("{}Recovery", schemas::SCHEMAS) },
                },
            },
            "data": { "type": "object", "description": "Beside some gateway errors." },
        },
    })
}

fn recovery() -> Value {
    let actions: Vec<&str> = NextAction::ALL
        .iter()
        .map(|action| action.as_str())
        .collect();
    let names = json!({ "type": "array", "items": { "type": "string" } });
    json!({
        "type": "object",
        "description": "What to do next.",
        "required": ["retryable", "next_action", "summary", "preserve", "discard", "retry_after_seconds", "docs_url", "reference_url"],
        "properties": {
            "retryable": { "type": "boolean", "description": "Whether trying again, after the next action, can succeed." },
            "next_action": { "type": "string", "enum": actions },
            "summary": { "type": "string", "description": "The next action in a sentence." },
            "preserve": names,
            "discard": names,
            "retry_after_seconds": { "type": ["integer", "null"], "minimum": 0 },
            "docs_url": { "type": "string", "format": "uri" },
            "reference_url": { "type": "string", "format": "uri" },
            "retry_same_route": { "type": "boolean" },
            "use_new_idempotency_key": { "type": "boolean" },
        },
    })
}

/// Gives every operation its refusals, its headers and whole examples, and says where none is needed
/// that no credential is.
fn finish_operations(document: &mut Value, docs: &DocLinks) {
    let whole = document.clone();
    let mut responses = BTreeMap::new();
    let paths = document.get_mut("paths").and_then(Value::as_object_mut);
    for item in paths.into_iter().flat_map(Map::values_mut) {
        for operation in item.as_object_mut().into_iter().flat_map(Map::values_mut) {
            let Some(operation) = operation.as_object_mut() else {
                continue;
            };
            operation.entry("security").or_insert_with(|| json!([]));
            finish_path(operation);
            finish_body(operation, &whole);
            finish_successes(operation, &whole);
            refusals::add(operation, &mut responses, &whole, docs);
        }
    }
    if let Some(components) = document
        .get_mut("components")
        .and_then(Value::as_object_mut)
    {
        components.insert("responses".to_owned(), json!(responses));
    }
}

/// Ids and slugs hold nothing that a path would have to escape.
fn finish_path(operation: &mut Map<String, Value>) {
    let parameters = operation
        .get_mut("parameters")
        .and_then(Value::as_array_mut);
    for parameter in parameters.into_iter().flatten() {
        if parameter.get("in") == Some(&json!("path"))
            && let Some(schema) = parameter.get_mut("schema").and_then(Value::as_object_mut)
            && schema.get("type") == Some(&json!("string"))
        {
            schema.entry("pattern").or_insert(json!("^[A-Za-z0-9_-]+$"));
        }
    }
}

/// A body is required where a field of it is.
fn finish_body(operation: &mut Map<String, Value>, document: &Value) {
    let Some(body) = operation
        .get_mut("requestBody")
        .and_then(Value::as_object_mut)
    else {
        return;
    };
    let schema = body
        .get("content")
        .and_then(|content| content.pointer("/application~1json/schema"))
        .cloned()
        .unwrap_or_default();
    let is_object = schema.get("$ref").is_some();
    body.insert(
        "required".to_owned(),
        (!is_object || has_required(document, &schema)).into(),
    );
    add_example(body, document);
}

fn has_required(document: &Value, schema: &Value) -> bool {
    let target = schema
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|to| to.strip_prefix(schemas::SCHEMAS))
        .and_then(|name| document.pointer(&format!("/components/schemas/{name}")));
    if let Some(target) = target {
        return has_required(document, target);
    }
    let parts = schema.get("allOf").and_then(Value::as_array);
    schema
        .get("required")
        .and_then(Value::as_array)
        .is_some_and(|required| !required.is_empty())
        || parts.is_some_and(|parts| parts.iter().any(|part| has_required(document, part)))
}

/// Headers and an example of each success.
fn finish_successes(operation: &mut Map<String, Value>, document: &Value) {
    // Who comes without a credential is counted by her address where a limit is named.
    let codes = operation.get("x-error-codes").and_then(Value::as_array);
    let limited = operation.get("security") != Some(&json!([]))
        || codes.is_some_and(|codes| codes.contains(&json!(Code::RateLimited)));
    let tells_purchase = operation.get("tags") == Some(&json!(["Gateway"]))
        || operation.get("operationId") == Some(&json!("getGatewayResponse"));
    let summary = operation.get("summary").cloned();
    let responses = operation
        .get_mut("responses")
        .and_then(Value::as_object_mut);
    for (status, response) in responses.into_iter().flatten() {
        let Some(response) = response.as_object_mut() else {
            continue;
        };
        // Those that the route names itself, too.
        let own = response.get("headers").and_then(Value::as_object).cloned();
        let own = own.unwrap_or_default();
        let mut names: Vec<&str> = own.keys().map(String::as_str).collect();
        names.push("X-Request-Id");
        if limited {
            names.extend(["RateLimit-Policy", "RateLimit"]);
        }
        if status == "201" {
            names.push("Location");
        }
        if tells_purchase {
            names.extend(["X-Crochet-Request-Id", "Idempotent-Replayed"]);
        }
        if status == "202" {
            names.push("Retry-After");
        }
        response.insert("headers".to_owned(), refusals::header_references(&names));
        let described = response
            .get("description")
            .is_some_and(|text| text.as_str().is_some_and(|text| !text.is_empty()));
        if !described {
            response.insert(
                "description".to_owned(),
                summary.clone().unwrap_or(json!("Done.")),
            );
        }
        add_example(response, document);
    }
}

fn add_example(holder: &mut Map<String, Value>, document: &Value) {
    let Some(content) = holder
        .get_mut("content")
        .and_then(|content| content.get_mut("application/json"))
        .and_then(Value::as_object_mut)
    else {
        return;
    };
    if content.contains_key("example") || content.contains_key("examples") {
        return;
    }
    let schema = content.get("schema").cloned().unwrap_or_default();
    content.insert("example".to_owned(), examples::of(document, &schema));
}
