//! The documents as they are served.

use axum::body::Body;
use crochet_shared::code::Code;
use http::{Method, Request, StatusCode};
use serde_json::Value;
use sqlx::PgPool;

use crate::api::client::{Answer, Api};

async fn get(api: &Api, path: &str) -> Answer {
    let request = Request::builder().uri(path).body(Body::empty()).unwrap();
    api.send(request).await
}

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.headers[name].to_str().unwrap()
}

const KINDS: [(&str, &str); 10] = [
    ("/", "text/html; charset=utf-8"),
    ("/docs", "text/html; charset=utf-8"),
    ("/docs/errors", "text/html; charset=utf-8"),
    ("/docs/assets/page.css", "text/css; charset=utf-8"),
    ("/docs/assets/swagger-ui.css", "text/css; charset=utf-8"),
    (
        "/docs/assets/swagger-ui-bundle.js",
        "text/javascript; charset=utf-8",
    ),
    ("/SKILL.md", "text/markdown; charset=utf-8"),
    ("/llms.txt", "text/plain; charset=utf-8"),
    ("/api/openapi.json", "application/json"),
    ("/.well-known/agent-protocol.json", "application/json"),
];

#[sqlx::test]
async fn each_document_has_its_type_its_tag_and_a_strict_policy(pool: PgPool) {
    let api = Api::new(pool);
    for (path, kind) in KINDS {
        let answer = get(&api, path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        assert_eq!(header(&answer, "content-type"), kind, "{path}");
        let policy = header(&answer, "content-security-policy");
        assert!(policy.starts_with("default-src 'none'"), "{path}: {policy}");
        assert!(
            !policy.contains("http"),
            "{path} lets another origin in: {policy}"
        );
        assert_eq!(header(&answer, "cache-control"), "public, max-age=300");
        assert!(
            !answer.text.contains("://cdn") && !answer.text.contains("{base}"),
            "{path}"
        );

        let known = Request::builder()
            .uri(path)
            .header("if-none-match", header(&answer, "etag"))
            .body(Body::empty())
            .unwrap();
        let known = api.send(known).await;
        assert_eq!(
            (known.status, known.text.as_str()),
            (StatusCode::NOT_MODIFIED, "")
        );

        let head = Request::builder().method(Method::HEAD).uri(path);
        let head = api.send(head.body(Body::empty()).unwrap()).await;
        assert_eq!(
            (head.status, head.text.as_str()),
            (StatusCode::OK, ""),
            "{path}"
        );
        let length: usize = header(&head, "content-length").parse().unwrap();
        assert_eq!(length, answer.text.len(), "{path}");
    }
}

#[sqlx::test]
async fn the_served_document_speaks_of_this_origin(pool: PgPool) {
    let api = Api::with(pool, &["--public-base-url=https://market.example"]);
    let document: Value = serde_json::from_str(&get(&api, "/api/openapi.json").await.text).unwrap();
    assert_eq!(
        document["servers"][0]["url"],
        "https://market.example/api/v1"
    );
    assert!(!document.to_string().contains("127.0.0.1:8080/docs"));
    for path in ["/SKILL.md", "/llms.txt", "/.well-known/agent-protocol.json"] {
        let text = get(&api, path).await.text;
        assert!(text.contains("https://market.example/api/v1"), "{path}");
        assert!(!text.contains("127.0.0.1"), "{path}");
    }
}

#[sqlx::test]
async fn discovery_is_the_contracts(pool: PgPool) {
    let api = Api::with(pool, &["--public-base-url=https://market.example"]);
    let found = get(&api, "/.well-known/agent-protocol.json").await.text;
    let found: Value = serde_json::from_str(&found).unwrap();
    let expected = serde_json::json!({
        "name": "Crochet",
        "version": env!("CARGO_PKG_VERSION"),
        "api_base": "https://market.example/api/v1",
        "openapi_url": "https://market.example/api/openapi.json",
        "skill_url": "https://market.example/SKILL.md",
        "llms_url": "https://market.example/llms.txt",
        "errors_url": "https://market.example/docs/errors",
        "auth": {
            "scheme": "bearer",
            "challenge_url": "https://market.example/api/v1/auth/challenge",
            "register_url": "https://market.example/api/v1/register",
            "pow": { "algorithm": "sha256", "difficulty": 1 },
        },
        "payment": {
            "providers": ["relay"],
            "origin_currencies": ["SOL", "USDC_SOL", "ETH", "USDC"],
            "retry_header": "X-Crochet-Relay-Request-Id",
        },
    });
    assert_eq!(found, expected);
}

#[sqlx::test]
async fn a_refusals_docs_url_is_an_anchor_of_the_errors_page(pool: PgPool) {
    let api = Api::new(pool);
    let refusal: Value = serde_json::from_str(&get(&api, "/api/v1/me").await.text).unwrap();
    let url = refusal["error"]["recovery"]["docs_url"].as_str().unwrap();
    let (page, anchor) = url.split_once('#').unwrap();
    let path = page.strip_prefix("http://127.0.0.1:8080").unwrap();
    let page = get(&api, path).await.text;
    assert!(page.contains(&format!("id=\"{anchor}\"")));
    let llms = get(&api, "/llms.txt").await.text;
    for code in Code::ALL {
        assert!(
            llms.contains(&format!("`{}`", code.as_str())),
            "{}",
            code.as_str()
        );
    }
    for path in ["/docs/", "/docs/assets/other.js", "/docs/assets/../errors"] {
        assert_ne!(get(&api, path).await.status, StatusCode::OK, "{path}");
    }
}
