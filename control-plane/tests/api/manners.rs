//! What every answer has in common: ids, methods, bodies, paths, cross-origin calls.

use axum::body::Body;
use http::{Method, Request};
use sqlx::PgPool;

use super::client::{Answer, Api};

async fn send(
    api: &Api,
    method: Method,
    uri: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    api.send(request.body(Body::from(body.to_owned())).unwrap())
        .await
}

#[sqlx::test(migrations = "./migrations")]
async fn every_answer_has_an_id_the_callers_when_it_is_one(pool: PgPool) {
    let api = Api::new(pool);
    let id = async |value: &str| {
        let answer = send(
            &api,
            Method::GET,
            "/api/v1/categories",
            &[("x-request-id", value)],
            "",
        )
        .await;
        answer.header("x-request-id").to_owned()
    };
    assert_eq!(id("abc_DEF-123").await, "abc_DEF-123");
    for bad in ["short", "has space in it", &"x".repeat(129), "semi;colon;s"] {
        let made = id(bad).await;
        assert!(made != bad && made.len() >= 8);
    }
    let missing = send(&api, Method::GET, "/nowhere", &[], "").await;
    missing.error(404, "NOT_FOUND");
}

#[sqlx::test(migrations = "./migrations")]
async fn methods_are_named_and_head_answers_as_get(pool: PgPool) {
    let api = Api::new(pool);
    let wrong = send(&api, Method::DELETE, "/api/v1/me", &[], "").await;
    wrong.error(405, "METHOD_NOT_ALLOWED");
    let allow = wrong.header("allow").to_owned();
    for method in ["GET", "HEAD", "PATCH"] {
        assert!(allow.contains(method), "{allow}");
    }
    let get = send(&api, Method::GET, "/api/v1/categories", &[], "").await;
    let head = send(&api, Method::HEAD, "/api/v1/categories", &[], "").await;
    assert_eq!((head.status, head.text.as_str()), (get.status, ""));
    assert_eq!(head.header("content-length"), get.text.len().to_string());
    let refused = send(&api, Method::HEAD, "/api/v1/me", &[], "").await;
    assert_eq!((refused.status.as_u16(), refused.text.as_str()), (401, ""));
}

#[sqlx::test(migrations = "./migrations")]
async fn bearer_routes_answer_any_origin_and_session_routes_none(pool: PgPool) {
    let api = Api::new(pool);
    let answer = send(
        &api,
        Method::GET,
        "/api/v1/categories",
        &[("origin", "https://a.example")],
        "",
    )
    .await;
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    assert!(
        !answer
            .headers
            .contains_key("access-control-allow-credentials")
    );
    let asks = [
        ("origin", "https://a.example"),
        ("access-control-request-method", "POST"),
    ];
    let preflight = send(&api, Method::OPTIONS, "/api/v1/listings", &asks, "").await;
    assert_eq!(preflight.status, 204);
    assert!(
        preflight
            .header("access-control-allow-methods")
            .contains("PATCH")
    );
    assert!(
        preflight
            .header("access-control-allow-headers")
            .contains("Authorization")
    );
    let session = send(&api, Method::OPTIONS, "/api/v1/auth/login", &asks, "").await;
    assert!(!session.headers.contains_key("access-control-allow-origin"));
}

