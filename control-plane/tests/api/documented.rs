//! Every success that a test of the API is given bears the headers that the document says, and none that it hides.

use std::sync::LazyLock;

use control_plane::config::PUBLIC_BASE_URL_DEFAULT;
use control_plane::router;
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| router::openapi(PUBLIC_BASE_URL_DEFAULT));

/// Headers that every such answer of a route bears, unless it may be asked without the credential that is counted.
const ALWAYS: [&str; 4] = ["RateLimit-Policy", "RateLimit", "Set-Cookie", "Location"];
/// Headers that one answer bears and another does not.
const SOMETIMES: [&str; 2] = ["Retry-After", "Idempotent-Replayed"];

/// Fails when the document and a success do not name the same headers.
pub(crate) fn judge(method: &Method, path: &str, status: StatusCode, headers: &HeaderMap) {
    let Some(path) = path.strip_prefix(router::API) else {
        return;
    };
    if !status.is_success() || method == Method::OPTIONS {
        return;
    }
    let operation = operation(method, path).expect("what succeeds is documented");
    let documented = &operation["responses"][status.as_str()]["headers"];
    let security = operation["security"].as_array().unwrap();
    let is_open = security.contains(&json!({}));
    for name in ALWAYS.iter().chain(&SOMETIMES) {
        let (sent, listed) = (headers.contains_key(*name), documented[name].is_object());
        let may_be_absent = is_open || SOMETIMES.contains(name);
        let is_as_told = sent == listed || (listed && may_be_absent);
        assert!(
            is_as_told,
            "{method} {path} {status}: {name} is sent: {sent}, documented: {listed}"
        );
    }
}

/// The operation of a path: of several templates that fit, the one with the most of it in plain words.
fn operation(method: &Method, path: &str) -> Option<&'static Value> {
    // HEAD answers as GET would.
    let method = if method == Method::HEAD {
        "get".to_owned()
    } else {
        method.as_str().to_ascii_lowercase()
    };
    let parts: Vec<&str> = path.split('/').collect();
    let plain = |template: &str| {
        let wanted: Vec<&str> = template.split('/').collect();
        let fits = wanted.len() == parts.len()
            && wanted
                .iter()
                .zip(&parts)
                .all(|(wanted, part)| wanted.starts_with('{') || wanted == part);
        fits.then(|| wanted.iter().filter(|part| !part.starts_with('{')).count())
    };
    DOCUMENT["paths"]
        .as_object()
        .unwrap()
        .iter()
        .filter_map(|(template, item)| Some((plain(template)?, item.get(&method)?)))
        .max_by_key(|(plain, _)| *plain)
        .map(|(_, operation)| operation)
}
