//! Every micro-dollar: prices, fees, both ledgers, their sums, and a mixed trade that must add up.

use demo_agent::{Agent, Chain};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::harness::{Market, Reply, fee_of, hex, ok, refused, text, trials};

trials!(
    every_price_splits_to_the_micro,
    a_zero_fee_writes_no_row,
    entries_name_account_direction_and_counterparty,
    a_buyer_sees_payments_and_a_seller_sees_income,
    the_summaries_add_up,
    a_mixed_trade_of_many_buyers_balances,
    the_history_shows_both_sides_the_same_call,
    an_evm_buyer_pays_in_usdc_and_in_eth,
);

async fn every_price_splits_to_the_micro() {
    for (price, micros, cents, fee, fee_cents, seller_cents) in [
        ("1", 1_000_000_i64, 100, 49_000, 5, 95),
        ("0.01", 10_000, 1, 490, 0, 1),
        ("0.005", 5_000, 1, 245, 0, 1),
        ("0.004999", 4_999, 0, 245, 0, 0),
        ("19.99", 19_990_000, 1999, 979_510, 98, 1901),
        ("0.123457", 123_457, 12, 6_049, 1, 11),
        (
            "10000",
            10_000_000_000,
            1_000_000,
            490_000_000,
            49_000,
            951_000,
        ),
    ] {
        let market = Market::with(json!({ "pricing_amount": price })).await;
        assert_eq!(market.gross, micros, "{price}");
        let (quote, answer) = market.buy(&market.call()).await;
        let data = ok(&answer);
        assert_eq!(
            data["charged_amount"],
            json!({ "amount_cents": cents, "amount_micros": micros, "currency": "USD" }),
            "{price}"
        );
        assert_eq!(
            data["fees"],
            json!({ "fee_rate": 0.049, "fee_amount_cents": fee_cents, "seller_receives_cents": seller_cents, "fee_amount_micros": fee, "seller_receives_micros": micros - fee }),
            "{price}"
        );
        assert_eq!(fee_of(micros), fee);
        market.assert_settled(&quote, 1).await;
    }
}

async fn a_zero_fee_writes_no_row() {
    // 10 micros: 0.49 of a micro rounds to none.
    let market = Market::with(json!({ "pricing_amount": "0.00001" })).await;
    let (quote, answer) = market.buy(&market.call()).await;
    assert_eq!(ok(&answer)["fees"]["fee_amount_micros"], 0);
    market.assert_settled(&quote, 1).await;
    // 11 micros: 0.539 rounds to one.
    let market = Market::with(json!({ "pricing_amount": "0.000011" })).await;
    let (quote, answer) = market.buy(&market.call()).await;
    assert_eq!(ok(&answer)["fees"]["fee_amount_micros"], 1);
    market.assert_settled(&quote, 1).await;
}

async fn entries_name_account_direction_and_counterparty() {
    let market = Market::open().await;
    let (quote, answer) = market.buy(&market.call()).await;
    ok(&answer);
    let (bought, sold) = (
        market.buyer.ledger(&quote.request_id).await.unwrap(),
        market.seller.ledger(&quote.request_id).await.unwrap(),
    );
    let of = |entries: &[Value], kind: &str| {
        entries
            .iter()
            .find(|entry| entry["type"] == kind)
            .cloned()
            .unwrap()
    };
    for (entry, account, direction, micros, other) in [
        (
            of(&bought, "gateway_payment"),
            "buyer",
            "debit",
            1_000_000,
            &market.seller,
        ),
        (
            of(&sold, "seller_credit"),
            "seller",
            "credit",
            951_000,
            &market.buyer,
        ),
        (
            of(&sold, "marketplace_fee"),
            "marketplace",
            "credit",
            49_000,
            &market.buyer,
        ),
    ] {
        assert!(text(&entry["id"]).starts_with("led_"), "{entry}");
        assert_eq!(
            (
                &entry["account"],
                &entry["direction"],
                &entry["amount_micros"]
            ),
            (&json!(account), &json!(direction), &json!(micros)),
            "{entry}"
        );
        assert_eq!(
            (
                &entry["request_id"],
                &entry["listing_id"],
                &entry["currency"]
            ),
            (
                &json!(quote.request_id),
                &json!(market.listing.id),
                &json!("USD")
            ),
            "{entry}"
        );
        assert_eq!(entry["counterparty_id"], other.id.as_str(), "{entry}");
        assert!(
            entry["description"].is_string()
                && text(&entry["created_at"]).ends_with('Z')
                && entry["amount_cents"].is_i64(),
            "{entry}"
        );
    }
    market.assert_settled(&quote, 1).await;
}

