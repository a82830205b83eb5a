//! Bad input at the gateway call, and at the routes a paid call passes through: a contract error, no 5xx,
//! nothing half-written, nobody called.

use serde_json::Value;

use crate::harness::{Market, Wire, refused, trials};

trials!(
    what_is_not_json_is_refused,
    odd_json_is_passed_on,
    a_bad_idempotency_key_is_named,
    headers_given_twice_are_refused,
    large_heads_are_431,
    odd_bearers_are_401,
);

async fn what_is_not_json_is_refused() {
    let market = Market::open().await;
    let deep = format!("{}{}", "[".repeat(129), "]".repeat(129));
    let huge_depth = "[".repeat(900_000);
    let cases: [&[u8]; 24] = [
        b"",
        b" ",
        b"{",
        b"}",
        b"{]",
        b"{\"a\"}",
        b"{\"a\":}",
        b"{a:1}",
        b"{'a':1}",
        b"[1,]",
        b"{\"a\":1,}",
        b"NaN",
        b"Infinity",
        b"undefined",
        b"01",
        b"1.",
        b"{} {}",
        b"\xef\xbb\xbf{}",
        b"\"\xff\"",
        b"\"\xed\xa0\x80\"",
        b"\"a\0b\"",
        b"\"\n\"",
        b"\"\\x41\"",
        b"tru",
    ];
    for body in cases
        .into_iter()
        .chain([deep.as_bytes(), huge_depth.as_bytes()])
    {
        let answer = market
            .buyer
            .call(&market.call_of(body.to_vec()), None)
            .await
            .unwrap();
        let shown = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
        assert_eq!(
            answer.code().as_deref(),
            Some("INVALID_JSON"),
            "{shown:?}: {answer}"
        );
        assert_eq!(
            refused(&answer, 400, "INVALID_JSON")["recovery"]["next_action"],
            "fix_request"
        );
    }
    market.assert_untouched().await;
}

async fn odd_json_is_passed_on() {
    let market = Market::open().await;
    for body in [
        "null",
        "0",
        "\"\"",
        "-0",
        "1e400",
        "[[]]",
        "{\"a\":1,\"a\":2}",
        "\"\\u0000\"",
        "{\"\":\"\\ud83d\\ude00\"}",
        " \r\n\t{} ",
    ] {
        let answer = market
            .buyer
            .call(&market.call_of(body), None)
            .await
            .unwrap();
        assert_eq!(
            answer.code().as_deref(),
            Some("PAYMENT_REQUIRED"),
            "{body:?}: {answer}"
        );
    }
    // A lone surrogate in an escape is JSON by its grammar and no text by Unicode: either is right, a crash is not.
    let answer = market
        .buyer
        .call(&market.call_of("\"\\ud800\""), None)
        .await
        .unwrap();
    assert!([400, 402].contains(&answer.status), "{answer}");
    market.assert_untouched().await;
}

async fn a_bad_idempotency_key_is_named() {
    let market = Market::open().await;
    let bearer = format!("Bearer {}", market.buyer.key);
    let line = format!("POST /api/v1/gateway/{}", market.listing.id);
    let too_long = "k".repeat(256);
    for key in ["", too_long.as_str(), "tab\there", "naïve"] {
        let mut wire = Wire::to(market.api()).await;
        let answer = wire
            .ask(
                &line,
                &[
                    ("Authorization", &bearer),
                    ("Content-Type", "application/json"),
                    ("Idempotency-Key", key),
                ],
                b"{}",
            )
            .await;
        assert_eq!(
            (answer.status(), answer.code()),
            (400, "VALIDATION_ERROR".to_owned()),
            "{key:?}: {}",
            String::from_utf8_lossy(&answer.body)
        );
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert!(
            body["error"]["details"]["fields"][0]["field"]
                .as_str()
                .is_some_and(|field| field.eq_ignore_ascii_case("Idempotency-Key")),
            "{body}"
        );
    }
    let longest = "k".repeat(255);
    refused(
        &market
            .buyer
            .call(&market.call().under_key(&longest), None)
            .await
            .unwrap(),
        402,
        "PAYMENT_REQUIRED",
    );
    market.assert_untouched().await;
}

async fn headers_given_twice_are_refused() {
    let market = Market::open().await;
    let bearer = format!("Bearer {}", market.buyer.key);
    let line = format!("POST /api/v1/gateway/{}", market.listing.id);
    for (name, one, two) in [
        ("Idempotency-Key", "one", "two"),
        ("X-Crochet-Relay-Request-Id", "0xaa", "0xbb"),
        ("X-Crochet-Origin-Currency", "SOL", "USDC_SOL"),
        ("Authorization", bearer.as_str(), "Bearer other"),
        ("Content-Type", "text/plain", "application/json"),
    ] {
        let mut wire = Wire::to(market.api()).await;
        let mut headers = vec![(name, one), (name, two)];
        for (usual, value) in [
            ("Authorization", bearer.as_str()),
            ("Content-Type", "application/json"),
        ] {
            if usual != name {
                headers.push((usual, value));
            }
        }
        let answer = wire.ask(&line, &headers, b"{}").await;
        assert!(
            (400..=415).contains(&answer.status()) && answer.status() != 402,
            "{name} twice: {}",
            String::from_utf8_lossy(&answer.raw)
        );
    }
    market.assert_untouched().await;
}

async fn large_heads_are_431() {
    let market = Market::open().await;
    let bearer = format!("Bearer {}", market.buyer.key);
    let large = "a".repeat(200_000);
    let mut wire = Wire::to(market.api()).await;
    let line = format!("POST /api/v1/gateway/{}", market.listing.id);
    let answer = wire
        .ask(
            &line,
            &[
                ("Authorization", &bearer),
                ("Content-Type", "application/json"),
                ("X-Request-Id", "my-request-1"),
                ("X-Large", &large),
            ],
            b"{}",
        )
        .await;
    assert_eq!(
        (answer.status(), answer.code()),
        (431, "HEADERS_TOO_LARGE".to_owned())
    );
    assert_eq!(answer.header("x-request-id"), Some("my-request-1"));
    // The gateway is well afterwards.
    refused(
        &market.buyer.call(&market.call(), None).await.unwrap(),
        402,
        "PAYMENT_REQUIRED",
    );
    market.assert_untouched().await;
}

async fn odd_bearers_are_401() {
    let market = Market::open().await;
    let key = &market.buyer.key;
    let line = format!("POST /api/v1/gateway/{}", market.listing.id);
    for credential in [
        key.clone(),
        format!("Basic {key}"),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        format!("Bearer {key} {key}"),
        format!("Bearer {key},"),
        format!("Bearer \"{key}\""),
        format!("Bearer {}", key.to_uppercase()),
        format!("Bearer {}", &key[5..]),
        format!("Bearer {}", "é".repeat(41)),
        "Bearer am_k_' or 1=1 --".to_owned(),
    ] {
        let answer = Wire::to(market.api())
            .await
            .ask(
                &line,
                &[
                    ("Authorization", &credential),
                    ("Content-Type", "application/json"),
                ],
                b"{}",
            )
            .await;
        assert_eq!(answer.status(), 401, "{credential:?}");
        assert!(answer.header("www-authenticate").is_some());
    }
    // The scheme's case is nobody's business (RFC 9110).
    let answer = Wire::to(market.api())
        .await
        .ask(
            &line,
            &[
                ("Authorization", &format!("bearer {key}")),
                ("Content-Type", "application/json"),
            ],
            b"{}",
        )
        .await;
    assert_eq!(answer.status(), 402);
    market.assert_untouched().await;
}
