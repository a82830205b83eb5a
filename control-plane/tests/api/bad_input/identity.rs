//! Who signs in, registers, links, claims and holds keys.

use http::Method;
use serde_json::json;
use sqlx::PgPool;

use super::super::client::PASSWORD;
use super::super::refused::{Takes, refused};
use super::super::wallet::Wallet;
use super::{Field, Refused, Route, Taken, api, written};

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
        Field("changes.label", Takes::Name(0, 60), Taken),
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
            Field("display_name", Takes::Name(1, 80), Refused),
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
        Field("label", Takes::Name(0, 60), Taken),
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
            Field("label", Takes::Name(0, 60), Taken),
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
        .refuses(&[Field("display_name", Takes::Name(1, 80), Refused)])
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
            Field("display_name", Takes::Name(1, 80), Refused),
            Field("description", Takes::Text(0, 1000), Taken),
            Field("avatar_url", Takes::Form, Taken),
        ])
        .await;
    let keys = route(Method::POST, "/api-keys", json!({ "name": "ci" }));
    keys.requires(&["name"]).await;
    keys.refuses(&[
        Field("name", Takes::Name(1, 60), Refused),
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
