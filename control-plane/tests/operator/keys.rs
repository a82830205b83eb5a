//! `revoke-key`: revoked whoever's it is, and told.

use control_plane::operator::revoke_key::{RevokeKey, revoke_key};
use control_plane::operator::{Change, Exit, Outcome};
use crochet_shared::clock;
use crochet_shared::id::ApiKeyId;
use serde_json::json;
use sqlx::PgPool;

use super::{kept, rehearsed};
use crate::api::client::Api;

async fn revoked(api: &Api, key: ApiKeyId, change: Change) -> Outcome {
    revoke_key(&api.app.db, &RevokeKey { key, change })
        .await
        .unwrap()
}

/// Keys that gateways wait to hear of.
async fn told(api: &Api) -> i64 {
    sqlx::query_scalar("select count(*) from outbox where key_digest is not null")
        .fetch_one(api.app.db.pool())
        .await
        .unwrap()
}

#[sqlx::test(migrations = "./migrations")]
async fn a_revoked_key_is_refused_and_told_to_gateways(pool: PgPool) {
    let api = Api::new(pool);
    let agent = api.agent().await;
    let listed = agent.get("/api-keys").await.data(200);
    let key: ApiKeyId = listed[0]["id"].as_str().unwrap().parse().unwrap();
    sqlx::query("delete from outbox")
        .execute(api.app.db.pool())
        .await
        .unwrap();

    let rehearsal = revoked(&api, key, rehearsed()).await;
    assert!(
        rehearsal.text.contains("would be revoked"),
        "{}",
        rehearsal.text
    );
    assert_eq!(told(&api).await, 0);
    agent.get("/me").await.data(200);

    let outcome = revoked(&api, key, kept()).await;
    assert_eq!(
        (outcome.exit, &outcome.json["changed"]),
        (Exit::Done, &json!(true))
    );
    assert_eq!(outcome.json["profile_id"], json!(agent.id));
    assert!(!outcome.text.contains(&agent.key));
    assert_eq!(told(&api).await, 1);
    agent.get("/me").await.error(401, "INVALID_API_KEY");

    let again = revoked(&api, key, kept()).await;
    assert_eq!(
        (again.exit, &again.json["changed"]),
        (Exit::Done, &json!(false))
    );
    assert_eq!(again.json["revoked_at"], outcome.json["revoked_at"]);
    assert_eq!(told(&api).await, 2, "gateways are told again");
}

#[sqlx::test(migrations = "./migrations")]
async fn a_key_that_is_none_is_not_found(pool: PgPool) {
    let api = Api::new(pool);
    let outcome = revoked(&api, ApiKeyId::new(clock::now()), kept()).await;
    assert_eq!(outcome.exit, Exit::NotFound);
}
