//! Exactly what the seller receives (contract §5).

use std::sync::Arc;

use crochet_shared::signing::content_digest;
use sha2::{Digest as _, Sha256};
use standardwebhooks::Webhook;

use super::script::{self, Arrived};
use super::{
    Network, PATIENCE, REQUEST_ID, SECRET, Seller, SignedCall, Started, call, endpoint, listing,
    network,
};
use crate::seller::{Unservable, send};

const OLD: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

async fn received(seller: &Arc<Seller>, network: &Network, call: &SignedCall) {
    let deadline = std::time::Instant::now() + PATIENCE;
    let ended = send(seller, network, call, deadline, &mut Started::default()).await;
    assert_eq!(ended.unwrap().status, 200);
}

fn verifies(secret: &str, arrived: &Arrived) -> bool {
    let mut headers = http::HeaderMap::new();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        headers.insert(name, arrived.header(name).parse().unwrap());
    }
    Webhook::new(secret)
        .unwrap()
        .verify(&arrived.body, &headers)
        .is_ok()
}

#[tokio::test]
async fn the_header_set_is_the_contracts_and_nothing_else() {
    let (at, seen) = script::polite().await;
    let network = network();
    let listing = listing();
    let mut record = endpoint(&format!("http://{at}/a%20b/c?d=e&f=%3C%22"));
    record.auth_header = Some(("X-Api-Key".to_owned(), "key of the seller".to_owned()));
    let seller = Seller::new(listing, &record, &network, None).unwrap();
    let body = b" {\"a\" : [1,2 ]}\n";
    let mut sent = call(body);
    sent.attempt = 3;
    received(&seller, &network, &sent).await;

    let arrived = seen.requests().remove(0);
    assert_eq!(arrived.line, "POST /a%20b/c?d=e&f=%3C%22 HTTP/1.1");
    assert_eq!(arrived.body, body);
    assert!(verifies(SECRET, &arrived));
    let timestamp = arrived.header("webhook-timestamp").to_owned();
    let age = crochet_shared::clock::unix_seconds() - timestamp.parse::<u64>().unwrap();
    assert!(age < 60);
    let signature = arrived.header("webhook-signature").to_owned();
    let digest = content_digest(&Sha256::digest(body).into());
    let mut expected = [
        ("host", at.to_string()),
        (
            "user-agent",
            concat!("Crochet-Gateway/", env!("CARGO_PKG_VERSION")).to_owned(),
        ),
        ("accept-encoding", "identity".to_owned()),
        ("content-type", "application/json".to_owned()),
        ("content-length", body.len().to_string()),
        ("content-digest", digest),
        ("webhook-id", REQUEST_ID.to_owned()),
        ("webhook-timestamp", timestamp.clone()),
        ("webhook-signature", signature.clone()),
        ("x-crochet-signature", signature),
        ("x-crochet-request-id", REQUEST_ID.to_owned()),
        ("x-crochet-timestamp", timestamp),
        ("x-crochet-listing-id", listing.to_string()),
        ("x-crochet-buyer-id", sent.buyer.to_string()),
        ("x-crochet-attempt", "3".to_owned()),
        ("x-api-key", "key of the seller".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value));
    let mut headers = arrived.headers;
    headers.sort();
    expected.sort();
    assert_eq!(headers, expected);
}

#[tokio::test]
async fn a_test_request_says_so() {
    let (at, seen) = script::polite().await;
    let network = network();
    let seller = super::seller(&format!("http://{at}/"), &network);
    let test = SignedCall {
        request_id: "gw_test_1".to_owned(),
        test: true,
        ..call(b"{}")
    };
    received(&seller, &network, &test).await;
    received(&seller, &network, &call(b"{}")).await;
    let [test, real] = &seen.requests()[..] else {
        panic!("two requests");
    };
    assert_eq!(test.header("x-crochet-test"), "true");
    assert_eq!(test.header("webhook-id"), "gw_test_1");
    assert!(verifies(SECRET, test));
    assert_eq!(real.header("x-crochet-test"), "");
}

#[tokio::test]
async fn the_bytes_of_every_body_arrive_unchanged() {
    let (at, seen) = script::polite().await;
    let network = network();
    let seller = super::seller(&format!("http://{at}/"), &network);
    let large = vec![b'7'; 1024 * 1024];
    for body in [&b"0"[..], b"", b"\"\xc3\xa9\\u0000\"", &large] {
        received(&seller, &network, &call(body)).await;
        let arrived = seen.requests().pop().unwrap();
        assert_eq!(arrived.body, body);
        assert!(verifies(SECRET, &arrived));
    }
}

#[tokio::test]
async fn both_secrets_sign_until_the_old_one_ends() {
    let (at, seen) = script::polite().await;
    let network = network();
    let now = crochet_shared::clock::now().timestamp_millis();
    for (end, both) in [(now + 60_000, true), (now - 1, false)] {
        let mut record = endpoint(&format!("http://{at}/"));
        record.secrets.push((OLD.to_owned(), Some(end)));
        let seller = Seller::new(listing(), &record, &network, None).unwrap();
        received(&seller, &network, &call(b"{}")).await;
        let arrived = seen.requests().pop().unwrap();
        assert!(verifies(SECRET, &arrived));
        assert_eq!(verifies(OLD, &arrived), both);
        let signatures = arrived.header("webhook-signature").split(' ').count();
        assert_eq!(signatures, if both { 2 } else { 1 });
    }
}

#[test]
fn an_endpoint_that_cannot_be_signed_or_sent_is_not_prepared() {
    let network = network();
    let new = |record| Seller::new(listing(), &record, &network, None).unwrap_err();
    let url = "http://127.0.0.1:1/";
    let mut none = endpoint(url);
    none.secrets.clear();
    assert_eq!(new(none), Unservable::Secret);
    let mut broken = endpoint(url);
    broken.secrets.push(("whsec_AAAA".to_owned(), None));
    assert_eq!(new(broken), Unservable::Secret);
    for (name, value) in [
        ("Host", "elsewhere"),
        ("webhook-signature", "v1,forged"),
        ("Transfer-Encoding", "chunked"),
        ("X-Key", "a\r\nX-Crochet-Attempt: 9"),
    ] {
        let mut header = endpoint(url);
        header.auth_header = Some((name.to_owned(), value.to_owned()));
        assert_eq!(new(header), Unservable::Header, "{name}");
    }
}
