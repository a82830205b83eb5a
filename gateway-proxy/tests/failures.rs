//! Sellers that fail, in every way, and what is left of the payment: all of it.

use std::time::{Duration, Instant};

use demo_agent::{Answer, Quote};
use serde_json::{Value, json};

use crate::harness::{Gate, Market, Reply, Service, free_port, ok, refused, shared, trials};

trials!(
    a_status_that_is_no_answer_is_seller_error,
    a_redirect_is_not_followed,
    silence_ends_in_a_timeout,
    a_drip_ends_in_a_timeout_too,
    a_broken_answer_is_an_invalid_response,
    a_cut_body_is_an_invalid_response,
    an_answer_over_the_limit_is_too_large,
    an_unreachable_seller_uses_no_attempt,
    a_seller_without_tls_is_unreachable,
    a_seller_with_a_certificate_nobody_vouches_for_is_unreachable,
    a_retry_has_the_same_id_and_a_higher_attempt,
    a_pooled_connection_that_was_closed_meanwhile_is_not_used,
    a_pooled_connection_that_dies_under_the_request_is_not_sent_again,
    a_late_answer_on_a_timed_out_connection_is_not_the_next_calls,
    an_answer_with_more_than_it_said_does_not_leak_into_the_next,
    a_buyer_that_hangs_up_changes_nothing,
);

/// Checks a failure's answer, and that the payment is still good; gives back `data`.
async fn failed(
    market: &Market,
    quote: &Quote,
    answer: &Answer,
    code: &str,
    seller_status: Value,
    attempts: usize,
) {
    let status = if code == "SELLER_TIMEOUT" { 504 } else { 502 };
    let error = refused(answer, status, code);
    let recovery = &error["recovery"];
    assert_eq!(
        (&recovery["next_action"], &recovery["retryable"]),
        (&json!("retry_same_request"), &json!(true)),
        "{answer}"
    );
    let preserve: Vec<String> = recovery["preserve"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap().to_lowercase())
        .collect();
    assert!(
        preserve.contains(&"x-crochet-relay-request-id".to_owned())
            && preserve.contains(&"body".to_owned()),
        "{preserve:?}"
    );
    assert_eq!(
        answer.at("/data"),
        json!({ "request_id": quote.request_id, "billable": false, "seller_status_code": seller_status, "attempts": attempts, "attempts_remaining": 5 - attempts }),
        "{answer}"
    );
    assert_eq!(
        answer.header("x-crochet-request-id"),
        Some(quote.request_id.as_str())
    );
    market.assert_still_paid(quote, attempts).await;
    let status = &market
        .buyer
        .gateway_request(&quote.request_id)
        .await
        .unwrap()["status"];
    assert_eq!(
        status,
        if attempts > 0 {
            "seller_failed"
        } else {
            "paid"
        }
    );
}

/// One call that fails with `reply` and then is delivered.
async fn fails(market: &Market, reply: Reply, code: &str, seller_status: Value) {
    market.service.then(reply);
    let call = market.call();
    let (quote, answer) = market.buy(&call).await;
    failed(market, &quote, &answer, code, seller_status, 1).await;
    ok(&market.redeem(&call, &quote).await);
    market.assert_settled(&quote, 2).await;
}

async fn a_status_that_is_no_answer_is_seller_error() {
    let market = Market::open().await;
    for status in [
        300, 301, 302, 303, 304, 307, 308, 399, 401, 407, 408, 421, 425, 429, 500, 501, 502, 503,
        504, 511, 599,
    ] {
        fails(
            &market,
            Reply::status(status, "{\"secret\":\"of the seller\"}"),
            "SELLER_ERROR",
            json!(status),
        )
        .await;
    }
}

async fn a_redirect_is_not_followed() {
    let market = Market::open().await;
    let elsewhere = Service::start().await;
    for status in [301, 302, 307, 308] {
        fails(
            &market,
            Reply::new(status, &[("Location", &elsewhere.url())], ""),
            "SELLER_ERROR",
            json!(status),
        )
        .await;
    }
    assert_eq!(
        (elsewhere.total(), elsewhere.connections()),
        (0, 0),
        "nobody went there"
    );
}

async fn silence_ends_in_a_timeout() {
    let market = Market::with(json!({ "endpoint": { "timeout_ms": 1000 } })).await;
    let begun = Instant::now();
    fails(&market, Reply::silence(), "SELLER_TIMEOUT", Value::Null).await;
    assert!(
        begun.elapsed() >= Duration::from_secs(1),
        "a timeout of one second after {:?}",
        begun.elapsed()
    );
}

