//! What counts as an answer.

use std::fmt::Write as _;

use crochet_shared::outcome::SellerFailure;
use tokio::io::AsyncWriteExt as _;

use super::script::{self, Canary};
use super::{SellerAnswer, SendError, endpoint, network, seller, send_one};

async fn answered(raw: impl AsRef<[u8]>) -> Result<SellerAnswer, SendError> {
    let (at, seen) = script::answering(raw).await;
    let network = network();
    let seller = seller(&format!("http://{at}/call"), &network);
    let ended = send_one(&seller, &network).await;
    assert_eq!(seen.arrivals(), 1);
    ended
}

async fn failure(raw: impl AsRef<[u8]>) -> SellerFailure {
    match answered(raw).await {
        Err(SendError::Failed(failure, _)) => failure,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_framing_of_a_complete_answer_is_read() {
    for (raw, status, body) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue",
            200,
            "true",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, ""),
        (
            "HTTP/1.1 200 OK\r\n\r\nuntil it closes",
            200,
            "until it closes",
        ),
        ("HTTP/1.0 200 OK\r\n\r\nold", 200, "old"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{\"\r\n5;x=y\r\na\":1}\r\n0\r\nT: r\r\n\r\n",
            200,
            "{\"a\":1}",
        ),
        ("HTTP/1.1 204 No Content\r\n\r\n", 204, ""),
        (
            "HTTP/1.1 204 No Content\r\nContent-Length: 10\r\n\r\n",
            204,
            "",
        ),
        (
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n",
            304,
            "",
        ),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 1\r\n\r\n1",
            201,
            "1",
        ),
        (
            "HTTP/1.1 404 Not Found\r\nContent-Length: 1\r\n\r\n0",
            404,
            "0",
        ),
        // Nobody is shown the body of a failure.
        (
            "HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops",
            500,
            "",
        ),
        (
            "HTTP/1.1 429 Later\r\nContent-Length: 5\r\n\r\nlater",
            429,
            "",
        ),
    ] {
        let answer = answered(raw).await.unwrap();
        assert_eq!(
            (answer.status, &answer.body[..]),
            (status, body.as_bytes()),
            "{raw}"
        );
    }
}

#[tokio::test]
async fn what_is_no_http_is_invalid() {
    let mut headers = "HTTP/1.1 200 OK\r\n".to_owned();
    for n in 0..101 {
        write!(headers, "h{n}: 1\r\n").unwrap();
    }
    let many = headers + "content-length: 0\r\n\r\n";
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(70_000));
    let endless = "HTTP/1.1 102 Processing\r\n\r\n".repeat(10_000);
    for raw in [
        "",
        "HTTP/1.1",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n1234",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n12",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n folded\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 2x0 OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "hello, this is HTTP/0.9",
        "{\"ok\":true}",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        // A failure that breaks off is no complete answer either.
        "HTTP/1.1 500 Oops\r\nContent-Length: 5\r\n\r\nabc",
        &many,
        &long,
        &endless,
    ] {
        let start: String = raw.chars().take(80).collect();
        assert_eq!(failure(raw).await, SellerFailure::Invalid, "{start}");
    }
}

#[tokio::test]
async fn informational_answers_without_end_are_cut_off_long_before_the_deadline() {
    let (at, _) = script::start(|_, mut peer| async move {
        peer.read().await;
        // Ends with the connection.
        while peer
            .stream
            .write_all(b"HTTP/1.1 102 Processing\r\n\r\n")
            .await
            .is_ok()
        {}
    })
    .await;
    let network = network();
    let seller = seller(&format!("http://{at}/"), &network);
    assert_eq!(
        send_one(&seller, &network).await.unwrap_err(),
        SendError::Failed(SellerFailure::Invalid, None)
    );
}

#[tokio::test]
async fn a_body_over_the_cap_is_too_large_however_it_is_framed() {
    let cap = endpoint("").max_response_bytes as usize;
    let body = |bytes: usize| "1".repeat(bytes);
    let declared = |bytes| format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n");
    let chunked = |bytes: usize| {
        let chunk = body(bytes);
        format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{bytes:x}\r\n{chunk}\r\n0\r\n\r\n"
        )
    };
    for fits in [
        declared(cap) + &body(cap),
        chunked(cap),
        format!("HTTP/1.1 200 OK\r\n\r\n{}", body(cap)),
    ] {
        assert_eq!(answered(fits).await.unwrap().body.len(), cap);
    }
    for over in [
        // Refused by the head alone: no body follows.
        declared(cap + 1),
        chunked(cap + 1),
        format!("HTTP/1.1 200 OK\r\n\r\n{}", body(cap + 1)),
        format!("HTTP/1.1 500 Oops\r\n\r\n{}", body(cap + 1)),
    ] {
        assert_eq!(failure(over).await, SellerFailure::TooLarge);
    }
}

#[tokio::test]
async fn an_encoded_body_is_passed_on_as_it_is() {
    let zipped = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xabV*\x01\x00";
    let mut raw = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        zipped.len()
    )
    .into_bytes();
    raw.extend(zipped);
    let answer = answered(raw).await.unwrap();
    assert_eq!(&answer.body[..], zipped);
    assert_eq!(answer.content_encoding.as_deref(), Some("gzip"));
    assert_eq!(answer.content_type.as_deref(), Some("application/json"));
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let canary = Canary::at([127, 0, 0, 1].into(), 0);
    for status in [301, 302, 303, 307, 308] {
        let port = canary.port();
        let answer = answered(format!(
            "HTTP/1.1 {status} Moved\r\nLocation: http://127.0.0.1:{port}/\r\nContent-Length: 0\r\n\r\n"
        ))
        .await
        .unwrap();
        assert_eq!(answer.status, status);
    }
    assert!(canary.is_silent());
}
