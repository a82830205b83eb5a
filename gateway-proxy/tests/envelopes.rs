//! What the seller answers and how the buyer reads it: byte for byte, decided by parsing.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use demo_agent::Answer;
use serde_json::{Value, json};

use crate::harness::{Market, Reply, ok, trials};

trials!(
    json_is_embedded_byte_for_byte,
    json_is_told_by_parsing_and_not_by_its_type,
    text_becomes_a_string,
    bytes_become_base64,
    a_content_encoding_is_not_undone,
    an_empty_answer_is_null,
    depth_128_is_json_and_129_is_text,
    a_chunked_answer_is_one_body,
    an_answer_that_ends_with_its_connection_is_whole,
    an_informational_answer_is_not_the_answer,
    every_other_2xx_and_4xx_is_billable,
    the_largest_answer_allowed_is_delivered,
    the_whole_envelope_has_the_seeds_shape,
);

/// Buys one answer and checks the money and the replay; gives back the whole envelope.
async fn delivered(market: &Market, reply: Reply) -> Answer {
    market.service.then(reply);
    let call = market.call();
    let (quote, answer) = market.buy(&call).await;
    assert_eq!(answer.status, 200, "{answer}");
    market.assert_settled(&quote, 1).await;
    let again = market.once(&call, &quote).await;
    assert_eq!(
        (again.status, &again.body),
        (200, &answer.body),
        "the replay"
    );
    answer
}

/// The same, with the envelope's `data`.
async fn bought(market: &Market, reply: Reply) -> (Answer, Value) {
    let answer = delivered(market, reply).await;
    let data = ok(&answer);
    (answer, data)
}

fn plain(body: &[u8]) -> Reply {
    Reply::new(200, &[], body.to_vec())
}

async fn json_is_embedded_byte_for_byte() {
    let market = Market::open().await;
    for body in [
        r#"{"b":1, "a" : [1.0, 1e400, -0, 0.10000000000000000000001],"b":2}"#,
        "\n\t {\"spaces\" : true } \r\n",
        r#""a string with \ud83d\ude00, \u0000 and /\/""#,
        "\"\u{2028} \u{1F600} é\"",
        "12345678901234567890123456789012345678901234567890",
        "null",
        "false",
        "[]",
    ] {
        // Read as text: no parser may come between the bytes and this look at them.
        let answer = delivered(&market, plain(body.as_bytes())).await;
        let envelope = std::str::from_utf8(&answer.body).unwrap();
        assert!(
            envelope.contains("\"seller_response_encoding\":\"json\""),
            "{envelope}"
        );
        let begin = envelope.find("\"seller_response\":").unwrap() + "\"seller_response\":".len();
        assert!(
            envelope[begin..].starts_with(body),
            "not byte for byte: {body:?} in {envelope}"
        );
    }
}

async fn json_is_told_by_parsing_and_not_by_its_type() {
    let market = Market::open().await;
    let (_, data) = bought(
        &market,
        Reply::new(200, &[("Content-Type", "text/html")], "{\"a\":1}"),
    )
    .await;
    assert_eq!(
        (&data["seller_response"], &data["seller_response_encoding"]),
        (&json!({ "a": 1 }), &json!("json"))
    );
    assert_eq!(data["seller_content_type"], "text/html");
    let (_, data) = bought(
        &market,
        Reply::new(200, &[("Content-Type", "application/json")], "{\"a\":"),
    )
    .await;
    assert_eq!(
        (&data["seller_response"], &data["seller_response_encoding"]),
        (&json!("{\"a\":"), &json!("text"))
    );
    assert_eq!(data["seller_content_type"], "application/json");
    let (_, data) = bought(&market, plain(b"1")).await;
    assert_eq!(
        (
            &data["seller_content_type"],
            &data["seller_content_encoding"]
        ),
        (&Value::Null, &Value::Null)
    );
}

async fn text_becomes_a_string() {
    let market = Market::open().await;
    for body in [
        "hello",
        "{'no': 'json'}",
        "{} {}",
        "NaN",
        "\u{feff}{}",
        "é\u{0} \"quoted\" \\ \r\n \u{7f} \u{1F600}",
        " ",
        "01",
        "1.",
    ] {
        let (_, data) = bought(&market, plain(body.as_bytes())).await;
        assert_eq!(
            (&data["seller_response"], &data["seller_response_encoding"]),
            (&json!(body), &json!("text"))
        );
    }
}

async fn bytes_become_base64() {
    let market = Market::open().await;
    let all: Vec<u8> = (0..=255).collect();
    // Not UTF-8 inside JSON, a lone surrogate, an overlong form, a code point too high, a sequence cut short.
    let cases: [&[u8]; 6] = [
        &all,
        b"\"\xff\"",
        b"\xed\xa0\x80",
        b"\xc0\xaf",
        b"\xf4\x90\x80\x80",
        b"{\"a\":\"\xe2\x82",
    ];
    for body in cases {
        let (_, data) = bought(&market, plain(body)).await;
        assert_eq!(
            (&data["seller_response"], &data["seller_response_encoding"]),
            (&json!(STANDARD.encode(body)), &json!("base64"))
        );
    }
}

