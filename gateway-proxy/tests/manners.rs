//! HTTP manners of the gateway's own answers (contract §2).

use demo_agent::{Answer, Method};
use serde_json::json;

use crate::harness::{Market, Wire, World, manners, ok, refused, request, shared, trials};

trials!(
    a_good_request_id_is_kept_and_a_bad_one_replaced,
    every_kind_of_answer_has_the_manners,
    a_connection_stays_open_after_refusals,
    an_expected_continue_is_given,
    a_chunked_request_is_taken,
    pipelined_calls_are_not_mixed_up,
    other_methods_are_405_with_allow,
    any_origin_may_call_and_none_with_credentials,
    limits_answer_429_with_a_time_to_wait,
    rate_limit_headers_tell_what_is_left,
);

async fn a_good_request_id_is_kept_and_a_bad_one_replaced() {
    let market = Market::open().await;
    let path = format!("/gateway/{}", market.listing.id);
    let ask = async |id: &str| {
        market
            .buyer
            .send(
                Method::POST,
                &path,
                &[("x-request-id", id)],
                Some("{}".into()),
            )
            .await
            .unwrap()
    };
    let longest = "a".repeat(128);
    for id in ["12345678", "abc-DEF_0123456789", longest.as_str()] {
        assert_eq!(ask(id).await.header("x-request-id"), Some(id));
    }
    let too_long = "a".repeat(129);
    for id in [
        "1234567",
        "with space here",
        "semi;colon;here",
        too_long.as_str(),
        "",
    ] {
        let answer = ask(id).await;
        manners(&answer);
        assert_ne!(answer.header("x-request-id"), Some(id));
    }
    let (one, two) = (ask("").await, ask("").await);
    assert_ne!(
        one.header("x-request-id"),
        two.header("x-request-id"),
        "each made one is new"
    );
    market.assert_untouched().await;
}

async fn every_kind_of_answer_has_the_manners() {
    let market = Market::open().await;
    let call = market.call();
    let unpaid = market.buyer.call(&call, None).await.unwrap();
    refused(&unpaid, 402, "PAYMENT_REQUIRED");
    assert!(unpaid.header("x-crochet-request-id").is_some());
    let quote = market.buyer.quote(&call).await.unwrap();
    let waiting = market.once(&call, &quote).await;
    crate::harness::pending(&waiting);
    market
        .door
        .sandbox
        .deposit(&[&quote.relay_request_id])
        .await
        .unwrap();
    let delivered = market.redeem(&call, &quote).await;
    ok(&delivered);
    let replayed = market.once(&call, &quote).await;
    ok(&replayed);
    for answer in [&unpaid, &waiting, &delivered, &replayed] {
        assert_eq!(
            answer.header("x-crochet-request-id"),
            Some(quote.request_id.as_str()),
            "{answer}"
        );
    }
    market.assert_settled(&quote, 1).await;
}

async fn a_connection_stays_open_after_refusals() {
    let market = Market::open().await;
    let mut wire = Wire::to(market.api()).await;
    let line = format!("POST /api/v1/gateway/{}", market.listing.id);
    let bearer = format!("Bearer {}", market.buyer.key);
    let with_key = [
        ("Authorization", bearer.as_str()),
        ("Content-Type", "application/json"),
    ];
    let unknown = [
        ("Authorization", bearer.as_str()),
        ("Content-Type", "application/json"),
        ("X-Crochet-Relay-Request-Id", "0xabc"),
    ];
    for (headers, body, status) in [
        (&[][..], &b"{}"[..], 401),
        (&with_key, b"{", 400),
        (&with_key, b"{}", 402),
        (&unknown, b"{}", 404),
        (
            &[
                ("Authorization", bearer.as_str()),
                ("Content-Type", "text/plain"),
            ],
            b"{}",
            415,
        ),
        (&with_key, b"{}", 402),
    ] {
        let answer = wire.ask(&line, headers, body).await;
        assert_eq!(
            answer.status(),
            status,
            "{}",
            String::from_utf8_lossy(&answer.raw)
        );
        assert_ne!(answer.header("connection"), Some("close"), "{status}");
        for name in [
            "x-request-id",
            "content-length",
            "content-type",
            "cache-control",
        ] {
            assert_eq!(answer.count(name), 1, "{name} of {status}");
        }
    }
    market.assert_untouched().await;
}

async fn an_expected_continue_is_given() {
    let market = Market::open().await;
    let mut wire = Wire::to(market.api()).await;
    let bearer = format!("Bearer {}", market.buyer.key);
    let head = format!(
        "POST /api/v1/gateway/{} HTTP/1.1\r\nHost: crochet.test\r\nAuthorization: {bearer}\r\nContent-Type: application/json\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n",
        market.listing.id
    );
    wire.send(head.as_bytes()).await;
    assert_eq!(wire.informational().await, 100);
    wire.send(b"{}").await;
    let answer = wire.answer().await.unwrap();
    assert_eq!(
        (answer.status(), answer.code()),
        (402, "PAYMENT_REQUIRED".to_owned())
    );
    market.assert_untouched().await;
}

