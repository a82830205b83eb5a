//! A poisoned Redis: whoever writes to it may put every record under every name, bring old ones
//! back, and fill it with rubbish. Nobody becomes anybody else, no price and no address changes,
//! what was revoked stays so; it is slower and not wrong.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crochet_dev::Role;
use crochet_shared::{api_key, redis_key};
use demo_agent::{Agent, Api, Chain, Method};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::harness::{Door, Market, Service, World, ok, refused, sized, trials, until};

trials!(whoever_writes_to_redis_becomes_nobody_and_changes_no_price_and_no_address => few);

/// Between two rounds of the poisoner.
const POISON_EVERY: Duration = Duration::from_millis(20);
/// Longer than a gateway believes what it knows itself: after this it must ask somebody.
const BELIEF: Duration = Duration::from_secs(6);
/// How many beliefs long what changed is watched. In the full form longer than a record in Redis may be old: then
/// Redis is asked about the name again.
fn watched() -> Duration {
    BELIEF * sized(1, 15)
}
/// How many of its own records come back under a name, by turns: the newest, the one before, the third before that,
/// and so on twice as far each time, to the oldest. Those from just before a change are among them, and long after it
/// still, when many have come since.
const STEPS_BACK: usize = 10;

/// Names of quotes that are remembered: the newest. Each purchase has a new one, and all of them would make a
/// round longer and longer.
const QUOTES_MAX: usize = 64;

type Values = BTreeMap<Vec<u8>, Vec<u8>>;
/// A name, and every record that was ever its own, oldest first.
type Recorded<'a> = (&'a Vec<u8>, &'a Vec<Vec<u8>>);
/// What a poisoner remembers.
#[derive(Default)]
struct Seen {
    /// Every record by the name it was first seen under, its own, oldest first.
    values: BTreeMap<Vec<u8>, Vec<Vec<u8>>>,
    /// All of them.
    all: HashSet<Vec<u8>>,
    /// Names of quotes, oldest first.
    quotes: VecDeque<Vec<u8>>,
}

/// Somebody with a connection to Redis.
#[derive(Clone)]
struct Writer(redis::aio::MultiplexedConnection);

impl Writer {
    async fn connect(door: &Door) -> Self {
        let client = redis::Client::open(door.at.redis_url.as_str()).unwrap();
        Self(client.get_multiplexed_async_connection().await.unwrap())
    }

    /// Every record: keys, routes, slugs, quotes.
    async fn read(&mut self) -> Values {
        let mut values = Values::new();
        for kind in ["key", "route", "slug", "quote"] {
            let names: Vec<Vec<u8>> = redis::cmd("KEYS")
                .arg(format!("crochet:{kind}:*"))
                .query_async(&mut self.0)
                .await
                .unwrap();
            for name in names {
                let value: Result<Option<Vec<u8>>, _> =
                    redis::cmd("GET").arg(&name).query_async(&mut self.0).await;
                if let Ok(Some(value)) = value {
                    values.insert(name, value);
                }
            }
        }
        values
    }

    async fn write(&mut self, values: &Values) {
        let mut commands = redis::pipe();
        for (name, value) in values {
            commands.cmd("SET").arg(name).arg(value).ignore();
        }
        let written: Result<(), _> = commands.query_async(&mut self.0).await;
        written.unwrap();
    }

    async fn delete(&mut self, names: &[Vec<u8>]) {
        if names.is_empty() {
            return;
        }
        let mut commands = redis::pipe();
        for name in names {
            commands.cmd("DEL").arg(name).ignore();
        }
        let deleted: Result<(), _> = commands.query_async(&mut self.0).await;
        deleted.unwrap();
    }

    /// What no record is, under every name; also of another type, and told as changes.
    async fn litter(&mut self, names: &[Vec<u8>], round: usize) {
        let rubbish: [&[u8]; 6] = [
            b"",
            b"\0",
            b"{\"profile_id\":\"me\",\"price\":0}",
            &[0xff; 64],
            &[0x7f; 9],
            &b"x".repeat(64 * 1024),
        ];
        let mut commands = redis::pipe();
        for (number, name) in names.iter().enumerate() {
            commands.cmd("DEL").arg(name).ignore();
            match (number + round) % 8 {
                6 => commands.cmd("RPUSH").arg(name).arg("a").ignore(),
                7 => commands.cmd("HSET").arg(name).arg("a").arg("b").ignore(),
                at => commands.cmd("SET").arg(name).arg(rubbish[at]).ignore(),
            };
        }
        for message in rubbish {
            commands
                .cmd("PUBLISH")
                .arg("crochet:changes")
                .arg(message)
                .ignore();
        }
        let littered: Result<(), _> = commands.query_async(&mut self.0).await;
        littered.unwrap();
    }
}

