//! `GET /me/wallets`, `POST /me/wallets`, `GET /me/wallets/:id`, `PATCH /me/wallets/:id`

use serde_json::{Value, json};
use sqlx::PgPool;

use super::client::{Agent, Api};
use super::wallet::{Wallet, not_canonical};

/// What waits for gateways, of an agent's keys.
async fn told(agent: &Agent) -> i64 {
    let gone: Vec<Vec<u8>> = sqlx::query_scalar(
        "delete from outbox where key_digest in
            (select digest from api_key where profile_id = $1::uuid) returning key_digest",
    )
    .bind(&agent.id)
    .fetch_all(agent.api.app.db.pool())
    .await
    .unwrap();
    i64::try_from(gone.len()).unwrap()
}

async fn wallet(agent: &Agent, id: &str) -> Value {
    agent.get(&format!("/me/wallets/{id}")).await.data(200)
}

#[sqlx::test(migrations = "./migrations")]
async fn a_wallet_is_linked_by_two_proofs_that_name_each_other(pool: PgPool) {
    let api = Api::new(pool);
    let (old, new) = (Wallet::solana(), Wallet::evm());
    let agent = api.register(&old).await;
    told(&agent).await;
    let mut body = api.link_body(&old, &new).await;
    body["label"] = "  Treasury ".into();
    let answer = agent.post("/me/wallets", &body).await;
    let linked = answer.data(201);
    let id = linked["id"].as_str().unwrap();
    assert_eq!(
        answer.header("location"),
        format!("/api/v1/me/wallets/{id}")
    );
    assert_eq!(told(&agent).await, 1, "gateways hear what she can pay with");
    assert_eq!(linked["label"], "Treasury");
    assert_eq!(
        (&linked["chain"], &linked["status"]),
        (&json!("evm"), &json!("active"))
    );
    let shown = linked["address"].as_str().unwrap();
    assert_eq!(shown.to_lowercase(), new.address());
    assert_ne!(shown, new.address(), "in EIP-55 form");
    for (right, held) in [
        ("can_authenticate", true),
        ("can_recover", true),
        ("is_default_payment", false),
        ("is_default_payout", false),
    ] {
        assert_eq!(linked[right], held, "{right}");
    }
    assert_eq!(wallet(&agent, id).await, linked);
    let listed = agent.get("/me/wallets").await.data(200);
    assert_eq!(listed.as_array().unwrap().len(), 2);
    assert_eq!(listed[1], linked);
    assert_eq!(listed[0]["is_default_payment"], true, "defaults stay");
    // The new one is as good as the old one.
    api.post("/auth/recover", &api.recovery(&new).await)
        .await
        .data(200);
}

#[sqlx::test(migrations = "./migrations")]
async fn a_link_needs_both_signatures_over_both_addresses(pool: PgPool) {
    let api = Api::new(pool);
    let (old, new, third) = (Wallet::solana(), Wallet::evm(), Wallet::solana());
    let agent = api.register(&old).await;
    let good = api.link_body(&old, &new).await;
    let to_third = json!({ "linked_wallet_address": third.address() });
    let refused = async |field: &str, part: &str, value: Value, status, code| {
        let mut body = good.clone();
        body[field][part] = value;
        let error = agent.post("/me/wallets", &body).await.error(status, code);
        if code != "VALIDATION_ERROR" {
            assert_eq!(error["details"]["proof"], field, "{error}");
        }
    };
    for (field, wallet) in [("existing_wallet_proof", &old), ("new_wallet_proof", &new)] {
        refused(
            field,
            "signature",
            third.sign("x").into(),
            401,
            "INVALID_SIGNATURE",
        )
        .await;
        // Bound to another wallet: that one would be linked, had it signed.
        let elsewhere = api.signed(wallet, "link_wallet", to_third.clone()).await;
        let mut body = good.clone();
        body[field] = elsewhere;
        agent
            .post("/me/wallets", &body)
            .await
            .error(401, "CHALLENGE_INVALID");
        // Given for another purpose.
        let mut body = good.clone();
        body[field] = api.signed(wallet, "register", json!({})).await;
        agent
            .post("/me/wallets", &body)
            .await
            .error(401, "CHALLENGE_INVALID");
        // Either alone.
        let mut body = good.clone();
        body.as_object_mut().unwrap().remove(field);
        assert_eq!(agent.post("/me/wallets", &body).await.bad_fields(), [field]);
    }
    // The new wallet's proof twice: it proves nothing of the existing one.
    let mut body = good.clone();
    body["existing_wallet_proof"] = body["new_wallet_proof"].clone();
    agent
        .post("/me/wallets", &body)
        .await
        .error(401, "CHALLENGE_INVALID");
    let signature = good["existing_wallet_proof"]["signature"].as_str().unwrap();
    refused(
        "existing_wallet_proof",
        "signature",
        not_canonical(signature).into(),
        401,
        "INVALID_SIGNATURE",
    )
    .await;
    assert_eq!(
        agent
            .get("/me/wallets")
            .await
            .data(200)
            .as_array()
            .unwrap()
            .len(),
        1
    );
    // None of it used a challenge up; now each is, and serves no second time.
    agent.post("/me/wallets", &good).await.data(201);
    agent
        .post("/me/wallets", &good)
        .await
        .error(401, "CHALLENGE_INVALID");
}

