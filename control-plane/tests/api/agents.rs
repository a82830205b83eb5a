//! `GET /agents/:id`

use sqlx::PgPool;

use super::client::Api;

#[sqlx::test(migrations = "./migrations")]
async fn anyone_sees_an_agent_and_nobody_sees_its_wallets(pool: PgPool) {
    let api = Api::new(pool);
    let agent = api.agent().await;
    let answer = api.get(&format!("/agents/{}", agent.id)).await;
    assert_eq!(answer.data(200)["display_name"], "Ada");
    assert!(!answer.text.contains("wallet") && !answer.text.contains("am_k_"));
    for unknown in [
        "0190a000-0000-7000-8000-000000000001",
        "ada",
        "0190A000-0000-7000-8000-00000000000",
        "%00",
        "'",
    ] {
        let answer = api.get(&format!("/agents/{unknown}")).await;
        assert!(
            answer.status == 404 || answer.status == 400,
            "{unknown}: {answer:?}"
        );
    }
    sqlx::query("update profile set account_type = 'human'")
        .execute(api.app.db.pool())
        .await
        .unwrap();
    api.get(&format!("/agents/{}", agent.id))
        .await
        .error(404, "AGENT_NOT_FOUND");
}
