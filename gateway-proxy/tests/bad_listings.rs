//! Bad input at the routes a paid call stands on: listings, endpoints, ids. A contract error, no 5xx, nothing half-written.

use demo_agent::{Answer, Method};
use serde_json::{Value, json};

use crate::harness::{Market, text, trials};

trials!(
    prices_are_exact_or_refused,
    forbidden_endpoint_urls_are_refused,
    bad_endpoint_settings_are_named_all_at_once,
    text_fields_refuse_what_no_person_wrote,
    ids_that_are_none_are_404_or_400,
);

/// A challenge for listings, solved. Only a success uses it up, so one serves many refusals.
async fn solved(market: &Market) -> Value {
    let challenge = market
        .seller
        .post("/listings/challenge", &json!({}))
        .await
        .unwrap()
        .data(200)
        .unwrap();
    let difficulty = u32::try_from(challenge["pow"]["difficulty"].as_u64().unwrap()).unwrap();
    json!({ "nonce": challenge["nonce"], "pow_nonce": demo_agent::proof_of_work(text(&challenge["pow"]["challenge"]), difficulty) })
}

/// Tries to publish a listing with these fields replaced; the answer.
async fn publish(market: &Market, solved: &Value, fields: Value) -> Answer {
    let mut body = json!({
        "name": "A listing", "description": "Whatever.", "delivery_type": "api", "pricing_model": "per_call", "pricing_amount": "1",
        "private_endpoint_url": market.service.url(), "status": "active",
    });
    for fields in [solved.clone(), fields] {
        if let (Value::Object(body), Value::Object(fields)) = (&mut body, fields) {
            body.extend(fields);
        }
    }
    market.seller.post("/listings", &body).await.unwrap()
}

/// The fields a validation error names.
fn fields(answer: &Answer) -> Vec<String> {
    assert_eq!(
        (answer.status, answer.code().as_deref()),
        (400, Some("VALIDATION_ERROR")),
        "{answer}"
    );
    let named = answer.at("/error/details/fields");
    let named = named
        .as_array()
        .unwrap_or_else(|| panic!("no fields: {answer}"));
    assert!(
        named.iter().all(|field| field["problem"]
            .as_str()
            .is_some_and(|problem| !problem.is_empty())),
        "{answer}"
    );
    named
        .iter()
        .map(|field| field["field"].as_str().unwrap().to_owned())
        .collect()
}

async fn prices_are_exact_or_refused() {
    let market = Market::open().await;
    let solved = solved(&market).await;
    for price in [
        json!(1e308),
        json!(0.1 + 0.2),
        json!(-1),
        json!("1e3"),
        json!("-0.01"),
        json!("0.0000001"),
        json!(10_000.000_001),
        json!("10001"),
        json!(""),
        json!("1,0"),
        json!("NaN"),
        json!([1]),
        json!({}),
        json!(true),
        json!("0x10"),
        json!("１"),
        json!(0),
        json!("0"),
        json!("9".repeat(400)),
    ] {
        let answer = publish(&market, &solved, json!({ "pricing_amount": price })).await;
        assert!(
            answer.status == 400
                && String::from_utf8_lossy(&answer.body).contains("pricing_amount"),
            "{price}: {answer}"
        );
    }
    for (price, micros) in [
        (json!(0.01), 10_000),
        (json!("0.000001"), 1),
        (json!(10_000), 10_000_000_000_i64),
        (json!("1.50"), 1_500_000),
        (json!(0.1), 100_000),
    ] {
        let listing = market.publish(json!({ "pricing_amount": price })).await;
        assert_eq!(listing.json["pricing_amount_micros"], micros, "{price}");
    }
    market.assert_untouched().await;
}

async fn forbidden_endpoint_urls_are_refused() {
    let market = Market::open().await;
    let solved = solved(&market).await;
    for url in [
        "http://10.0.0.1/",
        "http://192.168.1.1/x",
        "http://172.16.0.1/",
        "http://169.254.169.254/latest/meta-data",
        "http://[fe80::1]/",
        "http://[fc00::1]/",
        "http://0.0.0.0/",
        "http://[::]/",
        "http://[::ffff:10.0.0.1]/",
        "http://[64:ff9b::a00:1]/",
        "http://100.64.0.1/",
        "http://198.18.0.1/",
        "http://224.0.0.1/",
        "http://255.255.255.255/",
        "http://0xa000001/",
        "http://012.0.0.1/",
        "http://10.1/",
        "http://user:pw@127.0.0.1/",
        "http://127.0.0.1/#fragment",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "https://1.1.1.1:22/",
        "https://no-such-host.invalid/",
        "gopher://127.0.0.1/",
        "//127.0.0.1/",
        "not a url",
        "http://",
        "http://127.0.0.1:99999/",
        "javascript:alert(1)",
        "http://127.0.0.1/\r\nX: y",
        "http://[2001:db8::1]/",
        "http://[2002:a00:1::]/",
        "http://[fec0::1]/",
    ] {
        let answer = publish(&market, &solved, json!({ "private_endpoint_url": url })).await;
        let code = answer.code().unwrap_or_default();
        assert!(
            answer.status == 400
                && (code == "ENDPOINT_URL_FORBIDDEN" || code == "VALIDATION_ERROR"),
            "{url}: {answer}"
        );
    }
    for url in ["http://10.0.0.1/", "https://no-such-host.invalid/"] {
        let body = json!({ "private_endpoint_url": url }).to_string();
        let answer = market
            .seller
            .send(
                Method::PUT,
                &format!("/listings/{}/endpoint", market.listing.id),
                &[],
                Some(body.into()),
            )
            .await
            .unwrap();
        assert_eq!(
            (answer.status, answer.code().as_deref()),
            (400, Some("ENDPOINT_URL_FORBIDDEN")),
            "{url}: {answer}"
        );
    }
    // What was refused changed nothing: the listing still sells at its place.
    let (quote, answer) = market.buy(&market.call()).await;
    crate::harness::ok(&answer);
    market.assert_settled(&quote, 1).await;
}

