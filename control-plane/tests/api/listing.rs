//! `GET`, `PATCH` and `DELETE /listings/:id`

use control_plane::catalog;
use control_plane::db::work;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::client::{Api, URL};

fn path(listing: &Value) -> String {
    format!("/listings/{}", listing["id"].as_str().unwrap())
}

#[sqlx::test(migrations = "./migrations")]
async fn a_draft_is_its_owners_alone(pool: PgPool) {
    let api = Api::new(pool);
    let (agent, other) = (api.agent().await, api.agent().await);
    let draft = agent.list(json!({ "status": "draft" })).await;
    let path = path(&draft);
    assert_eq!(agent.get(&path).await.data(200)["status"], "draft");
    api.get(&path).await.error(404, "LISTING_NOT_FOUND");
    other.get(&path).await.error(404, "LISTING_NOT_FOUND");
    other
        .patch(&path, &json!({ "name": "Mine" }))
        .await
        .error(404, "LISTING_NOT_FOUND");
    other.delete(&path).await.error(404, "LISTING_NOT_FOUND");
    other
        .get(&format!("{path}/endpoint"))
        .await
        .error(404, "LISTING_NOT_FOUND");
    agent
        .patch(&path, &json!({ "status": "active" }))
        .await
        .data(200);
    api.get(&path).await.data(200);
    other
        .patch(&path, &json!({ "name": "Mine" }))
        .await
        .error(403, "FORBIDDEN");
    other.delete(&path).await.error(403, "FORBIDDEN");
    other
        .get(&format!("{path}/endpoint"))
        .await
        .error(403, "FORBIDDEN");
    other
        .put(&format!("{path}/endpoint"), &json!({}))
        .await
        .error(403, "FORBIDDEN");
    for unknown in [
        "nope",
        "0190a000-0000-7000-8000-000000000001",
        "UPPER",
        "a_b",
        "%C3%A9",
    ] {
        api.get(&format!("/listings/{unknown}"))
            .await
            .error(404, "LISTING_NOT_FOUND");
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn a_change_touches_only_what_it_names(pool: PgPool) {
    let api = Api::new(pool);
    let agent = api.agent().await;
    let listing = agent
        .list(json!({ "category": "code", "tags": ["a"], "input_schema": {} }))
        .await;
    let path = path(&listing);
    let changed = agent
        .patch(
            &path,
            &json!({ "name": "Renamed", "category": null, "pricing_amount": "2.5", "unknown": 1 }),
        )
        .await
        .data(200);
    assert_eq!(changed["name"], "Renamed");
    assert_eq!(changed["slug"], listing["slug"], "a slug never changes");
    assert!(changed["category"].is_null());
    assert_eq!(changed["pricing_amount"], 2.5);
    assert_eq!(
        (&changed["tags"], &changed["input_schema"]),
        (&json!(["a"]), &json!({}))
    );
    assert!(changed["gateway_endpoint"]["signing_secret"].is_null());
    let moved = json!({ "private_endpoint_url": "http://127.0.0.1:9/elsewhere", "endpoint": { "status": "paused" } });
    let moved = agent.patch(&path, &moved).await.data(200);
    assert_eq!(
        moved["gateway_endpoint"]["url_hint"],
        "http://127.0.0.1:9/…"
    );
    assert_eq!(moved["gateway_endpoint"]["status"], "paused");
    let nothing = agent.patch(&path, &json!({})).await.data(200);
    assert_eq!(nothing["name"], "Renamed");
    for (body, bad) in [
        (json!({ "name": null }), "name"),
        (json!({ "pricing_amount": null }), "pricing_amount"),
        (json!({ "pricing_amount": 0 }), "pricing_amount"),
        (json!({ "private_endpoint_url": 1 }), "private_endpoint_url"),
        (json!({ "status": "gone" }), "status"),
    ] {
        assert_eq!(
            agent.patch(&path, &body).await.bad_fields(),
            [bad],
            "{body}"
        );
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn what_was_active_is_never_a_draft_again(pool: PgPool) {
    let api = Api::new(pool);
    let agent = api.agent().await;
    let path = path(&agent.list(json!({ "status": "draft" })).await);
    let become_ = async |status: &str| agent.patch(&path, &json!({ "status": status })).await;
    assert_eq!(become_("suspended").await.bad_fields(), ["status"]);
    become_("draft").await.data(200);
    become_("active").await.data(200);
    assert_eq!(become_("draft").await.bad_fields(), ["status"]);
    become_("suspended").await.data(200);
    assert_eq!(api.get(&path).await.data(200)["status"], "suspended");
    assert_eq!(become_("draft").await.bad_fields(), ["status"]);
    become_("active").await.data(200);
    sqlx::query("update listing set status = 'suspended', suspended_by_operator = true")
        .execute(api.app.db.pool())
        .await
        .unwrap();
    become_("active").await.error(403, "FORBIDDEN");
    become_("suspended").await.data(200);
}

#[sqlx::test(migrations = "./migrations")]
async fn a_draft_is_deleted_and_what_was_active_is_suspended(pool: PgPool) {
    let api = Api::new(pool);
    let agent = api.agent().await;
    let draft = agent.list(json!({ "status": "draft" })).await;
    let gone = agent.delete(&path(&draft)).await.data(200);
    assert_eq!(gone, json!({ "id": draft["id"], "deleted": true }));
    agent
        .delete(&path(&draft))
        .await
        .error(404, "LISTING_NOT_FOUND");
    let active = agent.list(json!({})).await;
    for _ in 0..2 {
        let withdrawn = agent.delete(&path(&active)).await.data(200);
        assert_eq!(
            withdrawn,
            json!({ "id": active["id"], "status": "suspended" })
        );
    }
    let rows: i64 = sqlx::query_scalar("select count(*) from endpoint")
        .fetch_one(api.app.db.pool())
        .await
        .unwrap();
    assert_eq!(rows, 1);
}

#[sqlx::test(migrations = "./migrations")]
async fn a_free_listing_becomes_per_call_with_a_price_and_an_endpoint(pool: PgPool) {
    let api = Api::new(pool);
    let agent = api.agent().await;
    let absent = "\u{0}absent";
    let free = json!({ "pricing_model": "free", "pricing_amount": absent, "private_endpoint_url": absent });
    let path = path(&agent.list(free).await);
    for (body, bad) in [
        (
            json!({ "pricing_model": "per_call" }),
            &["pricing_amount", "private_endpoint_url"][..],
        ),
        (
            json!({ "pricing_model": "per_call", "pricing_amount": 1 }),
            &["private_endpoint_url"],
        ),
        (json!({ "pricing_amount": 1 }), &["pricing_amount"]),
    ] {
        assert_eq!(agent.patch(&path, &body).await.bad_fields(), bad, "{body}");
    }
    let with_url = json!({ "private_endpoint_url": URL });
    agent
        .patch(&path, &with_url)
        .await
        .error(400, "LISTING_NOT_PER_CALL");
    let sold =
        json!({ "pricing_model": "per_call", "pricing_amount": 1, "private_endpoint_url": URL });
    let sold = agent.patch(&path, &sold).await.data(200);
    assert!(sold["gateway_endpoint"]["signing_secret"].is_string());
    assert!(sold["gateway_url"].is_string());
    let free = agent
        .patch(&path, &json!({ "pricing_model": "free" }))
        .await
        .data(200);
    assert_eq!(
        (&free["pricing_amount"], &free["gateway_endpoint"]),
        (&json!(0), &Value::Null)
    );
    let again = json!({ "pricing_model": "per_call", "pricing_amount": 1 });
    let again = agent.patch(&path, &again).await.data(200);
    assert_eq!(
        again["gateway_endpoint"]["signing_secret_prefix"],
        sold["gateway_endpoint"]["signing_secret_prefix"]
    );
}

#[sqlx::test(migrations = "./migrations")]
async fn a_rating_is_averaged_and_counted(pool: PgPool) {
    let api = Api::new(pool);
    let agent = api.agent().await;
    let listing = agent.list(json!({})).await;
    assert!(listing["stats"]["rating_average"].is_null());
    let id = listing["id"].as_str().unwrap().parse().unwrap();
    for hundredths in [433, 467, 500] {
        api.app
            .db
            .run("test.rate", |tx| {
                work(async move { catalog::add_rating(tx, id, hundredths).await })
            })
            .await
            .unwrap();
    }
    let stats = &api.get(&path(&listing)).await.data(200)["stats"];
    assert_eq!(
        (&stats["rating_average"], &stats["review_count"]),
        (&json!(4.67), &json!(3))
    );
}
