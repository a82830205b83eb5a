//! Restart without loss.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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

/// Buyers at a steady rate, and what they are told.
#[derive(Debug)]
struct Trade {
    market: Market,
    /// Which of the gateways is ready, as a balancer sees it.
    gateways: Readiness,
    /// The buyer through each of them.
    buyers: Vec<Agent>,
    /// How many calls each of them answered: quotes, tries to redeem, and what passes through.
    answered: Vec<AtomicUsize>,
    stop: AtomicBool,
}

/// Two gateways and two control planes, each pair behind something that sends new connections to whoever
/// says it is ready.
async fn a_rolling_restart_refuses_nobody_and_breaks_nothing() {
    let rounds = sized(1, 30);
    let rate = u32::try_from(sized(10, 60)).unwrap();
    // Of the purchases wanted, how many per cent must have been made; a debug build on a busy machine is slow.
    let least = sized(25, 80);
    let after_upgrade = sized(20, 400);
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
    let market = Market::within(&world.door, endpoint).await;
    let busy = Reply::json("1").after(Duration::from_millis(100));
    market.service.usually(busy);

    let admins: Vec<String> = world
        .door
        .at
        .gateways
        .iter()
        .map(|gateway| gateway.admin.clone())
        .collect();
    let trade = Arc::new(Trade {
        gateways: Readiness::of(market.api().http(), &admins),
        buyers: super::trade::everywhere(&market),
        answered: admins.iter().map(|_| AtomicUsize::new(0)).collect(),
        stop: AtomicBool::new(false),
        market,
    });
    let begun = Instant::now();
    let trading = tokio::spawn(steady(Arc::clone(&trade), rate));
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
                trade.sees_ready(number).await;
            }
        }
    }
    let status = world.stack.upgrade(Role::Gateway(0)).await.unwrap();
    assert!(status.success(), "the upgraded gateway ended with {status}");
    trade.sees_ready(0).await;
    let before = trade.answered_by(0);
    until("the upgraded gateway has answered new calls", || async {
        (trade.answered_by(0) >= before + after_upgrade).then_some(())
    })
    .await;
    trade.stop.store(true, Ordering::Relaxed);
    let purchases = trading.await.unwrap();
    let took = begun.elapsed();
    let calls: usize = (0..admins.len())
        .map(|number| trade.answered_by(number))
        .sum();
    println!(
        "{} purchases during {restarts} restarts and one upgrade, in {took:?}, where {rate} a second were \
        wanted: {calls} calls, {:.0} a second",
        purchases.len(),
        f64::from(u32::try_from(calls).unwrap()) / took.as_secs_f64()
    );
    let wanted = usize::try_from(u64::from(rate) * took.as_secs()).unwrap();
    assert!(
        purchases.len() * 100 >= wanted * least,
        "too few buyers to be refused"
    );
    agree_on_one_call_each(&trade.market, &purchases).await;
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

impl Trade {
    /// How many calls one gateway has answered.
    fn answered_by(&self, gateway: usize) -> usize {
        self.answered[gateway].load(Ordering::Relaxed)
    }

    /// Waits until the balancer sends calls to this gateway.
    async fn sees_ready(&self, gateway: usize) {
        until("the balancer sees it ready again", || async {
            self.gateways.is_ready(gateway).then_some(())
        })
        .await;
    }

    /// One call through whichever gateway's turn it is; a connection that breaks is a failure.
    async fn ask(&self, call: impl AsyncFnOnce(&Agent) -> anyhow::Result<Answer>) -> Answer {
        let gateway = self.gateways.turn();
        let answered = call(&self.buyers[gateway]).await;
        let answer =
            answered.unwrap_or_else(|error| panic!("broken at gateway {gateway}: {error:#}"));
        self.answered[gateway].fetch_add(1, Ordering::Relaxed);
        answer
    }

    /// One purchase in which every single answer is one: nothing refused, nothing broken.
    async fn served(&self) -> Purchase {
        let call = self.market.call();
        let quote = self.ask(async |buyer| buyer.call(&call, None).await).await;
        let quote = Quote::from_answer(&quote).unwrap();
        let id = quote.relay_request_id.as_str();
        self.market.door.sandbox.deposit(&[id]).await.unwrap();
        let listing = format!("/listings/{}", call.listing);
        let passed = self.ask(async |buyer| buyer.get(&listing).await).await;
        assert_eq!(passed.status, 200);
        let begun = Instant::now();
        let answer = loop {
            let answer = self.ask(async |buyer| buyer.call(&call, Some(id)).await);
            let answer = answer.await;
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
}

/// Buyers at a steady rate until told to stop; everybody who came is served.
async fn steady(trade: Arc<Trade>, per_second: u32) -> Vec<Purchase> {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_second);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut under_way = JoinSet::new();
    while !trade.stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let trade = Arc::clone(&trade);
        under_way.spawn(async move { trade.served().await });
    }
    under_way.join_all().await
}
