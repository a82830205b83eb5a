//! `GET /agents/:id/score`

use std::time::Duration;

use crochet_shared::outcome::SellerFailure;
use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgPool};

use super::client::{Agent, Api};
use super::reviews::trade;
use crate::payments::stage::{delivery, failure, unsent};

async fn score(api: &Api, agent: &Agent) -> Value {
    api.get(&format!("/agents/{}/score", agent.id))
        .await
        .data(200)
}

/// What the background does in time, now: folds to this moment, and computes whatever is behind.
async fn work(api: &Api) {
    control_plane::reviews::fold(&api.app, Duration::ZERO)
        .await
        .unwrap();
    sqlx::query("update reputation set due_at = now() where is_behind")
        .execute(api.app.db.pool())
        .await
        .unwrap();
    control_plane::reviews::recompute(&api.app).await.unwrap();
}

#[sqlx::test(migrations = "./migrations")]
async fn an_agent_without_evidence_stands_at_500(pool: PgPool) {
    let api = Api::new(pool.clone());
    let agent = api.agent().await;
    let shown = score(&api, &agent).await;
    assert!(shown["computed_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(
        shown,
        json!({
            "agent_id": agent.id, "score": 500, "tier": "Moderate", "verified": false,
            "components": { "reliability": 500, "accuracy": 500, "volume": 500, "longevity": 500, "reputation": 500 },
            "evidence": {
                "calls_delivered": 0, "calls_failed": 0, "distinct_buyers": 0, "reviews": 0,
                "rating_average": null, "first_call_at": null, "last_call_at": null,
            },
            "computed_at": shown["computed_at"], "stale": false,
        })
    );
    for unknown in ["0190a000-0000-7000-8000-000000000001", "ada", "'"] {
        api.get(&format!("/agents/{unknown}/score"))
            .await
            .error(404, "AGENT_NOT_FOUND");
    }
    sqlx::query("update profile set account_type = 'human'")
        .execute(&pool)
        .await
        .unwrap();
    api.get(&format!("/agents/{}/score", agent.id))
        .await
        .error(404, "AGENT_NOT_FOUND");
}

#[sqlx::test(migrations = "./migrations")]
async fn a_delivered_call_is_stale_news_until_it_is_in_the_score(pool: PgPool) {
    let api = Api::new(pool);
    let (seller, buyer) = (api.agent().await, api.agent().await);
    let listing = seller.list(json!({})).await;
    let stage = trade(&api, &buyer, &seller, &listing);
    stage.delivered().await;
    let before = score(&api, &seller).await;
    assert_eq!(
        (&before["stale"], &before["score"]),
        (&json!(true), &json!(500))
    );
    assert_eq!(score(&api, &buyer).await["stale"], false);
    // Folded, and not yet computed.
    control_plane::reviews::fold(&api.app, Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(score(&api, &seller).await["stale"], true);
    work(&api).await;
    let after = score(&api, &seller).await;
    assert_eq!(after["stale"], false);
    let evidence = &after["evidence"];
    assert_eq!(
        (
            &evidence["calls_delivered"],
            &evidence["calls_failed"],
            &evidence["distinct_buyers"]
        ),
        (&json!(1), &json!(0), &json!(1))
    );
    assert!(
        evidence["first_call_at"].is_string()
            && evidence["first_call_at"] == evidence["last_call_at"]
    );
    let now = after["score"].as_i64().unwrap();
    assert!(now > 500, "{after}");
    // Wherever the agent is shown.
    assert_eq!(
        api.get(&format!("/agents/{}", seller.id)).await.data(200)["score"],
        now
    );
    let listing = api
        .get(&format!("/listings/{}", listing["id"].as_str().unwrap()))
        .await
        .data(200);
    assert_eq!(listing["provider"]["score"], now);
    // The next call is news again.
    stage.delivered().await;
    assert_eq!(score(&api, &seller).await["stale"], true);
    work(&api).await;
    let evidence = score(&api, &seller).await["evidence"].clone();
    assert_eq!(
        (&evidence["calls_delivered"], &evidence["distinct_buyers"]),
        (&json!(2), &json!(1))
    );
}

#[sqlx::test(migrations = "./migrations")]
async fn a_failed_call_counts_once_and_only_when_the_seller_failed_it(pool: PgPool) {
    let api = Api::new(pool.clone());
    let (seller, buyer) = (api.agent().await, api.agent().await);
    let listing = seller.list(json!({})).await;
    let stage = trade(&api, &buyer, &seller, &listing);
    let failed = async |outcome: SellerFailure, request: &_| {
        let (grant, owner) = stage.claimed(request).await;
        stage.settle(failure(&grant, owner, outcome)).await;
    };
    let request = stage.paid().await;
    failed(SellerFailure::Status, &request).await;
    assert_eq!(score(&api, &seller).await["stale"], true);
    work(&api).await;
    let first = score(&api, &seller).await;
    assert_eq!(
        (&first["stale"], &first["evidence"]["calls_failed"]),
        (&json!(false), &json!(1))
    );
    assert_eq!(first["evidence"]["distinct_buyers"], 0);
    assert!(first["score"].as_i64().unwrap() < 500, "{first}");
    // The same call again, in vain and then not; and a gateway that died with one.
    failed(SellerFailure::Timeout, &request).await;
    let (grant, owner) = stage.claimed(&request).await;
    stage.settle(unsent(&grant, owner)).await;
    let (grant, owner) = stage.claimed(&request).await;
    stage.settle(delivery(&grant, owner, b"{}")).await;
    let died = stage.paid().await;
    stage.claimed(&died).await;
    sqlx::query("insert into attempt (request_id, epoch, owner, attempts, refund_due, outcome) values ($1, 0, '', 0, false, 'lease_expired')")
        .bind(died.id)
        .execute(&pool)
        .await
        .unwrap();
    // An unreachable seller failed as well, though it used no attempt.
    let unreachable = stage.paid().await;
    let (grant, owner) = stage.claimed(&unreachable).await;
    stage.settle(unsent(&grant, owner)).await;
    work(&api).await;
    let evidence = score(&api, &seller).await["evidence"].clone();
    assert_eq!(
        (
            &evidence["calls_delivered"],
            &evidence["calls_failed"],
            &evidence["distinct_buyers"]
        ),
        (&json!(1), &json!(2), &json!(1))
    );
}

#[sqlx::test(migrations = "./migrations")]
async fn however_many_fold_at_once_each_call_counts_once(pool: PgPool) {
    let api = Api::new(pool.clone());
    let (seller, buyers) = (api.agent().await, [api.agent().await, api.agent().await]);
    let listing = seller.list(json!({})).await;
    for round in 0..3 {
        for buyer in &buyers {
            let stage = trade(&api, buyer, &seller, &listing);
            stage.delivered().await;
            if round == 0 {
                stage.delivered().await;
            }
        }
        // As many replicas, each with its own look at the cursor, again and again.
        let replicas: Vec<Api> = (0..8).map(|_| Api::new(pool.clone())).collect();
        for _ in 0..3 {
            join_all(replicas.iter().map(work)).await;
        }
    }
    let evidence = score(&api, &seller).await["evidence"].clone();
    assert_eq!(
        (&evidence["calls_delivered"], &evidence["distinct_buyers"]),
        (&json!(8), &json!(2))
    );
}

/// A settlement that began before the fold and ends after it: its row bears the earlier time.
#[sqlx::test(migrations = "./migrations")]
async fn the_fold_does_not_pass_a_transaction_that_still_runs(pool: PgPool) {
    let api = Api::new(pool.clone());
    let (seller, buyer) = (api.agent().await, api.agent().await);
    let listing = seller.list(json!({})).await;
    let stage = trade(&api, &buyer, &seller, &listing);
    let late = stage.paid().await;
    let mut connection = pool.acquire().await.unwrap();
    let mut slow = connection.begin().await.unwrap();
    sqlx::query("select now()")
        .execute(&mut *slow)
        .await
        .unwrap();
    stage.delivered().await;
    control_plane::reviews::fold(&api.app, Duration::ZERO)
        .await
        .unwrap();
    sqlx::query(
        "insert into transfer (party_id, id, request_id, kind, debit_account, credit_account, amount_micros, counterparty_id, listing_id)
         select seller_id, gen_random_uuid(), id, 'seller_credit', 'clearing', 'seller', 951000, buyer_id, listing_id
         from gateway_request where id = $1",
    )
    .bind(late.id)
    .execute(&mut *slow)
    .await
    .unwrap();
    slow.commit().await.unwrap();
    drop(connection);
    work(&api).await;
    assert_eq!(score(&api, &seller).await["evidence"]["calls_delivered"], 2);
}

#[sqlx::test(migrations = "./migrations")]
async fn a_review_is_news_of_its_seller(pool: PgPool) {
    let api = Api::new(pool);
    let (seller, buyer) = (api.agent().await, api.agent().await);
    let listing = seller.list(json!({})).await;
    trade(&api, &buyer, &seller, &listing).delivered().await;
    work(&api).await;
    let before = score(&api, &seller).await;
    let body = json!({ "accuracy_rating": 1, "reliability_rating": 2, "value_rating": 2 });
    buyer
        .post(
            &format!("/reviews/{}", listing["id"].as_str().unwrap()),
            &body,
        )
        .await
        .data(201);
    assert_eq!(score(&api, &seller).await["stale"], true);
    work(&api).await;
    let after = score(&api, &seller).await;
    assert_eq!(
        (
            &after["stale"],
            &after["evidence"]["reviews"],
            &after["evidence"]["rating_average"]
        ),
        (&json!(false), &json!(1), &json!(1.67))
    );
    for part in ["accuracy", "reputation"] {
        assert!(
            after["components"][part].as_i64() < before["components"][part].as_i64(),
            "{after}"
        );
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn a_score_is_computed_daily_and_its_history_is_bounded(pool: PgPool) {
    let api = Api::new(pool.clone());
    let (seller, buyer) = (api.agent().await, api.agent().await);
    let listing = seller.list(json!({})).await;
    trade(&api, &buyer, &seller, &listing).delivered().await;
    work(&api).await;
    assert_eq!(
        control_plane::reviews::recompute(&api.app).await.unwrap(),
        0,
        "not due again today"
    );
    // A day passes, with nothing new in it; yesterday's snapshot stays, and what is too old goes.
    sqlx::raw_sql(
        "update reputation set due_at = due_at - interval '1 day';
         update score_snapshot set day = day - 1, computed_at = computed_at - interval '26 hours';
         insert into score_snapshot (profile_id, day, computed_at, score, reliability, accuracy, volume, longevity,
            reputation, calls_delivered, calls_failed, distinct_buyers, reviews, rating_total)
         select profile_id, day - 500, computed_at, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0 from score_snapshot",
    )
    .execute(&pool)
    .await
    .unwrap();
    assert_eq!(score(&api, &seller).await["stale"], true);
    assert_eq!(
        control_plane::reviews::recompute(&api.app).await.unwrap(),
        1
    );
    assert_eq!(score(&api, &seller).await["stale"], false);
    let days: i64 = sqlx::query_scalar("select count(*) from score_snapshot")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(days, 2);
}

#[sqlx::test(migrations = "./migrations")]
async fn when_the_fold_is_far_behind_no_score_claims_to_be_fresh(pool: PgPool) {
    let api = Api::new(pool.clone());
    let agent = api.agent().await;
    assert_eq!(score(&api, &agent).await["stale"], false);
    sqlx::query("update fold_cursor set position = now() - interval '1 hour'")
        .execute(&pool)
        .await
        .unwrap();
    assert_eq!(score(&api, &agent).await["stale"], true);
    work(&api).await;
    assert_eq!(score(&api, &agent).await["stale"], false);
}