#[sqlx::test(migrations = "./migrations")]
async fn a_wallet_of_a_profile_is_linked_to_no_other(pool: PgPool) {
    let api = Api::new(pool);
    let (mine, hers) = (Wallet::solana(), Wallet::evm());
    let agent = api.register(&mine).await;
    let other = api.register(&hers).await;
    let body = api.link_body(&mine, &hers).await;
    agent
        .post("/me/wallets", &body)
        .await
        .error(409, "WALLET_ALREADY_REGISTERED");
    // And with both wallets' proofs somebody else links them to nobody.
    let third = api.agent().await;
    let body = api.link_body(&mine, &Wallet::evm()).await;
    third
        .post("/me/wallets", &body)
        .await
        .error(403, "FORBIDDEN");
    other.get("/me").await.data(200);
    let path = format!("/me/wallets/{}", agent.wallet_id().await);
    other.get(&path).await.error(404, "WALLET_NOT_FOUND");
    other
        .get("/me/wallets/x")
        .await
        .error(404, "WALLET_NOT_FOUND");
    let changes = json!({ "label": "mine" });
    let body = other
        .change_body(&hers, &agent.wallet_id().await, &changes)
        .await;
    other
        .patch(&path, &body)
        .await
        .error(404, "WALLET_NOT_FOUND");
}

#[sqlx::test(migrations = "./migrations")]
async fn a_wallet_that_cannot_recover_links_and_changes_nothing(pool: PgPool) {
    let api = Api::new(pool);
    let (old, weak) = (Wallet::solana(), Wallet::solana());
    let agent = api.register(&old).await;
    let id = agent.link(&old, &weak).await;
    agent
        .change_wallet(&old, &id, json!({ "can_recover": false }))
        .await
        .data(200);
    let body = api.link_body(&weak, &Wallet::evm()).await;
    agent
        .post("/me/wallets", &body)
        .await
        .error(403, "FORBIDDEN");
    for changes in [json!({ "can_recover": true }), json!({ "label": "mine" })] {
        agent
            .change_wallet(&weak, &id, changes)
            .await
            .error(403, "FORBIDDEN");
    }
    let stranger = Wallet::evm();
    agent
        .change_wallet(&stranger, &id, json!({ "can_recover": true }))
        .await
        .error(403, "FORBIDDEN");
    assert_eq!(wallet(&agent, &id).await["can_recover"], false);
}

#[sqlx::test(migrations = "./migrations")]
async fn a_change_is_exactly_what_was_signed(pool: PgPool) {
    let api = Api::new(pool);
    let own = Wallet::evm();
    let agent = api.register(&own).await;
    let second = agent.link(&own, &Wallet::solana()).await;
    let first = agent.get("/me/wallets").await.data(200)[0]["id"].clone();
    told(&agent).await;
    let path = format!("/me/wallets/{second}");
    let signed = json!({ "label": "Cold", "can_authenticate": false });
    let good = agent.change_body(&own, &second, &signed).await;
    for (name, value) in [
        ("label", json!("Hot")),
        ("label", json!(null)),
        ("label", json!("\u{0}absent")),
        ("can_authenticate", json!(true)),
        ("can_recover", json!(false)),
        ("status", json!("disabled")),
    ] {
        let mut body = good.clone();
        super::client::merge(&mut body, json!({ name: value }));
        agent
            .patch(&path, &body)
            .await
            .error(401, "CHALLENGE_INVALID");
    }
    let elsewhere = format!("/me/wallets/{}", first.as_str().unwrap());
    agent
        .patch(&elsewhere, &good)
        .await
        .error(401, "CHALLENGE_INVALID");
    assert_eq!(told(&agent).await, 0);
    let mut body = good.clone();
    body["unknown"] = "ignored".into();
    let changed = agent.patch(&path, &body).await.data(200);
    assert_eq!(
        (&changed["label"], &changed["can_authenticate"]),
        (&json!("Cold"), &json!(false))
    );
    assert_eq!(changed["can_recover"], true);
    assert_eq!(told(&agent).await, 1);
    agent
        .patch(&path, &good)
        .await
        .error(401, "CHALLENGE_INVALID");
    let cleared = agent
        .change_wallet(&own, &second, json!({ "label": null }))
        .await
        .data(200);
    assert!(cleared["label"].is_null());
}

