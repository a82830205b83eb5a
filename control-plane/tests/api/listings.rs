//! `POST /listings/challenge`, `POST /listings`, `GET /listings`, `GET /me/listings`

use http::Method;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::client::{Api, URL};
use super::wallet::mistake;

async fn count(api: &Api, table: &str) -> i64 {
    sqlx::query_scalar(sqlx::AssertSqlSafe(format!("select count(*) from {table}")))
        .fetch_one(api.app.db.pool())
        .await
        .unwrap()
}

#[sqlx::test(migrations = "./migrations")]
async fn a_per_call_listing_comes_with_its_endpoint_and_its_secret_once(pool: PgPool) {
    let api = Api::new(pool);
    let agent = api.agent().await;
    let documents = json!({
        "category": "language", "tags": [" a ", "b"], "formats": ["json"], "auth_method": "none",
        "connection_instructions": "Call the gateway_url.", "pricing_currency": "USD",
        "preferred_currency": "USDC", "input_schema": { "type": "object" }, "output_schema": true,
        "example_request": { "z": 1, "a": 12_345_678_901_234_567_890_u64 }, "example_response": [1.50],
        "endpoint": { "timeout_ms": 5000, "auth_header": { "name": "X-Api-Key", "value": "hush hush" } },
    });
    let body = agent.listing_body(documents).await;
    let answer = agent.post("/listings", &body).await;
    let listing = answer.data(201);
    let id = listing["id"].as_str().unwrap();
    assert_eq!(answer.header("location"), format!("/api/v1/listings/{id}"));
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(listing["slug"], "echo");
    assert_eq!(listing["category"]["slug"], "language");
    assert_eq!(listing["tags"], json!(["a", "b"]));
    assert_eq!(listing["pricing_amount_micros"], 1_000_000);
    assert_eq!(
        listing["gateway_url"],
        format!("http://127.0.0.1:8080/api/v1/gateway/{id}")
    );
    assert_eq!(listing["provider"]["id"], agent.id.as_str());
    assert_eq!(
        listing["example_request"]["a"],
        12_345_678_901_234_567_890_u64
    );
    assert_eq!(listing["stats"]["calls_30d"], 0);
    let endpoint = &listing["gateway_endpoint"];
    assert_eq!(endpoint["url_hint"], "http://127.0.0.1:8091/…");
    assert_eq!(endpoint["timeout_ms"], 5000);
    assert_eq!(endpoint["max_request_bytes"], 1_048_576);
    assert_eq!(endpoint["auth_header_name"], "X-Api-Key");
    let secret = endpoint["signing_secret"].as_str().unwrap();
    assert!(secret.starts_with("whsec_"));
    assert_eq!(endpoint["signing_secret_prefix"], secret[..10]);

    for path in [
        format!("/listings/{id}"),
        "/listings/echo".into(),
        "/listings".into(),
    ] {
        let shown = api.get(&path).await;
        shown.data(200);
        for hidden in [
            URL,
            "127.0.0.1:8091",
            "hush",
            "whsec_",
            secret,
            "gateway_endpoint",
        ] {
            assert!(!shown.text.contains(hidden), "{hidden} in {path}");
        }
    }
    let again = agent.get(&format!("/listings/{id}/endpoint")).await;
    assert!(again.data(200)["signing_secret"].is_null());
    assert!(!again.text.contains(secret) && !again.text.contains("hush"));
}

#[sqlx::test(migrations = "./migrations")]
async fn nothing_secret_is_in_clear_in_the_database(pool: PgPool) {
    let api = Api::new(pool);
    let agent = api.agent().await;
    let header =
        json!({ "endpoint": { "auth_header": { "name": "X-Api-Key", "value": "hush hush" } } });
    let listing = agent.list(header).await;
    let row: (Vec<u8>, Vec<u8>, Vec<u8>) =
        sqlx::query_as("select url_sealed, auth_header_value_sealed, secret_sealed from endpoint")
            .fetch_one(api.app.db.pool())
            .await
            .unwrap();
    let secret = listing["gateway_endpoint"]["signing_secret"]
        .as_str()
        .unwrap();
    for (sealed, clear) in [(row.0, URL), (row.1, "hush hush"), (row.2, secret)] {
        assert!(!sealed.windows(6).any(|part| part == &clear.as_bytes()[..6]));
    }
    let keys: Vec<Vec<u8>> = sqlx::query_scalar("select digest from api_key")
        .fetch_all(api.app.db.pool())
        .await
        .unwrap();
    assert_eq!(keys[0].len(), 32);
}

