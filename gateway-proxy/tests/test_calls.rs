//! The seller tries her own endpoint: really signed, by the gateway's own code, and free.

use std::time::Duration;

use demo_agent::Method;
use serde_json::json;

use crate::harness::{Market, Reply, trials, until, until_within};
use crate::sellers_view::{secret, verifies};

trials!(
    a_test_call_is_signed_and_free,
    a_test_call_tells_coarse_outcomes,
    a_deleted_draft_is_tested_no_more,
);

async fn a_test_call_is_signed_and_free() {
    let market = Market::open().await;
    let path = format!("/listings/{}/endpoint/test", market.listing.id);
    let tested = market
        .seller
        .post(&path, &json!({ "body": { "ping": 1 } }))
        .await
        .unwrap()
        .data(200)
        .unwrap();
    assert_eq!(
        (&tested["ok"], &tested["status_code"], &tested["outcome"]),
        (&json!(true), &json!(200), &json!("delivered")),
        "{tested}"
    );
    assert!(tested["latency_ms"].is_u64(), "{tested}");
    let arrivals = market.service.arrivals();
    assert_eq!(arrivals.len(), 1);
    let arrival = &arrivals[0];
    assert!(
        arrival.header("webhook-id").starts_with("gw_test_")
            && arrival.header("x-crochet-test") == "true",
        "{:?}",
        arrival.request.headers
    );
    assert!(verifies(arrival, secret(&market)));
    let body: serde_json::Value = serde_json::from_slice(&arrival.request.body).unwrap();
    assert_eq!(body, json!({ "ping": 1 }));
    for no_object in ["[{\"ping\":1}]", "1", "[]"] {
        let body = Some(no_object.into());
        let refused = market.seller.send(Method::POST, &path, &[], body).await;
        let refused = refused.unwrap();
        let code = refused.code();
        assert_eq!(
            (refused.status, code.as_deref()),
            (400, Some("VALIDATION_ERROR")),
            "{no_object}: {refused}"
        );
    }
    // No field is required, so an empty body will do.
    market
        .seller
        .send(Method::POST, &path, &[], None)
        .await
        .unwrap()
        .data(200)
        .unwrap();
    assert_eq!(market.service.total(), 2);
    for agent in [&market.buyer, &market.seller] {
        let ledger = agent.get("/ledger").await.unwrap().data(200).unwrap();
        assert_eq!(ledger, json!([]));
    }
    let stranger = market.buyer.post(&path, &json!({})).await.unwrap();
    assert_eq!(
        (stranger.status, stranger.code().as_deref()),
        (403, Some("FORBIDDEN")),
        "{stranger}"
    );
    let nobody = market.api().post(&path, None, &json!({})).await.unwrap();
    assert_eq!(nobody.status, 401, "{nobody}");
    assert_eq!(market.service.total(), 2);
}

async fn a_test_call_tells_coarse_outcomes() {
    let market = Market::with(json!({ "endpoint": { "timeout_ms": 1000 } })).await;
    let path = format!("/listings/{}/endpoint/test", market.listing.id);
    for (reply, outcome, status) in [
        (Reply::status(500, "{}"), "delivered", json!(500)),
        (Reply::silence(), "timeout", json!(null)),
        (
            Reply::raw("garbage\r\n\r\n").then_close(),
            "invalid_response",
            json!(null),
        ),
    ] {
        market.service.then(reply);
        let tested = market
            .seller
            .post(&path, &json!({}))
            .await
            .unwrap()
            .data(200)
            .unwrap();
        assert_eq!(
            (&tested["ok"], &tested["outcome"], &tested["status_code"]),
            (&json!(false), &json!(outcome), &status),
            "{tested}"
        );
    }
    let port = crate::harness::free_port().await;
    for (url, outcome) in [
        (format!("http://127.0.0.1:{port}/"), "unreachable"),
        (
            format!("https://127.0.0.1:{}/", market.service.port()),
            "tls_error",
        ),
    ] {
        market
            .put_endpoint(json!({ "private_endpoint_url": url }))
            .await;
        until(&format!("the test says {outcome}"), || async {
            let tested = market
                .seller
                .post(&path, &json!({}))
                .await
                .unwrap()
                .data(200)
                .unwrap();
            (tested["outcome"] == outcome
                && tested["ok"] == false
                && tested["status_code"].is_null())
            .then_some(())
        })
        .await;
    }
    let last = market
        .seller
        .get(&format!("/listings/{}/endpoint", market.listing.id))
        .await
        .unwrap()
        .data(200)
        .unwrap();
    assert_eq!(last["last_test"]["outcome"], "tls_error", "{last}");
    assert!(
        !last.to_string().contains("hook"),
        "the URL is only hinted at: {last}"
    );
}

async fn a_deleted_draft_is_tested_no_more() {
    let market = Market::open().await;
    let draft = market.publish(json!({ "status": "draft" })).await;
    for name in [&draft.id, &draft.slug] {
        let path = format!("/listings/{name}/endpoint/test");
        let tested = market.seller.post(&path, &json!({})).await.unwrap();
        tested.data(200).unwrap();
    }
    let path = format!("/listings/{}", draft.id);
    let gone = market.seller.send(Method::DELETE, &path, &[], None).await;
    let gone = gone.unwrap().data(200).unwrap();
    assert_eq!(gone["deleted"], true);
    // The others were not asked for it before.
    for api in market.door.apis.iter().rev() {
        let seller = market.seller.through(api);
        for name in [&draft.slug, &draft.id] {
            let path = format!("/listings/{name}/endpoint/test");
            let unknown = || async {
                let answer = seller.post(&path, &json!({})).await.unwrap();
                (answer.status == 404).then_some(())
            };
            until_within("the draft is forgotten", Duration::from_secs(1), unknown).await;
        }
    }
}
