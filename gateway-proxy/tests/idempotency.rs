//! The same call again once its quote is paid, under way, delivered or dead; and what an `Idempotency-Key` makes of it.

use demo_agent::{Chain, PaidCall};
use serde_json::json;

use crate::harness::{Gate, Market, Reply, ok, pending, refused, trials};
use crate::states::uuid_of;

trials!(
    after_the_deposit_the_same_call_is_pending_and_never_quoted_again,
    while_forwarded_the_same_call_is_in_progress,
    after_delivery_the_same_call_under_its_key_is_replayed,
    after_delivery_the_same_call_without_a_key_is_a_new_purchase,
    a_key_stands_for_one_request_only,
    a_key_is_its_buyers_own,
    a_refusal_binds_no_key,
    under_its_key_a_dead_quote_gives_way_to_a_new_one,
    the_same_call_is_bought_twice_at_once_under_two_keys,
);

async fn after_the_deposit_the_same_call_is_pending_and_never_quoted_again() {
    let market = Market::open().await;
    for call in [market.call(), market.call().under_key("paid")] {
        let quote = market.buyer.quote(&call).await.unwrap();
        market
            .door
            .sandbox
            .scenario(&json!({ "requestId": quote.relay_request_id, "outcome": "stuck" }))
            .await
            .unwrap();
        market
            .door
            .sandbox
            .deposit(&[&quote.relay_request_id])
            .await
            .unwrap();
        market.reaches(&quote, "pending").await;
        let told = |answer: &demo_agent::Answer| {
            let data = pending(answer);
            assert_eq!(data["relay_request_id"], quote.relay_request_id.as_str());
            assert_eq!(data["next_action"], "retry_with_relay_request_id");
        };
        market.door.flush().await;
        for api in &market.door.apis {
            told(&market.no_longer_quoted(api, &call, &quote).await);
        }
        market
            .door
            .sandbox
            .scenario(&json!({ "requestId": quote.relay_request_id, "outcome": "success" }))
            .await
            .unwrap();
        market.reaches(&quote, "paid").await;
        for api in &market.door.apis {
            told(&market.no_longer_quoted(api, &call, &quote).await);
        }
        assert_eq!(
            market.service.count(&quote.request_id),
            0,
            "a call without the payment's id consumes nothing"
        );
        ok(&market.redeem(&call, &quote).await);
        market.assert_settled(&quote, 1).await;
    }
}

async fn while_forwarded_the_same_call_is_in_progress() {
    let market = Market::open().await;
    for call in [market.call(), market.call().under_key("busy")] {
        let gate = Gate::shut();
        market.service.then(Reply::json("1").behind(&gate));
        let quote = market.evidenced(&call).await;
        let held = market.redeem_meanwhile(&call, &quote);
        market.service.called_for(&quote.request_id).await;
        // The gateway that forwards it knows at once, the other a moment later.
        let here = market.buyer.call(&call, None).await.unwrap();
        let there = market
            .no_longer_quoted(&market.door.apis[1], &call, &quote)
            .await;
        for answer in [here, there] {
            refused(&answer, 409, "GATEWAY_REQUEST_IN_PROGRESS");
            assert!(answer.header("retry-after").is_some());
        }
        gate.open();
        ok(&held.await.unwrap());
        market.assert_settled(&quote, 1).await;
    }
}

async fn after_delivery_the_same_call_under_its_key_is_replayed() {
    let market = Market::open().await;
    let call = market
        .call()
        .under_key("mine ~!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}");
    let (quote, first) = market.buy(&call).await;
    ok(&first);
    let here = market.buyer.call(&call, None).await.unwrap();
    let there = market
        .no_longer_quoted(&market.door.apis[1], &call, &quote)
        .await;
    for again in [here, there] {
        assert_eq!(
            (
                again.status,
                &again.body,
                again.header("idempotent-replayed")
            ),
            (200, &first.body, Some("true")),
            "{again}"
        );
    }
    market.assert_settled(&quote, 1).await;
}

async fn after_delivery_the_same_call_without_a_key_is_a_new_purchase() {
    let market = Market::open().await;
    let call = market.call();
    let (first, answer) = market.buy(&call).await;
    ok(&answer);
    let here = market.buyer.quote(&call).await.unwrap();
    assert_ne!(
        here.relay_request_id, first.relay_request_id,
        "the gateway that delivered it gives its quote again"
    );
    let there = market
        .no_longer_quoted(&market.door.apis[1], &call, &first)
        .await;
    assert_eq!(
        there.at("/data/payment/relay_request_id"),
        here.relay_request_id.as_str()
    );
    let (second, answer) = market.buy(&call).await;
    let data = ok(&answer);
    assert_ne!(data["request_id"], first.request_id.as_str());
    market.assert_settled(&first, 1).await;
    market.assert_settled(&second, 1).await;
}