#[sqlx::test(migrations = "./migrations")]
async fn prices_are_exact_or_refused(pool: PgPool) {
    let api = Api::new(pool);
    let agent = api.agent().await;
    for (written, micros, shown) in [
        ("0.01", 10_000, "0.01"),
        ("\"0.01\"", 10_000, "0.01"),
        ("1e-06", 1, "0.000001"),
        ("10000", 10_000_000_000_i64, "10000"),
        ("0.30", 300_000, "0.3"),
    ] {
        let body = agent
            .listing_body(json!({ "pricing_amount": "PRICE" }))
            .await;
        let body = body.to_string().replace("\"PRICE\"", written);
        let answer = agent.raw(Method::POST, "/listings", &body).await;
        assert_eq!(
            answer.data(201)["pricing_amount_micros"],
            micros,
            "{written}"
        );
        assert!(
            answer
                .text
                .contains(&format!("\"pricing_amount\":{shown},")),
            "{written}"
        );
    }
    let before = count(&api, "listing").await;
    let body = agent
        .listing_body(json!({ "pricing_amount": "PRICE" }))
        .await;
    for written in [
        "0.30000000000000004",
        "1e308",
        "-1",
        "0",
        "0.0000001",
        "10000.01",
        "1e-7",
        "true",
        "null",
        "[]",
        "{}",
        "\"\"",
        "\"one\"",
        "\"1e2\"",
        "\"NaN\"",
    ] {
        let body = body.to_string().replace("\"PRICE\"", written);
        let answer = agent.raw(Method::POST, "/listings", &body).await;
        assert_eq!(answer.bad_fields(), ["pricing_amount"], "{written}");
    }
    assert_eq!(count(&api, "listing").await, before);
    let body = body.to_string().replace("\"PRICE\"", "2");
    agent.raw(Method::POST, "/listings", &body).await.data(201);
}