async fn bad_endpoint_settings_are_named_all_at_once() {
    let market = Market::open().await;
    let path = format!("/listings/{}/endpoint", market.listing.id);
    let put = async |body: Value| {
        market
            .seller
            .send(Method::PUT, &path, &[], Some(body.to_string().into()))
            .await
            .unwrap()
    };
    let all = put(json!({
        "timeout_ms": 999, "max_request_bytes": 8_388_609, "max_response_bytes": 0, "max_concurrency": 0, "redelivery": "sometimes", "status": "asleep",
        "auth_header": { "name": "Host", "value": "x" },
    }))
    .await;
    let named = fields(&all);
    for field in [
        "timeout_ms",
        "max_request_bytes",
        "max_response_bytes",
        "max_concurrency",
        "redelivery",
        "status",
    ] {
        assert!(
            named.iter().any(|name| name == field),
            "{field} is not named: {named:?}"
        );
    }
    assert!(
        named.iter().any(|name| name.starts_with("auth_header")),
        "{named:?}"
    );
    for bad in [
        json!({ "timeout_ms": 120_001 }),
        json!({ "timeout_ms": "1000" }),
        json!({ "timeout_ms": 1000.5 }),
        json!({ "max_concurrency": 1001 }),
        json!({ "timeout_ms": null }),
        json!({ "auth_header": { "name": "X-Crochet-Attempt", "value": "1" } }),
        json!({ "auth_header": { "name": "webhook-id", "value": "1" } }),
        json!({ "auth_header": { "name": "a b", "value": "1" } }),
        json!({ "auth_header": { "name": "X-Key", "value": "a\r\nX-Evil: 1" } }),
        json!({ "auth_header": { "name": "X-Key", "value": "" } }),
        json!({ "auth_header": { "name": "X-Key" } }),
        json!({ "auth_header": "X-Key: 1" }),
        json!({ "auth_header": { "name": "X".repeat(65), "value": "1" } }),
        json!({ "auth_header": { "name": "X-Key", "value": "v".repeat(4097) } }),
    ] {
        fields(&put(bad).await);
    }
    market.assert_untouched().await;
}

async fn text_fields_refuse_what_no_person_wrote() {
    let market = Market::open().await;
    let solved = solved(&market).await;
    for (field, value) in [
        ("name", json!("")),
        ("name", json!("   ")),
        ("name", json!("x".repeat(121))),
        ("name", json!("a\u{0}b")),
        ("name", json!(7)),
        ("name", Value::Null),
        ("description", json!("x".repeat(5001))),
        ("description", json!("\u{7}")),
        ("tags", json!(["x".repeat(33)])),
        ("tags", json!(vec!["a"; 11])),
        ("tags", json!("a")),
        ("delivery_type", json!("pigeon")),
        ("pricing_model", json!("auction")),
        ("pricing_currency", json!("EUR")),
        ("category", json!("no-such-category")),
        ("status", json!("suspended")),
        ("input_schema", json!({ "x": "y".repeat(33_000) })),
        ("pow_nonce", json!({})),
    ] {
        let answer = publish(&market, &solved, json!({ field: value })).await;
        let code = answer.code();
        assert!(
            answer.status == 400 && String::from_utf8_lossy(&answer.body).contains(field),
            "{field} = {value}: {answer} {code:?}"
        );
    }
    let lone = r#"{"display_name":"\ud800"}"#;
    let answer = market
        .buyer
        .send(Method::PATCH, "/me", &[], Some(lone.into()))
        .await
        .unwrap();
    assert_eq!(answer.status, 400, "{answer}");
    market.assert_untouched().await;
}

async fn ids_that_are_none_are_404_or_400() {
    let market = Market::open().await;
    for path in [
        "/gateway-requests/x",
        "/gateway-requests/gw_req_x",
        "/gateway-requests/gw_req_%00",
        "/relay-requests/x",
        "/relay-requests/%27",
        "/listings/%00",
        "/agents/x",
        "/agents/00000000-0000-0000-0000-00000000000g",
    ] {
        let answer = market.buyer.get(path).await.unwrap();
        assert!(
            [400, 404].contains(&answer.status) && answer.code().is_some(),
            "{path}: {answer}"
        );
    }
    for query in [
        "limit=0",
        "limit=101",
        "limit=x",
        "page=0",
        "page=-1",
        "cursor=x",
        "status=odd",
        "role=x",
        "from=x",
        "listing_id=x",
    ] {
        let answer = market
            .buyer
            .get(&format!("/gateway-requests?{query}"))
            .await
            .unwrap();
        assert_eq!(
            (answer.status, answer.code().as_deref()),
            (400, Some("VALIDATION_ERROR")),
            "{query}: {answer}"
        );
    }
    market.assert_untouched().await;
}
