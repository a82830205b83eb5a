//! No acknowledged loss.

use std::os::unix::process::ExitStatusExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crochet_dev::{Role, Store};
use crochet_shared::fault::Point;
use demo_agent::random_bytes;
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;

use super::trade::{Purchase, agree, bought, each, everywhere, redeemed};
use crate::harness::{Market, Reply, World, sized, trials};

trials!(no_call_that_was_answered_is_lost_whoever_is_killed_at_whatever_moment => few);

/// Whoever may be killed at random.
const KILLED: [Role; 5] = [
    Role::Gateway(0),
    Role::Gateway(1),
    Role::ControlPlane,
    Role::Postgres,
    Role::Redis,
];
/// Purchases under way at most: what a machine of two cores has time for while half of it is down.
const UNDER_WAY_MAX: usize = 100;
/// The longest a process may live that is to die at a point every call passes.
const DIES_WITHIN: Duration = Duration::from_mins(1);
/// Delivered answers that are asked for once more at the end.
const REPLAYS: usize = 50;

/// Rows beside those delivered. The question of a gateway that was killed may stay with the control plane until its purchase
/// has been made through the other one and delivered: it is a call like a new one then. Nobody hears of its quote.
const QUOTED_TWICE: &str = "select count(*) from gateway_request r
    where r.state <> 'delivered' and not (r.state = 'quoted' and exists (
        select from gateway_request d
        where d.state = 'delivered' and d.delivered_at <= r.created_at
            and (d.buyer_id, d.listing_id, d.body_sha256) = (r.buyer_id, r.listing_id, r.body_sha256)))";

async fn no_call_that_was_answered_is_lost_whoever_is_killed_at_whatever_moment() {
    let (random, pointed) = (sized(1, 100), sized(1, 20));
    let rate = u32::try_from(sized(10, 20)).unwrap();
    // Killing Postgres takes one of the stack's own.
    let mut world = World::own("acknowledged", |options| options.postgres(Store::Private)).await;
    let endpoint = json!({ "endpoint": { "timeout_ms": 1000, "max_concurrency": 1000 } });
    let market = Arc::new(Market::within(&world.door, endpoint).await);
    let busy = Reply::json("1").after(Duration::from_millis(10));
    market.service.usually(busy);

    let begun = Instant::now();
    let trade = Trade::begin(&market, rate);
    let at_random = kill_at_random(&mut world, random).await;
    let mut at_points = 0;
    for role in [Role::ControlPlane, Role::Gateway(1)] {
        at_points += kill_at_each_point(&mut world, role, pointed).await;
    }
    let purchases = trade.end().await;
    println!(
        "{} purchases, {at_random} kills at random, {at_points} at points, in {:?}",
        purchases.len(),
        begun.elapsed()
    );

    let calls = agree(&market, &purchases).await;
    let more = calls.values().filter(|&&calls| calls > 1).count();
    println!("{more} of them needed more than one attempt");
    let delivered = "select count(*) from gateway_request where state = 'delivered'";
    assert_eq!(
        usize::try_from(world.door.number(delivered.to_owned()).await),
        Ok(purchases.len()),
        "none is stuck"
    );
    let more = world.door.number(QUOTED_TWICE.to_owned()).await;
    assert_eq!(more, 0, "no purchase was quoted twice");
    let buyers = everywhere(&market);
    let some = purchases.iter().rev().take(REPLAYS);
    each(4, some, |purchase| async {
        let again = redeemed(&buyers, &purchase.call, &purchase.quote).await;
        assert_eq!(again.body, purchase.answer.body, "the same bytes again");
    })
    .await;
    world.close().await;
}

/// Buyers who come at a steady rate, whatever becomes of those before them.
struct Trade {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Vec<Purchase>>,
}

impl Trade {
    fn begin(market: &Arc<Market>, per_second: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, market) = (Arc::clone(&stop), Arc::clone(market));
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_second);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut under_way = JoinSet::new();
            let mut done = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                ticks.tick().await;
                while let Some(ended) = under_way.try_join_next() {
                    done.push(ended.unwrap());
                }
                if under_way.len() < UNDER_WAY_MAX {
                    let market = Arc::clone(&market);
                    under_way.spawn(async move { bought(&market, market.call()).await });
                }
            }
            done.extend(under_way.join_all().await);
            done
        });
        Self { stop, task }
    }

    /// Everybody who came is served before this returns.
    async fn end(self) -> Vec<Purchase> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

/// Kills each of [`KILLED`] so many times, in any order; gives back how many that were.
async fn kill_at_random(world: &mut World, times: usize) -> usize {
    let mut order: Vec<Role> = KILLED
        .iter()
        .copied()
        .cycle()
        .take(KILLED.len() * times)
        .collect();
    for last in (1..order.len()).rev() {
        let drawn = usize::from(u16::from_le_bytes(random_bytes().unwrap()));
        order.swap(last, drawn % (last + 1));
    }
    for &role in &order {
        // At any moment of whatever it does.
        let moment = u64::from(u16::from_le_bytes(random_bytes().unwrap())) % 400;
        tokio::time::sleep(Duration::from_millis(moment)).await;
        world.stack.kill(role).unwrap();
        world.stack.start_again(role).await.unwrap();
    }
    order.len()
}

/// Lets one process die at each named point, so many times over; gives back how often it died.
async fn kill_at_each_point(world: &mut World, role: Role, times: usize) -> usize {
    let mut deaths = 0;
    world.stack.kill(role).unwrap();
    for _ in 0..times {
        for point in Point::ALL {
            // Not the first that comes by: by then calls are at every other point.
            let told = format!("{}=4*off->return", point.name());
            world.stack.tell(role, "FAILPOINTS", &told);
            world.stack.start_again_unready(role).await.unwrap();
            dies(world, role, point).await;
            deaths += 1;
        }
    }
    world.stack.untell(role);
    world.stack.start_again(role).await.unwrap();
    deaths
}

async fn dies(world: &mut World, role: Role, point: Point) {
    let begun = Instant::now();
    loop {
        if let Some(exited) = world.stack.crashed() {
            assert_eq!(
                (exited.name.as_str(), exited.status.signal()),
                (role.to_string().as_str(), Some(Signal::SIGABRT as i32)),
                "{exited}"
            );
            return;
        }
        assert!(
            begun.elapsed() < DIES_WITHIN,
            "{role} still lives, and was to die at {point:?}"
        );
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
}