#[sqlx::test(migrations = "./migrations")]
async fn a_path_has_one_spelling(pool: PgPool) {
    let api = Api::new(pool);
    for path in [
        "/api/v1//categories",
        "/api/v1/listings/a%2Fb",
        "/api/v1/listings/../me",
        "/api/v1/listings/%2e%2e/me",
        "/api/v1/listings/.%2E/me",
        "/api/v1/./me",
        "/api/v1/listings/a%5cb",
        "/api/v1/listings/%00",
        "/api/v1/listings/%ff",
    ] {
        send(&api, Method::GET, path, &[], "")
            .await
            .error(400, "VALIDATION_ERROR");
    }
    for path in [
        "/api/v1/categories/",
        "/api/v1/Categories",
        "/api/v1",
        "/api/v1/listings/a&b=%41",
    ] {
        let answer = send(&api, Method::GET, path, &[], "").await;
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn bodies_are_json_of_a_bounded_size(pool: PgPool) {
    let api = Api::new(pool);
    let json = ("content-type", "application/json");
    let post = async |headers: &[(&str, &str)], body: &str| {
        send(&api, Method::POST, "/api/v1/auth/challenge", headers, body).await
    };
    post(&[], "{}").await.error(415, "UNSUPPORTED_MEDIA_TYPE");
    for media in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=latin1",
    ] {
        post(&[("content-type", media)], "{}")
            .await
            .error(415, "UNSUPPORTED_MEDIA_TYPE");
    }
    post(&[json, json], "{}")
        .await
        .error(415, "UNSUPPORTED_MEDIA_TYPE");
    post(&[json, ("content-encoding", "gzip")], "{}")
        .await
        .error(415, "UNSUPPORTED_MEDIA_TYPE");
    let utf8 = ("content-type", "Application/JSON; charset=\"UTF-8\"");
    assert_eq!(post(&[utf8], "{}").await.bad_fields(), ["wallet_address"]);
    assert_eq!(post(&[], "").await.bad_fields(), ["wallet_address"]);
    for broken in [
        "{",
        "nonsense",
        "{} {}",
        "{\"a\":}",
        "\u{feff}{}",
        &"[".repeat(100_000),
    ] {
        post(&[json], broken).await.error(400, "INVALID_JSON");
    }
    for other in ["[]", "1", "null", "\"text\"", "true"] {
        assert_eq!(post(&[json], other).await.bad_fields(), ["body"], "{other}");
    }
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(127), "]".repeat(127));
    assert_eq!(post(&[json], &deep).await.bad_fields(), ["wallet_address"]);
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(600 * 1024));
    post(&[json], &large).await.error(413, "BODY_TOO_LARGE");
    let announced = [json, ("content-length", "9999999999")];
    post(&announced, "{}").await.error(413, "BODY_TOO_LARGE");
}

#[sqlx::test(migrations = "./migrations")]
async fn headers_are_bounded(pool: PgPool) {
    let api = Api::new(pool);
    let long = "x".repeat(17 * 1024);
    let answer = send(
        &api,
        Method::GET,
        "/api/v1/categories",
        &[("x-long", &long)],
        "",
    )
    .await;
    answer.error(431, "HEADERS_TOO_LARGE");
    let names: Vec<String> = (0..101).map(|n| format!("x-{n}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
    let answer = send(&api, Method::GET, "/api/v1/categories", &many, "").await;
    answer.error(431, "HEADERS_TOO_LARGE");
}

#[sqlx::test(migrations = "./migrations")]
async fn health_tells_what_is_away(pool: PgPool) {
    let api = Api::new(pool);
    let health = api.get("/health").await.data(200);
    assert_eq!(health["database"], "ok");
    assert_eq!(health["redis"], "unavailable");
    assert_eq!(health["status"], "degraded");
    assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));
    assert!(health["payment_provider"].is_string());
}

#[sqlx::test(migrations = "./migrations")]
async fn a_database_that_is_away_is_503_and_tells_nothing(pool: PgPool) {
    let api = Api::new(pool);
    let agent = api.agent().await;
    api.app.db.pool().close().await;
    for answer in [agent.get("/me").await, api.get("/categories").await] {
        let error = answer.error(503, "SERVICE_UNAVAILABLE");
        assert_eq!(error["recovery"]["retry_after_seconds"], 1);
        assert_eq!(answer.header("retry-after"), "1");
        let lower = answer.text.to_lowercase();
        assert!(!lower.contains("sqlx") && !lower.contains("pool") && !lower.contains("postgres"));
    }
}
