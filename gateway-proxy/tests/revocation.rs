//! How long a change takes to reach every gateway, under load (contract §3 and §4): within a second,
//! and within five when Redis is stopped. The figures are printed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crochet_dev::Role;
use crochet_shared::clock;
use demo_agent::{Agent, Method};
use futures_util::{StreamExt as _, stream};
use serde_json::json;

use crate::harness::{Door, Market, Wire, World, is_full, measured, request, text, trials, until};

trials!(
    changes_reach_every_gateway_under_load => alone,
    changes_reach_every_gateway_when_only_the_control_plane_has_lost_redis,
    a_key_revoked_while_a_body_comes_buys_nothing,
    a_key_that_only_calls_shows_when_it_was_used,
);

/// Within which a change is known everywhere, while Redis runs and while it does not.
const WITHIN: Duration = Duration::from_secs(1);
const WITHIN_WITHOUT_REDIS: Duration = Duration::from_secs(5);
/// Keys that make the load, and calls a second that they make together.
const LOAD_KEYS: usize = 12;
const LOAD_PER_SECOND: u64 = 600;
/// The load that the contract's figure is promised under; told of a full run, whose machine is quiet.
const LOAD_MIN: u64 = 500;

/// Calls of many keys through all gateways for as long as it lives: quotes that are reused.
struct Load {
    stop: Arc<AtomicBool>,
    made: Arc<AtomicUsize>,
    begun: Instant,
}