/// Puts every record it has ever seen under every name of its kind, for as long as it lives.
struct Poisoner {
    seen: Arc<Mutex<Seen>>,
    rounds: Arc<std::sync::atomic::AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Poisoner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Poisoner {
    async fn start(door: &Door) -> Self {
        let mut writer = Writer::connect(door).await;
        let seen = Arc::<Mutex<Seen>>::default();
        let rounds = Arc::<std::sync::atomic::AtomicUsize>::default();
        let (kept, counted) = (Arc::clone(&seen), Arc::clone(&rounds));
        let task = tokio::spawn(async move {
            for round in 0.. {
                let values = writer.read().await;
                let forgotten = remember(&mut kept.lock(), values);
                writer.delete(&forgotten).await;
                let poisoned = exchanged(&kept.lock(), round);
                writer.write(&poisoned).await;
                if round % 3 == 2 {
                    let names: Vec<Vec<u8>> = poisoned.into_keys().collect();
                    writer.litter(&names, round / 3).await;
                }
                counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                tokio::time::sleep(POISON_EVERY).await;
            }
        });
        Self { seen, rounds, task }
    }
}

/// Gives back the names that are forgotten for it.
fn remember(seen: &mut Seen, values: Values) -> Vec<Vec<u8>> {
    for (name, value) in values {
        if kind(&name) == b"quote" && !seen.values.contains_key(&name) {
            seen.quotes.push_back(name.clone());
        }
        let held = seen.values.entry(name).or_default();
        // Rubbish of our own is short or long; a record is neither.
        if (80..32 * 1024).contains(&value.len()) && seen.all.insert(value.clone()) {
            held.push(value);
        }
    }
    let too_many = seen.quotes.len().saturating_sub(QUOTES_MAX);
    let forgotten: Vec<Vec<u8>> = seen.quotes.drain(..too_many).collect();
    for name in &forgotten {
        seen.values.remove(name);
    }
    forgotten
}

/// What a name is of.
fn kind(name: &[u8]) -> &[u8] {
    name.split(|&byte| byte == b':').nth(1).unwrap_or_default()
}

/// Each name with a record of another name of its kind, or with an older one of its own.
fn exchanged(seen: &Seen, round: usize) -> Values {
    let mut kinds: BTreeMap<&[u8], Vec<Recorded<'_>>> = BTreeMap::new();
    let recorded = seen.values.iter().filter(|(_, held)| !held.is_empty());
    for (name, held) in recorded {
        kinds.entry(kind(name)).or_default().push((name, held));
    }
    let mut out = Values::new();
    for alike in kinds.values() {
        for (number, (name, held)) in alike.iter().enumerate() {
            let value = if round.is_multiple_of(2) && alike.len() > 1 {
                // Whichever is so far away from it in this round; never itself.
                let away = 1 + round / 2 % (alike.len() - 1);
                let (_, others) = alike[(number + away) % alike.len()];
                &others[(number + round / 2) % others.len()]
            } else {
                let back = (1 << (round / 2 % STEPS_BACK)) - 1;
                &held[(held.len() - 1).saturating_sub(back)]
            };
            out.insert((*name).clone(), value.clone());
        }
    }
    out
}

async fn whoever_writes_to_redis_becomes_nobody_and_changes_no_price_and_no_address() {
    let mut world = World::own("poisoned", |options| options).await;
    let door = world.door.clone();
    let one = Market::within(&door, json!({ "pricing_amount": "1" })).await;
    let two = Market::within(&door, json!({ "pricing_amount": "7" })).await;
    let to_revoke = a_key_to_revoke(&one).await;
    for round in 0..sized(2, 10) {
        for market in [&one, &two] {
            everything_is_hers(market, round).await;
        }
    }
    let poisoner = Poisoner::start(&door).await;
    for round in 0..sized(6, 150) {
        for market in [&one, &two] {
            everything_is_hers(market, round).await;
        }
        nobody_becomes_the_seller(&one, &two).await;
    }
    what_changed_stays_changed(&one, &two).await;
    stays_revoked(&door, &one, &to_revoke).await;

    a_new_gateway_believes_nothing_old(&mut world, [&one, &two], &poisoner).await;
    for market in [&one, &two] {
        everything_is_hers(market, 1).await;
    }
    nobody_becomes_the_seller(&one, &two).await;
    let rounds = poisoner.rounds.load(std::sync::atomic::Ordering::Relaxed);
    let names = poisoner.seen.lock().values.len();
    println!("{rounds} rounds of poison over {names} names");
    assert!(
        rounds > 20 && names > 8,
        "{rounds} rounds over {names} names"
    );
    drop(poisoner);
    world.close().await;
}

/// A purchase through either gateway, and who it is: her listing, her price, her seller's door.
async fn everything_is_hers(market: &Market, round: usize) {
    let api = &market.door.apis[round % market.door.apis.len()];
    let buyer = market.buyer.through(api);
    let call = if round.is_multiple_of(3) {
        // By its slug, which Redis leads on to the listing.
        demo_agent::PaidCall::new(
            &market.listing.slug,
            &json!({ "n": demo_agent::random_hex::<8>().unwrap() }),
        )
    } else {
        market.call()
    };
    let quote = buyer.quote(&call).await.unwrap();
    let again = buyer.quote(&call).await.unwrap();
    for quote in [&quote, &again] {
        assert_eq!(
            quote.payment["amount"]["amount_micros"], market.gross,
            "the price of {}",
            market.listing.slug
        );
    }
    assert_eq!(
        again.relay_request_id, quote.relay_request_id,
        "the same quote"
    );
    let row = buyer.gateway_request(&quote.request_id).await.unwrap();
    assert_eq!(
        (&row["buyer_id"], &row["listing_id"], &row["seller_id"]),
        (
            &json!(market.buyer.id),
            &json!(market.listing.id),
            &json!(market.seller.id)
        ),
        "{row}"
    );
    let paid = &quote.relay_request_id;
    market.door.sandbox.deposit(&[paid]).await.unwrap();
    market.reaches(&quote, "paid").await;
    ok(&market.redeem_as(&buyer, &call, &quote).await);
    let arrival = market.service.called_for(&quote.request_id).await;
    assert_eq!(arrival.header("x-crochet-buyer-id"), market.buyer.id);
    assert_eq!(arrival.header("x-crochet-listing-id"), market.listing.id);
    market.assert_settled(&quote, 1).await;
}

/// A seller cannot buy what is hers, and can buy the other's: by that a gateway tells who calls.
async fn nobody_becomes_the_seller(one: &Market, two: &Market) {
    for (mine, other) in [(one, two), (two, one)] {
        for api in &mine.door.apis {
            let seller = mine.seller.through(api);
            let own = seller.call(&mine.call(), None).await.unwrap();
            refused(&own, 403, "CANNOT_BUY_OWN_LISTING");
            let call = other.call().in_currency("USDC");
            let answer = seller.call(&call, None).await.unwrap();
            refused(&answer, 402, "PAYMENT_REQUIRED");
            let id = answer.at("/data/payment/request_id");
            let row = mine.seller.gateway_request(id.as_str().unwrap()).await;
            assert_eq!(row.unwrap()["buyer_id"], mine.seller.id.as_str());
        }
    }
}

/// A new price and a new address hold, although the old records come back again and again.
async fn what_changed_stays_changed(one: &Market, two: &Market) {
    one.patch(json!({ "pricing_amount": "3" })).await;
    let new_place = Service::start().await;
    two.put_endpoint(json!({ "private_endpoint_url": new_place.url() }))
        .await;
    // Both gateways have heard of it, at the latest when they no longer believe what they knew.
    for api in &one.door.apis {
        until("the new price is asked", || async {
            let asked = one.buyer.through(api).quote(&one.call()).await.unwrap();
            (asked.payment["amount"]["amount_micros"] == 3_000_000).then_some(())
        })
        .await;
        is_called(two, api, &new_place).await;
    }
    let (old_calls, begun) = (two.service.total(), std::time::Instant::now());
    let mut calls = 0;
    while begun.elapsed() < watched() {
        for api in &one.door.apis {
            let asked = one.buyer.through(api).quote(&one.call()).await.unwrap();
            assert_eq!(
                asked.payment["amount"]["amount_micros"], 3_000_000,
                "an old price came back"
            );
            let call = two.call();
            let quote = two.paid(&call).await;
            ok(&two.redeem_as(&two.buyer.through(api), &call, &quote).await);
            assert_eq!(
                (new_place.count(&quote.request_id), two.service.total()),
                (1, old_calls),
                "an old address came back"
            );
            calls += 1;
        }
    }
    println!(
        "{calls} calls at the new price and the new address in {:?}",
        begun.elapsed()
    );
    // As it was, for whoever looks next.
    two.put_endpoint(json!({ "private_endpoint_url": two.service.url() }))
        .await;
    one.patch(json!({ "pricing_amount": "1" })).await;
    for api in &one.door.apis {
        until("the usual price is asked", || async {
            let asked = one.buyer.through(api).quote(&one.call()).await.unwrap();
            (asked.payment["amount"]["amount_micros"] == one.gross).then_some(())
        })
        .await;
        is_called(two, api, &two.service).await;
    }
}

/// Waits until a gateway calls the listing's seller at this place.
async fn is_called(market: &Market, api: &Api, place: &Service) {
    until("the place is called", || async {
        let call = market.call();
        let quote = market.paid(&call).await;
        ok(&market
            .redeem_as(&market.buyer.through(api), &call, &quote)
            .await);
        (place.count(&quote.request_id) == 1).then_some(())
    })
    .await;
}

/// A gateway that knows nothing has only Redis to believe, or somebody to ask. Of what changed while it was away
/// nobody told it, and the records from before are young and rightly sealed.
async fn a_new_gateway_believes_nothing_old(
    world: &mut World,
    [one, two]: [&Market; 2],
    poisoner: &Poisoner,
) {
    let (agent, id) = a_key_to_revoke(one).await;
    let name = redis_key::key(&api_key::parse(&agent.key).unwrap()).into_bytes();
    until("the poisoner has seen the key", || async {
        let seen = poisoner.seen.lock();
        let held = seen.values.get(&name)?;
        (!held.is_empty()).then_some(())
    })
    .await;
    let new_place = Service::start().await;
    two.put_endpoint(json!({ "private_endpoint_url": new_place.url() }))
        .await;
    revoke(one, &id).await;
    world.stack.restart(Role::Gateway(1)).await.unwrap();
    let (old_calls, begun) = (two.service.total(), std::time::Instant::now());
    let api = &world.door.apis[1];
    while begun.elapsed() < watched() {
        assert!(
            is_refused(one, &agent.through(api)).await,
            "a revoked key was good {:?} after a start",
            begun.elapsed()
        );
        let call = two.call();
        let quote = two.paid(&call).await;
        ok(&two.redeem_as(&two.buyer.through(api), &call, &quote).await);
        assert_eq!(
            (new_place.count(&quote.request_id), two.service.total()),
            (1, old_calls),
            "an old address was called {:?} after a start",
            begun.elapsed()
        );
    }
    two.put_endpoint(json!({ "private_endpoint_url": two.service.url() }))
        .await;
    for api in &world.door.apis {
        is_called(two, api, &two.service).await;
    }
}

/// A key of the first buyer that gateways know, with its id.
async fn a_key_to_revoke(market: &Market) -> (Agent, String) {
    let (agent, id) = market.second_key().await;
    for api in &market.door.apis {
        let answer = agent.through(api).call(&market.call(), None).await.unwrap();
        refused(&answer, 402, "PAYMENT_REQUIRED");
    }
    (agent, id)
}

async fn revoke(market: &Market, id: &str) {
    let path = format!("/api-keys/{id}");
    let answer = market.buyer.send(Method::DELETE, &path, &[], None).await;
    answer.unwrap().data(200).unwrap();
}

async fn is_refused(market: &Market, agent: &Agent) -> bool {
    let answer = agent.call(&market.call(), None).await.unwrap();
    answer.status == 401
}

/// Its old record comes back for as long as it could be believed, and is not.
async fn stays_revoked(door: &Door, market: &Market, (agent, id): &(Agent, String)) {
    // As it stands in Redis while it is good.
    for api in &door.apis {
        let answer = agent.through(api).call(&market.call(), None).await.unwrap();
        refused(&answer, 402, "PAYMENT_REQUIRED");
    }
    revoke(market, id).await;
    for api in &door.apis {
        until("the revoked key is refused", || async {
            is_refused(market, &agent.through(api)).await.then_some(())
        })
        .await;
    }
    let begun = std::time::Instant::now();
    while begun.elapsed() < watched() {
        for api in &door.apis {
            assert!(
                is_refused(market, &agent.through(api)).await,
                "a revoked key was good again {:?} after it was refused",
                begun.elapsed()
            );
        }
        tokio::time::sleep(POISON_EVERY).await;
    }
    let other = Agent::fresh(&door.apis[0], Chain::Solana, "Otto Other")
        .await
        .unwrap();
    let answer: Value = other.get("/me").await.unwrap().data(200).unwrap();
    assert_eq!(answer["profile"]["id"], other.id.as_str());
}
