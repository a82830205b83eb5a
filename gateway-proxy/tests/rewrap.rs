//! To a new master key while calls are paid for and answers are read again, and then without the old one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crochet_dev::Role;
use demo_agent::{Answer, PaidCall, Quote, random_bytes};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::harness::{Market, World, ok, sized, text, trials, until};
use crate::sellers_view::{secret, verifies};

trials!(every_secret_is_wrapped_anew_while_calls_are_paid_for_and_the_old_key_is_taken_away => few);

/// The setting that names the master keys, the one that seals first.
const MASTER_KEYS: &str = "CROCHET_MASTER_KEYS";
/// Length of a master key, in bytes.
const KEY_BYTES: usize = 32;
/// Buyers at once.
const BUYERS: usize = 4;
/// Times that everything is wrapped anew, at least.
const ROUNDS: usize = 4;

/// A purchase and the answer that was given first.
struct Bought {
    call: PaidCall,
    quote: Quote,
    answer: Answer,
}

/// The one that is called, and both of the secrets that sign its calls.
struct Shop {
    market: Market,
    secrets: [String; 2],
}

async fn every_secret_is_wrapped_anew_while_calls_are_paid_for_and_the_old_key_is_taken_away() {
    let listings = sized(8, 100);
    let mut world = World::own("rewrap", |options| options).await;
    let old = world.stack.control_plane_environment()[MASTER_KEYS].clone();
    let fresh = random_bytes::<KEY_BYTES>().unwrap();
    let new = format!("new1:{}", STANDARD.encode(fresh));
    let shop = Arc::new(open_shop(&world).await);
    for _ in 0..listings {
        shop.market.publish(json!({})).await;
    }
    let mut known = Vec::new();
    for _ in 0..BUYERS {
        known.push(bought(&shop, 0).await);
    }
    // Every server has both keys from here on, and seals under the new one.
    let both = [format!("{new},{old}"), format!("{old},{new}")];
    world.stack.set(MASTER_KEYS, &both[0]).unwrap();
    restart(&mut world, &shop, &[Role::ControlPlane]).await;

    let ended = Arc::<AtomicBool>::default();
    let done = Arc::<AtomicUsize>::default();
    let trading: Vec<JoinHandle<Vec<Bought>>> = (0..)
        .zip(known)
        .map(|(turn, first)| {
            let (shop, ended, done) = (Arc::clone(&shop), Arc::clone(&ended), Arc::clone(&done));
            tokio::spawn(async move { trade(&shop, turn, first, &ended, &done).await })
        })
        .collect();
    let rounds = wrap_to_and_fro(&mut world, &both, listings, &done, &trading).await;
    ended.store(true, Ordering::Relaxed);
    let mut traded = Vec::new();
    for buyer in trading {
        traded.push(buyer.await.unwrap());
    }
    // The owner's last change came before the last purchase of the first of them.
    let last = auth_value(traded[0].len() - 1);
    let mut purchases: Vec<Bought> = traded.into_iter().flatten().collect();
    println!(
        "{} purchases, each with a replay, while {listings} endpoints and more were wrapped anew {rounds} times",
        purchases.len()
    );

    // The old key is gone, and nobody remembers what it opened.
    world.stack.set(MASTER_KEYS, &new).unwrap();
    world.door.flush().await;
    let all = [Role::ControlPlane, Role::Gateway(0), Role::Gateway(1)];
    restart(&mut world, &shop, &all).await;
    let (told, exit) = rewrap(&world).await;
    assert_eq!((exit, &told["changed"]), (0, &json!(false)), "{told}");
    nothing_is_left(&told);
    for gateway in 0..shop.market.door.apis.len() {
        let purchase = bought(&shop, gateway).await;
        let arrival = shop.market.service.called_for(&purchase.quote.request_id);
        assert_eq!(
            arrival.await.header("x-seller-auth"),
            last,
            "no change of hers is lost"
        );
        purchases.push(purchase);
    }
    for (number, purchase) in purchases.iter().enumerate() {
        assert_same_again(&shop, number, purchase).await;
    }
    let counts = shop.market.service.counts();
    for purchase in &purchases {
        assert_eq!(counts[&purchase.quote.request_id], 1, "called once");
    }
    drop(shop);
    world.close().await;
}

/// The value of the endpoint's auth header after so many changes.
fn auth_value(changes: usize) -> String {
    format!("hush {changes}")
}

/// Restarts them in this order, and waits until each gateway quotes again.
async fn restart(world: &mut World, shop: &Shop, roles: &[Role]) {
    for &role in roles {
        world.stack.restart(role).await.unwrap();
    }
    let market = &shop.market;
    for api in &market.door.apis {
        until("it quotes again", || async {
            let buyer = market.buyer.through(api);
            buyer.quote(&market.call()).await.ok()
        })
        .await;
    }
}

