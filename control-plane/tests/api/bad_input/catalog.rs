//! Listings, and the endpoints behind them.

use http::Method;
use serde_json::json;
use sqlx::PgPool;

use super::super::client::{Api, URL};
use super::super::refused::Takes;
use super::{Field, Null, Refused, Route, Taken, api};

const ENDPOINT: [Field; 8] = [
    Field("auth_header.name", Takes::Opaque, Refused),
    Field("timeout_ms", Takes::Number(1_000, 120_000), Refused),
    Field("max_request_bytes", Takes::Number(1, 8_388_608), Refused),
    Field("max_response_bytes", Takes::Number(1, 8_388_608), Refused),
    Field("max_concurrency", Takes::Number(1, 1_000), Refused),
    Field("redelivery", Takes::Form, Refused),
    Field("status", Takes::Form, Refused),
    Field("private_endpoint_url", Takes::Form, Refused),
];

fn listing_fields(null: Null) -> Vec<Field> {
    vec![
        Field("name", Takes::Name(1, 120), Refused),
        Field("description", Takes::Text(1, 5000), Refused),
        Field("delivery_type", Takes::Form, Refused),
        Field("pricing_model", Takes::Form, Refused),
        Field("pricing_amount", Takes::Price, Refused),
        Field("pricing_currency", Takes::Form, Taken),
        Field("private_endpoint_url", Takes::Form, null),
        Field("status", Takes::Form, Taken),
        Field("category", Takes::Form, Taken),
        Field("tags", Takes::Texts, Taken),
        Field("formats", Takes::Texts, Taken),
        Field("auth_method", Takes::Text(1, 64), Taken),
        Field("preferred_currency", Takes::Text(1, 16), Taken),
        Field("connection_instructions", Takes::Text(0, 4000), Taken),
        Field("input_schema", Takes::Schema, Taken),
        Field("output_schema", Takes::Schema, Taken),
        Field("example_request", Takes::Document, Taken),
        Field("example_response", Takes::Document, Taken),
        Field("endpoint", Takes::Object, Taken),
        Field(
            "endpoint.timeout_ms",
            Takes::Number(1_000, 120_000),
            Refused,
        ),
        Field("endpoint.auth_header.value", Takes::Opaque, Refused),
    ]
}

#[sqlx::test(migrations = "./migrations")]
async fn listings(pool: PgPool) {
    let (api, agent) = api(pool).await;
    let body = agent.listing_body(json!({})).await;
    let route = |method, path, body| Route {
        api: &api,
        key: Some(&agent.key),
        method,
        path,
        body,
    };
    let create = route(Method::POST, "/listings", body.clone());
    create
        .requires(&[
            "pow_nonce",
            "name",
            "description",
            "delivery_type",
            "pricing_model",
        ])
        .await;
    let mut proof = vec![
        Field("pow_nonce", Takes::Opaque, Refused),
        Field("nonce", Takes::Opaque, Taken),
    ];
    proof.extend(listing_fields(Refused));
    create.refuses(&proof).await;
    for nonce in ["\0".to_owned(), "x".repeat(100_000), String::new()] {
        let mut body = body.clone();
        body["nonce"] = nonce.into();
        agent
            .post("/listings", &body)
            .await
            .error(401, "CHALLENGE_INVALID");
    }
    let listing = agent.post("/listings", &body).await.data(201);
    let path = format!("/listings/{}", listing["id"].as_str().unwrap());
    // In a change, what cannot be cleared cannot be null.
    let fields: Vec<Field> = listing_fields(Taken)
        .into_iter()
        .map(|field| match field.0 {
            "status" => Field(field.0, field.1, Refused),
            _ => field,
        })
        .collect();
    route(Method::PATCH, &path, json!({}))
        .refuses(&fields)
        .await;
    route(Method::PUT, &format!("{path}/endpoint"), json!({}))
        .refuses(&ENDPOINT)
        .await;
}

