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
/// The longest lease that a death may leave behind: the endpoint's timeout, the thirty seconds that a gateway
/// has besides, and the grace.
const LEASE: Duration = Duration::from_secs(1 + 30 + 1);
/// The longest anything may be stuck once its lease is over.
const STUCK_MAX: Duration = Duration::from_mins(2);
/// For how many seconds, rounded up, a claim stood at most after its lease, in all of the run. There are such
/// claims: a gateway died directly after it had made one.
const STUCK_FOR: &str =
    "select coalesce(ceil(extract(epoch from max(ended_at - lease_until))), -1)::int8
    from attempt where outcome = 'lease_expired'";

/// Rows beside those delivered. The question of a gateway that was killed may stay with the control plane until its purchase
/// has been made through the other one and delivered: it is a call like a new one then. Nobody hears of its quote.
const QUOTED_TWICE: &str = "select count(*) from gateway_request r
    where r.state <> 'delivered' and not (r.state = 'quoted' and exists (
        select from gateway_request d
        where d.state = 'delivered' and d.delivered_at <= r.created_at
            and (d.buyer_id, d.listing_id, d.body_sha256) = (r.buyer_id, r.listing_id, r.body_sha256)))";

async fn no_call_that_was_answered_is_lost_whoever_is_killed_at_whatever_moment() {
    let (random, pointed) = (sized(1, 100), sized(1, 20));
    let replays = sized(50, 400);
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
    let mut at_points = Vec::new();
    for role in [Role::ControlPlane, Role::Gateway(1)] {
        at_points.extend(kill_at_each_point(&mut world, role, pointed).await);
    }
    let purchases = trade.end().await;
    let after_death = at_points.last().unwrap().elapsed();
    let stuck_for = world.door.number(STUCK_FOR.to_owned()).await;
    println!(
        "{} purchases, {at_random} kills at random, {} at points, in {:?}; everybody was served {after_death:?} \
        after the last death, and no claim stood longer than {stuck_for} s after its lease",
        purchases.len(),
        at_points.len(),
        begun.elapsed()
    );
    assert!(
        after_death <= LEASE + STUCK_MAX,
        "somebody was stuck for {after_death:?} after the last death"
    );
    let allowed = 0..=i64::try_from(STUCK_MAX.as_secs()).unwrap();
    assert!(
        allowed.contains(&stuck_for),
        "a claim stood for {stuck_for} s after its lease"
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
    let some = in_any_order(purchases.iter()).into_iter().take(replays);
    each(4, some, |purchase| async {
        let again = redeemed(&buyers, &purchase.call, &purchase.quote).await;
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
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

fn in_any_order<T>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut items: Vec<T> = items.collect();
    for last in (1..items.len()).rev() {
        let drawn = usize::from(u16::from_le_bytes(random_bytes().unwrap()));
        items.swap(last, drawn % (last + 1));
    }
    items
}

/// Kills each of [`KILLED`] so many times, in any order; gives back how many that were.
async fn kill_at_random(world: &mut World, times: usize) -> usize {
    let all = KILLED.iter().copied().cycle().take(KILLED.len() * times);
    let order = in_any_order(all);
    for &role in &order {
        // At any moment of whatever it does.
        let moment = u64::from(u16::from_le_bytes(random_bytes().unwrap())) % 400;
        tokio::time::sleep(Duration::from_millis(moment)).await;
        world.stack.kill(role).unwrap();
        world.stack.start_again(role).await.unwrap();
    }
    order.len()
}

/// Lets one process die at each named point, so many times over; gives back when it died each time.
async fn kill_at_each_point(world: &mut World, role: Role, times: usize) -> Vec<Instant> {
    let mut deaths = Vec::new();
    world.stack.kill(role).unwrap();
    for _ in 0..times {
        for point in Point::ALL {
            // Not the first that comes by: by then calls are at every other point.
            let told = format!("{}=4*off->return", point.name());
            world.stack.tell(role, "FAILPOINTS", &told);
            world.stack.start_again_unready(role).await.unwrap();
            deaths.push(dies(world, role, point).await);
        }
    }
    world.stack.untell(role);
    world.stack.start_again(role).await.unwrap();
    deaths
}

/// Waits until it has died there, and gives back when.
async fn dies(world: &mut World, role: Role, point: Point) -> Instant {
    let begun = Instant::now();
    loop {
        if let Some(exited) = world.stack.crashed() {
            assert_eq!(
                (exited.name.as_str(), exited.status.signal()),
                (role.to_string().as_str(), Some(Signal::SIGABRT as i32)),
                "{exited}"
            );
            return Instant::now();
        }
        assert!(
            begun.elapsed() < DIES_WITHIN,
            "{role} still lives, and was to die at {point:?}"
        );
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
}
