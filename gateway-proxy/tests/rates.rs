//! One quota for all gateways (contract §2): counted here, reconciled through Redis, never waiting for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crochet_dev::Role;
use demo_agent::{Agent, Api, Chain, Method};
use secrecy::ExposeSecret as _;

use crate::harness::{Door, World, measured, sized, trials};

trials!(
    gateways_share_one_quota_and_go_on_without_redis => alone,
    unknown_keys_of_an_address_are_counted_together,
    unknown_keys_at_once_are_looked_up_no_more_often_than_one_by_one,
);

/// Calls under way at once.
const AT_ONCE: usize = 16;
/// The window of a quota.
const MINUTE: Duration = Duration::from_mins(1);

/// Calls a minute that a test's key may make: the contract's in a full run.
fn quota() -> usize {
    sized(1_500, 6_000)
}

/// Most that two gateways may count of a quota (contract §2): a tenth more.
const fn most(quota: usize) -> usize {
    quota + quota / 10
}

/// Which gateway the nth call goes through.
type Route = fn(usize) -> usize;

/// Calls that ask for nothing, so often: how many were not refused. Whatever happens, none fails, and all are
/// made within a minute, after which the quota is another one.
async fn calls(door: &Door, agent: &Agent, times: usize, route: Route) -> usize {
    let begun = Instant::now();
    let (next, allowed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let workers: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let (next, allowed) = (Arc::clone(&next), Arc::clone(&allowed));
            let through: Vec<Agent> = door.apis.iter().map(|api| agent.through(api)).collect();
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= times {
                        return;
                    }
                    let agent = &through[route(number)];
                    let answer = agent
                        .send(Method::POST, "/gateway/nobody", &[], Some("{}".into()))
                        .await
                        .unwrap();
                    match answer.status {
                        404 => drop(allowed.fetch_add(1, Ordering::Relaxed)),
                        429 => assert!(answer.header("ratelimit").is_some(), "{answer}"),
                        _ => panic!("a call failed: {answer}"),
                    }
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    let took = begun.elapsed();
    assert!(
        took < MINUTE,
        "{times} calls took {took:?}: too slow a machine"
    );
    allowed.load(Ordering::Relaxed)
}

async fn agent(door: &Door) -> Agent {
    Agent::fresh(&door.apis[0], Chain::Evm, "Carla Caller")
        .await
        .unwrap()
}

async fn gateways_share_one_quota_and_go_on_without_redis() {
    let quota = quota();
    let over = most(quota);
    let mut world = World::own("rates", |options| {
        measured(options)
            .set("RATE_LIMIT_KEY_CALLS_PER_MINUTE", &quota.to_string())
            .unwrap()
    })
    .await;
    let door = world.door.clone();

    // Both at once, in parts that differ.
    let steady = agent(&door).await;
    let allowed = calls(&door, &steady, quota * 3 / 2, |n| usize::from(n % 4 == 0)).await;
    println!("{allowed} of a quota of {quota} through two gateways");
    assert!((quota..=over).contains(&allowed), "{allowed} of {quota}");

    // First the one, then the other, then both: nobody is refused early, nobody gets more.
    let moving = agent(&door).await;
    let mut allowed = calls(&door, &moving, quota / 3, |_| 0).await;
    allowed += calls(&door, &moving, quota / 3, |_| 1).await;
    assert_eq!(allowed, quota / 3 * 2, "none was refused early");
    allowed += calls(&door, &moving, quota, |n| n % 2).await;
    println!("{allowed} of a quota of {quota} with traffic that moves");
    assert!((quota..=over).contains(&allowed), "{allowed} of {quota}");

    // A Redis that forgets costs nobody anything, and gives nobody more.
    let flushed = agent(&door).await;
    let mut allowed = calls(&door, &flushed, quota / 2, |n| n % 2).await;
    door.flush().await;
    allowed += calls(&door, &flushed, quota, |n| n % 2).await;
    println!("{allowed} of a quota of {quota} with a Redis that was flushed");
    assert!((quota..=over).contains(&allowed), "{allowed} of {quota}");

    // Without Redis each counts for itself, still limits, and no call fails.
    let alone = agent(&door).await;
    world.stack.kill(Role::Redis).unwrap();
    let allowed = calls(&door, &alone, quota * 5 / 2, |n| n % 2).await;
    println!("{allowed} of a quota of {quota} each of two gateways without Redis");
    assert!(
        (quota..=quota * 2).contains(&allowed),
        "{allowed} of {quota} each"
    );
    world.stack.start_again(Role::Redis).await.unwrap();
    world.close().await;
}

async fn unknown_keys_of_an_address_are_counted_together() {
    let world = World::own("strangers", |options| {
        options
            .set("RATE_LIMIT_UNKNOWN_KEYS_PER_MINUTE", "30")
            .unwrap()
    })
    .await;
    let random = || u8::try_from(getrandom::u32().unwrap() % 256).unwrap();
    let ask = async |api: &Api, path: &str| {
        let key = crochet_shared::api_key::generate(random);
        let key = Some(key.text.expose_secret());
        let body = Some("{}".into());
        let answer = api.send(Method::POST, path, key, &[], body).await.unwrap();
        assert!([401, 429].contains(&answer.status), "{answer}");
        answer.status == 401
    };
    let mut unknown = 0;
    for n in 0..80 {
        unknown += usize::from(ask(&world.door.apis[n % 2], "/gateway/nobody").await);
    }
    println!("{unknown} unknown keys of 30 through two gateways");
    assert!((30..=most(30)).contains(&unknown), "{unknown} of 30");
    world.close().await;
}

/// Whether a key is known is not known before it was looked up: all at once, none may be looked up beyond the limit.
async fn unknown_keys_at_once_are_looked_up_no_more_often_than_one_by_one() {
    const AT_ONCE: usize = 300;
    let world = World::own("burst", |options| {
        options
            .gateways(1)
            .set("RATE_LIMIT_UNKNOWN_KEYS_PER_MINUTE", "30")
            .unwrap()
    })
    .await;
    let random = || u8::try_from(getrandom::u32().unwrap() % 256).unwrap();
    let asking = (0..AT_ONCE).map(|_| {
        let key = crochet_shared::api_key::generate(random);
        let api = world.door.apis[0].clone();
        async move {
            let key = Some(key.text.expose_secret());
            let asked = api.send(Method::POST, "/gateway/nobody", key, &[], Some("{}".into()));
            asked.await.unwrap().status
        }
    });
    // Each look-up draws a version; a few are drawn for what is published.
    let drawn = async || {
        let drawn = "select last_value from cache_version".to_owned();
        world.door.number(drawn).await
    };
    let before = drawn().await;
    let statuses = futures_util::future::join_all(asking).await;
    let looked_up = drawn().await - before;
    println!("{looked_up} look-ups for {AT_ONCE} unknown keys at once");
    assert!((30..45).contains(&looked_up), "{looked_up} look-ups");
    let unknown = statuses.iter().filter(|status| **status == 401).count();
    assert_eq!(unknown, 30, "{statuses:?}");
    assert!(statuses.iter().all(|status| [401, 429].contains(status)));
    world.close().await;
}
