//! The 402: its body, when the same quote is given again, and what an `Idempotency-Key` makes of it.

use std::collections::BTreeSet;

use demo_agent::{Chain, PaidCall, Quote};
use serde_json::{Value, json};

use crate::harness::{Market, ok, refused, text, trials};
use crate::states::uuid_of;

trials!(
    a_402_says_all_that_is_needed_to_pay,
    a_402_is_durable_before_it_leaves,
    the_same_call_again_gets_the_same_quote_through_any_gateway_and_a_flushed_cache,
    another_body_currency_listing_buyer_or_key_gets_another_quote,
    fifty_first_calls_at_once_make_one_quote,
    an_old_quote_is_given_again_only_under_a_key,
    a_quote_near_its_end_is_not_given_again,
    a_changed_price_makes_a_new_quote_and_the_old_one_keeps_its_price,
);

fn keys_of(value: &Value) -> BTreeSet<&str> {
    value
        .as_object()
        .unwrap_or_else(|| panic!("not an object: {value}"))
        .keys()
        .map(String::as_str)
        .collect()
}

fn named(names: &str) -> BTreeSet<&str> {
    names.split(' ').collect()
}

async fn a_402_says_all_that_is_needed_to_pay() {
    let market = Market::open().await;
    for (currency, chain, symbol, decimals) in [
        ("SOL", 792_703_809_u64, "SOL", 9),
        ("USDC_SOL", 792_703_809, "USDC", 6),
    ] {
        let answer = market
            .buyer
            .call(&market.call().in_currency(currency), None)
            .await
            .unwrap();
        let error = refused(&answer, 402, "PAYMENT_REQUIRED");
        assert_eq!(
            error["message"],
            "Complete payment, then retry this gateway call with X-Crochet-Relay-Request-Id."
        );
        assert_eq!(
            error["recovery"]["next_action"],
            "complete_payment_and_retry"
        );
        let payment = answer.at("/data/payment");
        assert_eq!(
            keys_of(&payment),
            named(
                "relay_request_id requirements amount origin_currency request_id expires_at reused"
            ),
            "{payment}"
        );
        assert_eq!(
            payment["amount"],
            json!({ "amount_cents": 100, "amount_micros": 1_000_000, "currency": "USD" })
        );
        assert_eq!(
            (&payment["origin_currency"], &payment["reused"]),
            (&json!(currency), &json!(false))
        );
        let id = text(&payment["relay_request_id"]);
        assert!(
            id.len() == 66 && id.starts_with("0x"),
            "the provider's own id: {id}"
        );
        assert_eq!(
            answer.header("x-crochet-request-id"),
            payment["request_id"].as_str()
        );
        let needs = &payment["requirements"];
        let wanted = "provider chain_id currency amount amount_formatted deposit_address steps fees time_estimate_seconds expires_at";
        assert_eq!(keys_of(needs), named(wanted), "{needs}");
        assert_eq!(
            (&needs["provider"], &needs["chain_id"]),
            (&json!("relay"), &json!(chain))
        );
        assert_eq!(
            (&needs["currency"]["symbol"], &needs["currency"]["decimals"]),
            (&json!(symbol), &json!(decimals)),
            "{needs}"
        );
        assert!(
            text(&needs["currency"]["address"]).len() > 20
                && text(&needs["deposit_address"]).len() > 20,
            "{needs}"
        );
        assert!(
            text(&needs["amount"])
                .parse::<u128>()
                .is_ok_and(|amount| amount > 0),
            "{needs}"
        );
        assert!(
            needs["steps"]
                .as_array()
                .is_some_and(|steps| steps[0]["requestId"] == id),
            "the steps as the provider gave them: {needs}"
        );
        for end in [&payment["expires_at"], &needs["expires_at"]] {
            let end = text(end);
            assert!(
                end.len() == 24 && end.ends_with('Z') && end.as_bytes()[19] == b'.',
                "RFC 3339 with milliseconds: {end}"
            );
        }
    }
    market.assert_untouched().await;
}

