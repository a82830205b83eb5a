//! Connections: kept, closed, cut, and ended by a shutdown.

use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::harness::{SECRET, Seller, signed};

#[tokio::test]
async fn a_kept_connection_serves_many_calls() {
    let seller = Seller::signed().await;
    let mut client = seller.connect().await;
    // Two at once, and one in pieces.
    let call = signed("gw_req_1", 1, r#"{"input":1}"#, SECRET);
    client.send(&format!("{call}{call}")).await;
    for _ in 0..2 {
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.header("connection")), (200, None));
    }
    for piece in [&call[..10], &call[10..200], &call[200..]] {
        client.send(piece).await;
        client.stream.flush().await.unwrap();
    }
    assert_eq!(client.answer().await.status, 200);
    client
        .send(&call.replace("Host: seller", "Connection: close"))
        .await;
    assert_eq!(client.answer().await.header("connection"), Some("close"));
    assert_eq!(client.rest().await, b"");
}

#[tokio::test]
async fn close_after_closes_without_having_said_so() {
    let seller = Seller::signed().await;
    let body = json!({"seller": {"close_after": true}}).to_string();
    let mut client = seller.connect().await;
    client.send(&signed("gw_req_1", 1, &body, SECRET)).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (200, None));
    assert_eq!(client.rest().await, b"");
}

#[tokio::test]
async fn close_after_next_takes_the_next_request_and_closes() {
    let seller = Seller::signed().await;
    let body = json!({"seller": {"close_after": "next"}}).to_string();
    let mut client = seller.connect().await;
    client.send(&signed("gw_req_1", 1, &body, SECRET)).await;
    assert_eq!(client.answer().await.status, 200);
    client.send(&signed("gw_req_2", 1, "{}", SECRET)).await;
    assert_eq!(client.rest().await, b"");
    assert_eq!(
        seller.calls().await,
        json!({"calls": {"gw_req_1": 1}, "total": 1, "unsigned": 0})
    );
}

#[tokio::test]
async fn chunked_requests_and_expectations_are_understood() {
    let seller = Seller::signed().await;
    let plain = signed("gw_req_1", 1, r#"{"input":"x"}"#, SECRET);
    let mut client = seller.connect().await;
    let chunked = plain
        .replace("Content-Length: 13", "Transfer-Encoding: chunked")
        .replace(
            r#"{"input":"x"}"#,
            "5\r\n{\"inp\r\n8\r\nut\":\"x\"}\r\n0\r\n\r\n",
        );
    client.send(&chunked).await;
    assert_eq!(client.answer().await.json()["echo"], "x");
    client
        .send(&plain.replace("Host: seller", "Expect: 100-continue"))
        .await;
    assert_eq!(client.answer().await.status, 100);
    assert_eq!(client.answer().await.json()["echo"], "x");
}

#[tokio::test]
async fn what_is_not_understood_is_refused() {
    let seller = Seller::signed().await;
    for plan in [
        json!({"stauts": 500}),
        json!({"status": 99}),
        json!({"cut": "knee"}),
        json!({"content_type": "a\r\nb: c"}),
        json!(5),
    ] {
        let answer = seller.told(plan.clone()).await;
        assert_eq!(answer.status, 400, "{plan}");
        assert!(
            answer.json()["error"]
                .as_str()
                .unwrap()
                .starts_with("seller: ")
        );
    }
    let mut client = seller.connect().await;
    client.send("this is not HTTP\r\n\r\n").await;
    assert_eq!(client.rest().await, b"");
}

#[tokio::test]
async fn a_shutdown_finishes_what_is_under_way() {
    let mut seller = Seller::signed().await;
    let body = json!({"seller": {"delay_ms": 100}}).to_string();
    let mut busy = seller.connect().await;
    let mut idle = seller.connect().await;
    busy.send(&signed("gw_req_1", 1, &body, SECRET)).await;
    while seller.calls().await["total"] != 1 {}
    seller.stop.take().unwrap().send(()).unwrap();
    assert_eq!(idle.rest().await, b"");
    let answer = busy.answer().await;
    assert_eq!(answer.status, 200);
    seller.task.await.unwrap().unwrap();
}
