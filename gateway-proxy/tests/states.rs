//! The table of contract §5, "With a relay id", row by row, and which row wins.

use demo_agent::{Chain, Method, PaidCall};
use serde_json::json;

use crate::harness::{Gate, Market, Reply, ok, pending, refused, trials};

trials!(
    an_unknown_payment_is_404,
    another_buyers_payment_is_404_and_stays_hers,
    any_key_of_the_buyer_redeems,
    another_body_is_a_mismatch_and_nothing_is_consumed,
    another_listing_is_a_mismatch_and_nothing_is_consumed,
    a_mismatch_wins_over_a_delivered_answer,
    currency_and_idempotency_key_are_ignored_with_a_payment,
    a_delivered_answer_is_replayed_byte_for_byte_whatever_has_changed_since,
    a_replay_needs_no_seller_and_no_media_type,
    a_delivered_answer_that_is_stored_no_longer_is_410_with_its_facts,
    a_call_being_forwarded_is_in_progress_through_every_gateway,
    a_listing_under_its_slug_takes_the_same_payment,
);

async fn an_unknown_payment_is_404() {
    let market = Market::open().await;
    let nobodys = format!("0x{}", "ab".repeat(32));
    for id in [
        nobodys.as_str(),
        "x",
        "no such thing",
        "0x00' or 1=1",
        &"z".repeat(4000),
    ] {
        let answer = market.buyer.call(&market.call(), Some(id)).await.unwrap();
        let error = refused(&answer, 404, "RELAY_REQUEST_NOT_FOUND");
        assert_eq!(
            error["recovery"]["next_action"], "start_new_payment",
            "{answer}"
        );
    }
    // The payment comes before the listing: an unknown one names the payment, not the listing.
    let elsewhere = PaidCall::new("00000000-0000-7000-8000-000000000000", &json!({}));
    refused(
        &market.buyer.call(&elsewhere, Some(&nobodys)).await.unwrap(),
        404,
        "RELAY_REQUEST_NOT_FOUND",
    );
    market.assert_untouched().await;
}

async fn another_buyers_payment_is_404_and_stays_hers() {
    let market = Market::open().await;
    let call = market.call();
    let quote = market.paid(&call).await;
    let thief = market.another_buyer(Chain::Solana).await;
    refused(
        &thief
            .call(&call, Some(&quote.relay_request_id))
            .await
            .unwrap(),
        404,
        "RELAY_REQUEST_NOT_FOUND",
    );
    refused(
        &market
            .seller
            .call(&call, Some(&quote.relay_request_id))
            .await
            .unwrap(),
        404,
        "RELAY_REQUEST_NOT_FOUND",
    );
    let asked = thief
        .get(&format!("/relay-requests/{}", quote.relay_request_id))
        .await
        .unwrap();
    assert_eq!(
        (asked.status, asked.code().as_deref()),
        (404, Some("RELAY_REQUEST_NOT_FOUND")),
        "{asked}"
    );
    assert_eq!(market.service.total(), 0);
    ok(&market.redeem(&call, &quote).await);
    market.assert_settled(&quote, 1).await;
}

async fn any_key_of_the_buyer_redeems() {
    let market = Market::open().await;
    let call = market.call();
    let quote = market.paid(&call).await;
    let (second, _) = market.second_key().await;
    ok(&market.redeem_as(&second, &call, &quote).await);
    market.assert_settled(&quote, 1).await;
}

