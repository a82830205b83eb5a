//! Provider chaos: whatever the provider's news and answers look like, the end is the same.

use std::time::Duration;

use crochet_dev::Role;
use demo_agent::{Patience, Quote, random_bytes};
use serde_json::{Value, json};

use super::orphans::found;
use super::trade::{Purchase, agree_on_one_call_each, each, everywhere, quoted, redeemed};
use crate::closing::{now_ms, webhook};
use crate::harness::{Market, World, pending, sized, trials};

trials!(whatever_the_provider_says_and_however_the_end_is_the_same => few);

/// How far the provider's clock is from ours, in seconds. Rising, because a clock that is set back tells of
/// new payments with times that were read before: those are found when their quotes expire.
const CLOCKS: [i64; 3] = [-600, 0, 600];
/// How the provider's record is out of reach for the first few that ask.
const MODES: [Option<&str>; 5] = [
    None,
    Some("error500"),
    Some("rate_limit"),
    Some("garbage"),
    Some("timeout"),
];
/// How many questions go wrong in each mode.
const GO_WRONG: u64 = 4;
/// Purchases under way at once.
const AT_ONCE: usize = 12;
const DAY_MS: i64 = 86_400_000;

async fn whatever_the_provider_says_and_however_the_end_is_the_same() {
    let purchases = sized(4, 120);
    let mut world = World::own("provider_chaos", |options| options).await;
    let endpoint = json!({ "endpoint": { "max_concurrency": 1000 } });
    let market = Market::within(&world.door, endpoint).await;
    let mut done = Vec::new();
    for clock in CLOCKS {
        let relay = Role::Relay;
        let name = "RELAY_SANDBOX_CLOCK_OFFSET_SECONDS";
        world.stack.tell(relay, name, &clock.to_string());
        world.stack.restart(relay).await.unwrap();
        done.push(unasked(&market).await);
        for mode in MODES {
            let fault =
                json!({ "endpoint": "requests", "mode": mode.unwrap_or("off"), "count": GO_WRONG });
            market.door.sandbox.fault(&fault).await.unwrap();
            let some = each(AT_ONCE, 0..purchases, |_| chaotic(&market)).await;
            done.extend(some);
            let peace = json!({ "endpoint": "*", "mode": "off" });
            market.door.sandbox.fault(&peace).await.unwrap();
        }
    }
    println!("{} purchases through chaos", done.len());
    agree_on_one_call_each(&market, &done).await;
    // What comes after the end changes nothing.
    each(AT_ONCE, done.iter(), |purchase| {
        aftermath(&market, purchase)
    })
    .await;
    let taken_back: Vec<Purchase> = done.clone();
    for purchase in taken_back.iter().take(AT_ONCE) {
        assert_eq!(
            market.relay_request(&purchase.quote).await["status"],
            "delivered"
        );
        market.assert_settled(&purchase.quote, 1).await;
    }
    world.close().await;
}

/// A payment that no webhook tells of and no buyer asks about: the sweep of the provider's records finds
/// it, by times that the provider's clock has set.
async fn unasked(market: &Market) -> Purchase {
    let (call, buyers) = (market.call(), everywhere(market));
    let quote = quoted(&buyers, &call).await;
    let id = quote.relay_request_id.as_str();
    let silent = json!({ "requestId": id, "webhook_copies": 0 });
    market.door.sandbox.scenario(&silent).await.unwrap();
    market.door.sandbox.deposit(&[id]).await.unwrap();
    assert_eq!(found(market, &quote).await, "paid");
    let answer = redeemed(&buyers, &call, &quote).await;
    Purchase {
        call,
        quote,
        answer,
    }
}

/// One purchase whose news is lost, doubled, shuffled or forged, whichever falls.
async fn chaotic(market: &Market) -> Purchase {
    let (call, buyers) = (market.call(), everywhere(market));
    let quote = quoted(&buyers, &call).await;
    let (id, key) = (quote.relay_request_id.as_str(), &market.door.relay_api_key);
    let [copies, shuffle, forged] = random_bytes::<3>().unwrap();
    let copies = [0, 1, 5][usize::from(copies % 3)];
    let scenario = json!({
        "requestId": id,
        "webhook_copies": copies,
        "webhook_shuffle": shuffle % 2 == 0,
    });
    market.door.sandbox.scenario(&scenario).await.unwrap();
    // A success that is nobody's word, and one that is signed and untrue: nothing is claimed for either.
    let (secret, sign) =
        [("not the key", true), (key, false), (key, true)][usize::from(forged % 3)];
    let told = webhook(market, &quote, secret, now_ms(), sign).await;
    let genuine = secret == key && sign;
    assert_eq!(told.status, if genuine { 200 } else { 401 }, "{told}");
    not_yet(market, &call, &quote).await;
    market.door.sandbox.deposit(&[id]).await.unwrap();
    let answer = redeemed(&buyers, &call, &quote).await;
    Purchase {
        call,
        quote,
        answer,
    }
}

/// Without evidence there is no claim: pending, or the provider cannot be asked.
async fn not_yet(market: &Market, call: &demo_agent::PaidCall, quote: &Quote) {
    let answer = market.once(call, quote).await;
    if answer.code().as_deref() != Some("PAYMENT_PROVIDER_UNAVAILABLE") {
        pending(&answer);
    }
    market.assert_unpaid(quote).await;
}

/// News that is a day old, the same five times over, and a success that is taken back.
async fn aftermath(market: &Market, purchase: &Purchase) {
    let quote = &purchase.quote;
    let key = &market.door.relay_api_key;
    for _ in 0..5 {
        let told = webhook(market, quote, key, now_ms() - DAY_MS, true).await;
        assert_eq!(told.status, 200, "{told}");
    }
    let sandbox = &market.door.sandbox;
    let refund: Value = json!({ "requestId": quote.relay_request_id, "outcome": "refund" });
    sandbox.scenario(&refund).await.unwrap();
    let patience = Patience {
        pause: Duration::from_millis(20),
        ..Patience::default()
    };
    sandbox
        .wait_for_status(&quote.relay_request_id, "refund", patience)
        .await
        .unwrap();
    let again = redeemed(&everywhere(market), &purchase.call, quote).await;
    assert_eq!(again.body, purchase.answer.body);
}