async fn a_key_stands_for_one_request_only() {
    let market = Market::open().await;
    let other_listing = market.publish(json!({})).await;
    let call = market.call().under_key("one request");
    let quote = market.buyer.quote(&call).await.unwrap();
    let others = [
        market.call().under_key("one request"),
        call.clone().in_currency("USDC_SOL"),
        PaidCall {
            listing: other_listing.id.clone(),
            ..call.clone()
        },
    ];
    let refuse_others = async || {
        for other in &others {
            for api in &market.door.apis {
                let answer = market.buyer.through(api).call(other, None).await.unwrap();
                assert_eq!(
                    refused(&answer, 422, "IDEMPOTENCY_KEY_REUSED")["recovery"]["next_action"],
                    "use_new_idempotency_key"
                );
            }
        }
    };
    refuse_others().await;
    market
        .door
        .sandbox
        .deposit(&[&quote.relay_request_id])
        .await
        .unwrap();
    ok(&market.redeem(&call, &quote).await);
    market.door.flush().await;
    refuse_others().await;
    market.assert_settled(&quote, 1).await;
    // Keys live 24 hours.
    let id = uuid_of(&quote.request_id);
    market.door.sql(format!("update gateway_request set created_at = created_at - interval '25 hours' where id = '{id}'")).await;
    market.door.flush().await;
    for other in &others[..1] {
        refused(
            &market.buyer.call(other, None).await.unwrap(),
            402,
            "PAYMENT_REQUIRED",
        );
    }
}

async fn a_key_is_its_buyers_own() {
    let market = Market::open().await;
    let first = market
        .buyer
        .quote(&market.call().under_key("shared word"))
        .await
        .unwrap();
    let other = market.another_buyer(Chain::Solana).await;
    let second = other
        .quote(&market.call().under_key("shared word"))
        .await
        .unwrap();
    assert_ne!(first.relay_request_id, second.relay_request_id);
    // Another key of the same profile is the same buyer.
    let (same_buyer, _) = market.second_key().await;
    let answer = same_buyer
        .call(&market.call().under_key("shared word"), None)
        .await
        .unwrap();
    refused(&answer, 422, "IDEMPOTENCY_KEY_REUSED");
    market.assert_untouched().await;
}

async fn a_refusal_binds_no_key() {
    let market = Market::with(json!({ "pricing_amount": "0.01" })).await;
    let evm = market.another_buyer(Chain::Evm).await;
    let key = "refused at first";
    for (buyer, call, status, code) in [
        (&evm, market.call(), 400, "PAYMENT_ROUTE_MINIMUM_NOT_MET"),
        (
            &evm,
            market.call().in_currency("SOL"),
            400,
            "PAYMENT_WALLET_REQUIRED",
        ),
        (
            &market.buyer,
            market.call().in_currency("DOGE"),
            400,
            "ORIGIN_CURRENCY_UNSUPPORTED",
        ),
        (&market.buyer, market.call_of("{"), 400, "INVALID_JSON"),
        (&market.buyer, market.call(), 402, "PAYMENT_REQUIRED"),
        (&market.buyer, market.call(), 422, "IDEMPOTENCY_KEY_REUSED"),
    ] {
        let answer = buyer.call(&call.under_key(key), None).await.unwrap();
        refused(&answer, status, code);
    }
    // Another listing at a price the route carries: the EVM buyer's key is still free.
    let dearer = market.publish(json!({})).await;
    let call = PaidCall {
        listing: dearer.id,
        ..market.call()
    };
    refused(
        &evm.call(&call.under_key(key), None).await.unwrap(),
        402,
        "PAYMENT_REQUIRED",
    );
    market.assert_untouched().await;
}

async fn under_its_key_a_dead_quote_gives_way_to_a_new_one() {
    let market = Market::open().await;
    let failed = market.call().under_key("failed");
    let quote = market.buyer.quote(&failed).await.unwrap();
    market
        .door
        .sandbox
        .scenario(&json!({ "requestId": quote.relay_request_id, "outcome": "failure" }))
        .await
        .unwrap();
    market
        .door
        .sandbox
        .deposit(&[&quote.relay_request_id])
        .await
        .unwrap();
    market.reaches(&quote, "failed").await;
    let fresh = market.no_longer_quoted(market.api(), &failed, &quote).await;
    refused(&fresh, 402, "PAYMENT_REQUIRED");
    assert_eq!(fresh.at("/data/payment/reused"), false);
    let expired = market.call().under_key("expired");
    let quote = market.buyer.quote(&expired).await.unwrap();
    let id = uuid_of(&quote.request_id);
    market.door.sql(format!("update gateway_request set expires_at = now() - interval '121 seconds' where id = '{id}'")).await;
    market
        .door
        .sql(format!(
            "update deadline set due_at = now() where request_id = '{id}'"
        ))
        .await;
    market.reaches(&quote, "expired").await;
    market.door.flush().await;
    let fresh = market
        .buyer
        .through(&market.door.apis[1])
        .quote(&expired)
        .await
        .unwrap();
    assert!(fresh.relay_request_id != quote.relay_request_id && !fresh.reused);
    market.assert_untouched().await;
}

async fn the_same_call_is_bought_twice_at_once_under_two_keys() {
    let market = Market::open().await;
    let (one, two) = (
        market.call_of("{}").under_key("one"),
        market.call_of("{}").under_key("two"),
    );
    let (quote_one, quote_two) = (market.paid(&one).await, market.paid(&two).await);
    let (answer_one, answer_two) = tokio::join!(
        market.redeem(&one, &quote_one),
        market.redeem(&two, &quote_two)
    );
    assert_eq!(
        (
            ok(&answer_one)["request_id"].as_str(),
            ok(&answer_two)["request_id"].as_str()
        ),
        (
            Some(quote_one.request_id.as_str()),
            Some(quote_two.request_id.as_str())
        )
    );
    market.assert_settled(&quote_one, 1).await;
    market.assert_settled(&quote_two, 1).await;
    assert_eq!(market.service.total(), 2);
}
