//! Replay: the buyer's connection may break at any byte of the answer.

use std::time::Duration;

use demo_agent::{PaidCall, Quote};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::trade::{Purchase, agree_on_one_call_each, each, paid_in_advance};
use crate::harness::{Market, is_full, ok, request, trials};

trials!(an_answer_cut_off_at_any_byte_is_had_again_and_costs_nothing => few);

/// Answers cut off at the same time.
const AT_ONCE: usize = 8;
/// In an ordinary run every so many bytes; a prime, so that no boundary of the format is always missed.
const STRIDE: usize = 41;

async fn an_answer_cut_off_at_any_byte_is_had_again_and_costs_nothing() {
    let market = Market::open().await;
    let (call, quote) = paid_in_advance(&market, 1).await.remove(0);
    let whole = cut_off(&market, &call, &quote, usize::MAX).await.len();
    let stride = if is_full() { 1 } else { STRIDE };
    let boundaries: Vec<usize> = (0..whole).step_by(stride).collect();
    let paid = paid_in_advance(&market, boundaries.len()).await;
    println!("an answer of {whole} bytes, cut off at {}", paid.len());
    let cases = boundaries.into_iter().zip(paid);
    let purchases = each(AT_ONCE, cases, |(bytes, (call, quote))| {
        let market = &market;
        async move {
            let seen = cut_off(market, &call, &quote, bytes).await;
            assert_eq!(seen.len(), bytes, "the answer was as long as others");
            let answer = market.redeem(&call, &quote).await;
            ok(&answer);
            let again = market.redeem(&call, &quote).await;
            assert_eq!(again.header("idempotent-replayed"), Some("true"));
            assert_eq!(again.body, answer.body, "the same bytes each time");
            if let Some(head) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
                let begun = &seen[head + 4..];
                assert!(
                    answer.body.starts_with(begun),
                    "cut off at {bytes}, the answer began otherwise"
                );
                assert_eq!(answer.header("idempotent-replayed"), Some("true"));
            }
            Purchase {
                call,
                quote,
                answer,
            }
        }
    })
    .await;
    agree_on_one_call_each(&market, &purchases).await;
}

/// Makes the paid call, reads so many bytes of its answer, and resets the connection.
async fn cut_off(market: &Market, call: &PaidCall, quote: &Quote, bytes: usize) -> Vec<u8> {
    let authority = market.api().base_url().trim_start_matches("http://");
    let authority = authority.trim_end_matches("/api/v1");
    let mut stream = TcpStream::connect(authority).await.unwrap();
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
    if bytes == usize::MAX {
        // All there is: until the length that the head says.
        while !is_whole(&seen) {
            stream.read_buf(&mut seen).await.unwrap();
        }
    } else if bytes > 0 {
        seen.resize(bytes, 0);
        stream.read_exact(&mut seen).await.unwrap();
    }
    // What was not read yet is thrown away, and the other side is told so: a reset, no farewell.
    socket2::SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    seen
}

fn is_whole(seen: &[u8]) -> bool {
    let text = String::from_utf8_lossy(seen).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .split("content-length: ")
        .nth(1)
        .and_then(|rest| rest.split("\r\n").next())
        .and_then(|digits| digits.parse::<usize>().ok());
    length == Some(body.len())
}
