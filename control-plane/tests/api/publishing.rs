//! The outbox and the records in Redis

use std::sync::Arc;
use std::time::{Duration, Instant};

use control_plane::publish;
use crochet_shared::api_key;
use crochet_shared::clock;
use crochet_shared::id::ListingId;
use crochet_shared::internal::{KeyRecord, ListingStatus, RouteRecord};
use crochet_shared::redis_key::{self, CHANGES_CHANNEL, Change};
use crochet_shared::route::Family;
use futures_util::StreamExt as _;
use redis::AsyncCommands as _;
use serde::de::DeserializeOwned;
use serde_json::json;
use sqlx::PgPool;
use tokio::sync::watch;

use super::client::Api;
use super::redis_server::Redis;
use super::wallet::Wallet;

async fn read<T: DeserializeOwned>(
    api: &Api,
    redis: &mut redis::aio::MultiplexedConnection,
    name: &str,
) -> Option<T> {
    let sealed: Option<Vec<u8>> = redis.get(name).await.unwrap();
    let now = clock::now().timestamp_millis();
    let (record, _) = redis_key::open(&api.app.cache_keys, name, &sealed?, now).ok()?;
    Some(record)
}

async fn waiting(api: &Api) -> i64 {
    sqlx::query_scalar("select count(*) from outbox")
        .fetch_one(api.app.db.pool())
        .await
        .unwrap()
}