impl Load {
    async fn start(market: &Market) -> Self {
        let load = Self {
            stop: Arc::default(),
            made: Arc::default(),
            begun: Instant::now(),
        };
        let call = market.call();
        let key = [("idempotency-key", "load")];
        for number in 0..LOAD_KEYS {
            let (agent, _) = market.second_key().await;
            let agent = agent.through(&market.door.apis[number % market.door.apis.len()]);
            let (stop, made) = (Arc::clone(&load.stop), Arc::clone(&load.made));
            let (path, body) = (format!("/gateway/{}", market.listing.id), call.body.clone());
            tokio::spawn(async move {
                let each = Duration::from_secs(1) * u32::try_from(LOAD_KEYS).unwrap();
                let mut ticks =
                    tokio::time::interval(each / u32::try_from(LOAD_PER_SECOND).unwrap());
                while !stop.load(Ordering::Relaxed) {
                    ticks.tick().await;
                    let asked = agent.send(Method::POST, &path, &key, Some(body.clone()));
                    let answer = asked.await.unwrap();
                    assert_eq!(answer.status, 402, "{answer}");
                    made.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        load
    }

    fn per_second(&self) -> u64 {
        let made = u64::try_from(self.made.load(Ordering::Relaxed)).unwrap();
        made * 1_000
            / u64::try_from(self.begun.elapsed().as_millis())
                .unwrap()
                .max(1)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Prints the slowest and the 99th of a hundred, and gives the latter back.
fn p99(what: &str, mut times: Vec<Duration>) -> Duration {
    times.sort();
    let rank = (times.len() * 99).div_ceil(100).max(1) - 1;
    let (p50, p99) = (times[times.len() / 2], times[rank]);
    println!(
        "{what}: p50 {p50:?}, p99 {p99:?}, slowest {:?} of {}",
        times[times.len() - 1],
        times.len()
    );
    p99
}

/// Asks every gateway until it says `status`; how long the last one took.
async fn until_all_say(door: &Door, agent: &Agent, path: &str, status: u16) -> Duration {
    let begun = Instant::now();
    let asking = door.apis.iter().map(|api| async move {
        let agent = agent.through(api);
        loop {
            let answer = agent.send(Method::POST, path, &[], Some("{}".into())).await;
            if answer.unwrap().status == status {
                return begun.elapsed();
            }
            assert!(begun.elapsed() < WITHIN_WITHOUT_REDIS * 3, "never {status}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    futures_util::future::join_all(asking)
        .await
        .into_iter()
        .max()
        .unwrap()
}

/// Revokes a key that all gateways know; how long until the last refuses it.
async fn revoke(market: &Market) -> Duration {
    let (agent, id) = market.second_key().await;
    until_all_say(&market.door, &agent, "/gateway/nobody", 404).await;
    let deleted = market
        .buyer
        .send(Method::DELETE, &format!("/api-keys/{id}"), &[], None)
        .await;
    deleted.unwrap().data(200).unwrap();
    let took = until_all_say(&market.door, &agent, "/gateway/nobody", 401).await;
    // And from then on.
    until_all_say(&market.door, &agent, "/gateway/nobody", 401).await;
    took
}

/// Suspends a listing that all gateways serve; how long until the last refuses to.
async fn suspend(market: &Market) -> Duration {
    let listing = market.publish(json!({})).await;
    let path = format!("/gateway/{}", text(&listing.json["slug"]));
    // A seller's own call says that the route is known, and asks nobody for a quote.
    until_all_say(&market.door, &market.seller, &path, 403).await;
    let patched = market
        .seller
        .send(
            Method::PATCH,
            &format!("/listings/{}", listing.id),
            &[],
            Some(json!({ "status": "suspended" }).to_string().into()),
        )
        .await;
    patched.unwrap().data(200).unwrap();
    until_all_say(&market.door, &market.seller, &path, 409).await
}

async fn times<F: Future<Output = Duration>>(
    count: usize,
    at_once: usize,
    one: impl Fn() -> F,
) -> Vec<Duration> {
    stream::iter(0..count)
        .map(|_| one())
        .buffer_unordered(at_once)
        .collect()
        .await
}

async fn changes_reach_every_gateway_under_load() {
    let (many, few) = if is_full() { (300, 60) } else { (40, 12) };
    let mut world = World::own("revocation", measured).await;
    let market = Market::within(&world.door, json!({})).await;
    let load = Load::start(&market).await;

    let revoked = p99("revocation", times(many, 4, || revoke(&market)).await);
    let suspended = p99(
        "a listing's change",
        times(many / 2, 4, || suspend(&market)).await,
    );
    let rate = load.per_second();
    println!("under {rate} calls/s of {LOAD_KEYS} keys");
    assert!(revoked < WITHIN, "{revoked:?}");
    assert!(suspended < WITHIN, "{suspended:?}");
    assert!(
        rate > 0 && (!is_full() || rate >= LOAD_MIN),
        "{rate} calls/s"
    );

    world.stack.kill(Role::Redis).unwrap();
    let revoked = p99(
        "revocation without Redis",
        times(few, few, || revoke(&market)).await,
    );
    let suspended = p99(
        "a listing's change without Redis",
        times(few, few, || suspend(&market)).await,
    );
    assert!(revoked < WITHIN_WITHOUT_REDIS, "{revoked:?}");
    assert!(suspended < WITHIN_WITHOUT_REDIS, "{suspended:?}");
    drop(load);
    world.stack.start_again(Role::Redis).await.unwrap();
    world.close().await;
}

/// Gateways still reach Redis, where records of up to a minute ago stand and nobody puts newer ones.
async fn changes_reach_every_gateway_when_only_the_control_plane_has_lost_redis() {
    const NOBODY: &str = "redis://127.0.0.1:1/";
    let mut world = World::own("split", |options| options).await;
    let market = Market::within(&world.door, json!({})).await;
    let (agent, key) = market.second_key().await;
    let listing = market.publish(json!({})).await;
    let path = format!("/gateway/{}", listing.id);
    until_all_say(&market.door, &agent, "/gateway/nobody", 404).await;
    until_all_say(&market.door, &market.seller, &path, 403).await;

    world.stack.terminate(Role::ControlPlane).await.unwrap();
    world.stack.tell(Role::ControlPlane, "REDIS_URL", NOBODY);
    world.stack.start_again(Role::ControlPlane).await.unwrap();
    // Gateways that never heard of the two look into Redis, where they stand since they were made.
    for number in 0..market.door.apis.len() {
        let gateway = Role::Gateway(number);
        world.stack.restart(gateway).await.unwrap();
    }
    until_all_say(&market.door, &agent, "/gateway/nobody", 404).await;
    until_all_say(&market.door, &market.seller, &path, 403).await;
    let api_key = format!("/api-keys/{key}");
    let revoked = market.buyer.send(Method::DELETE, &api_key, &[], None);
    revoked.await.unwrap().data(200).unwrap();
    let listing = format!("/listings/{}", listing.id);
    let suspended = Some(json!({ "status": "suspended" }).to_string().into());
    let suspended = market.seller.send(Method::PATCH, &listing, &[], suspended);
    suspended.await.unwrap().data(200).unwrap();
    let (revoked, suspended) = tokio::join!(
        until_all_say(&market.door, &agent, "/gateway/nobody", 401),
        until_all_say(&market.door, &market.seller, &path, 409),
    );
    assert!(revoked < WITHIN_WITHOUT_REDIS, "{revoked:?}");
    assert!(suspended < WITHIN_WITHOUT_REDIS, "{suspended:?}");
    world.close().await;
}

/// The heads and half of the bodies of a first call and of a paid one are there, then the key is revoked,
/// then the rest comes.
async fn a_key_revoked_while_a_body_comes_buys_nothing() {
    let market = Market::open().await;
    let (agent, key) = market.second_key().await;
    let (call, other) = (market.call(), market.call());
    let paid = market.evidenced(&call).await;
    let authorization = format!("Bearer {}", agent.key);
    let line = format!("POST /api/v1/gateway/{}", market.listing.id);
    let mut half = Vec::new();
    for (call, payment) in [(&call, Some(&paid)), (&other, None)] {
        let mut headers = vec![
            ("authorization", authorization.as_str()),
            ("content-type", "application/json"),
        ];
        if let Some(paid) = payment {
            headers.push(("x-crochet-relay-request-id", &paid.relay_request_id));
        }
        let whole = request(&line, &headers, &call.body);
        let (first, rest) = whole.split_at(whole.len() - call.body.len() / 2);
        let mut wire = Wire::to(&market.door.apis[0]).await;
        wire.send(first).await;
        half.push((wire, rest.to_vec()));
    }
    let api_key = format!("/api-keys/{key}");
    let revoked = market.buyer.send(Method::DELETE, &api_key, &[], None);
    revoked.await.unwrap().data(200).unwrap();
    until_all_say(&market.door, &agent, "/gateway/nobody", 401).await;
    for (mut wire, rest) in half {
        wire.send(&rest).await;
        let answer = wire.answer().await.unwrap();
        assert_eq!(
            (answer.status(), answer.code()),
            (401, "INVALID_API_KEY".to_owned())
        );
    }
    market.assert_still_paid(&paid, 0).await;
}

async fn a_key_that_only_calls_shows_when_it_was_used() {
    let market = Market::with(json!({})).await;
    let (caller, used) = market.second_key().await;
    let (_, unused) = market.second_key().await;
    let last_use = async |id: &str| {
        let keys = market.buyer.get("/api-keys").await.unwrap();
        let keys = keys.data(200).unwrap();
        let key = keys.as_array().unwrap().iter().find(|key| key["id"] == id);
        key.unwrap()["last_used_at"].as_str().map(str::to_owned)
    };
    assert_eq!(last_use(&used).await, None);
    let begun = clock::now() - Duration::from_millis(1);
    let answer = caller.call(&market.call(), None).await.unwrap();
    assert_eq!(answer.status, 402, "{answer}");
    let shown = until("the use is shown", || last_use(&used)).await;
    let shown: chrono::DateTime<chrono::Utc> = shown.parse().unwrap();
    assert!(begun <= shown && shown <= clock::now(), "{begun} {shown}");
    assert_eq!(last_use(&unused).await, None);
}
