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
