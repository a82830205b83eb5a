//! `/listings/:id/endpoint` and what is below it

use http::Method;
use serde_json::json;
use sqlx::PgPool;

use super::client::Api;

#[sqlx::test(migrations = "./migrations")]
async fn only_what_is_present_changes(pool: PgPool) {
    let api = Api::new(pool);
    let agent = api.agent().await;
    let listing = agent.list(json!({})).await;
    let path = format!("/listings/{}/endpoint", listing["id"].as_str().unwrap());
    let standing = agent.get(&path).await.data(200);
    assert_eq!(standing["listing_id"], listing["id"]);
    assert_eq!(
        (
            &standing["max_concurrency"],
            &standing["redelivery"],
            &standing["has_auth_header"]
        ),
        (&json!(64), &json!("same_request_id"), &json!(false))
    );
    assert!(standing["last_test"].is_null() && standing["previous_secret_expires_at"].is_null());
    assert_eq!(agent.put(&path, &json!({})).await.data(200), standing);
    let changed = json!({
        "auth_header": { "name": "Authorization", "value": "Bearer hush" }, "timeout_ms": 120_000,
        "max_request_bytes": 8_388_608, "max_response_bytes": 1, "max_concurrency": 1000,
        "redelivery": "never", "status": "paused",
    });
    let answer = agent.put(&path, &changed).await;
    assert!(!answer.text.contains("hush"));
    let shown = answer.data(200);
    for field in [
        "timeout_ms",
        "max_request_bytes",
        "max_response_bytes",
        "max_concurrency",
        "redelivery",
        "status",
    ] {
        assert_eq!(shown[field], changed[field], "{field}");
    }
    assert_eq!(shown["auth_header_name"], "Authorization");
    assert_eq!(shown["url_hint"], standing["url_hint"]);
    let cleared = agent
        .put(&path, &json!({ "auth_header": null }))
        .await
        .data(200);
    assert_eq!(
        (&cleared["has_auth_header"], &cleared["timeout_ms"]),
        (&json!(false), &json!(120_000))
    );
}

#[sqlx::test(migrations = "./migrations")]
async fn a_rotated_secret_is_new_and_the_old_one_signs_on(pool: PgPool) {
    let api = Api::new(pool);
    let agent = api.agent().await;
    let listing = agent.list(json!({})).await;
    let id = listing["id"].as_str().unwrap();
    let old = listing["gateway_endpoint"]["signing_secret"]
        .as_str()
        .unwrap();
    let path = format!("/listings/{id}/endpoint");
    let answer = agent
        .call(Method::POST, &format!("{path}/rotate-secret"), None)
        .await;
    assert_eq!(answer.header("cache-control"), "no-store");
    let rotated = answer.data(200);
    let new = rotated["signing_secret"].as_str().unwrap();
    assert_ne!(new, old);
    let shown = agent.get(&path).await.data(200);
    assert_eq!(shown["signing_secret_prefix"], new[..10]);
    assert_eq!(
        shown["previous_secret_expires_at"],
        rotated["previous_secret_expires_at"]
    );
    let secrets = async || {
        let name = crochet_shared::internal::RouteName::Id(id.parse().unwrap());
        let record = control_plane::endpoints::route_record(&api.app, &name).await;
        let endpoint = record.unwrap().unwrap().endpoint.unwrap();
        endpoint
            .secrets
            .into_iter()
            .map(|(secret, _)| secret)
            .collect::<Vec<_>>()
    };
    assert_eq!(secrets().await, [new, old]);

    // A second one takes nothing from the first: its hour was promised.
    let mut all = vec![old.to_owned(), new.to_owned()];
    for _ in 0..4 {
        let again = agent
            .call(Method::POST, &format!("{path}/rotate-secret"), None)
            .await
            .data(200);
        all.push(again["signing_secret"].as_str().unwrap().to_owned());
    }
    all.reverse();
    assert_eq!(secrets().await, all);
    let refused = agent
        .call(Method::POST, &format!("{path}/rotate-secret"), None)
        .await;
    refused.error(429, "RATE_LIMITED");
    let wait: u32 = refused.header("retry-after").parse().unwrap();
    assert!((80_000..=86_401).contains(&wait), "{wait}");
    assert_eq!(secrets().await, all, "a refusal changes nothing");
    let first_ends = "update previous_secret set expires_at = now() - interval '1 second'
        where rotated_at = (select min(rotated_at) from previous_secret)";
    sqlx::query(first_ends)
        .execute(api.app.db.pool())
        .await
        .unwrap();
    assert_eq!(secrets().await, all[..5]);
    let place = agent
        .call(Method::POST, &format!("{path}/rotate-secret"), None)
        .await
        .data(200);
    assert_eq!(
        secrets().await[0],
        place["signing_secret"].as_str().unwrap()
    );
    assert_eq!(secrets().await[1..], all[..5]);
    sqlx::query("update previous_secret set expires_at = now() - interval '1 second'")
        .execute(api.app.db.pool())
        .await
        .unwrap();
    assert_eq!(secrets().await.len(), 1);
    assert!(agent.get(&path).await.data(200)["previous_secret_expires_at"].is_null());
}

#[sqlx::test(migrations = "./migrations")]
async fn an_endpoint_may_be_nowhere_but_at_a_public_host(pool: PgPool) {
    let api = Api::with(
        pool,
        &["--endpoint-allow-http=false", "--dns-servers=127.0.0.1:1"],
    );
    let agent = api.agent().await;
    let body = agent.listing_body(json!({})).await;
    for url in [
        "http://example.com/",
        "https://10.0.0.1/",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://0x0a000001/",
        "https://user:pass@example.com/",
        "https://example.com/#f",
        "https://unresolvable.invalid/",
        "https://",
        "not a url",
        "",
        "https://example.com/\u{0}",
        "javascript:alert(1)",
    ] {
        let mut body = body.clone();
        body["private_endpoint_url"] = url.into();
        let answer = agent.post("/listings", &body).await;
        let error = answer.error(400, "ENDPOINT_URL_FORBIDDEN");
        assert_eq!(
            error["details"]["fields"][0]["field"],
            "private_endpoint_url"
        );
        for leak in ["10.0.0.1", "169.254", "pass"] {
            assert!(!answer.text.contains(leak), "{answer:?}");
        }
    }
    let mut long = body.clone();
    long["private_endpoint_url"] = format!("https://example.com/{}", "a".repeat(2100)).into();
    let answer = agent.post("/listings", &long).await;
    assert_eq!(answer.bad_fields(), ["private_endpoint_url"]);
    let rows: i64 = sqlx::query_scalar("select count(*) from listing")
        .fetch_one(api.app.db.pool())
        .await
        .unwrap();
    assert_eq!(rows, 0);
    let mut body = body;
    body["private_endpoint_url"] = "https://93.184.216.34/hook".into();
    agent.post("/listings", &body).await.data(201);
}
