//! `POST /agents/:id/claim`, and what a human reaches of the agents she has claimed

use http::Method;
use serde_json::json;
use sqlx::PgPool;

use super::client::{Agent, Api};
use super::wallet::Wallet;

#[sqlx::test(migrations = "./migrations")]
async fn a_human_who_controls_a_wallet_claims_the_agent_once(pool: PgPool) {
    let api = Api::new(pool);
    let wallet = Wallet::evm();
    let agent = api.register(&wallet).await;
    let grace = api.person("grace@example.com").await;
    let before = api.get(&format!("/agents/{}", agent.id)).await.data(200);
    let claimed = grace.claim(&agent, &wallet).await.data(200);
    assert_eq!(claimed["account_type"], "human_claimed_agent");
    assert_eq!(
        claimed["claimed_by"],
        json!({ "id": grace.id, "display_name": "Grace" })
    );
    for same in ["id", "score", "is_verified", "display_name"] {
        assert_eq!(claimed[same], before[same], "{same}");
    }
    assert_eq!(
        api.get(&format!("/agents/{}", agent.id)).await.data(200),
        claimed
    );
    let again = grace.claim(&agent, &wallet).await;
    again.error(409, "AGENT_ALREADY_CLAIMED");
    let eve = api.person("eve@example.com").await;
    eve.claim(&agent, &wallet)
        .await
        .error(409, "AGENT_ALREADY_CLAIMED");
    // The agent goes on as before.
    agent.get("/me").await.data(200);
}

#[sqlx::test(migrations = "./migrations")]
async fn a_claim_needs_an_active_wallet_of_that_agent(pool: PgPool) {
    let api = Api::new(pool);
    let (own, weak) = (Wallet::evm(), Wallet::solana());
    let agent = api.register(&own).await;
    let other = api.agent().await;
    let grace = api.person("grace@example.com").await;
    let path = format!("/agents/{}/claim", agent.id);
    let stranger = Wallet::solana();
    grace.claim(&agent, &stranger).await.error(403, "FORBIDDEN");
    // A proof for another agent is no proof for this one.
    let elsewhere = grace.claim_body(&other, &own).await;
    grace
        .post(&path, &elsewhere)
        .await
        .error(401, "CHALLENGE_INVALID");
    let unclaimable = format!("/agents/{}/claim", grace.id);
    for unknown in [
        "/agents/0190a000-0000-7000-8000-000000000001/claim",
        "/agents/x/claim",
        &unclaimable,
    ] {
        grace
            .post(unknown, &elsewhere)
            .await
            .error(404, "AGENT_NOT_FOUND");
    }
    let id = agent.link(&own, &weak).await;
    let rights = async |changes| {
        agent.change_wallet(&own, &id, changes).await.data(200);
    };
    rights(json!({ "can_recover": false, "can_authenticate": false })).await;
    grace.claim(&agent, &weak).await.error(403, "FORBIDDEN");
    rights(json!({ "can_authenticate": true, "status": "disabled" })).await;
    grace.claim(&agent, &weak).await.error(403, "FORBIDDEN");
    rights(json!({ "status": "active" })).await;
    grace.claim(&agent, &weak).await.data(200);
}

#[sqlx::test(migrations = "./migrations")]
async fn only_a_signed_in_person_on_our_own_pages_claims(pool: PgPool) {
    let api = Api::new(pool);
    let wallet = Wallet::solana();
    let agent = api.register(&wallet).await;
    let grace = api.person("grace@example.com").await;
    let body = grace.claim_body(&agent, &wallet).await;
    let path = format!("/agents/{}/claim", agent.id);
    let none = api.post(&path, &body).await;
    none.error(401, "UNAUTHORIZED");
    assert!(!none.headers.contains_key("access-control-allow-origin"));
    agent
        .post(&path, &body)
        .await
        .error(403, "HUMAN_SESSION_REQUIRED");
    api.call(Method::POST, &path, Some("am_k_x"), Some(&body.to_string()))
        .await
        .error(401, "UNAUTHORIZED");
    for origin in ["https://evil.example", "null", "http://127.0.0.1:8081"] {
        grace
            .send(Method::POST, &path, &[("origin", origin)], Some(&body))
            .await
            .error(403, "ORIGIN_FORBIDDEN");
    }
    let own = [("origin", "http://127.0.0.1:8080")];
    grace
        .send(Method::POST, &path, &own, Some(&body))
        .await
        .data(200);
}

#[sqlx::test(migrations = "./migrations")]
async fn parallel_claims_have_one_winner(pool: PgPool) {
    let api = Api::new(pool);
    let wallet = Wallet::evm();
    let agent = api.register(&wallet).await;
    let people = [
        api.person("a@example.com").await,
        api.person("b@example.com").await,
    ];
    let path = format!("/agents/{}/claim", agent.id);
    let mut bodies = Vec::new();
    for person in people.iter().cycle().take(10) {
        bodies.push((person, person.claim_body(&agent, &wallet).await));
    }
    // Each proof ten times: a hundred calls.
    let calls = bodies
        .iter()
        .cycle()
        .take(100)
        .map(|(person, body)| person.post(&path, body));
    let answers = futures_util::future::join_all(calls).await;
    assert_eq!(
        answers.iter().filter(|answer| answer.status == 200).count(),
        1
    );
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        assert!(answer.status == 409 || answer.status == 401, "{answer:?}");
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn a_human_sees_and_revokes_the_keys_of_her_agents_and_of_no_others(pool: PgPool) {
    let api = Api::new(pool);
    let wallets = [Wallet::evm(), Wallet::solana(), Wallet::solana()];
    let mut agents: Vec<Agent> = Vec::new();
    for wallet in &wallets {
        agents.push(api.register(wallet).await);
    }
    let grace = api.person("grace@example.com").await;
    let none = grace.get("/api-keys").await.data(200);
    assert_eq!(none, json!([]));
    for (agent, wallet) in agents.iter().zip(&wallets).take(2) {
        grace.claim(agent, wallet).await.data(200);
    }
    let listed = grace.get("/api-keys").await.data(200);
    let of: Vec<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|key| key["agent_id"].as_str().unwrap())
        .collect();
    assert_eq!(of, [agents[1].id.as_str(), agents[0].id.as_str()]);
    let path = format!("/api-keys?agent_id={}", agents[0].id);
    let one = grace.get(&path).await.data(200);
    assert_eq!(one.as_array().unwrap().len(), 1);
    let foreign = format!("/api-keys?agent_id={}", agents[2].id);
    assert_eq!(grace.get(&foreign).await.data(200), json!([]));
    assert_eq!(
        grace.get("/api-keys?agent_id=x").await.bad_fields(),
        ["agent_id"]
    );
    let own = agents[2].get("/api-keys").await.data(200);
    assert!(own[0].get("agent_id").is_none());

    let path = format!("/api-keys/{}", own[0]["id"].as_str().unwrap());
    grace.delete(&path).await.error(404, "API_KEY_NOT_FOUND");
    agents[2].get("/me").await.data(200);
    let path = format!("/api-keys/{}", one[0]["id"].as_str().unwrap());
    let evil = [("origin", "https://evil.example")];
    grace
        .send(Method::DELETE, &path, &evil, None)
        .await
        .error(403, "ORIGIN_FORBIDDEN");
    agents[0].get("/me").await.data(200);
    let first = grace.delete(&path).await.data(200);
    assert_eq!(grace.delete(&path).await.data(200), first);
    agents[0].get("/me").await.error(401, "INVALID_API_KEY");
    grace
        .post("/api-keys", &json!({ "name": "hers" }))
        .await
        .error(403, "AGENT_REQUIRED");
}