async fn a_content_encoding_is_not_undone() {
    let market = Market::open().await;
    // The gzip form of `{}`, which no client asked for.
    let gzip = [
        0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff, 0xab, 0xae, 5, 0, 0x43, 0xbf, 0xa6, 0xa3, 2, 0, 0, 0,
    ];
    for (encoding, body) in [("gzip", &gzip[..]), ("identity", b"{}"), ("br", b"")] {
        let (_, data) = bought(
            &market,
            Reply::new(
                200,
                &[
                    ("Content-Type", "application/json"),
                    ("Content-Encoding", encoding),
                ],
                body.to_vec(),
            ),
        )
        .await;
        assert_eq!(data["seller_content_encoding"], encoding);
        if !body.is_empty() {
            assert_eq!(
                (&data["seller_response"], &data["seller_response_encoding"]),
                (&json!(STANDARD.encode(body)), &json!("base64")),
                "{encoding}"
            );
        }
    }
}

async fn an_empty_answer_is_null() {
    let market = Market::open().await;
    for (reply, status) in [
        (Reply::new(204, &[], ""), 204),
        (
            Reply::new(200, &[("Content-Type", "application/json")], ""),
            200,
        ),
        (
            Reply::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            200,
        ),
        (Reply::new(404, &[], ""), 404),
    ] {
        let (_, data) = bought(&market, reply).await;
        assert_eq!(
            (
                &data["seller_response"],
                &data["seller_response_encoding"],
                &data["seller_status_code"]
            ),
            (&Value::Null, &json!("json"), &json!(status)),
            "{data}"
        );
    }
}

async fn depth_128_is_json_and_129_is_text() {
    let market = Market::open().await;
    for (depth, encoding) in [(128, "json"), (129, "text"), (100_000, "text")] {
        let body = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let answer = delivered(&market, plain(body.as_bytes())).await;
        let envelope = std::str::from_utf8(&answer.body).unwrap();
        assert!(
            envelope.contains(&format!("\"seller_response_encoding\":\"{encoding}\"")),
            "depth {depth}: {}",
            &envelope[envelope.len() - 200..]
        );
    }
}

async fn a_chunked_answer_is_one_body() {
    let market = Market::open().await;
    let raw = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n3;ext=1\r\n{\"a\r\n5\r\n\":[1]\r\n1\r\n}\r\n0\r\nX-T: 1\r\n\r\n";
    market
        .service
        .then(Reply::raw(raw).dripping(std::time::Duration::from_millis(1)));
    let (quote, answer) = market.buy(&market.call()).await;
    assert_eq!(ok(&answer)["seller_response"], json!({ "a": [1] }));
    market.assert_settled(&quote, 1).await;
    // The connection is in step for the next call.
    let (_, data) = bought(&market, plain(b"2")).await;
    assert_eq!(data["seller_response"], 2);
}

async fn an_answer_that_ends_with_its_connection_is_whole() {
    let market = Market::open().await;
    for head in [
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
        "HTTP/1.0 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\n",
    ] {
        let (_, data) = bought(
            &market,
            Reply::raw(format!("{head}{{\"to\":\"the end\"}}")).then_close(),
        )
        .await;
        assert_eq!(
            data["seller_response"],
            json!({ "to": "the end" }),
            "{head:?}"
        );
    }
}

async fn an_informational_answer_is_not_the_answer() {
    let market = Market::open().await;
    let raw = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n7";
    let (_, data) = bought(&market, Reply::raw(raw)).await;
    assert_eq!(
        (&data["seller_response"], &data["seller_status_code"]),
        (&json!(7), &json!(200))
    );
}

async fn every_other_2xx_and_4xx_is_billable() {
    let market = Market::open().await;
    for status in [
        200, 201, 202, 203, 206, 226, 299, 400, 402, 403, 404, 405, 406, 409, 410, 418, 422, 424,
        426, 428, 431, 451, 499,
    ] {
        let (_, data) = bought(&market, Reply::status(status, "{\"e\":1}")).await;
        assert_eq!(
            (
                &data["seller_status_code"],
                &data["billable"],
                &data["seller_response"]
            ),
            (&json!(status), &json!(true), &json!({ "e": 1 }))
        );
    }
}

async fn the_largest_answer_allowed_is_delivered() {
    const LIMIT: usize = 700_000;
    let market = Market::with(json!({ "endpoint": { "max_response_bytes": LIMIT } })).await;
    let body = format!("\"{}\"", "a".repeat(LIMIT - 2));
    let (answer, data) = bought(&market, plain(body.as_bytes())).await;
    assert_eq!(
        data["seller_response"].as_str().map(str::len),
        Some(LIMIT - 2)
    );
    assert!(answer.body.len() > LIMIT);
    let bytes: Vec<u8> = (0..LIMIT)
        .map(|number| u8::try_from(number % 251).unwrap() | 0x80)
        .collect();
    let (_, data) = bought(&market, plain(&bytes)).await;
    assert_eq!(data["seller_response_encoding"], "base64");
    assert!(
        data["seller_response"] == STANDARD.encode(&bytes),
        "the bytes differ"
    );
}

async fn the_whole_envelope_has_the_seeds_shape() {
    let market = Market::open().await;
    let (answer, data) = bought(
        &market,
        Reply::new(
            200,
            &[("Content-Type", "application/json; charset=utf-8")],
            "{\"result\":\"…\"}",
        ),
    )
    .await;
    let whole = answer.json().unwrap();
    assert_eq!(
        whole,
        json!({ "success": true, "data": {
            "request_id": data["request_id"], "billable": true,
            "charged_amount": { "amount_cents": 100, "amount_micros": 1_000_000, "currency": "USD" },
            "fees": { "fee_rate": 0.049, "fee_amount_cents": 5, "seller_receives_cents": 95, "fee_amount_micros": 49_000, "seller_receives_micros": 951_000 },
            "seller_status_code": 200, "seller_response": { "result": "…" }, "seller_response_encoding": "json",
            "seller_content_type": "application/json; charset=utf-8", "seller_content_encoding": null,
        } })
    );
}