#[sqlx::test(migrations = "./migrations")]
async fn a_free_listing_has_no_price_and_no_endpoint(pool: PgPool) {
    let api = Api::new(pool);
    let agent = api.agent().await;
    let absent = "\u{0}absent";
    let free = json!({ "pricing_model": "free", "pricing_amount": absent, "private_endpoint_url": absent });
    let listing = agent.list(free.clone()).await;
    assert!(listing["gateway_url"].is_null() && listing["gateway_endpoint"].is_null());
    assert_eq!(listing["pricing_amount"], 0);
    let path = format!("/listings/{}/endpoint", listing["id"].as_str().unwrap());
    agent.get(&path).await.error(400, "LISTING_NOT_PER_CALL");
    agent
        .put(&path, &json!({ "status": "paused" }))
        .await
        .error(400, "LISTING_NOT_PER_CALL");
    let rotate = agent
        .call(Method::POST, &format!("{path}/rotate-secret"), None)
        .await;
    rotate.error(400, "LISTING_NOT_PER_CALL");
    for (more, bad) in [
        (json!({ "pricing_amount": 1 }), "pricing_amount"),
        (
            json!({ "private_endpoint_url": URL }),
            "private_endpoint_url",
        ),
        (json!({ "endpoint": {} }), "endpoint"),
    ] {
        let mut body = agent.listing_body(free.clone()).await;
        super::client::merge(&mut body, more);
        assert_eq!(agent.post("/listings", &body).await.bad_fields(), [bad]);
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn a_listing_costs_work_of_its_own_agent_once(pool: PgPool) {
    let api = Api::new(pool);
    let (agent, other) = (api.agent().await, api.agent().await);
    let body = agent.listing_body(json!({})).await;
    let mut wrong = body.clone();
    let challenge = agent
        .post("/listings/challenge", &json!({}))
        .await
        .data(200);
    wrong["nonce"] = challenge["nonce"].clone();
    wrong["pow_nonce"] = mistake(&challenge["pow"]).into();
    agent
        .post("/listings", &wrong)
        .await
        .error(400, "POW_INVALID");
    other
        .post("/listings", &body)
        .await
        .error(401, "CHALLENGE_INVALID");
    let calls = (0..20).map(|_| agent.post("/listings", &body));
    let answers = futures_util::future::join_all(calls).await;
    assert_eq!(
        answers.iter().filter(|answer| answer.status == 201).count(),
        1
    );
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        answer.error(401, "CHALLENGE_INVALID");
    }
    assert_eq!(count(&api, "listing").await, 1);
    let mut newest = agent.listing_body(json!({})).await;
    newest.as_object_mut().unwrap().remove("nonce");
    agent.post("/listings", &newest).await.data(201);
    let wallet_challenge = api
        .challenge(&super::wallet::Wallet::evm(), "register")
        .await;
    newest["nonce"] = wallet_challenge["nonce"].clone();
    agent
        .post("/listings", &newest)
        .await
        .error(401, "CHALLENGE_INVALID");
}

#[sqlx::test(migrations = "./migrations")]
async fn one_name_makes_many_slugs(pool: PgPool) {
    let api = Api::new(pool);
    let agent = api.agent().await;
    let calls = (0..5).map(|_| agent.list(json!({ "name": "Same name" })));
    let listings = futures_util::future::join_all(calls).await;
    let mut slugs: Vec<&str> = listings
        .iter()
        .map(|l| l["slug"].as_str().unwrap())
        .collect();
    slugs.sort_unstable();
    slugs.dedup();
    assert_eq!(slugs.len(), 5);
    assert!(slugs.contains(&"same-name"));
    for listing in &listings {
        let path = format!("/listings/{}", listing["slug"].as_str().unwrap());
        assert_eq!(api.get(&path).await.data(200)["id"], listing["id"]);
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn only_what_is_active_is_browsed_and_unknown_filters_are_refused(pool: PgPool) {
    let api = Api::new(pool);
    let (agent, other) = (api.agent().await, api.agent().await);
    agent
        .list(json!({ "name": "Cheap", "pricing_amount": 0.5, "category": "code" }))
        .await;
    agent
        .list(json!({ "name": "Dear", "pricing_amount": 50, "delivery_type": "file" }))
        .await;
    agent
        .list(json!({ "name": "Draft", "status": "draft" }))
        .await;
    other.list(json!({ "name": "Other" })).await;
    let names = async |path: &str| {
        let data = api.get(path).await.data(200);
        let names = data.as_array().unwrap().iter();
        names
            .map(|l| l["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names("/listings").await, ["Other", "Dear", "Cheap"]);
    assert_eq!(names("/listings?category=code").await, ["Cheap"]);
    assert_eq!(names("/listings?delivery_type=file").await, ["Dear"]);
    assert_eq!(
        names("/listings?min_price=0.5&max_price=1").await,
        ["Other", "Cheap"]
    );
    assert_eq!(
        names(&format!("/listings?provider_id={}", other.id)).await,
        ["Other"]
    );
    assert_eq!(
        names("/listings?pricing_model=free").await,
        Vec::<String>::new()
    );
    for (query, bad) in [
        ("category=nope", "category"),
        ("category=%00", "category"),
        ("pricing_model=subscription", "pricing_model"),
        ("delivery_type=", "delivery_type"),
        ("min_price=1e3", "min_price"),
        ("max_price=-1", "max_price"),
        ("provider_id=x", "provider_id"),
        ("sort=sideways", "sort"),
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=abc", "limit"),
        ("page=0", "page"),
        ("page=99999999999999999999", "page"),
        ("cursor=x", "cursor"),
        ("page=1&page=2", "page"),
    ] {
        let answer = api.get(&format!("/listings?{query}")).await;
        assert_eq!(answer.bad_fields(), [bad], "{query}");
    }
    let many = api
        .get("/listings?limit=x&sort=y&page=z")
        .await
        .bad_fields();
    assert_eq!(
        many,
        ["limit", "page", "sort"],
        "every bad parameter at once"
    );
}

#[sqlx::test(migrations = "./migrations")]
async fn pages_and_cursors_walk_the_same_list(pool: PgPool) {
    let api = Api::new(pool);
    let agent = api.agent().await;
    for n in 0..5 {
        agent
            .list(json!({ "name": format!("Listing {n}"), "status": "draft" }))
            .await;
    }
    let page = |answer: Value| {
        let ids: Vec<String> = answer["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|l| l["id"].as_str().unwrap().to_owned())
            .collect();
        (ids, answer["pagination"].clone())
    };
    let (all, pagination) = page(agent.get("/me/listings").await.json());
    assert_eq!(all.len(), 5);
    assert_eq!(
        pagination,
        json!({ "page": 1, "limit": 20, "total": 5, "totalPages": 1, "next_cursor": null })
    );
    let (first, pagination) = page(agent.get("/me/listings?limit=2").await.json());
    assert_eq!(
        (&first[..], &pagination["totalPages"]),
        (&all[..2], &json!(3))
    );
    let (second, _) = page(agent.get("/me/listings?limit=2&page=2").await.json());
    assert_eq!(second, all[2..4]);
    let mut walked = first;
    let mut cursor = pagination["next_cursor"].as_str().map(str::to_owned);
    while let Some(at) = cursor {
        let (ids, pagination) = page(
            agent
                .get(&format!("/me/listings?limit=2&cursor={at}"))
                .await
                .json(),
        );
        assert!(
            pagination["page"].is_null()
                && pagination["total"].is_null()
                && pagination["totalPages"].is_null()
        );
        walked.extend(ids);
        cursor = pagination["next_cursor"].as_str().map(str::to_owned);
    }
    assert_eq!(walked, all);
    for past in [
        "/me/listings?page=7",
        "/me/listings?page=999",
        "/me/listings?limit=100&page=101",
    ] {
        let (ids, _) = page(agent.get(past).await.json());
        assert!(ids.is_empty(), "{past}");
    }
    let drafts = agent.get("/me/listings?status=active").await.json();
    assert_eq!(drafts["pagination"]["total"], 0);
    assert_eq!(
        agent.get("/me/listings?status=gone").await.bad_fields(),
        ["status"]
    );
    api.get("/me/listings").await.error(401, "UNAUTHORIZED");
}