/// A listing with an auth header and a replaced secret, both of which both gateways know.
async fn open_shop(world: &World) -> Shop {
    let auth_header = json!({ "name": "X-Seller-Auth", "value": auth_value(0) });
    let endpoint = json!({ "endpoint": { "auth_header": auth_header } });
    let market = Market::within(&world.door, endpoint).await;
    let path = format!("/listings/{}/endpoint/rotate-secret", market.listing.id);
    let rotated = market.seller.post(&path, &json!({})).await.unwrap();
    let rotated = rotated.data(200).unwrap();
    let secrets = [
        secret(&market).to_owned(),
        text(&rotated["signing_secret"]).to_owned(),
    ];
    for api in &market.door.apis {
        until("the new secret signs", || async {
            let (buyer, call) = (market.buyer.through(api), market.call());
            let quote = market.paid(&call).await;
            ok(&market.redeem_as(&buyer, &call, &quote).await);
            let arrival = market.service.called_for(&quote.request_id).await;
            verifies(&arrival, &secrets[1]).then_some(())
        })
        .await;
    }
    Shop { market, secrets }
}

/// Buys through a gateway: delivered at once, with all that the endpoint's secrets are for.
async fn bought(shop: &Shop, gateway: usize) -> Bought {
    let market = &shop.market;
    let buyer = market.buyer.through(&market.door.apis[gateway]);
    let call = market.call();
    let quote = buyer.pay(&call, &market.door.sandbox).await.unwrap();
    let answer = market.redeem_as(&buyer, &call, &quote).await;
    ok(&answer);
    let arrival = market.service.called_for(&quote.request_id).await;
    for secret in &shop.secrets {
        assert!(verifies(&arrival, secret), "both secrets sign");
    }
    let auth = arrival.header("x-seller-auth");
    assert!(auth.starts_with("hush "), "the seller's own header: {auth}");
    Bought {
        call,
        quote,
        answer,
    }
}

/// The same bytes as at first, through the gateway whose turn it is.
async fn assert_same_again(shop: &Shop, turn: usize, purchase: &Bought) {
    let market = &shop.market;
    let apis = &market.door.apis;
    let buyer = market.buyer.through(&apis[turn % apis.len()]);
    let again = market
        .once_as(&buyer, &purchase.call, &purchase.quote)
        .await;
    ok(&again);
    assert_eq!(again.body, purchase.answer.body, "the same answer again");
}

/// Buys and asks for an older answer again until told to stop; one of them is the owner too, and changes
/// what is sealed. Not one answer may be a refusal.
async fn trade(
    shop: &Shop,
    turn: usize,
    first: Bought,
    ended: &AtomicBool,
    done: &AtomicUsize,
) -> Vec<Bought> {
    let market = &shop.market;
    let mut purchases = vec![first];
    while !ended.load(Ordering::Relaxed) {
        let number = purchases.len();
        if turn == 0 {
            let value = auth_value(number);
            let header = json!({ "auth_header": { "name": "X-Seller-Auth", "value": value } });
            market.put_endpoint(header).await;
        }
        let gateway = (turn + number) % market.door.apis.len();
        let purchase = bought(shop, gateway).await;
        // Of those before, sooner or later each.
        assert_same_again(shop, gateway + 1, &purchases[number / 2]).await;
        purchases.push(purchase);
        done.fetch_add(1, Ordering::Relaxed);
    }
    purchases
}

/// Wraps everything under the new key, then under the old one again, and so on while they trade, so that
/// there is something to wrap all the time; under the new one in the end. Gives back how often.
async fn wrap_to_and_fro(
    world: &mut World,
    both: &[String; 2],
    listings: usize,
    done: &AtomicUsize,
    trading: &[JoinHandle<Vec<Bought>>],
) -> usize {
    let wanted = sized(16, 400);
    let mut rounds = 0_usize;
    // A buyer who ends before she is told to has been refused, and says so when she is waited for.
    while !trading.iter().any(JoinHandle::is_finished) {
        let to_new = rounds.is_multiple_of(2);
        let before = done.load(Ordering::Relaxed);
        world
            .stack
            .set(MASTER_KEYS, &both[usize::from(!to_new)])
            .unwrap();
        let (told, exit) = rewrap(world).await;
        let count = |name: &str| usize::try_from(told[name].as_u64().unwrap()).unwrap();
        assert!(
            count("endpoint_rows") >= listings && count("answer_keys") > 0,
            "all was under the other key: {told}"
        );
        assert_eq!(told["do_not_open"], json!([]), "{told}");
        rounds += 1;
        if to_new {
            // What the owner has changed meanwhile was sealed under the new one at once.
            assert_eq!(exit, 0, "{told}");
            nothing_is_left(&told);
            if rounds >= ROUNDS && done.load(Ordering::Relaxed) >= wanted {
                break;
            }
        }
        until("somebody has bought since", || async {
            let has_bought = done.load(Ordering::Relaxed) > before;
            (has_bought || trading.iter().any(JoinHandle::is_finished)).then_some(())
        })
        .await;
    }
    rounds
}

#[track_caller]
fn nothing_is_left(told: &Value) {
    assert_eq!(
        (&told["still_under_other_keys"], &told["do_not_open"]),
        (&json!(0), &json!([])),
        "{told}"
    );
}

/// What `rewrap-secrets` says with the keys of now, in small batches: its JSON, and its exit code.
async fn rewrap(world: &World) -> (Value, i32) {
    let arguments = ["rewrap-secrets", "--batch", "2", "--json"];
    let output = world.stack.control_plane_command(&arguments).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let told =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}\n{said}"));
    (told, output.status.code().unwrap_or(-1))
}
