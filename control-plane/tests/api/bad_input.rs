//! Every field of every route, with what no route takes: a contract error that names the field,
//! never a fault, and nothing written.

use http::Method;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::client::{Agent, Api, PASSWORD, URL};
use super::refused::{Takes, refused};
use super::wallet::Wallet;

/// A field, whether it may be left out, and whether `null` is refused too.
struct Field(&'static str, Takes, Null);

#[derive(Clone, Copy, PartialEq)]
enum Null {
    Refused,
    Taken,
}
use Null::{Refused, Taken};

/// How much is there of what a refused call must not write.
async fn written(api: &Api) -> Vec<i64> {
    sqlx::query_scalar(
        "select count(*) from profile union all select count(*) from wallet
         union all select count(*) from api_key union all select count(*) from listing
         union all select coalesce(sum(version), 0)::bigint from listing
         union all select count(*) from endpoint union all select count(*) from outbox
         union all select count(*) from challenge union all select count(used_at) from challenge
         union all select count(*) from human union all select count(*) from session
         union all select count(revoked_at) from api_key union all select count(claimed_by) from profile",
    )
    .fetch_all(api.app.db.pool())
    .await
    .unwrap()
}

struct Route<'a> {
    api: &'a Api,
    key: Option<&'a str>,
    method: Method,
    path: &'a str,
    body: Value,
}

impl Route<'_> {
    /// Puts every refused value in the place of every field.
    async fn refuses(&self, fields: &[Field]) {
        let before = written(self.api).await;
        for Field(name, takes, null) in fields {
            let mut values = refused(*takes);
            if *null == Refused {
                values.push("null".to_owned());
            }
            for value in values {
                let body = self.with(name, &value);
                let answer = self
                    .api
                    .call(self.method.clone(), self.path, self.key, Some(&body))
                    .await;
                let shown: String = value.chars().take(40).collect();
                let what = format!("{} {} {name}={shown}", self.method, self.path);
                assert_eq!(answer.status, 400, "{what}: {}", answer.text);
                if answer.json()["error"]["code"] == "ENDPOINT_URL_FORBIDDEN"
                    && name.ends_with("url")
                {
                    continue;
                }
                let bad = answer.bad_fields();
                assert!(
                    bad.iter().all(|bad| bad.starts_with(name)) && !bad.is_empty(),
                    "{what}: {bad:?}"
                );
            }
        }
        assert_eq!(
            written(self.api).await,
            before,
            "{} {}",
            self.method,
            self.path
        );
    }

    /// What must be there is told when it is not, all of it at once.
    async fn requires(&self, fields: &[&str]) {
        let answer = self
            .api
            .call(self.method.clone(), self.path, self.key, Some("{}"))
            .await;
        let mut wanted = fields.to_vec();
        wanted.sort_unstable();
        assert_eq!(answer.bad_fields(), wanted, "{} {}", self.method, self.path);
    }

    fn with(&self, field: &str, value: &str) -> String {
        let mut body = self.body.clone();
        match field.split_once('.') {
            None => body[field] = "VALUE".into(),
            Some((outer, inner)) => {
                if !body[outer].is_object() {
                    body[outer] = json!({});
                }
                // The rest of a header is there, so that only the one part is wrong.
                if let Some((middle, last)) = inner.split_once('.') {
                    body[outer][middle] = json!({ "name": "X-Api-Key", "value": "v" });
                    body[outer][middle][last] = "VALUE".into();
                } else {
                    if outer == "auth_header" {
                        body[outer] = json!({ "name": "X-Api-Key", "value": "v" });
                    }
                    body[outer][inner] = "VALUE".into();
                }
            }
        }
        body.to_string().replace("\"VALUE\"", value)
    }
}

async fn api(pool: PgPool) -> (Api, Agent) {
    let api = Api::with(
        pool,
        &[
            "--rate-limit-key-writes-per-minute=1000000",
            "--rate-limit-sign-in-per-5-minutes=1000000",
            "--pow-difficulty=0",
        ],
    );
    let agent = api.agent().await;
    (api, agent)
}

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
        Field("name", Takes::Text(1, 120), Refused),
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
async fn challenge(pool: PgPool) {
    let (api, _) = api(pool).await;
    let route = |body| Route {
        api: &api,
        key: None,
        method: Method::POST,
        path: "/auth/challenge",
        body,
    };
    let address = Wallet::evm().address();
    let plain = route(json!({ "wallet_address": address }));
    plain.requires(&["wallet_address"]).await;
    plain
        .refuses(&[
            Field("wallet_address", Takes::Form, Refused),
            Field("purpose", Takes::Form, Refused),
            Field("profile_id", Takes::Form, Taken),
            Field("linked_wallet_address", Takes::Form, Taken),
            Field("target_wallet_id", Takes::Form, Taken),
            Field("changes", Takes::Object, Taken),
        ])
        .await;
    let id = "0190a000-0000-7000-8000-000000000001";
    route(json!({
        "wallet_address": address, "purpose": "manage_wallet", "target_wallet_id": id,
        "changes": { "can_recover": true },
    }))
    .refuses(&[
        Field("changes", Takes::Object, Refused),
        Field("changes.label", Takes::Text(0, 60), Taken),
        Field("changes.status", Takes::Form, Refused),
        Field("changes.can_authenticate", Takes::Flag, Refused),
    ])
    .await;
}

