//! Provider chaos: whatever the provider's news and answers look like, the end is the same.

use std::time::Duration;

use crochet_dev::Role;
use demo_agent::{Patience, Quote, random_bytes};
use serde_json::{Value, json};

use super::orphans::{asked_amount, found};
use super::trade::{Purchase, agree_on_one_call_each, each, everywhere, quoted, redeemed};
use crate::closing::{now_ms, webhook};
use crate::harness::{Market, World, pending, sized, trials};

trials!(whatever_the_provider_says_and_however_the_end_is_the_same => few);

/// How far the provider's clock is from ours, in seconds. Rising, because a clock that is set back tells of
/// new payments with times that were read before: those are found when their quotes expire.
const CLOCKS: [i64; 3] = [-600, 0, 600];
/// How the provider is out of reach, again and again as long as the purchases last, and how many questions it
/// answers for each that goes wrong: more where one that goes wrong costs everybody seconds.
const MODES: [Option<(&str, u64)>; 5] = [
    None,
    Some(("error500", 2)),
    Some(("rate_limit", 32)),
    Some(("garbage", 2)),
    Some(("timeout", 16)),
];
/// What goes wrong, and how often in a row: often enough each that the control plane stops asking for a while.
const GO_WRONG: [(&str, u64); 2] = [("quote", 3), ("requests", 4)];
/// At least one answer in so many purchases was a bad one, those of the mode without faults among them.
const PURCHASES_A_BAD_ANSWER: usize = 4;
/// Purchases under way at once.
const AT_ONCE: usize = 12;
const DAY_MS: i64 = 86_400_000;

async fn whatever_the_provider_says_and_however_the_end_is_the_same() {
    let purchases = sized(4, 120);
    let mut world = World::own("provider_chaos", |options| options).await;
    let endpoint = json!({ "endpoint": { "max_concurrency": 1000 } });
    let market = Market::within(&world.door, endpoint).await;
    let (mut done, mut bad) = (Vec::new(), [0; GO_WRONG.len()]);
    for clock in CLOCKS {
        set_clock(&mut world, clock).await;
        done.push(unasked(&market).await);
        for mode in MODES {
            let before = bad_answers(&market).await;
            break_it(&market, mode).await;
            let some = each(AT_ONCE, 0..purchases, |_| chaotic(&market)).await;
            done.extend(some);
            let peace = json!({ "endpoint": "*", "mode": "off" });
            market.door.sandbox.fault(&peace).await.unwrap();
            let after = bad_answers(&market).await;
            for (place, (endpoint, in_a_row)) in GO_WRONG.into_iter().enumerate() {
                let met = after[place] - before[place];
                // Nothing is bought until a question of each kind was answered, and the first ones are not.
                assert!(
                    mode.is_none() || met >= in_a_row,
                    "{mode:?}: {met} bad answers of {endpoint}"
                );
                bad[place] += met;
            }
        }
    }
    let [quotes, records] = bad;
    println!(
        "{} purchases through chaos, {quotes} bad answers to questions for a quote, {records} to those for the record",
        done.len()
    );
    assert!(
        usize::try_from(quotes + records).unwrap() * PURCHASES_A_BAD_ANSWER >= done.len(),
        "{quotes} and {records} bad answers in {} purchases are no chaos",
        done.len()
    );
    agree_on_one_call_each(&market, &done).await;
    // What comes after the end changes nothing. It comes by a clock like ours, which no reading of the provider's
    // record has passed, so that all of it is read again in its order.
    set_clock(&mut world, 0).await;
    each(AT_ONCE, done.iter(), |purchase| {
        aftermath(&market, purchase)
    })
    .await;
    refunds_are_read(&market).await;
    each(AT_ONCE, done.iter(), |purchase| {
        still_delivered(&market, purchase)
    })
    .await;
    world.close().await;
}

/// Starts the provider anew, so many seconds ahead of us. Its faults and its counts are forgotten.
async fn set_clock(world: &mut World, seconds: i64) {
    let name = "RELAY_SANDBOX_CLOCK_OFFSET_SECONDS";
    world.stack.tell(Role::Relay, name, &seconds.to_string());
    world.stack.restart(Role::Relay).await.unwrap();
}

/// From now on so many questions in a row go wrong, after every few that are answered.
async fn break_it(market: &Market, mode: Option<(&str, u64)>) {
    let Some((mode, answered)) = mode else {
        return;
    };
    for (endpoint, in_a_row) in GO_WRONG {
        let fault = json!({
            "endpoint": endpoint,
            "mode": mode,
            "count": in_a_row,
            "then": in_a_row * answered,
        });
        market.door.sandbox.fault(&fault).await.unwrap();
    }
}

/// How many questions of each kind went wrong since the provider's start, by its own count.
async fn bad_answers(market: &Market) -> [u64; GO_WRONG.len()] {
    let seen = market.door.sandbox.requests().await.unwrap();
    GO_WRONG.map(|(endpoint, _)| seen["faults"][endpoint].as_u64().unwrap())
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

/// Waits until the control plane has read of every refund so far. It reads them in their order, so one that comes
/// after them and of which nobody tells it is read last.
async fn refunds_are_read(market: &Market) {
    let quote = quoted(&everywhere(market), &market.call()).await;
    let (id, sandbox) = (quote.relay_request_id.as_str(), &market.door.sandbox);
    let silent = json!({ "requestId": id, "webhook_copies": 0 });
    sandbox.scenario(&silent).await.unwrap();
    let too_little = (asked_amount(&quote) - 1).to_string();
    sandbox.deposit_amount(id, &too_little).await.unwrap();
    assert_eq!(found(market, &quote).await, "failed");
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

/// The purchase stands as it did before its success was taken back.
async fn still_delivered(market: &Market, purchase: &Purchase) {
    let quote = &purchase.quote;
    assert_eq!(market.relay_request(quote).await["status"], "delivered");
    market.assert_settled(quote, 1).await;
}
