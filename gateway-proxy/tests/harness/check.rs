//! What every answer of a gateway must look like, whatever it says.

use demo_agent::Answer;
use serde_json::Value;

/// What `recovery` always has.
const RECOVERY: [&str; 8] = [
    "retryable",
    "next_action",
    "summary",
    "preserve",
    "discard",
    "retry_after_seconds",
    "docs_url",
    "reference_url",
];

/// The manners of contract §2 that hold for every answer of the gateway call.
pub(crate) fn manners(answer: &Answer) {
    let id = answer
        .header("x-request-id")
        .unwrap_or_else(|| panic!("no X-Request-Id: {answer}"));
    assert!(
        (8..=128).contains(&id.len())
            && id
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'),
        "X-Request-Id {id:?}"
    );
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{answer}");
    assert!(
        answer
            .header("content-type")
            .is_some_and(|value| value.starts_with("application/json")),
        "{:?} {answer}",
        answer.headers
    );
    let length = answer
        .header("content-length")
        .and_then(|value| value.parse().ok());
    assert_eq!(
        length,
        Some(answer.body.len()),
        "Content-Length of {answer}"
    );
    let told = answer
        .header("retry-after")
        .and_then(|value| value.parse::<u64>().ok());
    let wait = if answer.status == 202 {
        answer.at("/data/retry_after_seconds")
    } else {
        answer.at("/error/recovery/retry_after_seconds")
    };
    assert_eq!(
        told,
        wait.as_u64(),
        "Retry-After is not retry_after_seconds: {answer}"
    );
    if answer.status == 401 {
        assert!(
            answer
                .header("www-authenticate")
                .is_some_and(|value| value.starts_with("Bearer")),
            "{:?}",
            answer.headers
        );
    }
    if let Some(id) = answer.header("x-crochet-request-id") {
        assert!(id.starts_with("gw_req_"), "{id}");
    }
}

/// A refusal with this status and code, its manners and its recovery; gives back `error`.
#[track_caller]
pub(crate) fn refused(answer: &Answer, status: u16, code: &str) -> Value {
    assert!(
        answer.status == status && answer.code().as_deref() == Some(code),
        "wanted {status} {code}, got {answer}"
    );
    manners(answer);
    assert_eq!(answer.at("/success"), false, "{answer}");
    let error = answer.at("/error");
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|message| !message.is_empty()),
        "{answer}"
    );
    for key in RECOVERY {
        assert!(
            error["recovery"].get(key).is_some(),
            "recovery has no {key}: {answer}"
        );
    }
    assert!(
        text(&error["recovery"]["docs_url"]).ends_with(&format!("#{code}")),
        "{answer}"
    );
    error
}

/// A delivered answer; gives back `data`.
#[track_caller]
pub(crate) fn ok(answer: &Answer) -> Value {
    assert!(answer.status == 200, "wanted 200, got {answer}");
    manners(answer);
    assert_eq!(answer.at("/success"), true, "{answer}");
    let data = answer.at("/data");
    assert_eq!(
        answer.header("x-crochet-request-id"),
        data["request_id"].as_str(),
        "{answer}"
    );
    data
}

/// A 202; gives back `data`.
#[track_caller]
pub(crate) fn pending(answer: &Answer) -> Value {
    assert!(answer.status == 202, "wanted 202, got {answer}");
    manners(answer);
    assert_eq!(answer.at("/success"), true, "{answer}");
    let data = answer.at("/data");
    assert_eq!(
        (&data["status"], &data["retryable"]),
        (&Value::from("pending"), &Value::from(true)),
        "{answer}"
    );
    assert!(
        data["retry_after_seconds"]
            .as_u64()
            .is_some_and(|seconds| seconds > 0),
        "{answer}"
    );
    assert!(
        text(&data["relay_request_id"]).starts_with("0x")
            && text(&data["request_id"]).starts_with("gw_req_"),
        "{answer}"
    );
    assert!(data["next_action"].is_string(), "{answer}");
    data
}

/// A JSON value's text.
#[track_caller]
pub(crate) fn text(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("not text: {value}"))
}
