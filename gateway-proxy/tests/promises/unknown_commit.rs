//! An unknown commit is not a failure.

use std::net::SocketAddr;

use crochet_dev::Role;
use fault_proxy::{FaultProxy, Share};
use serde_json::json;

use super::trade::{agree_on_one_call_each, bought, each};
use crate::harness::{Between, Market, World, sized, trials};

trials!(an_unknown_commit_is_not_a_failure => few);

/// Replies lost, of a thousand.
const LOST: u32 = 100;
/// Purchases under way at once.
const AT_ONCE: usize = 16;

async fn an_unknown_commit_is_not_a_failure() {
    let purchases = sized(60, 2_000);
    let mut world = World::own("unknown_commit", |options| {
        options.set("LEASE_GRACE_SECONDS", "5").unwrap()
    })
    .await;
    let share = Share::default();
    let (database, url) = database_behind(&world, &share).await;
    world.stack.tell(Role::ControlPlane, "DATABASE_URL", &url);
    world.stack.restart(Role::ControlPlane).await.unwrap();
    let between = Between::start(&world.door.at.internal).await;
    world.stack.put_between(&between.url());
    for gateway in 0..2 {
        world.stack.restart(Role::Gateway(gateway)).await.unwrap();
    }
    let endpoint = json!({ "endpoint": { "timeout_ms": 1000, "max_concurrency": 1000 } });
    let market = Market::within(&world.door, endpoint).await;

    share.set(LOST);
    between.share().set(LOST);
    let calls = (0..purchases).map(|_| market.call());
    let bought = each(AT_ONCE, calls, |call| bought(&market, call)).await;
    share.set(0);
    between.share().set(0);

    println!(
        "{purchases} purchases: {} of {} replies of Postgres and {} of {} of the control plane were lost",
        share.lost(),
        share.lost() + share.passed(),
        between.share().lost(),
        between.share().lost() + between.share().passed(),
    );
    assert!(share.lost() > purchases / 4 && between.share().lost() > purchases / 8);
    agree_on_one_call_each(&market, &bought).await;
    // Whoever takes a lost reply for a failure leaves a claim behind that only time ends.
    let abandoned = "select count(*) from attempt where outcome = 'lease_expired'".to_owned();
    assert_eq!(world.door.number(abandoned).await, 0, "claims left behind");
    world.stack.untell(Role::ControlPlane);
    world.close().await;
    drop(database);
}

/// The stack's database behind something that loses replies, and its URL there.
async fn database_behind(world: &World, share: &Share) -> (FaultProxy, String) {
    let url = &world.door.at.database_url;
    let (_, rest) = url.split_once('@').expect("a password in the URL");
    let (authority, _) = rest.split_once('/').expect("a database in the URL");
    let upstream: SocketAddr = authority.parse().expect("an address in the URL");
    let proxy = FaultProxy::postgres(upstream, share.clone()).await.unwrap();
    let through = url.replace(authority, &proxy.address().to_string());
    (proxy, through)
}
