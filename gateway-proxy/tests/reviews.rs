//! What a paid call leaves behind: the right to review it, and evidence about its seller.

use demo_agent::Chain;
use serde_json::{Value, json};

use crate::harness::{Market, Reply, ok, refused, trials, until};

trials!(a_paid_call_can_be_reviewed_and_its_sellers_score_follows,);

/// The score of the market's seller.
async fn score(market: &Market) -> Value {
    let path = format!("/agents/{}/score", market.seller.id);
    let answer = market.api().get(&path, None).await.unwrap();
    answer.data(200).unwrap()
}

/// The seller's score once nothing is newer than it and it counts this much evidence.
async fn fresh(market: &Market, delivered: i64, failed: i64, reviews: i64) -> Value {
    until("the score holds all evidence", || async {
        let now = score(market).await;
        let evidence = &now["evidence"];
        let is_whole = evidence["calls_delivered"] == delivered
            && evidence["calls_failed"] == failed
            && evidence["reviews"] == reviews;
        (now["stale"] == false && is_whole).then_some(now)
    })
    .await
}

async fn a_paid_call_can_be_reviewed_and_its_sellers_score_follows() {
    let market = Market::open().await;
    let path = format!("/reviews/{}", market.listing.id);
    let praise = json!({ "accuracy_rating": 5, "reliability_rating": 5, "value_rating": 4, "title": "Answers" });
    let early = market.buyer.post(&path, &praise).await.unwrap();
    assert_eq!(
        early.code().as_deref(),
        Some("NO_QUALIFYING_PURCHASE"),
        "{early}"
    );
    assert_eq!(score(&market).await["score"], 500);

    ok(&market.buy(&market.call()).await.1);
    // At once: the right to review does not wait for the fold.
    let review = market
        .buyer
        .post(&path, &praise)
        .await
        .unwrap()
        .data(201)
        .unwrap();
    assert_eq!(
        (&review["rating"], &review["verified_purchase"]),
        (&json!(4.67), &json!(true))
    );
    let good = fresh(&market, 1, 0, 1).await;
    assert!(good["score"].as_i64().unwrap() > 500, "{good}");
    assert_eq!(
        (
            &good["evidence"]["distinct_buyers"],
            &good["evidence"]["rating_average"]
        ),
        (&json!(1), &json!(4.67))
    );

    market.service.usually(Reply::status(500, "{}"));
    let buyer = market.another_buyer(Chain::Solana).await;
    let call = market.call();
    let quote = buyer.pay(&call, &market.door.sandbox).await.unwrap();
    let answer = market.redeem_as(&buyer, &call, &quote).await;
    refused(&answer, 502, "SELLER_ERROR");
    let worse = fresh(&market, 1, 1, 1).await;
    assert!(worse["score"].as_i64() < good["score"].as_i64(), "{worse}");
}