async fn another_body_is_a_mismatch_and_nothing_is_consumed() {
    let market = Market::open().await;
    let call = market.call_of(r#"{"a": 1}"#);
    let quote = market.paid(&call).await;
    // The same JSON in other bytes is another body, and so is what is no JSON at all.
    for body in [r#"{"a":1}"#, r#"{"a": 1} "#, r#"{"a": 2}"#, "", "not json"] {
        let answer = market.once(&market.call_of(body), &quote).await;
        let error = refused(&answer, 409, "RELAY_REQUEST_MISMATCH");
        assert_eq!(error["recovery"]["next_action"], "retry_original_request");
    }
    assert_eq!(market.service.total(), 0);
    ok(&market.redeem(&call, &quote).await);
    market.assert_settled(&quote, 1).await;
}

async fn another_listing_is_a_mismatch_and_nothing_is_consumed() {
    let market = Market::open().await;
    let call = market.call();
    let quote = market.paid(&call).await;
    let other = market.publish(json!({})).await;
    for listing in [
        other.id.as_str(),
        "no-such-slug",
        "00000000-0000-7000-8000-000000000000",
    ] {
        let elsewhere = PaidCall {
            listing: listing.to_owned(),
            ..call.clone()
        };
        refused(
            &market.once(&elsewhere, &quote).await,
            409,
            "RELAY_REQUEST_MISMATCH",
        );
    }
    ok(&market.redeem(&call, &quote).await);
    market.assert_settled(&quote, 1).await;
}

async fn a_mismatch_wins_over_a_delivered_answer() {
    let market = Market::open().await;
    let call = market.call();
    let (quote, answer) = market.buy(&call).await;
    ok(&answer);
    refused(
        &market.once(&market.call(), &quote).await,
        409,
        "RELAY_REQUEST_MISMATCH",
    );
    market.assert_settled(&quote, 1).await;
}

async fn currency_and_idempotency_key_are_ignored_with_a_payment() {
    let market = Market::open().await;
    let first = market.call().under_key("the first");
    ok(&market.buy(&first).await.1);
    let call = market.call();
    let quote = market.paid(&call).await;
    // A currency nobody offers, and a key that stands for another body: neither is looked at.
    let odd = call.clone().in_currency("DOGE").under_key("the first");
    let answer = market.redeem(&odd, &quote).await;
    let data = ok(&answer);
    assert_eq!(data["request_id"], quote.request_id.as_str());
    assert_eq!(
        answer.header("idempotent-replayed"),
        None,
        "it is a delivery of its own"
    );
    market.assert_settled(&quote, 1).await;
}

async fn a_delivered_answer_is_replayed_byte_for_byte_whatever_has_changed_since() {
    let market = Market::open().await;
    market.service.then(Reply::json(
        " {\"z\":1.0,\n\t\"a\":1e40, \"a\":\"\\u00e9\"} ",
    ));
    let call = market.call();
    let (quote, first) = market.buy(&call).await;
    ok(&first);
    assert_eq!(first.header("idempotent-replayed"), None);
    let replayed = |answer: &demo_agent::Answer| {
        assert_eq!(
            (answer.status, &answer.body),
            (200, &first.body),
            "{answer}"
        );
        assert_eq!(
            answer.header("idempotent-replayed"),
            Some("true"),
            "{:?}",
            answer.headers
        );
        assert_eq!(
            answer.header("x-crochet-request-id"),
            Some(quote.request_id.as_str())
        );
    };
    replayed(&market.once(&call, &quote).await);
    replayed(
        &market
            .once_as(&market.buyer.through(&market.door.apis[1]), &call, &quote)
            .await,
    );
    replayed(
        &market
            .once(&call.clone().under_key("later").in_currency("USDC"), &quote)
            .await,
    );
    market.patch(json!({ "pricing_amount": 7 })).await;
    market
        .put_endpoint(json!({ "status": "paused", "max_request_bytes": 1 }))
        .await;
    market.gateway_says("BODY_TOO_LARGE").await;
    replayed(&market.once(&call, &quote).await);
    market.patch(json!({ "status": "suspended" })).await;
    market.gateway_says("LISTING_NOT_ACTIVE").await;
    replayed(&market.once(&call, &quote).await);
    let stored = market
        .buyer
        .get(&format!("/gateway-requests/{}/response", quote.request_id))
        .await
        .unwrap();
    assert_eq!(
        (stored.status, &stored.body),
        (200, &first.body),
        "the stored envelope is the same"
    );
    market.assert_settled(&quote, 1).await;
}

async fn a_replay_needs_no_seller_and_no_media_type() {
    let market = Market::open().await;
    let call = market.call();
    let (quote, first) = market.buy(&call).await;
    ok(&first);
    let headers = [
        ("content-type", "text/plain"),
        (
            "x-crochet-relay-request-id",
            quote.relay_request_id.as_str(),
        ),
    ];
    let answer = market
        .buyer
        .send(
            Method::POST,
            &format!("/gateway/{}", market.listing.id),
            &headers,
            Some(call.body.clone()),
        )
        .await
        .unwrap();
    assert_eq!(
        (answer.status, &answer.body),
        (200, &first.body),
        "no row of the table speaks of the media type: {answer}"
    );
    market.assert_settled(&quote, 1).await;
}

async fn a_delivered_answer_that_is_stored_no_longer_is_410_with_its_facts() {
    let market = Market::open().await;
    let call = market.call().under_key("once");
    let (quote, first) = market.buy(&call).await;
    ok(&first);
    let sha256 = market
        .buyer
        .gateway_request(&quote.request_id)
        .await
        .unwrap()["response_sha256"]
        .clone();
    let id = uuid_of(&quote.request_id);
    market
        .door
        .sql(format!(
            "delete from stored_answer where request_id = '{id}'"
        ))
        .await;
    market.door.sql(format!("update gateway_request set delivered_at = delivered_at - interval '49 hours', answer_day = answer_day - 3 where id = '{id}'")).await;
    let answer = market.once(&call, &quote).await;
    let error = refused(&answer, 410, "RESPONSE_NO_LONGER_STORED");
    assert_eq!(error["recovery"]["next_action"], "start_new_payment");
    let data = answer.at("/data");
    assert_eq!(
        (
            &data["request_id"],
            &data["seller_status_code"],
            &data["response_sha256"]
        ),
        (&json!(quote.request_id), &json!(200), &sha256),
        "{answer}"
    );
    assert_eq!(
        data["charged_amount"],
        json!({ "amount_cents": 100, "amount_micros": 1_000_000, "currency": "USD" }),
        "{answer}"
    );
    assert_eq!(
        (
            &data["fees"]["fee_amount_micros"],
            &data["fees"]["seller_receives_micros"]
        ),
        (&json!(49_000), &json!(951_000)),
        "{answer}"
    );
    let state = market.relay_request(&quote).await;
    assert_eq!(
        (&state["status"], &state["response_available"]),
        (&json!("delivered"), &json!(false)),
        "{state}"
    );
    let stored = market
        .buyer
        .get(&format!("/gateway-requests/{}/response", quote.request_id))
        .await
        .unwrap();
    assert_eq!(
        (stored.status, stored.code().as_deref()),
        (410, Some("RESPONSE_NO_LONGER_STORED")),
        "{stored}"
    );
    market.assert_settled(&quote, 1).await;
}

async fn a_call_being_forwarded_is_in_progress_through_every_gateway() {
    let market = Market::open().await;
    let gate = Gate::shut();
    market.service.then(Reply::json("1").behind(&gate));
    let call = market.call();
    let quote = market.evidenced(&call).await;
    let first = market.redeem_meanwhile(&call, &quote);
    market.service.called_for(&quote.request_id).await;
    for api in &market.door.apis {
        let answer = market
            .once_as(&market.buyer.through(api), &call, &quote)
            .await;
        let error = refused(&answer, 409, "GATEWAY_REQUEST_IN_PROGRESS");
        assert_eq!(error["recovery"]["next_action"], "wait_and_retry");
        assert!(
            answer.header("retry-after").is_some(),
            "{:?}",
            answer.headers
        );
    }
    assert_eq!(market.relay_request(&quote).await["status"], "in_progress");
    assert_eq!(
        market
            .buyer
            .gateway_request(&quote.request_id)
            .await
            .unwrap()["status"],
        "in_progress"
    );
    gate.open();
    ok(&first.await.unwrap());
    market.assert_settled(&quote, 1).await;
}

async fn a_listing_under_its_slug_takes_the_same_payment() {
    let market = Market::open().await;
    let by_id = market.call();
    let by_slug = PaidCall {
        listing: market.listing.slug.clone(),
        ..by_id.clone()
    };
    let quote = market.paid(&by_slug).await;
    pending(&market.no_longer_quoted(market.api(), &by_id, &quote).await);
    ok(&market.redeem(&by_id, &quote).await);
    ok(&market.once(&by_slug, &quote).await);
    market.assert_settled(&quote, 1).await;
}

/// The database's form of a request's id.
pub(crate) fn uuid_of(request_id: &str) -> String {
    let hex = request_id.trim_start_matches("gw_req_");
    assert_eq!(hex.len(), 32, "{request_id}");
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}