async fn a_drip_ends_in_a_timeout_too() {
    let market = Market::with(json!({ "endpoint": { "timeout_ms": 1000 } })).await;
    // Every byte comes soon, the whole never in time: the deadline is for all of it.
    let slow_body =
        Reply::json(&format!("\"{}\"", "a".repeat(200))).dripping(Duration::from_millis(50));
    fails(&market, slow_body, "SELLER_TIMEOUT", Value::Null).await;
    let slow_head = Reply::raw(format!(
        "HTTP/1.1 200 OK\r\nX-Slow: {}\r\n",
        "a".repeat(200)
    ))
    .dripping(Duration::from_millis(50));
    fails(&market, slow_head, "SELLER_TIMEOUT", Value::Null).await;
}

async fn a_broken_answer_is_an_invalid_response() {
    let market = Market::open().await;
    for raw in [
        "garbage\r\n\r\n",
        "HTTP/9.9 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 two hundred\r\n\r\n",
        "HTTP/1.1 099 Early\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 600 Beyond\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 999 Beyond\r\nContent-Length: 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nno colon here\r\nContent-Length: 2\r\n\r\n{}",
        "\0\0\0\0\r\n\r\n",
        "HTTP/1.1 200",
        "",
    ] {
        let broken = Reply::raw(raw).then_close();
        fails(&market, broken, "SELLER_INVALID_RESPONSE", Value::Null).await;
    }
    let endless = format!(
        "HTTP/1.1 200 OK\r\n{}",
        "X-Filler: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n".repeat(20_000)
    );
    let endless = Reply::raw(endless).then_close();
    fails(&market, endless, "SELLER_INVALID_RESPONSE", Value::Null).await;
}

async fn a_cut_body_is_an_invalid_response() {
    let market = Market::open().await;
    for raw in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{\"a\":",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    ] {
        let cut = Reply::raw(raw).then_close();
        // The head was whole: its status is known.
        fails(&market, cut, "SELLER_INVALID_RESPONSE", json!(200)).await;
    }
}

async fn an_answer_over_the_limit_is_too_large() {
    let market = Market::with(json!({ "endpoint": { "max_response_bytes": 1000 } })).await;
    let chunk = format!("64\r\n{}\r\n", "1".repeat(100)).repeat(11);
    let chunked = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}0\r\n\r\n");
    let long = "1".repeat(1001);
    let until_the_end = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{long}");
    let claimed = "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n{}";
    for reply in [
        Reply::json(&long),
        Reply::raw(chunked),
        Reply::raw(until_the_end).then_close(),
        Reply::raw(claimed),
    ] {
        fails(&market, reply, "SELLER_RESPONSE_TOO_LARGE", json!(200)).await;
    }
}

async fn an_unreachable_seller_uses_no_attempt() {
    let door = shared().await;
    let port = free_port().await;
    let market = Market::selling_at(
        &door,
        Service::start().await,
        &format!("http://127.0.0.1:{port}/"),
        json!({}),
    )
    .await;
    let call = market.call();
    let (quote, answer) = market.buy(&call).await;
    failed(
        &market,
        &quote,
        &answer,
        "SELLER_UNREACHABLE",
        Value::Null,
        0,
    )
    .await;
    assert_eq!(market.relay_request(&quote).await["attempts"], 0);
    let service = Service::start_at(port).await;
    ok(&market.redeem(&call, &quote).await);
    assert_eq!(
        service
            .called_for(&quote.request_id)
            .await
            .header("x-crochet-attempt"),
        "1"
    );
    assert_eq!(service.total(), 1);
}

async fn a_seller_without_tls_is_unreachable() {
    let door = shared().await;
    let service = Service::start().await;
    let url = format!("https://127.0.0.1:{}/hook", service.port());
    let market = Market::selling_at(&door, service, &url, json!({})).await;
    let (quote, answer) = market.buy(&market.call()).await;
    failed(
        &market,
        &quote,
        &answer,
        "SELLER_UNREACHABLE",
        Value::Null,
        0,
    )
    .await;
}

async fn a_seller_with_a_certificate_nobody_vouches_for_is_unreachable() {
    let door = shared().await;
    let certificate = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let market = Market::selling(
        &door,
        crate::harness::tls_service(&certificate).await,
        json!({}),
    )
    .await;
    let (quote, answer) = market.buy(&market.call()).await;
    failed(
        &market,
        &quote,
        &answer,
        "SELLER_UNREACHABLE",
        Value::Null,
        0,
    )
    .await;
    assert_eq!(market.service.total(), 0);
}

