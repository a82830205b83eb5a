//! Restart without loss.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crochet_dev::{Readiness, Role};
use demo_agent::{Agent, Answer, Quote};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::balancer::Balancer;
use super::trade::{Purchase, agree_on_one_call_each};
use crate::harness::{Market, Reply, World, measured, sized, trials, until};

trials!(a_rolling_restart_refuses_nobody_and_breaks_nothing => alone);

/// Between two looks of a buyer at a call that is pending or in progress.
const PAUSE: Duration = Duration::from_millis(50);
const LIMIT: Duration = Duration::from_mins(1);

/// Two gateways and two control planes, each pair behind something that sends new connections to whoever
/// says it is ready.
async fn a_rolling_restart_refuses_nobody_and_breaks_nothing() {
    let rounds = sized(1, 30);
    let rate = u32::try_from(sized(10, 40)).unwrap();
    let upgrade = std::env::temp_dir().join(format!("crochet-upgrade-{}.sock", std::process::id()));
    let mut world = World::own("restarts", |options| {
        measured(options)
            .set("GATEWAY_DRAIN_SECONDS", "1")
            .and_then(|options| options.set("GATEWAY_UPGRADE_SOCKET", upgrade.to_str().unwrap()))
            .unwrap()
    })
    .await;
    let _balancers = balance(&mut world).await;
    let endpoint = json!({ "endpoint": { "timeout_ms": 5000, "max_concurrency": 1000 } });
    let market = Arc::new(Market::within(&world.door, endpoint).await);
    let busy = Reply::json("1").after(Duration::from_millis(100));
    market.service.usually(busy);

    let admins: Vec<String> = world
        .door
        .at
        .gateways
        .iter()
        .map(|gateway| gateway.admin.clone())
        .collect();
    let gateways = Arc::new(Readiness::of(market.api().http(), &admins));
    let (stop, begun) = (Arc::new(AtomicBool::new(false)), Instant::now());
    let trade = tokio::spawn(steady(
        Arc::clone(&market),
        Arc::clone(&gateways),
        Arc::clone(&stop),
        rate,
    ));
    let mut restarts = 0;
    for _ in 0..rounds {
        for role in [
            Role::ControlPlane,
            Role::Gateway(0),
            Role::SecondControlPlane,
            Role::Gateway(1),
        ] {
            let status = world.stack.terminate(role).await.unwrap();
            assert!(status.success(), "{role} ended with {status}");
            world.stack.start_again(role).await.unwrap();
            restarts += 1;
            if let Role::Gateway(number) = role {
                until("the balancer sees it ready again", || async {
                    gateways.is_ready(number).then_some(())
                })
                .await;
            }
        }
    }
    let status = world.stack.upgrade(Role::Gateway(0)).await.unwrap();
    assert!(status.success(), "the upgraded gateway ended with {status}");
    stop.store(true, Ordering::Relaxed);
    let purchases = trade.await.unwrap();
    println!(
        "{} purchases during {restarts} restarts and one upgrade, in {:?}, where {rate} a second were wanted",
        purchases.len(),
        begun.elapsed()
    );
    let wanted = usize::try_from(u64::from(rate) * begun.elapsed().as_secs()).unwrap();
    assert!(
        purchases.len() * 4 >= wanted,
        "too few buyers to be refused"
    );
    agree_on_one_call_each(&market, &purchases).await;
    world.close().await;
}

/// Puts a balancer before the internal and one before the public API of two control planes, and has the
/// gateways use them.
async fn balance(world: &mut World) -> [Balancer; 2] {
    world.stack.start_second_control_plane().await.unwrap();
    let planes = world.stack.control_planes();
    let http = world.door.apis[0].http().clone();
    let admins = planes.each_ref().map(|[_, _, admin]| admin.clone());
    let readiness = Arc::new(Readiness::of(&http, &admins));
    let at = |origin: &String| -> SocketAddr {
        let authority = origin.trim_start_matches("http://");
        authority.parse().unwrap()
    };
    let public = planes.iter().map(|[public, ..]| at(public)).collect();
    let internal = planes.iter().map(|[_, internal, _]| at(internal)).collect();
    let balancers = [
        Balancer::before(public, Arc::clone(&readiness)).await,
        Balancer::before(internal, readiness).await,
    ];
    for gateway in [Role::Gateway(0), Role::Gateway(1)] {
        let [public, internal] = &balancers;
        let stack = &mut world.stack;
        stack.tell(gateway, "CONTROL_PLANE_URL", &public.url());
        stack.tell(gateway, "CONTROL_PLANE_INTERNAL_URL", &internal.url());
        stack.restart(gateway).await.unwrap();
    }
    balancers
}

/// Buyers at a steady rate until told to stop; everybody who came is served.
async fn steady(
    market: Arc<Market>,
    gateways: Arc<Readiness>,
    stop: Arc<AtomicBool>,
    per_second: u32,
) -> Vec<Purchase> {
    let buyers: Arc<Vec<Agent>> = Arc::new(super::trade::everywhere(&market));
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_second);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut under_way = JoinSet::new();
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let (market, gateways, buyers) = (
            Arc::clone(&market),
            Arc::clone(&gateways),
            Arc::clone(&buyers),
        );
        under_way.spawn(async move { served(&market, &gateways, &buyers).await });
    }
    under_way.join_all().await
}

/// One purchase in which every single answer is one: nothing refused, nothing broken.
async fn served(market: &Market, gateways: &Readiness, buyers: &[Agent]) -> Purchase {
    let call = market.call();
    let ask = async |relay_request_id: Option<&str>| -> Answer {
        let gateway = gateways.turn();
        let answered = buyers[gateway].call(&call, relay_request_id).await;
        answered.unwrap_or_else(|error| panic!("broken at gateway {gateway}: {error:#}"))
    };
    let quote = Quote::from_answer(&ask(None).await).unwrap();
    let id = quote.relay_request_id.as_str();
    market.door.sandbox.deposit(&[id]).await.unwrap();
    let listing = format!("/listings/{}", call.listing);
    let passed = buyers[gateways.turn()].get(&listing).await;
    assert_eq!(passed.expect("an answer").status, 200);
    let begun = Instant::now();
    let answer = loop {
        let answer = ask(Some(id)).await;
        match answer.status {
            200 => break answer,
            202 | 409 => tokio::time::sleep(PAUSE).await,
            _ => panic!("refused: {answer}"),
        }
        assert!(begun.elapsed() < LIMIT, "stuck: {answer}");
    };
    Purchase {
        call,
        quote,
        answer,
    }
}