#[sqlx::test(migrations = "./migrations")]
async fn a_disabled_default_moves_to_the_oldest_active_wallet(pool: PgPool) {
    let api = Api::new(pool);
    let wallets = [Wallet::solana(), Wallet::evm(), Wallet::evm()];
    let agent = api.register(&wallets[0]).await;
    let first = agent.wallet_id().await;
    let second = agent.link(&wallets[0], &wallets[1]).await;
    let third = agent.link(&wallets[0], &wallets[2]).await;
    let by = &wallets[2];
    let payout = json!({ "is_default_payout": true });
    agent.change_wallet(by, &third, payout).await.data(200);
    let off = json!({ "status": "disabled" });
    agent
        .change_wallet(by, &second, off.clone())
        .await
        .data(200);
    agent.change_wallet(by, &first, off.clone()).await.data(200);
    let listed = agent.get("/me/wallets").await.data(200);
    let of = |flag: &str| -> Vec<bool> {
        let all = listed.as_array().unwrap().iter();
        all.map(|wallet| wallet[flag].as_bool().unwrap()).collect()
    };
    assert_eq!(of("is_default_payment"), [false, false, true]);
    assert_eq!(of("is_default_payout"), [false, false, true]);
    agent
        .change_wallet(by, &third, off)
        .await
        .error(409, "WALLET_LAST_RECOVERY");
    let error = agent
        .change_wallet(by, &third, json!({ "can_recover": false }))
        .await
        .error(409, "WALLET_LAST_RECOVERY");
    assert_eq!(error["recovery"]["next_action"], "link_another_wallet");
    for (id, field, value) in [
        (&first, "is_default_payment", true),
        (&third, "is_default_payout", false),
    ] {
        let answer = agent.change_wallet(by, id, json!({ field: value })).await;
        assert_eq!(answer.bad_fields(), [field]);
    }
    // A disabled one proves nothing, and comes back without its defaults.
    agent
        .change_wallet(&wallets[0], &third, json!({ "label": "x" }))
        .await
        .error(403, "FORBIDDEN");
    let back = agent
        .change_wallet(by, &first, json!({ "status": "active" }))
        .await
        .data(200);
    assert_eq!(back["is_default_payment"], false);
}

#[sqlx::test(migrations = "./migrations")]
async fn two_changes_at_once_never_strand_a_profile(pool: PgPool) {
    let api = Api::new(pool);
    let (one, two) = (Wallet::solana(), Wallet::evm());
    let agent = api.register(&one).await;
    let first = agent.wallet_id().await;
    let second = agent.link(&one, &two).await;
    for (round, changes) in [
        json!({ "status": "disabled" }),
        json!({ "can_recover": false }),
    ]
    .iter()
    .cycle()
    .take(10)
    .enumerate()
    {
        // Each wallet gives up the other: alone either may, together they may not.
        let of_first = agent.change_body(&two, &first, changes).await;
        let of_second = agent.change_body(&one, &second, changes).await;
        let (path_first, path_second) = (
            format!("/me/wallets/{first}"),
            format!("/me/wallets/{second}"),
        );
        let (a, b) = tokio::join!(
            agent.patch(&path_first, &of_first),
            agent.patch(&path_second, &of_second)
        );
        let done = [&a, &b]
            .iter()
            .filter(|answer| answer.status == 200)
            .count();
        assert_eq!(done, 1, "round {round}: {a:?} {b:?}");
        let left: i64 = sqlx::query_scalar(
            "select count(*) from wallet where status = 'active' and can_recover",
        )
        .fetch_one(api.app.db.pool())
        .await
        .unwrap();
        assert_eq!(left, 1);
        sqlx::query("update wallet set status = 'active', can_recover = true")
            .execute(api.app.db.pool())
            .await
            .unwrap();
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn parallel_uses_of_a_proof_give_one_wallet_and_one_change(pool: PgPool) {
    let api = Api::new(pool);
    let (old, new) = (Wallet::evm(), Wallet::solana());
    let agent = api.register(&old).await;
    let body = api.link_body(&old, &new).await;
    let calls = (0..50).map(|_| agent.post("/me/wallets", &body));
    let answers = futures_util::future::join_all(calls).await;
    let (made, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 201);
    assert_eq!(made.len(), 1);
    for answer in refused {
        answer.error(401, "CHALLENGE_INVALID");
    }
    let id = made[0].data(201)["id"].as_str().unwrap().to_owned();
    let body = agent
        .change_body(&new, &id, &json!({ "label": "Once" }))
        .await;
    let path = format!("/me/wallets/{id}");
    let calls = (0..100).map(|_| agent.patch(&path, &body));
    let answers = futures_util::future::join_all(calls).await;
    assert_eq!(
        answers.iter().filter(|answer| answer.status == 200).count(),
        1
    );
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        answer.error(401, "CHALLENGE_INVALID");
    }
}
