//! The short way of a call with a plain head, and pingora's long one: nobody can tell them apart.

use std::time::Duration;

use fault_proxy::http1::Message;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpSocket;

use crate::harness::{Market, Wire, request, trials};

trials!(
    both_ways_of_a_call_answer_alike,
    calls_of_both_ways_share_a_connection_in_their_order,
    a_body_that_comes_late_and_in_parts_is_one_body,
    a_body_that_breaks_off_is_no_call,
    a_client_that_does_not_read_is_let_go,
);

/// How long a client that does not read is waited for at most: it is let go a second after no byte of an
/// answer can be sent any more.
const LET_GO_TIME: Duration = Duration::from_mins(1);

/// The same call once more, with what makes its head less than plain.
fn long(line: &str) -> String {
    format!("{line}?long")
}

/// Status, body and headers, but for what differs between any two answers.
fn told(answer: &Message) -> (u16, String, Vec<(String, String)>) {
    let mut headers: Vec<(String, String)> = answer
        .headers
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
        .filter(|(name, _)| !matches!(name.as_str(), "date" | "ratelimit"))
        .collect();
    headers.sort();
    let body = String::from_utf8_lossy(&answer.body).into_owned();
    (answer.status(), body, headers)
}

async fn both_ways_of_a_call_answer_alike() {
    let market = Market::open().await;
    let (quote, bought) = market.buy(&market.call_of("{\"alike\":true}")).await;
    assert_eq!(bought.status, 200);
    let line = format!("POST /api/v1/gateway/{}", market.listing.id);
    let by_slug = format!("POST /api/v1/gateway/{}", market.listing.slug);
    let nowhere = "POST /api/v1/gateway/no-such-listing".to_owned();
    let bearer = format!("Bearer {}", market.buyer.key);
    let key = ("Authorization", bearer.as_str());
    let json = ("Content-Type", "application/json");
    let paid = (
        "X-Crochet-Relay-Request-Id",
        quote.relay_request_id.as_str(),
    );
    let id = ("X-Request-Id", "told-by-the-client");
    let large = vec![b' '; 9 * 1024 * 1024];
    for (name, line, headers, body, status) in [
        ("no key", &line, &[id, json][..], &b"{}"[..], 401),
        (
            "no such key",
            &line,
            &[id, json, ("Authorization", "Bearer x")],
            b"{}",
            401,
        ),
        ("no listing", &nowhere, &[id, key, json], b"{}", 404),
        ("no type", &line, &[id, key], b"{}", 415),
        ("no JSON", &line, &[id, key, json], b"{", 400),
        ("too large", &line, &[id, key, json], &large, 413),
        ("key twice", &line, &[id, key, key, json], b"{}", 401),
        (
            "payment twice",
            &line,
            &[id, key, json, paid, paid],
            b"{}",
            400,
        ),
        (
            "unknown payment",
            &line,
            &[id, key, json, ("X-Crochet-Relay-Request-Id", "0xabc")],
            b"{}",
            404,
        ),
        (
            "unknown currency",
            &line,
            &[id, key, json, ("X-Crochet-Origin-Currency", "DOGE")],
            b"{}",
            400,
        ),
        ("quote", &line, &[id, key, json], b"{\"quote\":1}", 402),
        (
            "quote by slug",
            &by_slug,
            &[id, key, json],
            b"{\"quote\":1}",
            402,
        ),
        ("another body", &line, &[id, key, json, paid], b"{}", 409),
        (
            "replay",
            &line,
            &[id, key, json, paid],
            b"{\"alike\":true}",
            200,
        ),
    ] {
        let mut answers = Vec::new();
        // The first answer makes the quote that the others repeat.
        for line in [line.clone(), line.clone(), long(line)] {
            let mut wire = Wire::to(market.api()).await;
            answers.push(told(&wire.ask(&line, headers, body).await));
        }
        let [_, short, long] = answers.try_into().unwrap();
        assert_eq!(short.0, status, "{name}: {}", short.1);
        assert_eq!(short, long, "{name}");
    }
    market.assert_settled(&quote, 1).await;
}

