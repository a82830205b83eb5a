//! `GET /api-keys`, `POST /api-keys`, `DELETE /api-keys/:id`

use http::{Method, Request};
use serde_json::json;
use sqlx::PgPool;

use super::client::{Agent, Api};

#[sqlx::test(migrations = "./migrations")]
async fn a_key_is_shown_once_used_and_revoked_for_good(pool: PgPool) {
    let api = Api::new(pool);
    let agent = api.agent().await;
    let answer = agent.post("/api-keys", &json!({ "name": "ci" })).await;
    let made = answer.data(201);
    assert_eq!(answer.header("cache-control"), "no-store");
    let id = made["key"]["id"].as_str().unwrap();
    assert_eq!(answer.header("location"), format!("/api/v1/api-keys/{id}"));
    let text = made["api_key"].as_str().unwrap();
    let second = Agent {
        key: text.to_owned(),
        ..agent.clone()
    };
    second.get("/me").await.data(200);

    let listed = agent.get("/api-keys").await;
    let keys = listed.data(200);
    assert_eq!(keys.as_array().unwrap().len(), 2);
    assert_eq!(keys[0]["name"], "ci");
    assert!(!listed.text.contains(text), "metadata only");

    let path = format!("/api-keys/{id}");
    let first = agent.delete(&path).await.data(200);
    assert_eq!(first["id"], id);
    assert_eq!(
        agent.delete(&path).await.data(200),
        first,
        "a second time too"
    );
    let error = second.get("/me").await.error(401, "INVALID_API_KEY");
    assert_eq!(error["recovery"]["next_action"], "recover_account");
}

#[sqlx::test(migrations = "./migrations")]
async fn an_expired_key_is_refused_and_the_past_is_no_expiry(pool: PgPool) {
    let api = Api::new(pool);
    let agent = api.agent().await;
    let past = json!({ "name": "old", "expires_at": "2020-01-01T00:00:00Z" });
    assert_eq!(
        agent.post("/api-keys", &past).await.bad_fields(),
        ["expires_at"]
    );
    let soon = json!({ "name": "soon", "expires_at": "2999-01-01T00:00:00+02:00" });
    let made = agent.post("/api-keys", &soon).await.data(201);
    assert_eq!(made["key"]["expires_at"], "2998-12-31T22:00:00.000Z");
    sqlx::query("update api_key set expires_at = now() - interval '1 second' where name = 'soon'")
        .execute(api.app.db.pool())
        .await
        .unwrap();
    let expired = Agent {
        key: made["api_key"].as_str().unwrap().to_owned(),
        ..agent
    };
    expired.get("/me").await.error(401, "INVALID_API_KEY");
}

#[sqlx::test(migrations = "./migrations")]
async fn nobody_revokes_anothers_key(pool: PgPool) {
    let api = Api::new(pool);
    let (agent, other) = (api.agent().await, api.agent().await);
    let keys = agent.get("/api-keys").await.data(200);
    let path = format!("/api-keys/{}", keys[0]["id"].as_str().unwrap());
    other.delete(&path).await.error(404, "API_KEY_NOT_FOUND");
    other
        .delete("/api-keys/x")
        .await
        .error(404, "API_KEY_NOT_FOUND");
    agent.get("/me").await.data(200);
}

#[sqlx::test(migrations = "./migrations")]
async fn what_is_no_key_is_told_apart_from_what_is_an_unknown_one(pool: PgPool) {
    let api = Api::new(pool);
    let agent = api.agent().await;
    let none = api.get("/me").await;
    none.error(401, "UNAUTHORIZED");
    assert_eq!(none.header("www-authenticate"), "Bearer");
    let mut typo = agent.key.clone();
    let last = if typo.ends_with('0') { '1' } else { '0' };
    typo.pop();
    typo.push(last);
    for malformed in [typo.as_str(), "x", "am_k_", &"x".repeat(5000)] {
        api.call(Method::GET, "/me", Some(malformed), None)
            .await
            .error(401, "UNAUTHORIZED");
    }
    let unknown = crochet_shared::api_key::generate(|| crochet_shared::id::random::<1>()[0]);
    let unknown = secrecy::ExposeSecret::expose_secret(&unknown.text).to_owned();
    api.call(Method::GET, "/me", Some(&unknown), None)
        .await
        .error(401, "INVALID_API_KEY");
    let bearer = format!("Bearer {}", agent.key);
    for headers in [
        vec![bearer.clone(), bearer.clone()],
        vec![format!("Basic {}", agent.key)],
        vec![agent.key.clone()],
    ] {
        let mut request = Request::builder().uri("/api/v1/me");
        for value in headers {
            request = request.header("authorization", value);
        }
        let request = request.body(axum::body::Body::empty()).unwrap();
        api.send(request).await.error(401, "UNAUTHORIZED");
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn an_agent_has_a_hundred_keys_in_use_at_most(pool: PgPool) {
    let api = Api::new(pool);
    let agent = api.agent().await;
    sqlx::query(
        "insert into api_key (id, profile_id, name, prefix, digest)
        select gen_random_uuid(), $1::uuid, 'more', 'am_k_xxxx', sha256(n::text::bytea)
        from generate_series(1, 98) n",
    )
    .bind(agent.id.parse::<uuid::Uuid>().unwrap())
    .execute(api.app.db.pool())
    .await
    .unwrap();
    let wanted = json!({ "name": "ci" });
    // Of two at once that would both be the last to fit, one is refused.
    let (one, two) = tokio::join!(
        agent.post("/api-keys", &wanted),
        agent.post("/api-keys", &wanted)
    );
    let (made, refused) = if one.status.as_u16() == 201 {
        (one, two)
    } else {
        (two, one)
    };
    let id = made.data(201)["key"]["id"].as_str().unwrap().to_owned();
    refused.error(429, "RATE_LIMITED");
    assert_eq!(refused.header("retry-after"), "60");
    agent.delete(&format!("/api-keys/{id}")).await.data(200);
    agent.post("/api-keys", &wanted).await.data(201);
}
