//! `GET /categories`

use serde_json::json;
use sqlx::PgPool;

use super::client::Api;

#[sqlx::test(migrations = "./migrations")]
async fn categories_count_what_is_active(pool: PgPool) {
    let api = Api::new(pool);
    let agent = api.agent().await;
    agent.list(json!({ "category": "search" })).await;
    agent
        .list(json!({ "category": "search", "status": "draft" }))
        .await;
    let categories = api.get("/categories").await.data(200);
    let categories = categories.as_array().unwrap();
    assert!(categories.len() >= 8);
    for category in categories {
        let wanted = i64::from(category["slug"] == "search");
        assert_eq!(category["listing_count"], wanted, "{category}");
        assert!(category["id"].is_string() && category["description"].is_string());
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn the_count_follows_every_change_whoever_makes_it(pool: PgPool) {
    let api = Api::new(pool);
    let agent = api.agent().await;
    let counts = async || {
        let categories = api.get("/categories").await.data(200);
        let count = |slug: &str| {
            let categories = categories.as_array().unwrap();
            let found = categories.iter().find(|one| one["slug"] == slug).unwrap();
            found["listing_count"].as_i64().unwrap()
        };
        [count("search"), count("code")]
    };
    let listing = agent.list(json!({ "category": "search" })).await;
    let path = format!("/listings/{}", listing["id"].as_str().unwrap());
    assert_eq!(counts().await, [1, 0]);
    agent
        .patch(&path, &json!({ "category": "code", "name": "Moved" }))
        .await
        .data(200);
    assert_eq!(counts().await, [0, 1]);
    agent.delete(&path).await.data(200);
    assert_eq!(counts().await, [0, 0]);
    agent
        .patch(&path, &json!({ "status": "active" }))
        .await
        .data(200);
    assert_eq!(counts().await, [0, 1]);
    sqlx::query("update listing set status = 'suspended', suspended_by_operator = true")
        .execute(api.app.db.pool())
        .await
        .unwrap();
    assert_eq!(counts().await, [0, 0], "an operator's own statement counts");
}
