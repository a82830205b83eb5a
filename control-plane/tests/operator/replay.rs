//! `replay-outbox`: what Redis lost stands there again.

use std::sync::Arc;

use control_plane::operator::Exit;
use control_plane::operator::replay_outbox::{ReplayOutbox, replay_outbox};
use control_plane::publish;
use crochet_shared::api_key;
use crochet_shared::id::ListingId;
use crochet_shared::redis_key;
use redis::AsyncCommands as _;
use serde_json::json;
use sqlx::PgPool;

use super::{kept, rehearsed};
use crate::api::client::Api;
use crate::api::redis_server::Redis;

fn wanted(patience: u64) -> ReplayOutbox {
    ReplayOutbox {
        patience,
        change: kept(),
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn after_a_flush_every_route_and_key_stands_in_redis_again(pool: PgPool) {
    let redis = Redis::start();
    let mut connection = redis.connect().await;
    let api = Api::with(pool, &[&format!("--redis-url={}", redis.url())]);
    let agent = api.agent().await;
    let listing = agent.list(json!({})).await;
    agent.list(json!({ "status": "draft" })).await;
    let id: ListingId = listing["id"].as_str().unwrap().parse().unwrap();
    let digest = api_key::parse(&agent.key).unwrap();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let work = tokio::spawn(publish::run(Arc::clone(&api.app), stopped));

    let outcome = replay_outbox(&api.app.db, &wanted(60)).await.unwrap();
    assert_eq!(outcome.exit, Exit::Done, "{}", outcome.text);
    redis::cmd("FLUSHALL")
        .query_async::<()>(&mut connection)
        .await
        .unwrap();
    let outcome = replay_outbox(&api.app.db, &wanted(60)).await.unwrap();
    assert_eq!(
        (&outcome.json["listings"], &outcome.json["keys"]),
        (&json!(1), &json!(1)),
        "a draft is nobody's to hear of"
    );
    for name in [redis_key::route(id), redis_key::key(&digest)] {
        let stands: bool = connection.exists(&name).await.unwrap();
        assert!(stands, "{name}");
    }
    stop.send(true).unwrap();
    work.await.unwrap();
}

#[sqlx::test(migrations = "./migrations")]
async fn where_nobody_publishes_it_stops_and_says_so(pool: PgPool) {
    let api = Api::new(pool);
    api.agent().await.list(json!({})).await;
    let rehearsal = ReplayOutbox {
        patience: 0,
        change: rehearsed(),
    };
    let rehearsal = replay_outbox(&api.app.db, &rehearsal).await.unwrap();
    assert_eq!(
        (&rehearsal.json["listings"], &rehearsal.json["changed"]),
        (&json!(1), &json!(false))
    );
    let outcome = replay_outbox(&api.app.db, &wanted(0)).await.unwrap();
    assert_eq!(
        (outcome.exit, &outcome.json["finished"]),
        (Exit::Attention, &json!(false))
    );
}