#[sqlx::test(migrations = "./migrations")]
async fn register(pool: PgPool) {
    let (api, _) = api(pool).await;
    let body = api.registration(&Wallet::evm(), "Ada").await;
    let route = Route {
        api: &api,
        key: None,
        method: Method::POST,
        path: "/register",
        body: body.clone(),
    };
    route
        .requires(&[
            "wallet_address",
            "signature",
            "nonce",
            "pow_nonce",
            "display_name",
        ])
        .await;
    route
        .refuses(&[
            Field("wallet_address", Takes::Form, Refused),
            Field("signature", Takes::Opaque, Refused),
            Field("nonce", Takes::Opaque, Refused),
            Field("pow_nonce", Takes::Opaque, Refused),
            Field("display_name", Takes::Text(1, 80), Refused),
            Field("description", Takes::Text(0, 1000), Taken),
            Field("avatar_url", Takes::Form, Taken),
        ])
        .await;
    for (field, value) in [
        ("nonce", "\0".to_owned()),
        ("nonce", "x".repeat(100_000)),
        ("nonce", String::new()),
        ("signature", "\0".repeat(65)),
        ("signature", String::new()),
    ] {
        let mut body = body.clone();
        body[field] = value.into();
        let answer = api.post("/register", &body).await;
        assert_eq!(answer.status, 401, "{field}: {answer:?}");
    }
    api.post("/register", &body).await.data(201);
}

#[sqlx::test(migrations = "./migrations")]
async fn recover(pool: PgPool) {
    let (api, _) = api(pool).await;
    let wallet = Wallet::solana();
    api.register(&wallet).await;
    let route = Route {
        api: &api,
        key: None,
        method: Method::POST,
        path: "/auth/recover",
        body: api.recovery(&wallet).await,
    };
    route
        .requires(&["wallet_address", "signature", "nonce", "pow_nonce"])
        .await;
    route
        .refuses(&[
            Field("wallet_address", Takes::Form, Refused),
            Field("signature", Takes::Opaque, Refused),
            Field("nonce", Takes::Opaque, Refused),
            Field("pow_nonce", Takes::Opaque, Refused),
            Field("revoke_existing_keys", Takes::Flag, Taken),
        ])
        .await;
    api.post("/auth/recover", &route.body).await.data(200);
}

#[sqlx::test(migrations = "./migrations")]
async fn wallets(pool: PgPool) {
    let (api, _) = api(pool).await;
    let (old, new) = (Wallet::solana(), Wallet::evm());
    let agent = api.register(&old).await;
    let id = agent.wallet_id().await;
    let path = format!("/me/wallets/{id}");
    let link = Route {
        api: &api,
        key: Some(&agent.key),
        method: Method::POST,
        path: "/me/wallets",
        body: api.link_body(&old, &new).await,
    };
    link.requires(&["existing_wallet_proof", "new_wallet_proof"])
        .await;
    link.refuses(&[
        Field("existing_wallet_proof", Takes::Object, Refused),
        Field("existing_wallet_proof.wallet_address", Takes::Form, Refused),
        Field("existing_wallet_proof.nonce", Takes::Opaque, Refused),
        Field("existing_wallet_proof.signature", Takes::Opaque, Refused),
        Field("new_wallet_proof", Takes::Object, Refused),
        Field("new_wallet_proof.wallet_address", Takes::Form, Refused),
        Field("new_wallet_proof.nonce", Takes::Opaque, Refused),
        Field("new_wallet_proof.signature", Takes::Opaque, Refused),
        Field("label", Takes::Text(0, 60), Taken),
    ])
    .await;
    let change = Route {
        api: &api,
        key: Some(&agent.key),
        method: Method::PATCH,
        path: &path,
        body: agent.change_body(&old, &id, &json!({ "label": "A" })).await,
    };
    change.requires(&["wallet_proof"]).await;
    change
        .refuses(&[
            Field("wallet_proof", Takes::Object, Refused),
            Field("wallet_proof.wallet_address", Takes::Form, Refused),
            Field("wallet_proof.nonce", Takes::Opaque, Refused),
            Field("wallet_proof.signature", Takes::Opaque, Refused),
            Field("label", Takes::Text(0, 60), Taken),
            Field("status", Takes::Form, Refused),
            Field("can_authenticate", Takes::Flag, Refused),
            Field("can_recover", Takes::Flag, Refused),
            Field("is_default_payment", Takes::Flag, Refused),
            Field("is_default_payout", Takes::Flag, Refused),
        ])
        .await;
    agent.patch(&path, &change.body).await.data(200);
    agent.post("/me/wallets", &link.body).await.data(201);
}