#[sqlx::test(migrations = "./migrations")]
async fn a_header_of_ours_cannot_be_a_sellers(pool: PgPool) {
    let (_, agent) = api(pool).await;
    let listing = agent.list(json!({})).await;
    let path = format!("/listings/{}/endpoint", listing["id"].as_str().unwrap());
    for name in [
        "Host",
        "te",
        "Cookie",
        "X-Forwarded-For",
        "Proxy-Authorization",
        "Content-Type",
        "User-Agent",
        "webhook-id",
        "X-Crochet-Attempt",
        "a b",
        "a:b",
        "é",
        &"x".repeat(65),
    ] {
        let body = json!({ "auth_header": { "name": name, "value": "v" } });
        assert_eq!(
            agent.put(&path, &body).await.bad_fields(),
            ["auth_header.name"],
            "{name}"
        );
    }
    for value in ["", " v", "a\r\nb", "é", "a\0", &"x".repeat(4097)] {
        let body = json!({ "auth_header": { "name": "X-Api-Key", "value": value } });
        assert_eq!(
            agent.put(&path, &body).await.bad_fields(),
            ["auth_header.value"],
            "{value:?}"
        );
    }
    let both = json!({ "auth_header": {}, "timeout_ms": "x", "status": 1 });
    let bad = agent.put(&path, &both).await.bad_fields();
    assert_eq!(
        bad,
        [
            "auth_header.name",
            "auth_header.value",
            "status",
            "timeout_ms"
        ]
    );
}

#[sqlx::test(migrations = "./migrations")]
async fn a_member_that_stands_twice_is_refused(pool: PgPool) {
    let (api, agent) = api(pool).await;
    let body = format!(r#"{{"private_endpoint_url":"{URL}","private_endpoint_url":"{URL}"}}"#);
    let listing = agent.list(json!({})).await;
    let path = format!("/listings/{}/endpoint", listing["id"].as_str().unwrap());
    let answer = api
        .call(Method::PUT, &path, Some(&agent.key), Some(&body))
        .await;
    assert_eq!(answer.bad_fields(), ["private_endpoint_url"]);
    let header = r#""auth_header":{"name":"X-Key","value":"v"},"auth_header":null"#;
    let body = format!(r#"{{"private_endpoint_url":"{URL}",{header}}}"#);
    let answer = api
        .call(Method::PUT, &path, Some(&agent.key), Some(&body))
        .await;
    assert_eq!(answer.bad_fields(), ["auth_header"]);
}

#[sqlx::test(migrations = "./migrations")]
async fn a_bad_name_is_told_together_with_bad_fields(pool: PgPool) {
    let api = Api::new(pool);
    let agent = api.agent().await;
    let mut body = agent.listing_body(json!({})).await;
    for (field, bad) in [
        ("category", json!("nowhere")),
        ("private_endpoint_url", json!("ftp://example.com/")),
        ("pricing_amount", json!(0)),
        ("name", json!("Ec\u{200b}ho")),
        ("delivery_type", json!("owl")),
    ] {
        body[field] = bad;
    }
    let wanted = [
        "category",
        "delivery_type",
        "name",
        "pricing_amount",
        "private_endpoint_url",
    ];
    assert_eq!(agent.post("/listings", &body).await.bad_fields(), wanted);
    let listing = agent.list(json!({})).await;
    let path = format!("/listings/{}", listing["id"].as_str().unwrap());
    let patch = json!({
        "category": "nowhere", "private_endpoint_url": "https://10.0.0.1/", "pricing_amount": 0,
        "name": "\u{202e}", "status": "draft",
    });
    let wanted = [
        "category",
        "name",
        "pricing_amount",
        "private_endpoint_url",
        "status",
    ];
    assert_eq!(agent.patch(&path, &patch).await.bad_fields(), wanted);
    let put = json!({ "private_endpoint_url": "https://10.0.0.1/", "timeout_ms": 1 });
    assert_eq!(
        agent
            .put(&format!("{path}/endpoint"), &put)
            .await
            .bad_fields(),
        ["private_endpoint_url", "timeout_ms"]
    );
    let alone = json!({ "private_endpoint_url": "https://10.0.0.1/" });
    agent
        .put(&format!("{path}/endpoint"), &alone)
        .await
        .error(400, "ENDPOINT_URL_FORBIDDEN");
    assert_eq!(agent.get(&path).await.data(200)["name"], "Echo");
}
