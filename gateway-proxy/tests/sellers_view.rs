//! What reaches the seller: the buyer's bytes, signed, and nothing else of the buyer's.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use demo_agent::{Method, PaidCall, Quote};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use standardwebhooks::Webhook;

use crate::harness::{Arrival, Market, Service, ok, shared, text, trials, until};

trials!(
    the_seller_receives_exactly_the_contracts_headers,
    nothing_else_of_the_buyers_goes_through,
    the_body_arrives_byte_for_byte,
    any_standard_webhooks_library_verifies_the_call,
    both_secrets_sign_while_a_rotation_overlaps,
    the_endpoints_own_auth_header_goes_with_the_call,
    the_endpoints_path_and_query_are_kept,
    connections_to_a_seller_are_pooled,
    a_changed_url_reaches_the_new_place_only,
);

/// Whether `secret` verifies this call.
pub(crate) fn verifies(arrival: &Arrival, secret: &str) -> bool {
    let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    let headers: HeaderMap = names
        .into_iter()
        .map(|name| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_str(arrival.header(name)).unwrap(),
            )
        })
        .collect();
    Webhook::new(secret)
        .unwrap()
        .verify(&arrival.request.body, &headers)
        .is_ok()
}

pub(crate) fn secret(market: &Market) -> &str {
    market.listing.signing_secret.as_deref().unwrap()
}

/// The names of all headers of a call, each of which stands there once.
fn header_names(arrival: &Arrival) -> BTreeSet<&str> {
    let names: Vec<&str> = arrival
        .request
        .headers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    let set: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(
        set.len(),
        names.len(),
        "a header stands there twice: {names:?}"
    );
    set
}

/// What the contract lists, and what HTTP itself needs.
const HEADERS: [&str; 16] = [
    "host",
    "content-length",
    "content-type",
    "content-digest",
    "user-agent",
    "accept-encoding",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "x-crochet-signature",
    "x-crochet-request-id",
    "x-crochet-timestamp",
    "x-crochet-listing-id",
    "x-crochet-buyer-id",
    "x-crochet-attempt",
    "connection",
];

