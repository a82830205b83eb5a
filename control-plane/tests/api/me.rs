//! `GET /me`, `PATCH /me`

use serde_json::json;
use sqlx::PgPool;

use super::client::Api;
use super::wallet::Wallet;

#[sqlx::test(migrations = "./migrations")]
async fn one_sees_who_one_is_and_what_one_pays_with(pool: PgPool) {
    let api = Api::new(pool);
    let wallet = Wallet::solana();
    let agent = api.register(&wallet).await;
    let me = agent.get("/me").await.data(200);
    assert_eq!(me["authenticated_by"], "api_key");
    assert_eq!(me["profile"]["id"], agent.id.as_str());
    let wallets = me["wallets"].as_array().unwrap();
    assert_eq!(wallets.len(), 1);
    assert_eq!(wallets[0]["address"], wallet.address());
    assert_eq!(
        (&wallets[0]["chain"], &wallets[0]["status"]),
        (&json!("solana"), &json!("active"))
    );
    for right in [
        "can_authenticate",
        "can_recover",
        "is_default_payment",
        "is_default_payout",
    ] {
        assert_eq!(wallets[0][right], true, "{right}");
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn a_change_touches_only_what_it_names(pool: PgPool) {
    let agent = Api::new(pool).agent().await;
    let described =
        json!({ "description": " Counts. ", "avatar_url": "https://example.com/a.png" });
    let profile = agent.patch("/me", &described).await.data(200)["profile"].clone();
    assert_eq!(profile["description"], "Counts.");
    assert_eq!(profile["display_name"], "Ada");
    let profile = agent
        .patch("/me", &json!({ "display_name": "Bea", "avatar_url": null }))
        .await
        .data(200)["profile"]
        .clone();
    assert_eq!(profile["display_name"], "Bea");
    assert_eq!(profile["description"], "Counts.");
    assert!(profile["avatar_url"].is_null());
    let nothing = agent.call(http::Method::PATCH, "/me", None).await.data(200);
    assert_eq!(
        nothing["profile"], profile,
        "no field is required, so no body is"
    );
    let cannot_clear = agent.patch("/me", &json!({ "display_name": null })).await;
    assert_eq!(cannot_clear.bad_fields(), ["display_name"]);
}