async fn a_buyer_sees_payments_and_a_seller_sees_income() {
    let market = Market::open().await;
    let (quote, answer) = market.buy(&market.call()).await;
    ok(&answer);
    let count = async |agent: &Agent, query: &str| {
        agent
            .get(&format!("/ledger?{query}"))
            .await
            .unwrap()
            .data(200)
            .unwrap()
            .as_array()
            .unwrap()
            .len()
    };
    for (agent, query, wanted) in [
        (&market.buyer, "role=buyer".to_owned(), 1),
        (&market.buyer, "role=seller".to_owned(), 0),
        (&market.buyer, "type=seller_credit".to_owned(), 0),
        (&market.seller, "role=seller".to_owned(), 2),
        (&market.seller, "role=buyer".to_owned(), 0),
        (&market.seller, "type=gateway_payment".to_owned(), 0),
        (&market.seller, "type=seller_credit".to_owned(), 1),
        (
            &market.seller,
            format!("listing_id={}", market.listing.id),
            2,
        ),
        (&market.buyer, "from=2100-01-01T00:00:00Z".to_owned(), 0),
        (&market.buyer, "to=2100-01-01T00:00:00Z".to_owned(), 1),
    ] {
        assert_eq!(count(agent, &query).await, wanted, "{query}");
    }
    let stranger = market.another_buyer(Chain::Evm).await;
    assert_eq!(
        stranger.ledger(&quote.request_id).await.unwrap(),
        Vec::<Value>::new()
    );
    let peek = stranger
        .get(&format!("/gateway-requests/{}", quote.request_id))
        .await
        .unwrap();
    assert_eq!(
        (peek.status, peek.code().as_deref()),
        (404, Some("REQUEST_NOT_FOUND")),
        "{peek}"
    );
    let answer = market
        .seller
        .get(&format!("/gateway-requests/{}/response", quote.request_id))
        .await
        .unwrap();
    assert_eq!(
        (answer.status, answer.code().as_deref()),
        (404, Some("REQUEST_NOT_FOUND")),
        "the answer is the buyer's alone: {answer}"
    );
    for query in [
        "role=boss",
        "type=bribe",
        "from=yesterday",
        "listing_id=x",
        "request_id=y",
    ] {
        let answer = market.buyer.get(&format!("/ledger?{query}")).await.unwrap();
        assert_eq!(
            (answer.status, answer.code().as_deref()),
            (400, Some("VALIDATION_ERROR")),
            "{query}: {answer}"
        );
    }
    market.assert_settled(&quote, 1).await;
}

async fn the_summaries_add_up() {
    let market = Market::with(json!({ "pricing_amount": "0.37" })).await;
    let (gross, fee) = (370_000, fee_of(370_000));
    for _ in 0..3 {
        ok(&market.buy(&market.call()).await.1);
    }
    let summary = async |agent: &Agent| {
        agent
            .get("/ledger/summary")
            .await
            .unwrap()
            .data(200)
            .unwrap()
    };
    let sum = |summary: &Value, kind: &str| {
        let found = summary["by_type"]
            .as_array()
            .unwrap()
            .iter()
            .find(|row| row["type"] == kind)
            .cloned()
            .unwrap_or_else(|| panic!("no {kind}: {summary}"));
        (
            found["count"].as_i64().unwrap(),
            found["amount_micros"].as_i64().unwrap(),
        )
    };
    let sold = summary(&market.seller).await;
    assert_eq!(
        (sum(&sold, "seller_credit"), sum(&sold, "marketplace_fee")),
        ((3, 3 * (gross - fee)), (3, 3 * fee)),
        "{sold}"
    );
    assert_eq!(
        (&sold["net_micros"], &sold["payable_micros"]),
        (&json!(3 * (gross - fee)), &json!(3 * (gross - fee))),
        "income is the sum of the credits: {sold}"
    );
    let bought = summary(&market.buyer).await;
    assert_eq!(
        (sum(&bought, "gateway_payment"), &bought["net_micros"]),
        ((3, 3 * gross), &json!(-3 * gross)),
        "{bought}"
    );
    assert_eq!(market.service.total(), 3);
}

