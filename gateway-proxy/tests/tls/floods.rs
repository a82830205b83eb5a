//! What one HTTP/2 connection may cost.

use std::time::Duration;

use bytes::Bytes;
use demo_agent::{Agent, PaidCall, Quote};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::stage::Stage;
use crate::harness::{Gate, Market, Reply, SOON, trials, until, until_within};
use crate::promises::trade::paid_in_advance;

trials!(one_connection_costs_no_more_than_it_may);

/// As the gateway has them.
const STREAMS_MAX: usize = 100;
const WORKED_ON_MAX: usize = 200;
/// Of these, some must be refused.
const PAID: usize = WORKED_ON_MAX + 20;
/// Bytes of a flood, of which the gateway reads a small part.
const FLOOD_BYTES: usize = 8 * 1024 * 1024;

async fn one_connection_costs_no_more_than_it_may() {
    let stage = Stage::set("floods").await;
    let endpoint = json!({ "endpoint": { "timeout_ms": 60_000, "max_concurrency": 1000 } });
    let market = Market::within(&stage.world.door, endpoint).await;
    streams_at_once_are_told_and_bounded(&stage, &market).await;
    heads_without_end_end_the_connection(&stage).await;
    resets_before_anybody_looks_end_the_connection(&stage, &market).await;
    requests_whose_streams_are_reset_are_still_counted(&stage, &market).await;
    stage.world.close().await;
}

async fn streams_at_once_are_told_and_bounded(stage: &Stage, market: &Market) {
    let mut client = stage.http2().await;
    // The settings come with the first answer.
    let head = stage.head(&market.buyer, &market.call(), None);
    let (answer, mut body) = client.send_request(head, false).unwrap();
    body.send_data(market.call().body, true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 402);
    assert_eq!(client.current_max_send_streams(), STREAMS_MAX);
}

/// One HEADERS frame, and CONTINUATION frames that never say that it is whole.
async fn heads_without_end_end_the_connection(stage: &Stage) {
    const FRAME_BYTES: usize = 16 * 1024;
    let mut stream = stage.connect("h2").await;
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    stream.write_all(&frame(4, 0, 0, &[])).await.unwrap();
    stream.write_all(&frame(1, 0, 1, &[0x82])).await.unwrap();
    // A literal header whose name is one letter, again and again.
    let line = [0x00, 1, b'a', 1, b'b'];
    let lines: Vec<u8> = line
        .iter()
        .copied()
        .cycle()
        .take(FRAME_BYTES / 5 * 5)
        .collect();
    let flood = frame(9, 0, 1, &lines);
    let (mut read, mut write) = tokio::io::split(stream);
    let heard = tokio::spawn(async move {
        let mut heard = Vec::new();
        drop(read.read_to_end(&mut heard).await);
        heard
    });
    let mut sent = 0;
    while sent < FLOOD_BYTES && write.write_all(&flood).await.is_ok() {
        sent += flood.len();
    }
    assert!(sent < FLOOD_BYTES, "{sent} bytes of head were taken");
    let heard = tokio::time::timeout(SOON, heard).await.unwrap().unwrap();
    assert!(!heard.is_empty(), "the gateway said its settings at least");
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// Streams opened and reset as fast as they can be written.
async fn resets_before_anybody_looks_end_the_connection(stage: &Stage, market: &Market) {
    const STREAMS: usize = 200_000;
    let mut client = stage.http2().await;
    let mut opened = 0;
    let ended = loop {
        if opened == STREAMS {
            break false;
        }
        client = match client.ready().await {
            Ok(client) => client,
            Err(_) => break true,
        };
        let head = stage.head(&market.buyer, &market.call(), None);
        let Ok((answer, mut body)) = client.send_request(head, false) else {
            break true;
        };
        body.send_reset(h2::Reason::CANCEL);
        drop(answer);
        opened += 1;
    };
    println!("the connection took {opened} streams that were reset at once");
    // Whatever became of the connection, the gateway has no more to do than one connection may give it.
    let underway = stage.metric("gateway_underway ").await;
    assert!(
        underway <= u64::try_from(WORKED_ON_MAX).unwrap() + 5,
        "{underway} requests of one connection are worked on"
    );
    assert!(ended, "{STREAMS} resets were taken");
    // Others are served meanwhile, and after.
    let answer = market.buyer.call(&market.call(), None).await.unwrap();
    assert_eq!(answer.status, 402, "{answer}");
}

/// Paid calls whose buyer resets each stream once the seller has it: each goes on, none is lost, and no
/// more are begun on that connection than may be.
async fn requests_whose_streams_are_reset_are_still_counted(stage: &Stage, market: &Market) {
    let gate = Gate::shut();
    market.service.usually(Reply::json("1").behind(&gate));
    let paid = paid_in_advance(market, PAID).await;
    let before = market.service.total();
    let mut client = stage.http2().await;
    for (number, (call, quote)) in paid.iter().enumerate() {
        client = client.ready().await.unwrap();
        begin_and_reset(stage, &mut client, &market.buyer, call, quote, || async {
            let reached = market.service.total() - before;
            (reached > number.min(WORKED_ON_MAX - 1)).then_some(())
        })
        .await;
    }
    until("the gateway refuses what is too much", || async {
        let refused = stage.metric("gateway_http2_refused_total ").await;
        (refused == u64::try_from(PAID - WORKED_ON_MAX).unwrap()).then_some(())
    })
    .await;
    assert_eq!(market.service.total() - before, WORKED_ON_MAX);
    gate.open();
    for (call, quote) in &paid {
        let answer = until_within("a paid call is delivered", SOON * 3, || async {
            let answer = market.once(call, quote).await;
            (answer.status == 200).then_some(answer)
        })
        .await;
        assert_eq!(answer.at("/data/request_id"), quote.request_id.as_str());
    }
    let counts = market.service.counts();
    for (_, quote) in &paid {
        assert_eq!(counts[&quote.request_id], 1);
    }
}

async fn begin_and_reset<F: Future<Output = Option<()>>>(
    stage: &Stage,
    client: &mut h2::client::SendRequest<Bytes>,
    buyer: &Agent,
    call: &PaidCall,
    quote: &Quote,
    is_begun: impl FnMut() -> F,
) {
    let relay = Some(quote.relay_request_id.as_str());
    let head = stage.head(buyer, call, relay);
    let (answer, mut body) = client.send_request(head, false).unwrap();
    // It may have been refused already.
    drop(body.send_data(call.body.clone(), true));
    until_within(
        "the call is begun or refused",
        Duration::from_secs(30),
        is_begun,
    )
    .await;
    body.send_reset(h2::Reason::CANCEL);
    drop(answer);
}