async fn a_402_is_durable_before_it_leaves() {
    let market = Market::open().await;
    let quote = market.buyer.quote(&market.call()).await.unwrap();
    let id = uuid_of(&quote.request_id);
    let rows = market.door.number(format!("select count(*) from gateway_request r join quote q on q.request_id = r.id where r.id = '{id}'")).await;
    assert_eq!(rows, 1);
    let remaining = market.door.number(format!("select extract(epoch from expires_at - now())::bigint from gateway_request where id = '{id}'")).await;
    assert!(
        (700..=900).contains(&remaining),
        "a quote lives 15 minutes, or that less its margin: {remaining} s"
    );
    market.assert_unpaid(&quote).await;
}

async fn the_same_call_again_gets_the_same_quote_through_any_gateway_and_a_flushed_cache() {
    let market = Market::open().await;
    for call in [market.call(), market.call().under_key("a key")] {
        let first = market.buyer.quote(&call).await.unwrap();
        assert!(!first.reused);
        for api in &market.door.apis {
            let buyer = market.buyer.through(api);
            let again = buyer.quote(&call).await.unwrap();
            assert_eq!(
                (&again.relay_request_id, again.reused),
                (&first.relay_request_id, true)
            );
            market.door.flush().await;
            let again = buyer.quote(&call).await.unwrap();
            assert_eq!(
                (&again.relay_request_id, again.reused),
                (&first.relay_request_id, true)
            );
            let whole = |quote: &Quote| {
                (
                    quote.payment["requirements"].clone(),
                    quote.payment["expires_at"].clone(),
                    quote.request_id.clone(),
                )
            };
            assert_eq!(whole(&again), whole(&first), "nothing of it has changed");
        }
        market.assert_unpaid(&first).await;
    }
}