async fn a_chunked_request_is_taken() {
    let market = Market::open().await;
    let call = market.call_of("{\"chunked\":true}");
    let quote = market.evidenced(&call).await;
    let mut wire = Wire::to(market.api()).await;
    let bearer = format!("Bearer {}", market.buyer.key);
    let headers = [
        ("Authorization", bearer.as_str()),
        ("Content-Type", "application/json"),
        ("Transfer-Encoding", "chunked"),
        (
            "X-Crochet-Relay-Request-Id",
            quote.relay_request_id.as_str(),
        ),
    ];
    let line = format!("POST /api/v1/gateway/{}", market.listing.id);
    let answer = wire
        .ask(
            &line,
            &headers,
            b"5\r\n{\"chu\r\nb\r\nnked\":true}\r\n0\r\n\r\n",
        )
        .await;
    assert_eq!(
        answer.status(),
        200,
        "{}",
        String::from_utf8_lossy(&answer.raw)
    );
    let arrival = market.service.called_for(&quote.request_id).await;
    assert_eq!(
        (
            arrival.request.body.as_ref(),
            arrival.header("content-length")
        ),
        (call.body.as_ref(), "16")
    );
    market.assert_settled(&quote, 1).await;
    // A chunked body over the cap is refused as any other.
    let large = format!("200001\r\n{}\r\n0\r\n\r\n", "1".repeat(0x20_0001));
    let mut wire = Wire::to(market.api()).await;
    let answer = wire.ask(&line, &headers[..3], large.as_bytes()).await;
    assert_eq!(
        (answer.status(), answer.code()),
        (413, "BODY_TOO_LARGE".to_owned())
    );
}

async fn pipelined_calls_are_not_mixed_up() {
    let market = Market::open().await;
    let mut wire = Wire::to(market.api()).await;
    let bearer = format!("Bearer {}", market.buyer.key);
    let headers = [
        ("Authorization", bearer.as_str()),
        ("Content-Type", "application/json"),
    ];
    let line = format!("POST /api/v1/gateway/{}", market.listing.id);
    let mut both = request(
        &line,
        &[headers[0], headers[1], ("X-Request-Id", "the-first-one")],
        b"{\"a\":1}",
    );
    both.extend(request(
        &line,
        &[headers[0], headers[1], ("X-Request-Id", "the-second-one")],
        b"{\"a\":2}",
    ));
    wire.send(&both).await;
    let first = wire.answer().await.unwrap();
    assert_eq!(
        (first.status(), first.header("x-request-id")),
        (402, Some("the-first-one"))
    );
    // A server may leave what was sent too early to be sent again, by closing; it may not mix the two up.
    if let Some(second) = wire.answer().await {
        assert_eq!(
            (second.status(), second.header("x-request-id")),
            (402, Some("the-second-one"))
        );
    }
    market.assert_untouched().await;
}

async fn other_methods_are_405_with_allow() {
    let market = Market::open().await;
    for method in ["GET", "PUT", "DELETE", "PATCH"] {
        let path = format!("/gateway/{}", market.listing.id);
        let answer = market
            .buyer
            .send(
                Method::from_bytes(method.as_bytes()).unwrap(),
                &path,
                &[],
                None,
            )
            .await
            .unwrap();
        refused(&answer, 405, "METHOD_NOT_ALLOWED");
        assert_eq!(answer.header("allow"), Some("POST"), "{method}");
    }
    let mut wire = Wire::to(market.api()).await;
    wire.send(&request(
        &format!("HEAD /api/v1/gateway/{}", market.listing.id),
        &[],
        b"",
    ))
    .await;
    let answer = wire.answer_to_head().await.unwrap();
    assert_eq!(
        (answer.status(), answer.header("allow")),
        (405, Some("POST"))
    );
    market.assert_untouched().await;
}