#[sqlx::test(migrations = "./migrations")]
async fn humans(pool: PgPool) {
    let (api, _) = api(pool).await;
    let body = json!({ "email": "a@example.com", "password": PASSWORD, "display_name": "A" });
    let route = |path, body| Route {
        api: &api,
        key: None,
        method: Method::POST,
        path,
        body,
    };
    let credentials = [
        Field("email", Takes::Form, Refused),
        Field("password", Takes::Text(10, 128), Refused),
    ];
    let login = route("/auth/login", body.clone());
    login.requires(&["email", "password"]).await;
    login.refuses(&credentials).await;
    let signup = route("/auth/signup", body.clone());
    signup
        .requires(&["email", "password", "display_name"])
        .await;
    signup.refuses(&credentials).await;
    signup
        .refuses(&[Field("display_name", Takes::Text(1, 80), Refused)])
        .await;
    for (field, value) in [
        ("email", "a@b"),
        ("email", "a b@c.de"),
        ("password", "123456789"),
    ] {
        let mut body = body.clone();
        body[field] = value.into();
        let answer = api.post("/auth/signup", &body).await;
        assert_eq!(answer.bad_fields(), [field], "{value}");
    }
    api.post("/auth/signup", &body).await.data(201);
}

#[sqlx::test(migrations = "./migrations")]
async fn claim(pool: PgPool) {
    let (api, _) = api(pool).await;
    let wallet = Wallet::evm();
    let agent = api.register(&wallet).await;
    let grace = api.person("grace@example.com").await;
    let body = grace.claim_body(&agent, &wallet).await;
    let path = format!("/agents/{}/claim", agent.id);
    let before = written(&api).await;
    let bad = grace.post(&path, &json!({})).await.bad_fields();
    assert_eq!(bad, ["nonce", "signature", "wallet_address"]);
    for (name, takes) in [
        ("wallet_address", Takes::Form),
        ("nonce", Takes::Opaque),
        ("signature", Takes::Opaque),
    ] {
        for value in refused(takes) {
            let headers = [("content-type", "application/json")];
            let mut request = http::Request::builder()
                .method(Method::POST)
                .uri(format!("/api/v1{path}"))
                .header("cookie", &grace.cookie);
            for (header, value) in headers {
                request = request.header(header, value);
            }
            let mut body = body.clone();
            body[name] = "VALUE".into();
            let text = body.to_string().replace("\"VALUE\"", &value);
            let answer = api.send(request.body(text.into()).unwrap()).await;
            assert_eq!(answer.bad_fields(), [name], "{value}");
        }
    }
    assert_eq!(written(&api).await, before);
    grace.post(&path, &body).await.data(200);
}

#[sqlx::test(migrations = "./migrations")]
async fn me_and_keys(pool: PgPool) {
    let (api, agent) = api(pool).await;
    let route = |method, path, body| Route {
        api: &api,
        key: Some(&agent.key),
        method,
        path,
        body,
    };
    route(Method::PATCH, "/me", json!({}))
        .refuses(&[
            Field("display_name", Takes::Text(1, 80), Refused),
            Field("description", Takes::Text(0, 1000), Taken),
            Field("avatar_url", Takes::Form, Taken),
        ])
        .await;
    let keys = route(Method::POST, "/api-keys", json!({ "name": "ci" }));
    keys.requires(&["name"]).await;
    keys.refuses(&[
        Field("name", Takes::Text(1, 60), Refused),
        Field("expires_at", Takes::Form, Taken),
    ])
    .await;
    for time in [
        "1969-12-31T23:59:59Z",
        "2999-02-30T00:00:00Z",
        "+292277026596-01-01T00:00:00Z",
        "2999-01-01",
    ] {
        let answer = agent
            .post("/api-keys", &json!({ "name": "ci", "expires_at": time }))
            .await;
        assert_eq!(answer.bad_fields(), ["expires_at"], "{time}");
    }
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
