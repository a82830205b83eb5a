//! Replay: the buyer's connection may break at any byte of the answer.

use std::fmt::Write as _;
use std::time::Duration;

use demo_agent::{PaidCall, Quote};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

use super::trade::{Purchase, agree_on_one_call_each, each, paid_in_advance};
use crate::harness::{Market, Reply, World, is_full, measured, ok, request, sized, trials, until};

trials!(
    an_answer_cut_off_at_any_byte_is_had_again_and_costs_nothing => few,
    a_large_answer_cut_off_while_it_is_sent_is_had_again_and_costs_nothing => alone,
);

/// Answers cut off at the same time.
const AT_ONCE: usize = 8;
/// In an ordinary run every so many bytes; a prime, so that no boundary of the format is always missed.
const STRIDE: usize = 41;
/// More than the kernel takes from a gateway for a buyer who reads nothing, which is 4 MiB at most: what is cut
/// off in its first part is still being written then, and the write fails.
const LARGE_BYTES: usize = 5 * 1024 * 1024;
/// Large answers cut off at the same time.
const LARGE_AT_ONCE: usize = 2;
/// Large answers that are paid for, cut off and compared before the next: so many are held in memory.
const LARGE_HELD: usize = 20;
/// What a buyer's own kernel takes for her unread.
const RECEIVE_BYTES: u32 = 32 * 1024;

/// The answer is so short that the gateway has written all of it when the connection breaks, wherever the buyer was.
async fn an_answer_cut_off_at_any_byte_is_had_again_and_costs_nothing() {
    let market = Market::open().await;
    let whole = length(&market).await;
    let stride = if is_full() { 1 } else { STRIDE };
    let boundaries: Vec<usize> = (0..whole).step_by(stride).collect();
    println!(
        "an answer of {whole} bytes, cut off at {}",
        boundaries.len()
    );
    cut_off_at(&market, &boundaries, AT_ONCE).await;
}

/// The gateway is still writing when the connection breaks.
async fn a_large_answer_cut_off_while_it_is_sent_is_had_again_and_costs_nothing() {
    let endpoint = json!({ "endpoint": { "max_response_bytes": 8 * 1024 * 1024 } });
    let world = World::own("large_answer", measured).await;
    let market = Market::within(&world.door, endpoint).await;
    // No part of it is like another.
    let text = (0..LARGE_BYTES / 8).fold(String::new(), |mut text, number| {
        write!(text, "{number:08x}").unwrap();
        text
    });
    market.service.usually(Reply::json(&format!("\"{text}\"")));
    let whole = length(&market).await;
    let cuts = sized(6, 200);
    let boundaries: Vec<usize> = (0..cuts).map(|cut| whole / cuts * cut + cut).collect();
    println!("an answer of {whole} bytes, cut off at {cuts}");
    for some in boundaries.chunks(LARGE_HELD) {
        cut_off_at(&market, some, LARGE_AT_ONCE).await;
    }
    drop(market);
    world.close().await;
}

/// How long an answer is when nothing breaks.
async fn length(market: &Market) -> usize {
    let (call, quote) = paid_in_advance(market, 1).await.remove(0);
    let whole = cut_off(market, &call, &quote, usize::MAX).await;
    assert_eq!(status(&whole), Some("200"));
    whole.len()
}

/// Has an answer cut off at each of these bytes, a payment each: it is had again, the same each time, and
/// is paid for once.
async fn cut_off_at(market: &Market, boundaries: &[usize], at_once: usize) {
    let paid = paid_in_advance(market, boundaries.len()).await;
    let cases = boundaries.iter().copied().zip(paid);
    let purchases = each(at_once, cases, |(bytes, (call, quote))| async move {
        let seen = cut_off(market, &call, &quote, bytes).await;
        let answer = market.redeem_patiently(&call, &quote).await;
        ok(&answer);
        let again = market.redeem_patiently(&call, &quote).await;
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
        assert!(again.body == answer.body, "the same bytes each time");
        if let Some(head) = head_of(&seen) {
            assert!(
                answer.body.starts_with(&seen[head..]),
                "cut off at {bytes}, the answer began otherwise"
            );
            assert_eq!(answer.header("idempotent-replayed"), Some("true"));
        }
        Purchase {
            call,
            quote,
            answer,
        }
    })
    .await;
    agree_on_one_call_each(market, &purchases).await;
}

/// Makes the paid call, reads so many bytes of its answer, and resets the connection. Megabytes may take a debug build
/// longer to store than a buyer waits: whoever is told to ask again does, and the next answer is cut off.
async fn cut_off(market: &Market, call: &PaidCall, quote: &Quote, bytes: usize) -> Vec<u8> {
    until("an answer was cut off", || async {
        let seen = cut_off_once(market, call, quote, bytes).await;
        let is_told_again = matches!(status(&seen), Some("503" | "409"));
        if is_told_again {
            return None;
        }
        let begin = String::from_utf8_lossy(&seen[..seen.len().min(1024)]);
        let is_early = bytes != usize::MAX && seen.len() < bytes;
        assert!(!is_early, "it ended early: {begin}");
        Some(seen)
    })
    .await
}

/// The same with whatever is answered: as many of its bytes as there are.
async fn cut_off_once(market: &Market, call: &PaidCall, quote: &Quote, bytes: usize) -> Vec<u8> {
    let authority = market.api().base_url().trim_start_matches("http://");
    let authority = authority.trim_end_matches("/api/v1");
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(RECEIVE_BYTES).unwrap();
    let mut stream = socket.connect(authority.parse().unwrap()).await.unwrap();
    let headers = [
        ("Authorization", format!("Bearer {}", market.buyer.key)),
        ("Content-Type", "application/json".to_owned()),
        ("X-Crochet-Relay-Request-Id", quote.relay_request_id.clone()),
        ("X-Request-Id", "as-long-as-every-other".to_owned()),
    ];
    let headers: Vec<(&str, &str)> = headers
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let line = format!("POST /api/v1/gateway/{}", call.listing);
    stream
        .write_all(&request(&line, &headers, &call.body))
        .await
        .unwrap();
    let mut seen = Vec::new();
    // At most all there is: the connection stays open after it.
    while seen.len() < bytes && !is_whole(&seen) {
        let rest = u64::try_from(bytes - seen.len()).unwrap();
        let read = (&mut stream).take(rest).read_buf(&mut seen).await.unwrap();
        assert!(read > 0, "hung up after {} bytes", seen.len());
    }
    // What was not read yet is thrown away, and the other side is told so: a reset, no farewell.
    socket2::SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    seen
}

/// The status that an answer begins with, if so much of it is there.
fn status(seen: &[u8]) -> Option<&str> {
    std::str::from_utf8(seen.get(9..12)?).ok()
}

fn is_whole(seen: &[u8]) -> bool {
    let Some(head) = head_of(seen) else {
        return false;
    };
    let text = String::from_utf8_lossy(&seen[..head]).to_lowercase();
    let length = text
        .split("content-length: ")
        .nth(1)
        .and_then(|rest| rest.split("\r\n").next())
        .and_then(|digits| digits.parse::<usize>().ok());
    length == Some(seen.len() - head)
}

/// How long the head is, if all of it is there.
fn head_of(seen: &[u8]) -> Option<usize> {
    let end = seen.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some(end + 4)
}
