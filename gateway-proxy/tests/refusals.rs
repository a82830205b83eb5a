//! Without a relay id: what refuses a call, and that the first match wins. Nothing is charged, nobody called.

use demo_agent::{Agent, Answer, Chain, Method, PaidCall};
use serde_json::json;

use crate::harness::{Market, refused, text, trials, until};

trials!(
    a_call_without_a_good_key_is_401_before_anything_else,
    a_revoked_key_is_refused_by_every_gateway_within_a_second,
    an_unknown_listing_wins_over_a_bad_body,
    a_draft_is_404_to_everybody,
    a_suspended_listing_wins_over_being_ones_own,
    a_free_listing_wins_over_a_bad_body,
    ones_own_listing_wins_over_a_bad_body,
    the_media_type_wins_over_the_size,
    the_size_wins_over_the_json,
    bad_json_wins_over_a_paused_seller,
    a_paused_seller_wins_over_the_currency,
    the_currency_wins_over_the_wallet,
    the_wallet_wins_over_the_routes_minimum,
    the_routes_minimum_is_the_seeds_body_exactly,
    a_solana_route_has_no_minimum,
    a_default_currency_follows_the_wallet,
);

/// A call with any headers, without a relay id.
async fn raw(
    market: &Market,
    buyer: &Agent,
    listing: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    buyer
        .send(
            Method::POST,
            &format!("/gateway/{listing}"),
            headers,
            Some(body.to_vec().into()),
        )
        .await
        .unwrap_or_else(|error| panic!("{}: {error:#}", market.listing.id))
}

const BAD_TYPE: [(&str, &str); 1] = [("content-type", "text/plain")];

async fn a_call_without_a_good_key_is_401_before_anything_else() {
    let market = Market::open().await;
    let typo = format!(
        "{}{}",
        &market.buyer.key[..market.buyer.key.len() - 1],
        if market.buyer.key.ends_with('a') {
            "b"
        } else {
            "a"
        }
    );
    let long = "x".repeat(5000);
    for key in [
        None,
        Some(""),
        Some("am_k_"),
        Some(typo.as_str()),
        Some(long.as_str()),
        Some("Basic abc"),
    ] {
        // Wrong in every other way too: no such listing, no JSON.
        let answer = market
            .api()
            .send(
                Method::POST,
                "/gateway/nowhere",
                key,
                &BAD_TYPE,
                Some("{".into()),
            )
            .await
            .unwrap();
        assert_eq!(answer.status, 401, "{key:?}: {answer}");
        let error = refused(&answer, 401, answer.code().as_deref().unwrap_or_default());
        assert!(
            ["UNAUTHORIZED", "INVALID_API_KEY"].contains(&text(&error["code"])),
            "{answer}"
        );
        assert!(
            answer
                .header("www-authenticate")
                .is_some_and(|value| value.starts_with("Bearer"))
        );
    }
    let none = market
        .api()
        .send(
            Method::POST,
            &format!("/gateway/{}", market.listing.id),
            None,
            &[],
            Some("{}".into()),
        )
        .await
        .unwrap();
    assert_eq!(
        refused(&none, 401, "UNAUTHORIZED")["recovery"]["next_action"],
        "send_api_key"
    );
    market.assert_untouched().await;
}

async fn a_revoked_key_is_refused_by_every_gateway_within_a_second() {
    let market = Market::open().await;
    let (second, key_id) = market.second_key().await;
    for api in &market.door.apis {
        let answer = second
            .through(api)
            .call(&market.call(), None)
            .await
            .unwrap();
        refused(&answer, 402, "PAYMENT_REQUIRED");
    }
    let path = format!("/api-keys/{key_id}");
    market
        .buyer
        .send(Method::DELETE, &path, &[], None)
        .await
        .unwrap()
        .data(200)
        .unwrap();
    let begun = std::time::Instant::now();
    for api in &market.door.apis {
        let through = second.through(api);
        let answer = until("the revoked key is refused", || async {
            let answer = through.call(&market.call(), None).await.unwrap();
            (answer.status == 401).then_some(answer)
        })
        .await;
        assert_eq!(
            refused(&answer, 401, "INVALID_API_KEY")["recovery"]["next_action"],
            "recover_account"
        );
    }
    assert!(
        begun.elapsed() < std::time::Duration::from_millis(1500),
        "it took {:?}",
        begun.elapsed()
    );
    market.assert_untouched().await;
}