async fn calls_of_both_ways_share_a_connection_in_their_order() {
    let market = Market::open().await;
    let line = format!("POST /api/v1/gateway/{}", market.listing.id);
    let bearer = format!("Bearer {}", market.buyer.key);
    let asks = |line: &str, id: &str| {
        let headers = [
            ("Authorization", bearer.as_str()),
            ("Content-Type", "application/json"),
            ("X-Request-Id", id),
        ];
        request(line, &headers, format!("{{\"id\":\"{id}\"}}").as_bytes())
    };
    let mut wire = Wire::to(market.api()).await;
    let mut all = asks(&line, "the-first-one");
    all.extend(asks(&long(&line), "the-second-one"));
    all.extend(asks(&line, "the-third-one"));
    all.extend(request(
        "GET /api/v1/categories",
        &[("X-Request-Id", "the-fourth-one")],
        b"",
    ));
    all.extend(asks(&line, "the-fifth-one"));
    wire.send(&all).await;
    for (id, status) in [
        ("the-first-one", 402),
        ("the-second-one", 402),
        ("the-third-one", 402),
        ("the-fourth-one", 200),
        ("the-fifth-one", 402),
    ] {
        let answer = wire
            .answer()
            .await
            .unwrap_or_else(|| panic!("no answer to {id}"));
        assert_eq!(
            (answer.status(), answer.header("x-request-id")),
            (status, Some(id))
        );
    }
    market.assert_untouched().await;
}

async fn a_body_that_comes_late_and_in_parts_is_one_body() {
    let market = Market::open().await;
    let filler = "x".repeat(200_000);
    let body = format!("{{\"filler\":\"{filler}\"}}");
    let call = market.call_of(body.clone());
    let quote = market.evidenced(&call).await;
    let line = format!("POST /api/v1/gateway/{}", market.listing.id);
    let bearer = format!("Bearer {}", market.buyer.key);
    let headers = [
        ("Authorization", bearer.as_str()),
        ("Content-Type", "application/json"),
        (
            "X-Crochet-Relay-Request-Id",
            quote.relay_request_id.as_str(),
        ),
    ];
    let whole = request(&line, &headers, body.as_bytes());
    let mut wire = Wire::to(market.api()).await;
    // Cut inside the head, at its end, in the first and in the last bytes of the body.
    let head = whole.len() - body.len();
    let mut from = 0;
    for to in [
        10,
        head - 2,
        head,
        head + 1,
        head + 70_000,
        whole.len() - 1,
        whole.len(),
    ] {
        wire.send(&whole[from..to]).await;
        // The next part is another read's.
        tokio::task::yield_now().await;
        from = to;
    }
    // The next request is found behind it.
    wire.send(&request(&line, &headers, body.as_bytes())).await;
    let answer = wire.answer().await.unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.code());
    let arrival = market.service.called_for(&quote.request_id).await;
    assert_eq!(arrival.request.body.as_ref(), body.as_bytes());
    let again = wire.answer().await.unwrap();
    assert_eq!(
        (again.status(), again.header("idempotent-replayed")),
        (200, Some("true"))
    );
    assert_eq!(again.body, answer.body);
    market.assert_settled(&quote, 1).await;
}

async fn a_body_that_breaks_off_is_no_call() {
    let market = Market::open().await;
    let line = format!("POST /api/v1/gateway/{}", market.listing.id);
    let bearer = format!("Bearer {}", market.buyer.key);
    let headers = [
        ("Authorization", bearer.as_str()),
        ("Content-Type", "application/json"),
        ("Content-Length", "1000"),
    ];
    let mut wire = Wire::to(market.api()).await;
    wire.send(&request(&line, &headers, b"{\"half\":")).await;
    wire.finish().await;
    let answer = wire.answer().await.unwrap();
    assert_eq!(
        (answer.status(), answer.header("connection")),
        (400, Some("close"))
    );
    assert!(String::from_utf8_lossy(&answer.body).contains("must be complete"));
    assert!(wire.answer().await.is_none());
    market.assert_untouched().await;
}

/// What waits for it would be held in memory for ever, and a stopping gateway with it.
async fn a_client_that_does_not_read_is_let_go() {
    let market = Market::open().await;
    let line = format!("POST /api/v1/gateway/{}", market.listing.id);
    let origin = market.api().base_url().trim_end_matches("/api/v1");
    let address = origin.trim_start_matches("http://").parse().unwrap();
    for line in [line.clone(), long(&line)] {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut client = socket.connect(address).await.unwrap();
        let ask = request(&line, &[("Content-Length", "0")], b"");
        let asking = async {
            // More than all buffers on the way hold is answered with nothing but a closed connection.
            while client.write_all(&ask).await.is_ok() {}
        };
        let let_go = tokio::time::timeout(LET_GO_TIME, asking).await;
        assert!(let_go.is_ok(), "{line}: it still holds its connection");
    }
    market.assert_untouched().await;
}
