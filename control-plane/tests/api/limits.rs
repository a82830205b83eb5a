//! Rate limits: by key and by address

use axum::body::Body;
use http::{Method, Request};
use serde_json::json;
use sqlx::PgPool;

use super::client::{Answer, Api};
use super::wallet::Wallet;

async fn from(api: &Api, forwarded: &str, path: &str, body: &str, key: &str) -> Answer {
    let method = if body.is_empty() {
        Method::GET
    } else {
        Method::POST
    };
    let request = Request::builder()
        .method(method)
        .uri(format!("/api/v1{path}"))
        .header("x-forwarded-for", forwarded)
        .header("authorization", format!("Bearer {key}"))
        .header("content-type", "application/json")
        .body(Body::from(body.to_owned()))
        .unwrap();
    api.send(request).await
}

#[sqlx::test(migrations = "./migrations")]
async fn a_key_reads_and_writes_so_often_a_minute(pool: PgPool) {
    let limits = [
        "--rate-limit-key-reads-per-minute=3",
        "--rate-limit-key-writes-per-minute=2",
    ];
    let api = Api::with(pool, &limits);
    let agent = api.agent().await;
    for left in ["2", "1", "0"] {
        let answer = agent.get("/me").await;
        answer.data(200);
        assert_eq!(answer.header("ratelimit-policy"), "\"default\";q=3;w=60");
        assert!(
            answer
                .header("ratelimit")
                .starts_with(&format!("\"default\";r={left};t="))
        );
    }
    let refused = agent.get("/api-keys").await;
    let error = refused.error(429, "RATE_LIMITED");
    let wait = error["recovery"]["retry_after_seconds"].as_u64().unwrap();
    assert!((1..=60).contains(&wait));
    assert_eq!(refused.header("retry-after"), wait.to_string());
    for _ in 0..2 {
        agent.patch("/me", &json!({})).await.data(200);
    }
    agent
        .patch("/me", &json!({}))
        .await
        .error(429, "RATE_LIMITED");
    api.agent().await.get("/me").await.data(200);
}

#[sqlx::test(migrations = "./migrations")]
async fn an_address_signs_in_so_often_and_ipv6_counts_by_64_bits(pool: PgPool) {
    let api = Api::with(pool, &["--rate-limit-sign-in-per-5-minutes=2"]);
    let body = json!({ "wallet_address": Wallet::evm().address() }).to_string();
    let ask = async |address: &str| from(&api, address, "/auth/challenge", &body, "").await;
    ask("2001:db8::1").await.data(200);
    ask("2001:db8::2").await.data(200);
    let refused = ask("2001:db8::ffff").await;
    refused.error(429, "RATE_LIMITED");
    assert_eq!(refused.header("ratelimit-policy"), "\"default\";q=2;w=300");
    ask("2001:db8:0:1::1").await.data(200);
}

#[sqlx::test(migrations = "./migrations")]
async fn only_a_trusted_proxy_names_the_client(pool: PgPool) {
    let limits = [
        "--rate-limit-sign-in-per-5-minutes=1",
        "--trusted-proxies=127.0.0.0/8,10.0.0.0/8",
    ];
    let api = Api::with(pool, &limits);
    let body = json!({ "wallet_address": Wallet::evm().address() }).to_string();
    let ask = async |forwarded: &str| from(&api, forwarded, "/auth/challenge", &body, "").await;
    ask("203.0.113.1, 10.1.1.1").await.data(200);
    ask("6.6.6.6, 203.0.113.1").await.error(429, "RATE_LIMITED");
    ask("203.0.113.1, 203.0.113.2").await.data(200);
    ask("nonsense").await.data(200);
    ask("more nonsense").await.error(429, "RATE_LIMITED");
}

#[sqlx::test(migrations = "./migrations")]
async fn an_address_that_guesses_keys_is_refused_before_any_look_up(pool: PgPool) {
    let api = Api::with(pool, &["--rate-limit-unknown-keys-per-minute=2"]);
    let agent = api.agent().await;
    let guess = || {
        let key = crochet_shared::api_key::generate(|| crochet_shared::id::random::<1>()[0]);
        secrecy::ExposeSecret::expose_secret(&key.text).to_owned()
    };
    for _ in 0..2 {
        from(&api, "203.0.113.9", "/me", "", &guess())
            .await
            .error(401, "INVALID_API_KEY");
    }
    from(&api, "203.0.113.9", "/me", "", "am_k_typo")
        .await
        .error(401, "UNAUTHORIZED");
    from(&api, "203.0.113.9", "/me", "", &guess())
        .await
        .error(429, "RATE_LIMITED");
    from(&api, "203.0.113.10", "/me", "", &agent.key)
        .await
        .data(200);
    // Also a good key, from there: before the look-up nobody knows that it is one.
    from(&api, "203.0.113.9", "/me", "", &agent.key)
        .await
        .error(429, "RATE_LIMITED");
}