async fn a_mixed_trade_of_many_buyers_balances() {
    const CALLS: usize = 24;
    let market =
        Market::with(json!({ "endpoint": { "timeout_ms": 1000, "max_response_bytes": 10_000 } }))
            .await;
    let mut buyers = vec![market.buyer.clone()];
    for _ in 0..3 {
        buyers.push(market.another_buyer(Chain::Solana).await);
    }
    let replies = [
        Reply::json("1"),
        Reply::status(404, "{}"),
        Reply::status(500, "{}"),
        Reply::new(204, &[], ""),
        Reply::hang_up(),
        Reply::new(200, &[], vec![0xff; 3]),
    ];
    let mut delivered = 0_i64;
    for number in 0..CALLS {
        market.service.then(replies[number % replies.len()].clone());
        let (buyer, call) = (&buyers[number % buyers.len()], market.call());
        let quote = buyer.pay(&call, &market.door.sandbox).await.unwrap();
        let answer = market.redeem_as(buyer, &call, &quote).await;
        match number % replies.len() {
            2 => drop(refused(&answer, 502, "SELLER_ERROR")),
            4 => drop(refused(&answer, 502, "SELLER_INVALID_RESPONSE")),
            _ => {
                ok(&answer);
                delivered += 1;
            }
        }
        assert_eq!(market.service.count(&quote.request_id), 1);
    }
    let sold = market
        .seller
        .get("/ledger/summary")
        .await
        .unwrap()
        .data(200)
        .unwrap();
    assert_eq!(
        sold["payable_micros"],
        delivered * (market.gross - fee_of(market.gross)),
        "{sold}"
    );
    let mut paid = 0;
    for buyer in &buyers {
        let bought = buyer
            .get("/ledger/summary")
            .await
            .unwrap()
            .data(200)
            .unwrap();
        paid -= bought["net_micros"].as_i64().unwrap();
    }
    assert_eq!(
        paid,
        i64::try_from(CALLS).unwrap() * market.gross,
        "everything paid is accounted for, delivered or still good"
    );
    assert_eq!(market.service.total(), CALLS);
}

async fn the_history_shows_both_sides_the_same_call() {
    let market = Market::open().await;
    let call = market.call();
    let (quote, answer) = market.buy(&call).await;
    ok(&answer);
    let (mine, hers) = (
        market
            .buyer
            .gateway_request(&quote.request_id)
            .await
            .unwrap(),
        market
            .seller
            .gateway_request(&quote.request_id)
            .await
            .unwrap(),
    );
    for row in [&mine, &hers] {
        for (key, value) in [
            ("id", json!(quote.request_id)),
            ("listing_id", json!(market.listing.id)),
            ("listing_name", market.listing.json["name"].clone()),
            ("buyer_id", json!(market.buyer.id)),
            ("seller_id", json!(market.seller.id)),
            ("status", json!("delivered")),
            ("billable", json!(true)),
            ("origin_currency", json!("SOL")),
            ("seller_status_code", json!(200)),
            ("attempts", json!(1)),
            ("request_bytes", json!(call.body.len())),
            ("response_bytes", json!(answer.body.len())),
        ] {
            assert_eq!(row[key], value, "{key}: {row}");
        }
        assert!(
            row["latency_ms"].as_i64() >= row["seller_latency_ms"].as_i64()
                && row["seller_latency_ms"].is_i64(),
            "{row}"
        );
        assert!(
            row["delivered_at"].is_string()
                && row["created_at"].is_string()
                && row["amount"]["amount_micros"] == 1_000_000,
            "{row}"
        );
    }
    let digest = hex(&Sha256::digest(&answer.body));
    assert_eq!(mine["response_sha256"], digest, "of the stored envelope");
    assert_eq!(mine["relay_request_id"], quote.relay_request_id);
    for (agent, query, wanted) in [
        (&market.buyer, "role=buyer", 1),
        (&market.buyer, "role=seller", 0),
        (&market.seller, "role=seller", 1),
        (&market.buyer, "status=delivered", 1),
        (&market.buyer, "status=paid", 0),
    ] {
        let rows = agent
            .get(&format!("/gateway-requests?{query}"))
            .await
            .unwrap()
            .data(200)
            .unwrap();
        assert_eq!(rows.as_array().unwrap().len(), wanted, "{query}");
    }
    market.assert_settled(&quote, 1).await;
}

async fn an_evm_buyer_pays_in_usdc_and_in_eth() {
    let market = Market::open().await;
    let evm = market.another_buyer(Chain::Evm).await;
    for (currency, decimals) in [("USDC", 6), ("ETH", 18)] {
        let call = market.call().in_currency(currency);
        let bought = evm.buy(&call, &market.door.sandbox).await.unwrap();
        ok(&bought.answer);
        let needs = &bought.quote.payment["requirements"];
        assert_eq!(
            (&needs["chain_id"], &needs["currency"]["decimals"]),
            (&json!(8453), &json!(decimals)),
            "{needs}"
        );
        let ledger = evm.ledger(&bought.quote.request_id).await.unwrap();
        assert_eq!(
            (ledger.len(), &ledger[0]["amount_micros"]),
            (1, &json!(1_000_000))
        );
        assert_eq!(market.service.count(&bought.quote.request_id), 1);
    }
}