async fn a_retry_has_the_same_id_and_a_higher_attempt() {
    let market = Market::open().await;
    for _ in 0..3 {
        market.service.then(Reply::status(503, "{}"));
    }
    let call = market.call();
    let quote = market.paid(&call).await;
    for attempt in 1..=3 {
        let answer = market.redeem(&call, &quote).await;
        failed(
            &market,
            &quote,
            &answer,
            "SELLER_ERROR",
            json!(503),
            attempt,
        )
        .await;
    }
    ok(&market.redeem(&call, &quote).await);
    let attempts: Vec<String> = market
        .service
        .of(&quote.request_id)
        .iter()
        .map(|arrival| arrival.header("x-crochet-attempt").to_owned())
        .collect();
    assert_eq!(attempts, ["1", "2", "3", "4"]);
    market.assert_settled(&quote, 4).await;
}

async fn a_pooled_connection_that_was_closed_meanwhile_is_not_used() {
    let market = Market::open().await;
    for round in 1..=5 {
        // Kept alive by its words, closed by its deeds.
        market.service.then(Reply::json("1").then_close());
        let (quote, answer) = market.buy(&market.call()).await;
        ok(&answer);
        market.assert_settled(&quote, 1).await;
        assert_eq!(
            market.service.connections(),
            round,
            "each call needed a connection of its own"
        );
    }
}

async fn a_pooled_connection_that_dies_under_the_request_is_not_sent_again() {
    let market = Market::open().await;
    let (first, second) = (market.call(), market.call());
    let paid_first = market.evidenced(&first).await;
    let paid_second = market.evidenced(&second).await;
    market.service.then(Reply::json("1")).then(Reply::hang_up());
    ok(&market.redeem(&first, &paid_first).await);
    let answer = market.redeem(&second, &paid_second).await;
    failed(
        &market,
        &paid_second,
        &answer,
        "SELLER_INVALID_RESPONSE",
        Value::Null,
        1,
    )
    .await;
    let used = |quote: &Quote| market.service.of(&quote.request_id)[0].connection;
    assert_eq!(
        used(&paid_first),
        used(&paid_second),
        "the dead one was a pooled one"
    );
    ok(&market.redeem(&second, &paid_second).await);
    market.assert_settled(&paid_first, 1).await;
    market.assert_settled(&paid_second, 2).await;
}

async fn a_late_answer_on_a_timed_out_connection_is_not_the_next_calls() {
    let market = Market::with(json!({ "endpoint": { "timeout_ms": 1000 } })).await;
    let gate = Gate::shut();
    market.service.then(Reply::json("\"late\"").behind(&gate));
    let call = market.call();
    let (quote, answer) = market.buy(&call).await;
    failed(&market, &quote, &answer, "SELLER_TIMEOUT", Value::Null, 1).await;
    gate.open();
    market.service.then(Reply::json("\"in time\""));
    let data = ok(&market.redeem(&call, &quote).await);
    assert_eq!(data["seller_response"], "in time");
    market.assert_settled(&quote, 2).await;
}

async fn an_answer_with_more_than_it_said_does_not_leak_into_the_next() {
    let market = Market::open().await;
    market.service.then(Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n\"poison\""));
    let (first, answer) = market.buy(&market.call()).await;
    let data = ok(&answer);
    assert_eq!(data["seller_response"], json!({}));
    market.assert_settled(&first, 1).await;
    market.service.then(Reply::json("\"clean\""));
    let (second, answer) = market.buy(&market.call()).await;
    assert_eq!(ok(&answer)["seller_response"], "clean");
    market.assert_settled(&second, 1).await;
}

async fn a_buyer_that_hangs_up_changes_nothing() {
    let market = Market::open().await;
    let gate = Gate::shut();
    market
        .service
        .then(Reply::json("\"worth waiting for\"").behind(&gate));
    let call = market.call();
    let quote = market.evidenced(&call).await;
    let buyer = market.redeem_meanwhile(&call, &quote);
    market.service.called_for(&quote.request_id).await;
    // Dropping the request closes its connection: the buyer is gone.
    buyer.abort();
    assert!(buyer.await.is_err());
    gate.open();
    market.reaches(&quote, "delivered").await;
    let answer = market.once(&call, &quote).await;
    assert_eq!(ok(&answer)["seller_response"], "worth waiting for");
    assert_eq!(answer.header("idempotent-replayed"), Some("true"));
    market.assert_settled(&quote, 1).await;
}