/// The headers of a call, less the one that HTTP may leave out.
fn assert_contract_headers(arrival: &Arrival, more: &[&'static str]) {
    let mut wanted: BTreeSet<&str> = HEADERS.into_iter().chain(more.iter().copied()).collect();
    wanted.remove("connection");
    let mut found = header_names(arrival);
    found.remove("connection");
    assert_eq!(found, wanted);
}

async fn the_seller_receives_exactly_the_contracts_headers() {
    let market = Market::open().await;
    let call = market.call();
    let (quote, answer) = market.buy(&call).await;
    ok(&answer);
    let arrival = market.service.called_for(&quote.request_id).await;
    assert_contract_headers(&arrival, &[]);
    assert!(
        arrival.request.line.starts_with("POST /hook?x=1 HTTP/1.1"),
        "{}",
        arrival.request.line
    );
    let digest = STANDARD.encode(Sha256::digest(&call.body));
    for (name, value) in [
        ("host", format!("127.0.0.1:{}", market.service.port())),
        ("content-length", call.body.len().to_string()),
        ("content-type", "application/json".to_owned()),
        ("content-digest", format!("sha-256=:{digest}:")),
        ("accept-encoding", "identity".to_owned()),
        ("webhook-id", quote.request_id.clone()),
        ("x-crochet-request-id", quote.request_id.clone()),
        (
            "x-crochet-signature",
            arrival.header("webhook-signature").to_owned(),
        ),
        (
            "x-crochet-timestamp",
            arrival.header("webhook-timestamp").to_owned(),
        ),
        ("x-crochet-listing-id", market.listing.id.clone()),
        ("x-crochet-buyer-id", market.buyer.id.clone()),
        ("x-crochet-attempt", "1".to_owned()),
    ] {
        assert_eq!(arrival.header(name), value, "{name}");
    }
    assert!(
        arrival.header("user-agent").starts_with("Crochet-Gateway/"),
        "{}",
        arrival.header("user-agent")
    );
    market.assert_settled(&quote, 1).await;
}

async fn nothing_else_of_the_buyers_goes_through() {
    let market = Market::open().await;
    let call = market.call();
    let quote = market.paid(&call).await;
    let own = [
        (
            "x-crochet-relay-request-id",
            quote.relay_request_id.as_str(),
        ),
        ("cookie", "a=b"),
        ("x-forwarded-for", "1.2.3.4"),
        ("forwarded", "for=1.2.3.4"),
        ("x-real-ip", "1.2.3.4"),
        ("x-custom", "mine"),
        (
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
        ("user-agent", "me/1.0"),
        ("accept", "text/html"),
        ("accept-encoding", "gzip, br"),
        ("accept-language", "de"),
        ("referer", "http://here"),
        ("origin", "http://here"),
        ("x-crochet-attempt", "9"),
        ("x-crochet-buyer-id", "somebody"),
        ("x-crochet-signature", "v1,AAAA"),
        ("webhook-id", "gw_req_mine"),
        ("webhook-signature", "v1,AAAA"),
        ("x-request-id", "my-own-request-id"),
        ("idempotency-key", "mine"),
        ("x-api-key", "mine"),
        ("te", "trailers"),
        ("content-digest", "sha-256=:AAAA:"),
        ("proxy-authorization", "Basic x"),
        ("content-type", "application/json; charset=utf-8"),
        ("x-crochet-test", "true"),
    ];
    let path = format!("/gateway/{}", market.listing.id);
    let answer = until("the call is delivered", || async {
        let answer = market
            .buyer
            .send(Method::POST, &path, &own, Some(call.body.clone()))
            .await
            .unwrap();
        (answer.status != 202).then_some(answer)
    })
    .await;
    ok(&answer);
    assert_eq!(answer.header("x-request-id"), Some("my-own-request-id"));
    let arrival = market.service.called_for(&quote.request_id).await;
    assert_contract_headers(&arrival, &[]);
    assert_eq!(
        (
            arrival.header("x-crochet-attempt"),
            arrival.header("x-crochet-buyer-id")
        ),
        ("1", market.buyer.id.as_str())
    );
    assert_eq!(
        (
            arrival.header("content-type"),
            arrival.header("accept-encoding")
        ),
        ("application/json", "identity")
    );
    let seen = String::from_utf8_lossy(&arrival.request.raw).into_owned();
    for (_, value) in own
        .iter()
        .filter(|(_, value)| value.len() > 6 && !value.starts_with("application/json"))
    {
        assert!(!seen.contains(value), "{value} went through");
    }
    assert!(
        !seen.contains(&market.buyer.key),
        "the buyer's key went through"
    );
    assert!(verifies(&arrival, secret(&market)));
    market.assert_settled(&quote, 1).await;
}

async fn the_body_arrives_byte_for_byte() {
    let market = Market::open().await;
    for body in [
        "{}",
        "1",
        "null",
        " {\"b\":1,\r\n\"a\":1.0, \"b\":2}\n",
        "\"é\u{1F600}\\u00e9\"",
        "[1e400,-0]",
        &format!("{}{}", "[".repeat(128), "]".repeat(128)),
    ] {
        let call = market.call_of(body.as_bytes().to_vec());
        let (quote, answer) = market.buy(&call).await;
        ok(&answer);
        let arrival = market.service.called_for(&quote.request_id).await;
        assert_eq!(arrival.request.body, body.as_bytes());
        assert!(verifies(&arrival, secret(&market)));
        market.assert_settled(&quote, 1).await;
    }
}

async fn any_standard_webhooks_library_verifies_the_call() {
    let market = Market::open().await;
    let (quote, answer) = market.buy(&market.call()).await;
    ok(&answer);
    let arrival = market.service.called_for(&quote.request_id).await;
    assert!(secret(&market).starts_with("whsec_"));
    assert!(verifies(&arrival, secret(&market)));
    let other = format!("whsec_{}", STANDARD.encode([7; 32]));
    assert!(!verifies(&arrival, &other), "another secret does not");
    market.assert_settled(&quote, 1).await;
}

async fn both_secrets_sign_while_a_rotation_overlaps() {
    let market = Market::open().await;
    let rotated = market
        .seller
        .post(
            &format!("/listings/{}/endpoint/rotate-secret", market.listing.id),
            &json!({}),
        )
        .await
        .unwrap()
        .data(200)
        .unwrap();
    let fresh = text(&rotated["signing_secret"]).to_owned();
    assert!(
        rotated["previous_secret_expires_at"].is_string(),
        "{rotated}"
    );
    assert_ne!(fresh, secret(&market));
    let arrival = until("a call is signed with both secrets", || async {
        let (quote, answer) = market.buy(&market.call()).await;
        ok(&answer);
        market.assert_settled(&quote, 1).await;
        let arrival = market.service.called_for(&quote.request_id).await;
        verifies(&arrival, &fresh).then_some(arrival)
    })
    .await;
    assert!(
        verifies(&arrival, secret(&market)),
        "the previous secret signs too: {}",
        arrival.header("webhook-signature")
    );
    assert_eq!(arrival.header("webhook-signature").split(' ').count(), 2);
    assert_eq!(
        arrival.header("x-crochet-signature"),
        arrival.header("webhook-signature")
    );
}

async fn the_endpoints_own_auth_header_goes_with_the_call() {
    let market = Market::with(json!({ "endpoint": { "auth_header": { "name": "Authorization", "value": "Bearer of the seller's" } } })).await;
    let (quote, answer) = market.buy(&market.call()).await;
    ok(&answer);
    let arrival = market.service.called_for(&quote.request_id).await;
    assert_contract_headers(&arrival, &["authorization"]);
    assert_eq!(arrival.header("authorization"), "Bearer of the seller's");
    market.assert_settled(&quote, 1).await;
    market
        .put_endpoint(json!({ "auth_header": { "name": "X-My-Key", "value": "k" } }))
        .await;
    until("the changed header is sent", || async {
        let (quote, answer) = market.buy(&market.call()).await;
        ok(&answer);
        let arrival = market.service.called_for(&quote.request_id).await;
        (arrival.header("x-my-key") == "k" && arrival.request.header("authorization").is_none())
            .then_some(())
    })
    .await;
}

async fn the_endpoints_path_and_query_are_kept() {
    let door = shared().await;
    let service = Service::start().await;
    let origin = format!("http://127.0.0.1:{}", service.port());
    let market = Market::selling_at(
        &door,
        service,
        &format!("{origin}/a%2Fb//c;d=1/..;/%e9?q=a+b&q=%20&&=x?y"),
        json!({}),
    )
    .await;
    let (quote, answer) = market.buy(&market.call()).await;
    ok(&answer);
    let arrival = market.service.called_for(&quote.request_id).await;
    assert_eq!(
        arrival.request.second_word(),
        "/a%2Fb//c;d=1/..;/%e9?q=a+b&q=%20&&=x?y"
    );
    market.assert_settled(&quote, 1).await;
    market
        .patch(json!({ "private_endpoint_url": origin }))
        .await;
    until("the root is called", || async {
        let (quote, answer) = market.buy(&market.call()).await;
        ok(&answer);
        (market
            .service
            .called_for(&quote.request_id)
            .await
            .request
            .second_word()
            == "/")
            .then_some(())
    })
    .await;
}

async fn connections_to_a_seller_are_pooled() {
    let market = Market::open().await;
    let mut paid = Vec::new();
    for _ in 0..5 {
        let call = market.call();
        paid.push((market.evidenced(&call).await, call));
    }
    // One right after the other: an idle connection is kept for a few seconds only.
    for (quote, call) in &paid {
        ok(&market.redeem(call, quote).await);
    }
    let connections = market.service.connections();
    assert!(
        connections < paid.len(),
        "{connections} connections for {} calls",
        paid.len()
    );
    for (quote, _) in &paid {
        market.assert_settled(quote, 1).await;
    }
}

async fn a_changed_url_reaches_the_new_place_only() {
    let market = Market::open().await;
    let (quote, answer) = market.buy(&market.call()).await;
    ok(&answer);
    market.assert_settled(&quote, 1).await;
    let call = market.call();
    let waiting: Quote = market.evidenced(&call).await;
    let new_place = Service::start().await;
    market
        .put_endpoint(json!({ "private_endpoint_url": new_place.url() }))
        .await;
    // Every gateway knows within a second; until then the old place may be called.
    for api in &market.door.apis {
        until("the new place is called", || async {
            let call: PaidCall = market.call();
            let (quote, answer) = (market.paid(&call).await, market.buyer.through(api));
            ok(&market.redeem_as(&answer, &call, &quote).await);
            (new_place.count(&quote.request_id) == 1).then_some(())
        })
        .await;
    }
    let before = market.service.total();
    ok(&market.redeem(&call, &waiting).await);
    assert_eq!(
        (new_place.count(&waiting.request_id), market.service.total()),
        (1, before)
    );
}