async fn another_body_currency_listing_buyer_or_key_gets_another_quote() {
    let market = Market::open().await;
    let other_listing = market.publish(json!({})).await;
    let other_buyer = market.another_buyer(Chain::Solana).await;
    let call = market.call_of(r#"{"same":1}"#);
    let first = market.buyer.quote(&call).await.unwrap();
    let other_buyers = other_buyer.quote(&call).await.unwrap();
    let mut ids = BTreeSet::from([
        first.relay_request_id.clone(),
        other_buyers.relay_request_id,
    ]);
    for other in [
        market.call_of(r#"{"same": 1}"#),
        call.clone().in_currency("USDC_SOL"),
        PaidCall {
            listing: other_listing.id.clone(),
            ..call.clone()
        },
        call.clone().under_key("one"),
        call.clone().under_key("two"),
    ] {
        let quote = market.buyer.quote(&other).await.unwrap();
        assert!(!quote.reused, "{other:?}");
        ids.insert(quote.relay_request_id);
    }
    assert_eq!(ids.len(), 7);
    // Naming the default currency is the same as not naming one.
    let again = market
        .buyer
        .quote(&call.clone().in_currency("SOL"))
        .await
        .unwrap();
    assert_eq!(again.relay_request_id, first.relay_request_id);
    market.assert_untouched().await;
}

async fn fifty_first_calls_at_once_make_one_quote() {
    let market = Market::open().await;
    let call = market.call();
    let asking: Vec<_> = (0..50)
        .map(|number| {
            let (buyer, call) = (
                market.buyer.through(&market.door.apis[number % 2]),
                call.clone(),
            );
            tokio::spawn(async move { buyer.quote(&call).await.unwrap() })
        })
        .collect();
    let mut ids = BTreeSet::new();
    let mut made = 0;
    for asked in asking {
        let quote = asked.await.unwrap();
        made += usize::from(!quote.reused);
        ids.insert(quote.relay_request_id);
    }
    assert_eq!(
        (ids.len(), made),
        (1, 1),
        "quotes, and answers that call theirs new"
    );
    let requests = market
        .buyer
        .get("/gateway-requests?role=buyer")
        .await
        .unwrap()
        .data(200)
        .unwrap();
    assert_eq!(requests.as_array().unwrap().len(), 1, "{requests}");
    market.assert_untouched().await;
}

/// Makes a quote older than it is, everywhere it is known.
async fn age(market: &Market, quote: &Quote, seconds: u32) {
    let id = uuid_of(&quote.request_id);
    let statement = format!(
        "update gateway_request set created_at = created_at - interval '{seconds} seconds', expires_at = expires_at - interval '{seconds} seconds' where id = '{id}'"
    );
    assert_eq!(market.door.sql(statement).await, 1);
    market.door.flush().await;
}

async fn an_old_quote_is_given_again_only_under_a_key() {
    let market = Market::open().await;
    let keyless = market.call();
    let keyed = market.call().under_key("patient");
    let (first_keyless, first_keyed) = (
        market.buyer.quote(&keyless).await.unwrap(),
        market.buyer.quote(&keyed).await.unwrap(),
    );
    age(&market, &first_keyless, 61).await;
    age(&market, &first_keyed, 61).await;
    // Through the gateway that has not seen them, so that only what is durable counts.
    let buyer = market.buyer.through(&market.door.apis[1]);
    let again = buyer.quote(&keyless).await.unwrap();
    assert_ne!(again.relay_request_id, first_keyless.relay_request_id);
    assert!(!again.reused);
    let again = buyer.quote(&keyed).await.unwrap();
    assert_eq!(
        (again.relay_request_id, again.reused),
        (first_keyed.relay_request_id, true)
    );
    market.assert_untouched().await;
}

async fn a_quote_near_its_end_is_not_given_again() {
    let market = Market::open().await;
    let call = market.call().under_key("late");
    let first = market.buyer.quote(&call).await.unwrap();
    let id = uuid_of(&first.request_id);
    market.door.sql(format!("update gateway_request set expires_at = now() + interval '299 seconds' where id = '{id}'")).await;
    market.door.flush().await;
    let again = market
        .buyer
        .through(&market.door.apis[1])
        .quote(&call)
        .await
        .unwrap();
    assert_ne!(
        again.relay_request_id, first.relay_request_id,
        "less than five minutes remained"
    );
    market.assert_untouched().await;
}

async fn a_changed_price_makes_a_new_quote_and_the_old_one_keeps_its_price() {
    let market = Market::open().await;
    let (call, keyed) = (market.call(), market.call().under_key("kept"));
    let (old, old_keyed) = (
        market.buyer.quote(&call).await.unwrap(),
        market.buyer.quote(&keyed).await.unwrap(),
    );
    market.patch(json!({ "pricing_amount": "2.5" })).await;
    // A quote uses the price in the database when it is made: both gateways, at once.
    for api in &market.door.apis {
        let quote = market
            .buyer
            .through(api)
            .quote(&market.call())
            .await
            .unwrap();
        assert_eq!(quote.payment["amount"]["amount_micros"], 2_500_000);
    }
    let again = crate::harness::until("the changed price ends the reuse", || async {
        let quote = market.buyer.quote(&call).await.unwrap();
        (quote.relay_request_id != old.relay_request_id).then_some(quote)
    })
    .await;
    assert_eq!(again.payment["amount"]["amount_micros"], 2_500_000);
    assert_ne!(
        market.buyer.quote(&keyed).await.unwrap().relay_request_id,
        old_keyed.relay_request_id
    );
    market
        .door
        .sandbox
        .deposit(&[&old.relay_request_id])
        .await
        .unwrap();
    let data = ok(&market.redeem(&call, &old).await);
    assert_eq!(data["charged_amount"]["amount_micros"], 1_000_000);
    market.assert_settled(&old, 1).await;
}
