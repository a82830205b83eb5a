//! `POST /auth/recover`

use serde_json::json;
use sqlx::PgPool;

use super::client::{Agent, Api};
use super::wallet::{Wallet, mistake, not_canonical, proof};

async fn keys(api: &Api) -> i64 {
    sqlx::query_scalar("select count(*) from api_key")
        .fetch_one(api.app.db.pool())
        .await
        .unwrap()
}

#[sqlx::test(migrations = "./migrations")]
async fn a_registered_wallet_receives_a_fresh_key_and_keeps_the_others(pool: PgPool) {
    let api = Api::new(pool);
    for wallet in [Wallet::evm(), Wallet::solana()] {
        let agent = api.register(&wallet).await;
        let answer = api
            .post("/auth/recover", &api.recovery(&wallet).await)
            .await;
        assert_eq!(answer.header("cache-control"), "no-store");
        let data = answer.data(200);
        let key = data["api_key"].as_str().unwrap();
        assert_ne!(key, agent.key);
        assert_eq!(data["authorization_header"], format!("Bearer {key}"));
        assert_eq!(data["profile"]["id"], agent.id.as_str());
        assert_eq!(data["key"]["prefix"], key[..12]);
        let fresh = Agent {
            key: key.to_owned(),
            ..agent.clone()
        };
        fresh.get("/me").await.data(200);
        agent.get("/me").await.data(200);
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn every_earlier_key_is_revoked_when_asked_and_gateways_hear_of_each(pool: PgPool) {
    let api = Api::new(pool);
    let wallet = Wallet::solana();
    let agent = api.register(&wallet).await;
    let more = agent.post("/api-keys", &json!({ "name": "ci" })).await;
    let more = Agent {
        key: more.data(201)["api_key"].as_str().unwrap().to_owned(),
        ..agent.clone()
    };
    let other = api.agent().await;
    sqlx::query("delete from outbox")
        .execute(api.app.db.pool())
        .await
        .unwrap();
    let mut body = api.recovery(&wallet).await;
    body["revoke_existing_keys"] = true.into();
    let data = api.post("/auth/recover", &body).await.data(200);
    for old in [&agent, &more] {
        old.get("/me").await.error(401, "INVALID_API_KEY");
    }
    other.get("/me").await.data(200);
    let fresh = Agent {
        key: data["api_key"].as_str().unwrap().to_owned(),
        ..agent
    };
    let listed = fresh.get("/api-keys").await.data(200);
    let revoked = listed.as_array().unwrap().iter();
    assert_eq!(
        revoked.filter(|key| !key["revoked_at"].is_null()).count(),
        2
    );
    let told: i64 = sqlx::query_scalar(
        "select count(distinct k.id) from outbox o join api_key k on k.digest = o.key_digest
         where k.profile_id = $1::uuid",
    )
    .bind(&fresh.id)
    .fetch_one(api.app.db.pool())
    .await
    .unwrap();
    assert_eq!(told, 3, "both old ones and the fresh one");
}

#[sqlx::test(migrations = "./migrations")]
async fn an_unknown_wallet_is_sent_to_register_and_its_challenge_is_kept(pool: PgPool) {
    let api = Api::new(pool);
    let wallet = Wallet::evm();
    let body = api.recovery(&wallet).await;
    let error = api
        .post("/auth/recover", &body)
        .await
        .error(404, "WALLET_NOT_FOUND");
    assert_eq!(error["recovery"]["next_action"], "register_agent");
    api.register(&wallet).await;
    api.post("/auth/recover", &body).await.data(200);
}

#[sqlx::test(migrations = "./migrations")]
async fn a_wallet_that_is_disabled_or_may_not_recover_is_refused(pool: PgPool) {
    let api = Api::new(pool);
    let wallets = [Wallet::evm(), Wallet::solana(), Wallet::solana()];
    let agent = api.register(&wallets[0]).await;
    for (wallet, changes) in [
        (&wallets[1], json!({ "status": "disabled" })),
        (&wallets[2], json!({ "can_recover": false })),
    ] {
        let id = agent.link(&wallets[0], wallet).await;
        api.post("/auth/recover", &api.recovery(wallet).await)
            .await
            .data(200);
        agent
            .change_wallet(&wallets[0], &id, changes)
            .await
            .data(200);
        let before = keys(&api).await;
        api.post("/auth/recover", &api.recovery(wallet).await)
            .await
            .error(403, "FORBIDDEN");
        assert_eq!(keys(&api).await, before);
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn parallel_uses_of_a_challenge_give_one_key(pool: PgPool) {
    let api = Api::new(pool);
    let wallet = Wallet::evm();
    api.register(&wallet).await;
    let body = api.recovery(&wallet).await;
    let calls = (0..100).map(|_| api.post("/auth/recover", &body));
    let answers = futures_util::future::join_all(calls).await;
    let made = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(made, 1);
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        answer.error(401, "CHALLENGE_INVALID");
    }
    assert_eq!(keys(&api).await, 2);
}

#[sqlx::test(migrations = "./migrations")]
async fn no_key_is_made_by_one_that_a_recovery_revokes(pool: PgPool) {
    let api = Api::new(pool);
    let wallet = Wallet::solana();
    let mut agent = api.register(&wallet).await;
    for _ in 0..10 {
        let mut body = api.recovery(&wallet).await;
        body["revoke_existing_keys"] = true.into();
        let wanted = json!({ "name": "late" });
        let makes = (0..8).map(|_| agent.post("/api-keys", &wanted));
        let (recovered, made) = tokio::join!(
            api.post("/auth/recover", &body),
            futures_util::future::join_all(makes)
        );
        let data = recovered.data(200);
        for answer in made {
            if answer.status != 201 {
                answer.error(401, "INVALID_API_KEY");
            }
        }
        let live: Vec<String> =
            sqlx::query_scalar("select name from api_key where revoked_at is null")
                .fetch_all(api.app.db.pool())
                .await
                .unwrap();
        assert_eq!(live, ["recovered"], "every earlier key is revoked");
        agent.key = data["api_key"].as_str().unwrap().to_owned();
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn another_purpose_and_another_spelling_of_a_signature_are_refused(pool: PgPool) {
    let api = Api::new(pool);
    let (evm, solana) = (Wallet::evm(), Wallet::solana());
    for wallet in [&evm, &solana] {
        api.register(wallet).await;
        let register = proof(wallet, &api.challenge(wallet, "register").await);
        api.post("/auth/recover", &register)
            .await
            .error(401, "CHALLENGE_INVALID");
    }
    let challenge = api.challenge(&evm, "recover").await;
    let mut body = proof(&evm, &challenge);
    body["signature"] = evm
        .sign_malleably(challenge["message"].as_str().unwrap())
        .into();
    api.post("/auth/recover", &body)
        .await
        .error(401, "INVALID_SIGNATURE");
    let challenge = api.challenge(&solana, "recover").await;
    let mut body = proof(&solana, &challenge);
    let good = body["signature"].as_str().unwrap().to_owned();
    body["signature"] = not_canonical(&good).into();
    api.post("/auth/recover", &body)
        .await
        .error(401, "INVALID_SIGNATURE");
    body["signature"] = good.into();
    body["pow_nonce"] = mistake(&challenge["pow"]).into();
    api.post("/auth/recover", &body)
        .await
        .error(400, "POW_INVALID");
}