async fn an_unknown_listing_wins_over_a_bad_body() {
    let market = Market::open().await;
    for listing in [
        "no-such-slug",
        "00000000-0000-7000-8000-000000000000",
        "%20",
        "'%22;",
        &"x".repeat(300),
    ] {
        let answer = raw(&market, &market.buyer, listing, &BAD_TYPE, b"{").await;
        assert_eq!(
            refused(&answer, 404, "LISTING_NOT_FOUND")["recovery"]["next_action"],
            "browse_listings"
        );
    }
    market.assert_untouched().await;
}

async fn a_draft_is_404_to_everybody() {
    let market = Market::open().await;
    let draft = market.publish(json!({ "status": "draft" })).await;
    for agent in [&market.buyer, &market.seller] {
        refused(
            &raw(&market, agent, &draft.id, &BAD_TYPE, b"{").await,
            404,
            "LISTING_NOT_FOUND",
        );
    }
    market.assert_untouched().await;
}

async fn a_suspended_listing_wins_over_being_ones_own() {
    let market = Market::open().await;
    market.patch(json!({ "status": "suspended" })).await;
    market.gateway_says("LISTING_NOT_ACTIVE").await;
    for agent in [&market.buyer, &market.seller] {
        let answer = raw(&market, agent, &market.listing.id, &BAD_TYPE, b"{").await;
        refused(&answer, 409, "LISTING_NOT_ACTIVE");
    }
    market.assert_untouched().await;
}

async fn a_free_listing_wins_over_a_bad_body() {
    let market = Market::open().await;
    let free = market
        .publish(
            json!({ "pricing_model": "free", "pricing_amount": 0, "private_endpoint_url": null }),
        )
        .await;
    for agent in [&market.buyer, &market.seller] {
        refused(
            &raw(&market, agent, &free.id, &BAD_TYPE, b"{").await,
            400,
            "LISTING_NOT_PER_CALL",
        );
    }
    market.assert_untouched().await;
}

async fn ones_own_listing_wins_over_a_bad_body() {
    let market = Market::open().await;
    let answer = raw(&market, &market.seller, &market.listing.id, &BAD_TYPE, b"{").await;
    refused(&answer, 403, "CANNOT_BUY_OWN_LISTING");
    market.assert_untouched().await;
}

async fn the_media_type_wins_over_the_size() {
    let market = Market::with(json!({ "endpoint": { "max_request_bytes": 10 } })).await;
    let large = [b'['; 100];
    for headers in [
        &[("content-type", "text/plain")][..],
        &[("content-type", "")],
        &[("content-type", "application/jsonx")],
        &[
            ("content-type", "application/json"),
            ("content-encoding", "gzip"),
        ],
    ] {
        let answer = raw(&market, &market.buyer, &market.listing.id, headers, &large).await;
        refused(&answer, 415, "UNSUPPORTED_MEDIA_TYPE");
    }
    // A parameter does not make it another type.
    let answer = raw(
        &market,
        &market.buyer,
        &market.listing.id,
        &[("content-type", "Application/JSON; charset=utf-8")],
        b"{}",
    )
    .await;
    refused(&answer, 402, "PAYMENT_REQUIRED");
    market.assert_untouched().await;
}

async fn the_size_wins_over_the_json() {
    let market = Market::with(json!({ "endpoint": { "max_request_bytes": 10 } })).await;
    refused(
        &raw(
            &market,
            &market.buyer,
            &market.listing.id,
            &[],
            b"[[[[[[[[[[[",
        )
        .await,
        413,
        "BODY_TOO_LARGE",
    );
    refused(
        &raw(
            &market,
            &market.buyer,
            &market.listing.id,
            &[],
            b"[[[[[[[[[[",
        )
        .await,
        400,
        "INVALID_JSON",
    );
    refused(
        &raw(
            &market,
            &market.buyer,
            &market.listing.id,
            &[],
            b"[12345678]",
        )
        .await,
        402,
        "PAYMENT_REQUIRED",
    );
    market.assert_untouched().await;
}

async fn bad_json_wins_over_a_paused_seller() {
    let market = Market::open().await;
    market.put_endpoint(json!({ "status": "paused" })).await;
    market.gateway_says("SELLER_UNAVAILABLE").await;
    let answer = raw(&market, &market.buyer, &market.listing.id, &[], b"{").await;
    assert_eq!(
        refused(&answer, 400, "INVALID_JSON")["recovery"]["next_action"],
        "fix_request"
    );
    market.assert_untouched().await;
}

