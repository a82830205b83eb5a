//! A Redis Cluster in Redis's place: records, counts and changes find their nodes, and a node that dies is no more than
//! a Redis that is away.

use crochet_dev::{RedisCluster, Store};
use crochet_redis::{Patience, Place};
use demo_agent::{Agent, Chain, Method};
use serde_json::json;

use crate::harness::{Door, Market, SOON, World, ok, trials, until};

trials!(
    a_cluster_of_redis_serves_as_one_server_does,
    a_pipeline_over_many_nodes_is_answered_in_its_order,
);

/// Calls a minute that a key may make here.
const QUOTA: usize = 200;
/// Most that two gateways may count of it (contract §2).
const QUOTA_MOST: usize = QUOTA + QUOTA / 10;

async fn a_cluster_of_redis_serves_as_one_server_does() {
    let directory = tempfile::tempdir().unwrap();
    let mut cluster = RedisCluster::start(directory.path()).await.unwrap();
    // The services start without it.
    for node in 0..3 {
        cluster.kill(node).unwrap();
    }
    let world = World::own("cluster", |options| {
        options
            .redis(Store::At(cluster.url()))
            .set("RATE_LIMIT_KEY_CALLS_PER_MINUTE", &QUOTA.to_string())
            .unwrap()
    })
    .await;
    let door = world.door.clone();
    let market = Market::within(&door, json!({})).await;
    purchase(&market).await;
    assert_eq!(shared(&door).await, 0, "Redis is away");
    cluster.start_again().await.unwrap();
    serving(&door).await;

    purchase(&market).await;
    one_quota(&market).await;
    every_node_has_its_part(&market, &cluster).await;
    a_revoked_key_is_refused_everywhere(&market).await;
    for admin in admins(&door) {
        let gets = "gateway_redis_requests_total{command=\"get\"";
        assert!(series(&admin, gets, "answered").await > 0);
    }
    for used in ["publish", "limits"] {
        let of = format!("crochet_redis_requests_total{{use=\"{used}\"");
        let answered = series(&door.at.control_plane_admin, &of, "answered").await;
        assert!(answered > 0, "{used}");
    }

    // Without a node's slots a cluster refuses everything, and calls go on without it.
    cluster.kill(2).unwrap();
    purchase(&market).await;
    until("gateways see that Redis is away", || async {
        (shared(&door).await == 0).then_some(())
    })
    .await;
    purchase(&market).await;
    cluster.start_again().await.unwrap();
    serving(&door).await;
    purchase(&market).await;
    world.close().await;
}

async fn a_pipeline_over_many_nodes_is_answered_in_its_order() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = RedisCluster::start(directory.path()).await.unwrap();
    let patience = Patience {
        connect: SOON,
        answer: SOON,
        retries: 1,
    };
    let place = Place::parse(&cluster.url()).unwrap();
    let mut connection = place.connection(patience).unwrap();
    let mut pipe = redis::pipe();
    for number in 0..100_u32 {
        let script =
            "redis.call('SET', KEYS[1], ARGV[1]) return tonumber(redis.call('GET', KEYS[1]))";
        let name = format!("key-{number}");
        pipe.cmd("EVAL").arg(script).arg(1).arg(name).arg(number);
    }
    let answers: Vec<u32> = pipe.query_async(&mut connection).await.unwrap();
    assert_eq!(answers, (0..100).collect::<Vec<_>>());
    for node in 0..3 {
        assert_ne!(cluster.ask(node, "DBSIZE").await.unwrap(), ":0\r\n+OK\r\n");
    }
}

async fn purchase(market: &Market) {
    let (quote, answer) = market.buy(&market.call()).await;
    ok(&answer);
    market.assert_settled(&quote, 1).await;
}

/// Both gateways count through it, and hear of changes.
async fn serving(door: &Door) {
    until("every gateway counts and hears through Redis", || async {
        let mut hearing = 0;
        for admin in admins(door) {
            hearing += series(&admin, "gateway_changes_connected", "").await;
        }
        (shared(door).await == 2 && hearing == 2).then_some(())
    })
    .await;
}

/// How many gateways count through it.
async fn shared(door: &Door) -> u64 {
    let mut shared = 0;
    for admin in admins(door) {
        shared += series(&admin, "gateway_limits_shared", "").await;
    }
    shared
}

/// Calls of one key through two gateways fill one window.
async fn one_quota(market: &Market) {
    let (agent, _) = market.second_key().await;
    let mut allowed = 0;
    for number in 0..2 * QUOTA {
        let through = agent.through(&market.door.apis[number % 2]);
        let asked = through.send(Method::POST, "/gateway/nobody", &[], Some("{}".into()));
        allowed += usize::from(asked.await.unwrap().status == 404);
    }
    println!("{allowed} of a quota of {QUOTA} through two gateways and a cluster");
    assert!(
        (QUOTA..=QUOTA_MOST).contains(&allowed),
        "{allowed} of {QUOTA}"
    );
}

/// Keys of more callers than there are nodes are spread over all of them.
async fn every_node_has_its_part(market: &Market, cluster: &RedisCluster) {
    for number in 0..12 {
        let agent = Agent::fresh(&market.door.apis[number % 2], Chain::Evm, "C").await;
        let asked = agent.unwrap();
        let asked = asked.send(Method::POST, "/gateway/nobody", &[], Some("{}".into()));
        assert_eq!(asked.await.unwrap().status, 404);
    }
    for node in 0..3 {
        let size = cluster.ask(node, "DBSIZE").await.unwrap();
        assert!(!size.starts_with(":0"), "node {node} has nothing");
    }
}

async fn a_revoked_key_is_refused_everywhere(market: &Market) {
    let (agent, key) = market.second_key().await;
    let path = format!("/gateway/{}", market.listing.id);
    let all_say = async |status: u16| {
        for api in &market.door.apis {
            let (agent, path) = (&agent.through(api), path.as_str());
            until("every gateway has heard of it", || async move {
                let asked = agent.send(Method::POST, path, &[], Some("{}".into()));
                (asked.await.unwrap().status == status).then_some(())
            })
            .await;
        }
    };
    all_say(402).await;
    let path = format!("/api-keys/{key}");
    let revoked = market.buyer.send(Method::DELETE, &path, &[], None).await;
    assert_eq!(revoked.unwrap().status, 200);
    all_say(401).await;
}

fn admins(door: &Door) -> Vec<String> {
    let gateways = door.at.gateways.iter();
    gateways.map(|gateway| gateway.admin.clone()).collect()
}

/// The sum of the series that begin so and have this result.
async fn series(admin: &str, begin: &str, result: &str) -> u64 {
    let page = reqwest::get(format!("{admin}/metrics")).await.unwrap();
    let page = page.text().await.unwrap();
    let wanted = page
        .lines()
        .filter(|line| line.starts_with(begin) && line.contains(result));
    let value = |line: &str| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
    wanted.map(value).sum()
}
