//! `POST /register`

use serde_json::{Value, json};
use sqlx::PgPool;

use super::client::Api;
use super::wallet::{Wallet, mistake, proof};

async fn profiles(api: &Api) -> i64 {
    sqlx::query_scalar("select count(*) from profile")
        .fetch_one(api.app.db.pool())
        .await
        .unwrap()
}

#[sqlx::test(migrations = "./migrations")]
async fn a_wallet_of_either_chain_becomes_an_agent(pool: PgPool) {
    let api = Api::new(pool);
    for wallet in [Wallet::evm(), Wallet::solana()] {
        let body = api.registration(&wallet, "  Ada  ").await;
        let answer = api.post("/register", &body).await;
        let data = answer.data(201);
        let key = data["api_key"].as_str().unwrap();
        assert!(key.starts_with("am_k_") && key.len() == 41);
        assert_eq!(data["authorization_header"], format!("Bearer {key}"));
        assert_eq!(data["key"]["prefix"], key[..12]);
        assert!(data["key"]["revoked_at"].is_null() && data["key"]["expires_at"].is_null());
        let profile = &data["profile"];
        assert_eq!(profile["display_name"], "Ada", "trimmed");
        assert_eq!(profile["account_type"], "agent");
        assert_eq!(
            (&profile["is_verified"], &profile["claimed_by"]),
            (&json!(false), &Value::Null)
        );
        assert!(profile["score"].is_u64());
        assert_eq!(answer.header("cache-control"), "no-store");
        let id = profile["id"].as_str().unwrap();
        assert_eq!(answer.header("location"), format!("/api/v1/agents/{id}"));

        let again = api.registration(&wallet, "Ada again").await;
        let error = api
            .post("/register", &again)
            .await
            .error(409, "WALLET_ALREADY_REGISTERED");
        assert_eq!(error["recovery"]["next_action"], "recover_account");
    }
    assert_eq!(profiles(&api).await, 2);
}

#[sqlx::test(migrations = "./migrations")]
async fn spelling_an_evm_address_otherwise_makes_no_second_wallet(pool: PgPool) {
    let api = Api::new(pool);
    let wallet = Wallet::evm();
    let agent = api.register(&wallet).await;
    let shown = agent.get("/me").await.data(200)["wallets"][0]["address"].clone();
    assert_ne!(shown, wallet.address(), "shown in EIP-55 form");
    let body = json!({ "wallet_address": shown });
    let challenge = api.post("/auth/challenge", &body).await.data(200);
    let mut body = proof(&wallet, &challenge);
    body["wallet_address"] = shown;
    body["display_name"] = "Twin".into();
    api.post("/register", &body)
        .await
        .error(409, "WALLET_ALREADY_REGISTERED");
}

#[sqlx::test(migrations = "./migrations")]
async fn a_challenge_serves_once_and_only_a_success_uses_it_up(pool: PgPool) {
    let api = Api::new(pool);
    let wallet = Wallet::solana();
    let challenge = api.challenge(&wallet, "register").await;
    let mut good = proof(&wallet, &challenge);
    good["display_name"] = "Ada".into();
    for (field, value, status, code) in [
        ("nonce", json!("0".repeat(32)), 401, "CHALLENGE_INVALID"),
        (
            "pow_nonce",
            json!(mistake(&challenge["pow"])),
            400,
            "POW_INVALID",
        ),
        (
            "signature",
            json!(wallet.sign("something else")),
            401,
            "INVALID_SIGNATURE",
        ),
        (
            "signature",
            json!("not a signature"),
            401,
            "INVALID_SIGNATURE",
        ),
        (
            "wallet_address",
            json!(Wallet::solana().address()),
            401,
            "CHALLENGE_INVALID",
        ),
    ] {
        let mut body = good.clone();
        body[field] = value;
        api.post("/register", &body).await.error(status, code);
    }
    api.post("/register", &good).await.data(201);
    let error = api
        .post("/register", &good)
        .await
        .error(401, "CHALLENGE_INVALID");
    assert_eq!(error["recovery"]["next_action"], "request_new_challenge");
    // Cheapest first: that it was used is seen before its signature is looked at.
    good["signature"] = json!(wallet.sign("something else"));
    api.post("/register", &good)
        .await
        .error(401, "CHALLENGE_INVALID");
    assert_eq!(profiles(&api).await, 1);
}