async fn a_paused_seller_wins_over_the_currency() {
    let market = Market::open().await;
    market.put_endpoint(json!({ "status": "paused" })).await;
    market.gateway_says("SELLER_UNAVAILABLE").await;
    let answer = market
        .buyer
        .call(&market.call().in_currency("DOGE"), None)
        .await
        .unwrap();
    let error = refused(&answer, 503, "SELLER_UNAVAILABLE");
    assert_eq!(error["recovery"]["next_action"], "wait_and_retry");
    assert!(answer.header("retry-after").is_some());
    market.assert_untouched().await;
}

async fn the_currency_wins_over_the_wallet() {
    let market = Market::with(json!({ "pricing_amount": "0.01" })).await;
    for currency in ["DOGE", "sol ana", "", "BTC", "USDC_BASE", &"X".repeat(300)] {
        let answer = market
            .buyer
            .call(&market.call().in_currency(currency), None)
            .await
            .unwrap();
        let error = refused(&answer, 400, "ORIGIN_CURRENCY_UNSUPPORTED");
        assert_eq!(
            error["recovery"]["next_action"], "try_other_origin_currency",
            "{currency:?}"
        );
    }
    market.assert_untouched().await;
}

async fn the_wallet_wins_over_the_routes_minimum() {
    let market = Market::with(json!({ "pricing_amount": "0.01" })).await;
    for currency in ["USDC", "ETH"] {
        let answer = market
            .buyer
            .call(&market.call().in_currency(currency), None)
            .await
            .unwrap();
        assert_eq!(
            refused(&answer, 400, "PAYMENT_WALLET_REQUIRED")["recovery"]["next_action"],
            "link_evm_wallet"
        );
    }
    let evm = market.another_buyer(Chain::Evm).await;
    for currency in ["SOL", "USDC_SOL"] {
        let answer = evm
            .call(&market.call().in_currency(currency), None)
            .await
            .unwrap();
        assert_eq!(
            refused(&answer, 400, "PAYMENT_WALLET_REQUIRED")["recovery"]["next_action"],
            "link_solana_wallet"
        );
    }
    market.assert_untouched().await;
}

async fn the_routes_minimum_is_the_seeds_body_exactly() {
    let market = Market::with(json!({ "pricing_amount": "0.099999" })).await;
    let evm = market.another_buyer(Chain::Evm).await;
    for currency in [None, Some("USDC"), Some("ETH")] {
        let call = PaidCall {
            origin_currency: currency.map(str::to_owned),
            ..market.call()
        };
        let answer = evm.call(&call, None).await.unwrap();
        let error = refused(&answer, 400, "PAYMENT_ROUTE_MINIMUM_NOT_MET");
        assert_eq!(
            error["message"],
            "This payment route cannot support the listing's low per-call price."
        );
        assert_eq!(
            error["details"],
            json!({ "seller_endpoint_called": false, "recommended_origin_currency": "SOL", "recommended_gateway_headers": { "X-Crochet-Origin-Currency": "SOL" } })
        );
        let recovery = &error["recovery"];
        assert_eq!(recovery["next_action"], "retry_with_solana_payment_route");
        assert_eq!(
            (
                &recovery["retry_same_route"],
                &recovery["use_new_idempotency_key"]
            ),
            (&json!(false), &json!(true))
        );
    }
    market.assert_untouched().await;
    // At the minimum the route carries it.
    let at_minimum = Market::with(json!({ "pricing_amount": "0.1" })).await;
    refused(
        &evm.call(&at_minimum.call(), None).await.unwrap(),
        402,
        "PAYMENT_REQUIRED",
    );
    at_minimum.assert_untouched().await;
}

async fn a_solana_route_has_no_minimum() {
    let market = Market::with(json!({ "pricing_amount": "0.000001" })).await;
    for currency in ["SOL", "USDC_SOL"] {
        let answer = market
            .buyer
            .call(&market.call().in_currency(currency), None)
            .await
            .unwrap();
        refused(&answer, 402, "PAYMENT_REQUIRED");
        assert_eq!(
            answer.at("/data/payment/amount"),
            json!({ "amount_cents": 0, "amount_micros": 1, "currency": "USD" })
        );
    }
    market.assert_untouched().await;
}

async fn a_default_currency_follows_the_wallet() {
    let market = Market::open().await;
    let evm = market.another_buyer(Chain::Evm).await;
    for (buyer, currency, chain) in [
        (&market.buyer, "SOL", 792_703_809_u64),
        (&evm, "USDC", 8453),
    ] {
        let quote = buyer.quote(&market.call()).await.unwrap();
        assert_eq!(
            (
                &quote.payment["origin_currency"],
                &quote.payment["requirements"]["chain_id"]
            ),
            (&json!(currency), &json!(chain)),
            "{}",
            quote.payment
        );
    }
    market.assert_untouched().await;
}
