//! What a body can ask for.

use std::{
    io::Read,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::harness::{SECRET, Seller, signed};

#[tokio::test]
async fn an_answer_has_the_status_body_and_headers_asked_for() {
    let seller = Seller::signed().await;
    let answer = seller.told(json!({"status": 418, "headers": 3})).await;
    assert_eq!(
        (answer.status, answer.header("x-extra-3")),
        (418, Some("filler"))
    );
    assert_eq!(
        seller.told(json!({"body": {"z": 1, "a": 1.50}})).await.body,
        br#"{"a":1.5,"z":1}"#
    );
    let answer = seller.told(json!({"body_text": "grüß"})).await;
    assert_eq!(
        (answer.header("content-type"), &answer.body[..]),
        (Some("text/plain; charset=utf-8"), "grüß".as_bytes())
    );
    let answer = seller
        .told(json!({"body_text": "<p>", "content_type": "text/html"}))
        .await;
    assert_eq!(answer.header("content-type"), Some("text/html"));
    let answer = seller.told(json!({"empty": true})).await;
    assert_eq!(
        (
            answer.status,
            answer.header("content-length"),
            answer.header("content-type")
        ),
        (200, Some("0"), None)
    );
    let answer = seller.told(json!({"status": 204})).await;
    assert_eq!(
        (
            answer.status,
            answer.header("content-length"),
            answer.body.len()
        ),
        (204, None, 0)
    );
    let answer = seller
        .told(json!({"redirect": "https://example.com/"}))
        .await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (302, Some("https://example.com/"))
    );
    let answer = seller.told(json!({"redirect": "/", "status": 307})).await;
    assert_eq!(answer.status, 307);
}

#[tokio::test]
async fn filler_has_the_size_asked_for() {
    let seller = Seller::signed().await;
    let answer = seller.told(json!({"size": 100_000})).await;
    assert_eq!(answer.json()["filler"].as_str().unwrap().len(), 100_000);
    let answer = seller
        .told(json!({"size": 4096, "content_type": "application/octet-stream"}))
        .await;
    assert_eq!(answer.body, vec![b'x'; 4096]);
}

#[tokio::test]
async fn gzip_is_really_gzip() {
    let seller = Seller::signed().await;
    let answer = seller
        .told(json!({"content_encoding": "gzip", "size": 10_000}))
        .await;
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    assert!(answer.body.len() < 1000);
    let mut plain = String::new();
    flate2::read::GzDecoder::new(&answer.body[..])
        .read_to_string(&mut plain)
        .unwrap();
    assert!(plain.starts_with(r#"{"ok":true,"echo":"hi""#), "{plain}");
}

#[tokio::test]
async fn chunked_and_dripped_answers_have_no_length() {
    let seller = Seller::signed().await;
    let answer = seller.told(json!({"chunked": true})).await;
    assert_eq!(
        (answer.header("content-length"), answer.json()),
        (None, json!({"ok": true, "echo": "hi"}))
    );
    let before = Instant::now();
    let answer = seller
        .told(json!({"drip_ms": 5, "body_text": "0123456789"}))
        .await;
    assert_eq!(answer.body, b"0123456789");
    assert!(before.elapsed() >= Duration::from_millis(50));
}

#[tokio::test]
async fn a_delayed_answer_takes_its_time() {
    let seller = Seller::signed().await;
    let before = Instant::now();
    assert_eq!(seller.told(json!({"delay_ms": 80})).await.status, 200);
    assert!(before.elapsed() >= Duration::from_millis(80));
}

#[tokio::test]
async fn cut_answers_end_where_they_were_asked_to() {
    let seller = Seller::signed().await;
    let cut = async |cut: &str| {
        let mut client = seller.connect().await;
        let body = json!({"input": "hi", "seller": {"cut": cut}}).to_string();
        client.send(&signed("gw_req_cut", 1, &body, SECRET)).await;
        client.rest().await
    };
    assert_eq!(cut("headers").await, b"");
    let half = String::from_utf8(cut("body").await).unwrap();
    let (head, body) = half.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains("content-length: 23") && body.len() == 11,
        "{half}"
    );
    let garbage = cut("garbage").await;
    assert!(!garbage.is_empty() && !garbage.starts_with(b"HTTP"));
    assert_eq!(seller.calls().await["calls"]["gw_req_cut"], 3);
}

#[tokio::test]
async fn the_first_calls_of_a_request_can_fail() {
    let seller = Seller::signed().await;
    let body = json!({"task": "run", "seller": {"fail_times": 2, "fail_status": 503}});
    let status = async |id: &str| seller.call(id, &body).await.status;
    assert_eq!(
        (status("gw_req_a").await, status("gw_req_a").await),
        (503, 503)
    );
    assert_eq!(status("gw_req_b").await, 503);
    assert_eq!(
        (status("gw_req_a").await, status("gw_req_a").await),
        (200, 200)
    );
    let default = json!({"seller": {"fail_times": 1}});
    assert_eq!(seller.call("gw_req_c", &default).await.status, 500);
}
