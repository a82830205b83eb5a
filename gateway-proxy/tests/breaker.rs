//! The breaker: nobody is asked to pay for a seller that fails, until she answers again.

use demo_agent::{Agent, Chain};
use serde_json::{Value, json};

use crate::harness::{Market, Service, free_port, refused, trials};

trials!(
    a_closed_port_opens_the_breaker_and_nobody_is_asked_to_pay,
    many_failures_of_many_buyers_open_the_breaker,
    failures_of_one_buyer_do_not_open_the_breaker,
);

/// Calls that fail with 500, spread over buyers, all through the first gateway.
async fn fail(market: &Market, buyers: &[&Agent], calls: usize) {
    market
        .service
        .usually(crate::harness::Reply::status(500, "{}"));
    for number in 0..calls {
        let (buyer, call) = (buyers[number % buyers.len()], market.call());
        let quote = buyer.pay(&call, &market.door.sandbox).await.unwrap();
        let answer = market.redeem_as(buyer, &call, &quote).await;
        refused(&answer, 502, "SELLER_ERROR");
    }
}

async fn a_closed_port_opens_the_breaker_and_nobody_is_asked_to_pay() {
    let door = crate::harness::shared().await;
    let port = free_port().await;
    let market = Market::selling_at(
        &door,
        Service::start().await,
        &format!("http://127.0.0.1:{port}/hook"),
        json!({}),
    )
    .await;
    let call = market.call();
    let quote = market.evidenced(&call).await;
    for _ in 0..5 {
        let answer = market.once(&call, &quote).await;
        refused(&answer, 502, "SELLER_UNREACHABLE");
        assert_eq!(
            (
                answer.at("/data/attempts"),
                answer.at("/data/attempts_remaining")
            ),
            (json!(0), json!(5)),
            "unreachable uses no attempt: {answer}"
        );
    }
    refused(&market.once(&call, &quote).await, 503, "SELLER_UNAVAILABLE");
    let unpaid = market.buyer.call(&market.call(), None).await.unwrap();
    assert!(unpaid.header("retry-after").is_some(), "{unpaid}");
    refused(&unpaid, 503, "SELLER_UNAVAILABLE");
    // The other gateway has a breaker of its own, and has seen nothing.
    refused(
        &market
            .buyer
            .through(&door.apis[1])
            .call(&market.call(), None)
            .await
            .unwrap(),
        402,
        "PAYMENT_REQUIRED",
    );
    market.assert_still_paid(&quote, 0).await;
    // The seller comes back: half-open, 402s are given again, and a trial closes it.
    let service = Service::start_at(port).await;
    market.gateway_says("PAYMENT_REQUIRED").await;
    let answer = market.redeem(&call, &quote).await;
    assert_eq!(answer.status, 200, "{answer}");
    assert_eq!(
        service
            .of(&quote.request_id)
            .iter()
            .map(|arrival| arrival.header("x-crochet-attempt").to_owned())
            .collect::<Vec<_>>(),
        ["1"]
    );
}

async fn many_failures_of_many_buyers_open_the_breaker() {
    let market = Market::open().await;
    let others = [
        market.another_buyer(Chain::Solana).await,
        market.another_buyer(Chain::Solana).await,
    ];
    let buyers = [&market.buyer, &others[0], &others[1]];
    fail(&market, &buyers, 19).await;
    refused(
        &market.buyer.call(&market.call(), None).await.unwrap(),
        402,
        "PAYMENT_REQUIRED",
    );
    fail(&market, &buyers[1..2], 1).await;
    refused(
        &market.buyer.call(&market.call(), None).await.unwrap(),
        503,
        "SELLER_UNAVAILABLE",
    );
    assert_eq!(market.service.total(), 20);
    market.gateway_says("PAYMENT_REQUIRED").await;
}

async fn failures_of_one_buyer_do_not_open_the_breaker() {
    let market = Market::open().await;
    fail(&market, &[&market.buyer], 22).await;
    refused(
        &market.buyer.call(&market.call(), None).await.unwrap(),
        402,
        "PAYMENT_REQUIRED",
    );
    assert_eq!(market.service.total(), 22);
    let income = market
        .seller
        .get("/ledger?type=seller_credit")
        .await
        .unwrap()
        .data(200)
        .unwrap();
    assert_eq!(income, Value::Array(vec![]), "a failed call pays nobody");
}
