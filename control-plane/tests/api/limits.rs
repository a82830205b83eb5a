//! Rate limits: by key and by address

use axum::body::Body;
use http::{Method, Request};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sqlx::PgPool;

use super::client::{Answer, Api, PASSWORD};
use super::redis_server::Redis;
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

/// Reads of one key by two control planes in turn: how many were allowed, and the last standings.
async fn reads(apis: [&Api; 2], key: &str, times: usize) -> usize {
    let mut allowed = 0;
    for n in 0..times {
        let answer = apis[n % 2].call(Method::GET, "/me", Some(key), None).await;
        assert!([200, 429].contains(&answer.status.as_u16()), "{answer:?}");
        allowed += usize::from(answer.status == 200);
    }
    allowed
}

#[sqlx::test(migrations = "./migrations")]
async fn two_control_planes_share_one_count_also_when_redis_forgets_or_goes(pool: PgPool) {
    let mut redis = Redis::start();
    let mut connection = redis.connect().await;
    let args = [
        &format!("--redis-url={}", redis.url()),
        "--rate-limit-key-reads-per-minute=20",
    ];
    let (one, two) = (Api::with(pool.clone(), &args), Api::with(pool, &args));
    let (shared, forgotten, alone) = (one.agent().await, one.agent().await, one.agent().await);
    // The first asking connects, which may take longer than a request waits.
    reads([&one, &two], &one.agent().await.key, 2).await;

    assert_eq!(reads([&one, &two], &shared.key, 50).await, 20);
    let names: Vec<String> = redis::cmd("KEYS")
        .arg("crochet:limit:reads:*")
        .query_async(&mut connection)
        .await
        .unwrap();
    assert_eq!(names.len(), 2, "one count each: {names:?}");

    assert_eq!(reads([&one, &two], &forgotten.key, 10).await, 10);
    let _: String = redis::cmd("FLUSHALL")
        .query_async(&mut connection)
        .await
        .unwrap();
    // What the two were told last restores the count; one of them may know of one less.
    let more = reads([&one, &two], &forgotten.key, 50).await;
    assert!((10..=11).contains(&more), "{more} after ten");

    assert_eq!(reads([&one, &two], &alone.key, 10).await, 10);
    redis.stop();
    // From here each counts on from what it knew.
    let more = reads([&one, &two], &alone.key, 50).await;
    assert!((20..=22).contains(&more), "{more} after ten");
    assert_eq!(reads([&one, &two], &shared.key, 4).await, 0);
}

#[sqlx::test(migrations = "./migrations")]
async fn no_name_in_redis_tells_a_key_or_an_address(pool: PgPool) {
    let redis = Redis::start();
    let mut connection = redis.connect().await;
    let api = Api::with(
        pool,
        &[
            &format!("--redis-url={}", redis.url()),
            "--trusted-proxies=127.0.0.0/8",
        ],
    );
    let agent = api.agent().await;
    let guess = crochet_shared::api_key::generate(|| crochet_shared::id::random::<1>()[0]);
    let guess = secrecy::ExposeSecret::expose_secret(&guess.text).to_owned();
    let body = json!({ "wallet_address": Wallet::evm().address() }).to_string();
    let email = "ada@example.com";
    let credentials = json!({ "email": email, "password": PASSWORD });
    for _ in 0..3 {
        agent.get("/me").await;
        api.post("/auth/login", &credentials).await;
        from(&api, "203.0.113.9", "/me", "", &guess).await;
        from(&api, "203.0.113.9", "/auth/challenge", &body, "").await;
    }
    let names: Vec<String> = redis::cmd("KEYS")
        .arg("*")
        .query_async(&mut connection)
        .await
        .unwrap();
    for kind in ["reads", "unknown_keys", "sign_in", "email_sign_in"] {
        let prefix = format!("crochet:limit:{kind}:");
        assert!(
            names.iter().any(|name| name.starts_with(&prefix)),
            "{names:?}"
        );
    }
    let digest =
        crochet_shared::redis_key::hex(&crochet_shared::api_key::parse(&agent.key).unwrap().0);
    // Of an address that is known to exist, anybody can make the digest.
    let guessable = crochet_shared::redis_key::hex(&Sha256::digest(email));
    let guessable = &guessable[..16];
    for name in names.iter().filter(|name| name.contains(":limit:")) {
        for secret in [
            "203.0.113",
            &agent.key[5..],
            &guess[5..],
            &digest,
            guessable,
        ] {
            assert!(!name.contains(secret), "{name}");
        }
    }
}
