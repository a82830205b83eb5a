//! The OpenAPI document.

use std::collections::HashSet;

use control_plane::config::PUBLIC_BASE_URL_DEFAULT;
use control_plane::router;
use crochet_shared::code::Code;
use serde_json::{Value, json};

fn document() -> Value {
    router::openapi(PUBLIC_BASE_URL_DEFAULT)
}

/// Every operation, with its name.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            found.push((format!("{method} {path}"), operation));
        }
    }
    found
}

/// A response or what it refers to.
fn response<'d>(document: &'d Value, response: &'d Value) -> &'d Value {
    match response["$ref"].as_str() {
        Some(to) => document.pointer(to.strip_prefix('#').unwrap()).unwrap(),
        None => response,
    }
}

/// Whether `value` is what `schema` of the document says.
fn judge(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    // The schema in the document's place for components, so that its references are found.
    let mut schema = schema.clone();
    schema["components"] = document["components"].clone();
    let validator = jsonschema::options()
        .should_validate_formats(true)
        .build(&schema)
        .map_err(|error| error.to_string())?;
    let problems: Vec<String> = validator
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    if problems.is_empty() {
        Ok(())
    } else {
        Err(problems.join("; "))
    }
}

#[test]
fn the_document_in_the_repository_is_what_the_code_says() {
    let checked_in = include_str!("../../openapi.json");
    let made = serde_json::to_string_pretty(&document()).unwrap() + "\n";
    assert!(
        checked_in == made,
        "control-plane/openapi.json is behind the code; run: cargo run -p crochet-control-plane -- openapi > control-plane/openapi.json"
    );
}

#[test]
fn every_operation_is_described_whole() {
    let document = document();
    let mut ids = HashSet::new();
    for (name, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap();
        assert!(ids.insert(id.to_owned()), "{id} stands twice");
        assert!(operation["summary"].is_string(), "{name}: no summary");
        assert!(operation["security"].is_array(), "{name}: security");
        assert_eq!(
            operation["tags"].as_array().map(Vec::len),
            Some(1),
            "{name}"
        );
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let bounded = parameter["schema"]
                .as_object()
                .is_some_and(|schema| !schema.is_empty());
            let described = parameter["description"].is_string();
            assert!(bounded && described, "{name}: {}", parameter["name"]);
        }
        let statuses = operation["responses"].as_object().unwrap();
        assert!(
            statuses.keys().any(|status| status.starts_with('2')),
            "{name}"
        );
        for (status, answer) in statuses {
            let answer = response(&document, answer);
            assert!(answer["description"].is_string(), "{name} {status}");
            let id = &answer["headers"]["X-Request-Id"];
            assert!(id.is_object(), "{name} {status} has no X-Request-Id");
        }
    }
    for extension in ["x-text", "x-name", "x-pattern", "x-range", "x-one-of"] {
        let unresolved = document.to_string().contains(&format!("\"{extension}"));
        assert!(!unresolved, "{extension} is unresolved");
    }
}

#[test]
fn every_example_is_what_its_schema_says() {
    let document = document();
    let mut judged = 0;
    let mut see = |place: String, content: &Value| {
        let examples = content["examples"].as_object();
        let values = examples
            .into_iter()
            .flat_map(|named| named.values())
            .map(|one| &one["value"]);
        for value in values.chain(content.get("example")) {
            judged += 1;
            if let Err(problem) = judge(&document, &content["schema"], value) {
                panic!("{place}: {problem}\n{value:#}");
            }
        }
    };
    for (name, operation) in operations(&document) {
        let body = &operation["requestBody"];
        if body.is_object() {
            see(format!("{name} body"), &body["content"]["application/json"]);
        }
        for (status, answer) in operation["responses"].as_object().unwrap() {
            let content = &response(&document, answer)["content"]["application/json"];
            assert!(
                content["example"].is_object() || content["examples"].is_object(),
                "{name} {status}"
            );
            see(format!("{name} {status}"), content);
        }
    }
    assert!(judged > 200, "{judged} examples");
}

#[test]
fn every_code_of_the_table_is_documented_with_its_status() {
    let document = document();
    // A method that a path does not take has no operation to stand at.
    let unplaced = [Code::MethodNotAllowed, Code::NotFound];
    let documented: HashSet<&str> = operations(&document)
        .iter()
        .flat_map(|(_, operation)| operation["x-error-codes"].as_array().unwrap())
        .filter_map(Value::as_str)
        .collect();
    for code in Code::ALL {
        if unplaced.contains(code) {
            continue;
        }
        assert!(documented.contains(code.as_str()), "{}", code.as_str());
    }
}

#[test]
fn an_answer_that_is_not_as_documented_is_told() {
    let document = document();
    let schema = json!({ "$ref": "#/components/schemas/Success_Profile" });
    let content = &document["paths"]["/agents/{id}"]["get"]["responses"]["200"]["content"]["application/json"];
    let mut value = content["example"].clone();
    assert_eq!(judge(&document, &schema, &value), Ok(()));
    value["data"].as_object_mut().unwrap().remove("claimed_by");
    assert!(
        judge(&document, &schema, &value).is_err(),
        "a null key may not be left out"
    );
}