async fn any_origin_may_call_and_none_with_credentials() {
    let market = Market::open().await;
    let path = format!("/gateway/{}", market.listing.id);
    let headers = [("origin", "https://somewhere.example")];
    let answer = market
        .buyer
        .send(Method::POST, &path, &headers, Some("{}".into()))
        .await
        .unwrap();
    refused(&answer, 402, "PAYMENT_REQUIRED");
    assert_eq!(
        (
            answer.header("access-control-allow-origin"),
            answer.header("access-control-allow-credentials")
        ),
        (Some("*"), None)
    );
    let asked = [
        ("origin", "https://somewhere.example"),
        ("access-control-request-method", "POST"),
        (
            "access-control-request-headers",
            "authorization,content-type,x-crochet-relay-request-id",
        ),
    ];
    let preflight = market
        .api()
        .send(Method::OPTIONS, &path, None, &asked, None)
        .await
        .unwrap();
    assert!((200..300).contains(&preflight.status), "{preflight}");
    assert_eq!(
        preflight.header("access-control-allow-origin"),
        Some("*"),
        "{:?}",
        preflight.headers
    );
    let allowed = preflight
        .header("access-control-allow-headers")
        .unwrap_or_default()
        .to_lowercase();
    assert!(
        allowed.contains("authorization") && allowed.contains("x-crochet-relay-request-id"),
        "{allowed:?}"
    );
    market.assert_untouched().await;
}

fn limited(answer: &Answer) {
    let error = refused(answer, 429, "RATE_LIMITED");
    assert_eq!(error["recovery"]["next_action"], "wait_and_retry");
    assert!(
        answer.header("retry-after").is_some(),
        "{:?}",
        answer.headers
    );
}

async fn limits_answer_429_with_a_time_to_wait() {
    let world = World::own("limits", |options| {
        let options = options.set("RATE_LIMIT_OPEN_QUOTES", "3").unwrap();
        let options = options
            .set("RATE_LIMIT_UNKNOWN_KEYS_PER_MINUTE", "6")
            .unwrap();
        options
            .set("RATE_LIMIT_KEY_CALLS_PER_MINUTE", "30")
            .unwrap()
    })
    .await;
    let market = Market::within(&world.door, json!({})).await;
    // Open unpaid quotes, per buyer.
    let first = market.call();
    let quote = market.buyer.quote(&first).await.unwrap();
    for _ in 0..2 {
        market.buyer.quote(&market.call()).await.unwrap();
    }
    limited(&market.buyer.call(&market.call(), None).await.unwrap());
    // The same quote again is none more, and a paid one is open no longer.
    assert!(market.buyer.quote(&first).await.unwrap().reused);
    market
        .door
        .sandbox
        .deposit(&[&quote.relay_request_id])
        .await
        .unwrap();
    ok(&market.redeem(&first, &quote).await);
    market.assert_settled(&quote, 1).await;
    refused(
        &market.buyer.call(&market.call(), None).await.unwrap(),
        402,
        "PAYMENT_REQUIRED",
    );
    // Calls per key; another key of another agent has a count of its own.
    let calls = market.call();
    let mut answers = Vec::new();
    for _ in 0..40 {
        answers.push(market.buyer.call(&calls, Some("0xunknown")).await.unwrap());
    }
    limited(answers.last().unwrap());
    assert_eq!(answers[0].status, 404);
    refused(
        &market.seller.call(&calls, Some("0xunknown")).await.unwrap(),
        404,
        "RELAY_REQUEST_NOT_FOUND",
    );
    // Unknown keys, per address: a client cannot pass for another by saying so.
    let unknown = unknown_keys(20);
    let mut last = None;
    for (number, key) in unknown.iter().enumerate() {
        let forwarded = format!("203.0.113.{number}");
        let headers = [
            ("x-forwarded-for", forwarded.as_str()),
            ("forwarded", "for=203.0.113.7"),
        ];
        let answer = market
            .api()
            .send(
                Method::POST,
                &format!("/gateway/{}", market.listing.id),
                Some(key),
                &headers,
                Some("{}".into()),
            )
            .await
            .unwrap();
        assert!([401, 429].contains(&answer.status), "{answer}");
        last = Some(answer);
    }
    limited(&last.unwrap());
    world.close().await;
}

/// Well-formed keys that nobody was given.
fn unknown_keys(count: usize) -> Vec<String> {
    use secrecy::ExposeSecret as _;
    let random = || u8::try_from(getrandom::u32().unwrap() % 256).unwrap();
    (0..count)
        .map(|_| {
            crochet_shared::api_key::generate(random)
                .text
                .expose_secret()
                .to_owned()
        })
        .collect()
}

async fn rate_limit_headers_tell_what_is_left() {
    let door = shared().await;
    let market = Market::within(&door, json!({})).await;
    for answer in [
        market.buyer.call(&market.call(), None).await.unwrap(),
        market.buyer.get("/me").await.unwrap(),
    ] {
        let (policy, left) = (
            answer.header("ratelimit-policy").unwrap_or_default(),
            answer.header("ratelimit").unwrap_or_default(),
        );
        assert!(
            policy.contains(";q=") && policy.contains(";w=60"),
            "RateLimit-Policy {policy:?} of {answer}"
        );
        assert!(
            left.contains(";r=") && left.contains(";t="),
            "RateLimit {left:?} of {answer}"
        );
    }
    market.assert_untouched().await;
}