#[sqlx::test(migrations = "./migrations")]
async fn parallel_uses_of_a_challenge_give_one_success(pool: PgPool) {
    let api = Api::new(pool);
    let wallet = Wallet::evm();
    let body = api.registration(&wallet, "Ada").await;
    let calls = (0..100).map(|_| api.post("/register", &body));
    let answers = futures_util::future::join_all(calls).await;
    let made = answers.iter().filter(|answer| answer.status == 201).count();
    assert_eq!(made, 1);
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        answer.error(401, "CHALLENGE_INVALID");
    }
    assert_eq!(profiles(&api).await, 1);
}

#[sqlx::test(migrations = "./migrations")]
async fn parallel_challenges_of_a_wallet_give_one_agent(pool: PgPool) {
    let api = Api::new(pool);
    let wallet = Wallet::solana();
    let mut bodies = Vec::new();
    for _ in 0..10 {
        bodies.push(api.registration(&wallet, "Ada").await);
    }
    let calls = bodies.iter().map(|body| api.post("/register", body));
    let answers = futures_util::future::join_all(calls).await;
    assert_eq!(
        answers.iter().filter(|answer| answer.status == 201).count(),
        1
    );
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        answer.error(409, "WALLET_ALREADY_REGISTERED");
    }
    assert_eq!(profiles(&api).await, 1);
}

#[sqlx::test(migrations = "./migrations")]
async fn another_purpose_another_time_or_another_form_is_refused(pool: PgPool) {
    let api = Api::new(pool);
    let wallet = Wallet::evm();
    let recover = api.challenge(&wallet, "recover").await;
    let mut body = proof(&wallet, &recover);
    body["display_name"] = "Ada".into();
    api.post("/register", &body)
        .await
        .error(401, "CHALLENGE_INVALID");

    let challenge = api.challenge(&wallet, "register").await;
    let mut body = proof(&wallet, &challenge);
    body["display_name"] = "Ada".into();
    let message = challenge["message"].as_str().unwrap();
    let good = body["signature"].as_str().unwrap().to_owned();
    for bad in [
        wallet.sign_malleably(message),
        good[2..].to_owned(),
        good[..good.len() - 2].to_owned(),
        format!("{}1d", &good[..good.len() - 2]),
        format!("{good}00"),
        "0x".to_owned(),
        "é".repeat(50),
        "0".repeat(10_000),
    ] {
        body["signature"] = bad.into();
        api.post("/register", &body)
            .await
            .error(401, "INVALID_SIGNATURE");
    }
    body["signature"] = good.into();
    sqlx::query("update challenge set expires_at = now() - interval '1 second'")
        .execute(api.app.db.pool())
        .await
        .unwrap();
    api.post("/register", &body)
        .await
        .error(401, "CHALLENGE_INVALID");
    assert_eq!(profiles(&api).await, 0);
}

#[sqlx::test(migrations = "./migrations")]
async fn a_signature_in_base64_counts_for_solana(pool: PgPool) {
    use base64::Engine as _;
    let api = Api::new(pool);
    let wallet = Wallet::solana();
    let mut body = api.registration(&wallet, "Ada").await;
    let bytes = bs58::decode(body["signature"].as_str().unwrap())
        .into_vec()
        .unwrap();
    body["signature"] = base64::engine::general_purpose::STANDARD
        .encode(bytes)
        .into();
    api.post("/register", &body).await.data(201);
}