/// What was told on the channel until now.
async fn told(
    api: &Api,
    redis: &mut redis::aio::MultiplexedConnection,
    listener: &mut redis::aio::PubSub,
) -> Vec<Change> {
    const END: &[u8] = b"end";
    let _: i64 = redis.publish(CHANGES_CHANNEL, END).await.unwrap();
    let mut told = Vec::new();
    let mut messages = listener.on_message();
    loop {
        let sealed: Vec<u8> = messages.next().await.unwrap().get_payload().unwrap();
        if sealed == END {
            return told;
        }
        let now = clock::now().timestamp_millis();
        let change = redis_key::open(&api.app.cache_keys, CHANGES_CHANNEL, &sealed, now);
        told.push(change.unwrap().0);
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn gateways_are_told_until_when_all_is_told_and_not_while_a_key_or_listing_waits(
    pool: PgPool,
) {
    let redis = Redis::start();
    let mut connection = redis.connect().await;
    let api = Api::with(pool, &[&format!("--redis-url={}", redis.url())]);
    let client = redis::Client::open(redis.url()).unwrap();
    let mut listener = client.get_async_pubsub().await.unwrap();
    listener.subscribe(CHANGES_CHANNEL).await.unwrap();
    let waits = "insert into outbox (key_digest) select sha256(n::text::bytea) from generate_series(1, $1) n";
    let untils = |told: Vec<Change>| -> Vec<i64> {
        let until = |change| {
            if let Change::Told(until) = change {
                Some(until)
            } else {
                None
            }
        };
        told.into_iter().filter_map(until).collect()
    };

    sqlx::query(waits)
        .bind(300)
        .execute(api.app.db.pool())
        .await
        .unwrap();
    publish::publish_once(&api.app).await.unwrap();
    let some = told(&api, &mut connection, &mut listener).await;
    assert!(some.len() > 200, "{}", some.len());
    assert!(untils(some).is_empty(), "one look does not reach all");

    let before = clock::now().timestamp_millis();
    publish::publish_once(&api.app).await.unwrap();
    let after = clock::now().timestamp_millis();
    let until = untils(told(&api, &mut connection, &mut listener).await);
    assert_eq!(until.len(), 1);
    assert!((before..=after).contains(&until[0]));
    publish::publish_once(&api.app).await.unwrap();
    let again = told(&api, &mut connection, &mut listener).await;
    assert!(again.is_empty(), "it is not said at every look");
}

#[sqlx::test(migrations = "./migrations")]
async fn what_changed_stands_in_redis_and_is_told(pool: PgPool) {
    let redis = Redis::start();
    let mut connection = redis.connect().await;
    let api = Api::with(pool, &[&format!("--redis-url={}", redis.url())]);
    let client = redis::Client::open(redis.url()).unwrap();
    let mut listener = client.get_async_pubsub().await.unwrap();
    listener.subscribe(CHANGES_CHANNEL).await.unwrap();
    let agent = api.agent().await;
    let listing = agent.list(json!({})).await;
    let id: ListingId = listing["id"].as_str().unwrap().parse().unwrap();
    publish::publish_once(&api.app).await.unwrap();
    assert_eq!(waiting(&api).await, 0);

    let digest = api_key::parse(&agent.key).unwrap();
    let key: KeyRecord = read(&api, &mut connection, &redis_key::key(&digest))
        .await
        .unwrap();
    assert!(!key.revoked && key.has_solana);
    let by_id: RouteRecord = read(&api, &mut connection, &redis_key::route(id))
        .await
        .unwrap();
    let by_slug: RouteRecord = read(&api, &mut connection, &redis_key::slug("echo"))
        .await
        .unwrap();
    assert_eq!(by_id, by_slug);
    let life: i64 = connection.ttl(redis_key::route(id)).await.unwrap();
    assert!((1..=60).contains(&life));
    let told = told(&api, &mut connection, &mut listener).await;
    for change in [
        Change::Key(digest),
        Change::Route {
            id,
            slug: "echo".into(),
        },
    ] {
        assert!(told.contains(&change), "{change:?} in {told:?}");
    }

    agent.delete(&format!("/listings/{id}")).await.data(200);
    agent
        .delete(&format!("/api-keys/{}", key.key_id))
        .await
        .data(200);
    publish::publish_once(&api.app).await.unwrap();
    let route: RouteRecord = read(&api, &mut connection, &redis_key::route(id))
        .await
        .unwrap();
    assert_eq!(route.status, ListingStatus::Suspended);
    let key: KeyRecord = read(&api, &mut connection, &redis_key::key(&digest))
        .await
        .unwrap();
    assert!(key.revoked, "a revoked key stays known, as revoked");
    let names: Vec<String> = connection.keys("*").await.unwrap();
    // Counts of callers are no records; they name nobody.
    let records = names
        .into_iter()
        .filter(|name| !name.starts_with("crochet:limit:"));
    for name in records {
        let value: Vec<u8> = connection.get(&name).await.unwrap();
        assert!(
            !String::from_utf8_lossy(&value).contains("127.0.0.1"),
            "{name} is in clear"
        );
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn an_older_record_never_replaces_a_newer_one(pool: PgPool) {
    let redis = Redis::start();
    let mut connection = redis.connect().await;
    let api = Api::with(pool, &[&format!("--redis-url={}", redis.url())]);
    let name = "crochet:test";
    for (version, stays) in [(5_i64, 5), (3, 5), (9, 9), (8, 9)] {
        let now = clock::now().timestamp_millis();
        let sealed = redis_key::seal(&api.app.cache_keys, name, version, &version, now).unwrap();
        let script = redis::Script::new(redis_key::PUT_IF_NEWER);
        let _: i64 = script
            .key(name)
            .arg(sealed)
            .arg(60)
            .invoke_async(&mut connection)
            .await
            .unwrap();
        assert_eq!(read::<i64>(&api, &mut connection, name).await, Some(stays));
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn a_quote_that_is_open_no_longer_is_a_miss(pool: PgPool) {
    let redis = Redis::start();
    let mut connection = redis.connect().await;
    let api = Api::with(pool, &[&format!("--redis-url={}", redis.url())]);
    let identity = [7_u8; 32];
    let name = redis_key::quote(&identity);
    let now = clock::now().timestamp_millis();
    let standing = redis_key::seal(&api.app.cache_keys, &name, 0, &"an open quote", now).unwrap();
    let () = connection.set(&name, standing).await.unwrap();
    sqlx::query("insert into outbox (quote_identity) values ($1)")
        .bind(identity.as_slice())
        .execute(api.app.db.pool())
        .await
        .unwrap();
    publish::publish_once(&api.app).await.unwrap();
    assert_eq!(
        read::<crochet_shared::internal::Quote>(&api, &mut connection, &name).await,
        None
    );
    assert_eq!(read::<String>(&api, &mut connection, &name).await, None);
}

#[sqlx::test(migrations = "./migrations")]
async fn what_redis_missed_is_told_when_it_is_back(pool: PgPool) {
    let mut redis = Redis::start();
    redis.connect().await;
    let api = Api::with(pool, &[&format!("--redis-url={}", redis.url())]);
    redis.stop();
    let agent = api.agent().await;
    agent.get("/me").await.data(200);
    assert!(publish::publish_once(&api.app).await.is_err());
    assert_eq!(waiting(&api).await, 1, "kept for later");
    redis.start_again();
    let mut connection = redis.connect().await;
    let end = Instant::now() + Duration::from_secs(10);
    while publish::publish_once(&api.app).await.is_err() {
        assert!(Instant::now() < end, "the connection heals");
    }
    assert_eq!(waiting(&api).await, 0);
    let digest = api_key::parse(&agent.key).unwrap();
    let record: Option<KeyRecord> = read(&api, &mut connection, &redis_key::key(&digest)).await;
    assert!(record.is_some());
}

#[sqlx::test(migrations = "./migrations")]
async fn a_wallet_that_is_linked_or_disabled_changes_what_gateways_know_of_every_key(pool: PgPool) {
    let redis = Redis::start();
    let mut connection = redis.connect().await;
    let api = Api::with(pool, &[&format!("--redis-url={}", redis.url())]);
    let (solana, evm) = (Wallet::solana(), Wallet::evm());
    let agent = api.register(&solana).await;
    let first = agent.wallet_id().await;
    let more = agent.post("/api-keys", &json!({ "name": "ci" })).await;
    let keys = [
        agent.key.clone(),
        more.data(201)["api_key"].as_str().unwrap().to_owned(),
    ];
    let mut known = async || {
        publish::publish_once(&api.app).await.unwrap();
        assert_eq!(waiting(&api).await, 0);
        let mut all = Vec::new();
        for key in &keys {
            let digest = api_key::parse(key).unwrap();
            let record: KeyRecord = read(&api, &mut connection, &redis_key::key(&digest))
                .await
                .unwrap();
            all.push((
                record.has_evm,
                record.has_solana,
                record.default_family,
                record.revoked,
            ));
        }
        assert_eq!(all[0], all[1], "every key of the profile");
        all[0]
    };
    assert_eq!(known().await, (false, true, Some(Family::Solana), false));
    agent.link(&solana, &evm).await;
    assert_eq!(known().await, (true, true, Some(Family::Solana), false));
    let off = json!({ "status": "disabled" });
    agent.change_wallet(&evm, &first, off).await.data(200);
    assert_eq!(known().await, (true, false, Some(Family::Evm), false));
    let mut body = api.recovery(&evm).await;
    body["revoke_existing_keys"] = true.into();
    api.post("/auth/recover", &body).await.data(200);
    assert_eq!(known().await, (true, false, Some(Family::Evm), true));
}

#[sqlx::test(migrations = "./migrations")]
async fn an_endpoint_that_cannot_be_opened_is_told_as_unavailable_and_holds_nobody_up(
    pool: PgPool,
) {
    let redis = Redis::start();
    let mut connection = redis.connect().await;
    let api = Api::with(pool, &[&format!("--redis-url={}", redis.url())]);
    let agent = api.agent().await;
    let mut ids: Vec<ListingId> = Vec::new();
    for name in ["sealed", "open"] {
        let listing = agent.list(json!({ "name": name })).await;
        ids.push(listing["id"].as_str().unwrap().parse().unwrap());
    }
    publish::publish_once(&api.app).await.unwrap();
    // What stands in the row was sealed under a key that is not known here.
    let other =
        crochet_shared::seal::Keyring::parse("other:AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    let sealed = other
        .unwrap()
        .seal_row(b"there", b"https://93.184.216.34/")
        .unwrap();
    sqlx::query("update endpoint set url_sealed = $2 where listing_id = $1")
        .bind(ids[0].0)
        .bind(sealed)
        .execute(api.app.db.pool())
        .await
        .unwrap();
    sqlx::query(
        "insert into outbox (listing_id) select listing_id from endpoint order by listing_id",
    )
    .execute(api.app.db.pool())
    .await
    .unwrap();
    publish::publish_once(&api.app).await.unwrap();
    assert_eq!(waiting(&api).await, 0);
    for (id, paused) in [(ids[0], true), (ids[1], false)] {
        let route: RouteRecord = read(&api, &mut connection, &redis_key::route(id))
            .await
            .unwrap();
        let endpoint = route.endpoint.unwrap();
        assert_eq!(endpoint.paused, paused);
        assert_eq!(
            (endpoint.url.is_empty(), endpoint.secrets.is_empty()),
            (paused, paused)
        );
    }
}

#[sqlx::test(migrations = "./migrations")]
async fn whoever_waits_until_all_is_told_finds_nothing_left(pool: PgPool) {
    let redis = Redis::start();
    let api = Api::with(pool, &[&format!("--redis-url={}", redis.url())]);
    let (stop, stopped) = watch::channel(false);
    let publishing = tokio::spawn(publish::run(Arc::clone(&api.app), stopped));
    let written = "insert into outbox (quote_identity) select sha256(random()::text::bytea) from generate_series(1, 3)";
    let mut left = 0;
    for _ in 0..20 {
        sqlx::query(written)
            .execute(api.app.db.pool())
            .await
            .unwrap();
        api.app.publisher.caught_up().await;
        left += i64::from(waiting(&api).await > 0);
    }
    // It is not waited for long, which a busy machine may need.
    assert!(left <= 5, "left behind {left} times of 20");
    stop.send(true).unwrap();
    publishing.await.unwrap();
}
