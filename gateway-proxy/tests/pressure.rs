//! Many at once, large bodies, and a cache that is emptied under everybody's feet.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crochet_dev::Options;
use demo_agent::{Answer, Chain, PaidCall, Quote};
use futures_util::{StreamExt as _, stream};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::harness::{Gate, Market, Reply, World, ok, refused, request, trials, until};

trials!(
    two_hundred_retries_of_one_payment_are_one_call_and_one_settlement,
    hundreds_of_replays_at_once_are_all_the_same_bytes,
    slow_readers_of_old_answers_hold_no_more_than_their_part_of_the_budget,
    the_slowest_reader_is_cut_off_for_the_next_answer_and_told_it_again,
    an_answer_that_is_longer_than_the_budget_in_its_envelope_is_delivered,
    flushing_redis_each_100_ms_costs_nobody_anything,
    many_payments_at_once_are_each_delivered_once,
    a_seller_is_never_called_beyond_her_limit,
    bodies_up_to_the_limit_arrive_and_one_byte_more_does_not,
    the_cap_of_a_paid_call_is_its_quotes,
);

const MEBIBYTE: usize = 1024 * 1024;
/// The byte budget of a gateway that has little.
const BUDGET: usize = 16 * MEBIBYTE;
/// A large answer beside it.
const ANSWER_BYTES: usize = 15 * MEBIBYTE / 4;

/// One gateway with that budget.
fn small(options: Options) -> Options {
    let options = options.gateways(1);
    options
        .set("BODY_BUDGET_BYTES", &BUDGET.to_string())
        .unwrap()
}

async fn two_hundred_retries_of_one_payment_are_one_call_and_one_settlement() {
    const RETRIES: usize = 200;
    let market = Market::open().await;
    let gate = Gate::shut();
    market.service.then(Reply::json("\"once\"").behind(&gate));
    let call = market.call();
    let quote = market.evidenced(&call).await;
    let asking: Vec<_> = (0..RETRIES)
        .map(|number| {
            let (buyer, call, id) = (
                market.buyer.through(&market.door.apis[number % 2]),
                call.clone(),
                quote.relay_request_id.clone(),
            );
            tokio::spawn(async move { buyer.call(&call, Some(&id)).await.unwrap() })
        })
        .collect();
    market.service.called_for(&quote.request_id).await;
    gate.open();
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    let mut bodies = std::collections::BTreeSet::new();
    for asked in asking {
        let answer: Answer = asked.await.unwrap();
        if answer.status == 200 {
            bodies.insert(answer.body.clone());
            let kind = if answer.header("idempotent-replayed").is_some() {
                "replayed"
            } else {
                "delivered"
            };
            *found.entry(kind.to_owned()).or_default() += 1;
        } else {
            refused(&answer, 409, "GATEWAY_REQUEST_IN_PROGRESS");
            *found.entry("in progress".to_owned()).or_default() += 1;
        }
    }
    assert_eq!(
        (found.get("delivered"), bodies.len()),
        (Some(&1), 1),
        "{found:?}"
    );
    assert_eq!(found.values().sum::<usize>(), RETRIES, "{found:?}");
    market.assert_settled(&quote, 1).await;
}

async fn hundreds_of_replays_at_once_are_all_the_same_bytes() {
    // More than the control plane reads at once for everybody, and large enough that reading takes a while.
    const REPLAYS: usize = 700;
    const ANSWER_BYTES: usize = 32 * 1024;
    let market = Market::open().await;
    let large = Reply::json(&format!("\"{}\"", "x".repeat(ANSWER_BYTES)));
    market.service.then(large);
    let call = market.call();
    let quote = market.evidenced(&call).await;
    let first = market.once_as(&market.buyer, &call, &quote).await;
    ok(&first);
    let asking: Vec<_> = (0..REPLAYS)
        .map(|number| {
            let buyer = market.buyer.through(&market.door.apis[number % 2]);
            let (call, id) = (call.clone(), quote.relay_request_id.clone());
            tokio::spawn(async move { buyer.call(&call, Some(&id)).await.unwrap() })
        })
        .collect();
    for asked in asking {
        let answer = asked.await.unwrap();
        ok(&answer);
        assert!(answer.header("idempotent-replayed").is_some(), "{answer}");
        assert!(answer.body == first.body, "other bytes: {answer}");
    }
    market.assert_settled(&quote, 1).await;
}

async fn slow_readers_of_old_answers_hold_no_more_than_their_part_of_the_budget() {
    // Half of the budget is for answers, and half of that for replays: one of these answers and a little.
    let world = World::own("slow_readers", small).await;
    let market = Market::within(&world.door, json!({})).await;
    let mut bought = Vec::new();
    for _ in 0..2 {
        market.service.then(Reply::json(&json_of(ANSWER_BYTES)));
        let call = market.call();
        let quote = market.evidenced(&call).await;
        let answer = market.redeem_patiently(&call, &quote).await;
        ok(&answer);
        bought.push((call, quote, answer));
    }
    let [(slow_call, slow, first), (call, quote, answer)] = &bought[..] else {
        unreachable!("two were bought");
    };
    // Its head is there, and the rest stays in the gateway.
    let mut reader = unhurried(&market, slow_call, slow).await;
    let mut begun = [0; 15];
    reader.read_exact(&mut begun).await.unwrap();
    assert_eq!(&begun, b"HTTP/1.1 200 OK");

    let refusal = market.once_as(&market.buyer, call, quote).await;
    refused(&refusal, 503, "SERVICE_UNAVAILABLE");
    assert_eq!(refusal.header("retry-after"), Some("1"), "{refusal}");
    // What somebody is sent already is told to others too.
    let shared = market.once_as(&market.buyer, slow_call, slow).await;
    assert!(ok(&shared).is_object() && shared.body == first.body);
    // Nobody else is kept from buying, whose answers need room of the same budget.
    market.service.then(Reply::json(&json_of(ANSWER_BYTES)));
    let other = market.call();
    let other_quote = market.evidenced(&other).await;
    ok(&market.redeem_patiently(&other, &other_quote).await);

    drop(reader);
    let replay = market.redeem_patiently(call, quote).await;
    assert!(ok(&replay).is_object() && replay.body == answer.body);
    for quote in [slow, quote, &other_quote] {
        market.assert_settled(quote, 1).await;
    }
    world.close().await;
}

async fn the_slowest_reader_is_cut_off_for_the_next_answer_and_told_it_again() {
    // Half of the budget may be on its way: two of these answers.
    let world = World::own("cut_off", small).await;
    let market = Market::within(&world.door, json!({})).await;
    let mut bought = Vec::new();
    for _ in 0..3 {
        market.service.then(Reply::json(&json_of(ANSWER_BYTES)));
        let call = market.call();
        let quote = market.evidenced(&call).await;
        let mut reader = unhurried(&market, &call, &quote).await;
        let mut begun = [0; 15];
        reader.read_exact(&mut begun).await.unwrap();
        assert_eq!(&begun, b"HTTP/1.1 200 OK");
        bought.push((call, quote, reader));
    }
    // As far as it comes: an answer that was cut off ends early.
    let rest = |mut reader: TcpStream| async move {
        let mut read = Vec::new();
        while read.len() <= ANSWER_BYTES && matches!(reader.read_buf(&mut read).await, Ok(1..)) {}
        read.len()
    };
    let mut bought = bought.into_iter();
    let (call, quote, first) = bought.next().unwrap();
    let bytes = rest(first).await;
    assert!(bytes < ANSWER_BYTES, "{bytes} bytes came");
    let again = market.redeem_patiently(&call, &quote).await;
    assert_eq!(
        ok(&again)["seller_response"].as_str().map(str::len),
        Some(ANSWER_BYTES - 2)
    );
    assert!(again.header("idempotent-replayed").is_some(), "{again}");
    market.assert_settled(&quote, 1).await;
    // The others were not.
    for (_, quote, reader) in bought {
        let bytes = rest(reader).await;
        assert!(bytes > ANSWER_BYTES, "{bytes} bytes came");
        market.assert_settled(&quote, 1).await;
    }
    world.close().await;
}

async fn an_answer_that_is_longer_than_the_budget_in_its_envelope_is_delivered() {
    // Half of the budget is for answers; this one is six times as long as it came.
    let world = World::own("grown", small).await;
    // Her lease is so long that a gateway which waited half of it for room it cannot have would be found out.
    let endpoint = json!({ "endpoint": { "timeout_ms": 120_000 } });
    let market = Market::within(&world.door, endpoint).await;
    let controls = vec![1; 3 * MEBIBYTE / 2];
    let mut buying = Vec::new();
    for _ in 0..2 {
        market.service.then(Reply::new(200, &[], controls.clone()));
        let call = market.call();
        let quote = market.evidenced(&call).await;
        buying.push((call, quote));
    }
    let redeeming = buying
        .iter()
        .map(|(call, quote)| market.redeem_patiently(call, quote));
    let answers = futures_util::future::join_all(redeeming).await;
    for (answer, (call, quote)) in answers.iter().zip(&buying) {
        assert_eq!(ok(answer)["seller_response_encoding"], "text");
        assert!(answer.body.len() > BUDGET / 2);
        let again = market.redeem_patiently(call, quote).await;
        assert!(ok(&again).is_object() && again.body == answer.body);
        market.assert_settled(quote, 1).await;
    }
    world.close().await;
}

/// Asks for the answer of a paid call over a connection that takes next to nothing unread.
async fn unhurried(market: &Market, call: &PaidCall, quote: &Quote) -> TcpStream {
    const RECEIVE_BYTES: u32 = 4096;
    let authority = market.api().base_url().trim_start_matches("http://");
    let authority = authority.trim_end_matches("/api/v1").parse().unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(RECEIVE_BYTES).unwrap();
    let mut stream = socket.connect(authority).await.unwrap();
    let line = format!("POST /api/v1/gateway/{}", call.listing);
    let bearer = format!("Bearer {}", market.buyer.key);
    let headers = [
        ("Authorization", bearer.as_str()),
        ("Content-Type", "application/json"),
        ("X-Crochet-Relay-Request-Id", &quote.relay_request_id),
    ];
    let asked = request(&line, &headers, &call.body);
    stream.write_all(&asked).await.unwrap();
    stream
}

async fn flushing_redis_each_100_ms_costs_nobody_anything() {
    const CALLS: usize = 80;
    const FLUSHES: usize = 10;
    let world = World::own("flushed", |options| options).await;
    let market = Market::within(&world.door, json!({})).await;
    let stop = Arc::new(AtomicBool::new(false));
    let (door, stopped) = (world.door.clone(), Arc::clone(&stop));
    let flushes = Arc::<AtomicUsize>::default();
    let counter = Arc::clone(&flushes);
    let flushing = tokio::spawn(async move {
        let mut every = tokio::time::interval(Duration::from_millis(100));
        while !stopped.load(Ordering::Relaxed) {
            every.tick().await;
            door.flush().await;
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    let market = &market;
    let purchase = |number: usize| async move {
        let (buyer, call) = (
            market.buyer.through(&market.door.apis[number % 2]),
            market.call().under_key(&format!("k{number}")),
        );
        let quote = buyer.pay(&call, &market.door.sandbox).await.unwrap();
        let answer = market.redeem_as(&buyer, &call, &quote).await;
        ok(&answer);
        let other = &market.door.apis[(number + 1) % 2];
        let replay = market.no_longer_quoted(other, &call, &quote).await;
        assert_eq!(
            (replay.status, &replay.body),
            (200, &answer.body),
            "under its key: {replay}"
        );
        quote
    };
    // On a quick machine more are bought, until Redis was flushed often enough.
    let goes_on = |number: &usize| {
        let goes_on = *number < CALLS || flushes.load(Ordering::Relaxed) < FLUSHES;
        std::future::ready(goes_on)
    };
    let purchases = stream::iter(0..).take_while(goes_on).map(purchase);
    let quotes: Vec<Quote> = purchases.buffer_unordered(8).collect().await;
    stop.store(true, Ordering::Relaxed);
    flushing.await.unwrap();
    for quote in &quotes {
        market.assert_settled(quote, 1).await;
    }
    assert_eq!(market.service.total(), quotes.len());
    world.close().await;
}

async fn many_payments_at_once_are_each_delivered_once() {
    const CALLS: usize = 150;
    let market = Market::with(json!({ "endpoint": { "max_concurrency": 1000 } })).await;
    let other = market.another_buyer(Chain::Solana).await;
    let mut paid = Vec::new();
    for number in 0..CALLS {
        let (buyer, call) = (
            if number % 3 == 0 {
                &other
            } else {
                &market.buyer
            },
            market.call(),
        );
        paid.push((buyer.clone(), buyer.quote(&call).await.unwrap(), call));
    }
    let ids: Vec<&str> = paid
        .iter()
        .map(|(_, quote, _)| quote.relay_request_id.as_str())
        .collect();
    market.door.sandbox.deposit(&ids).await.unwrap();
    // With the evidence in, only claims and settlements are left to be made in batches.
    let proven = format!(
        "select count(*) from gateway_request where state = 'paid' and listing_id = '{}'",
        market.listing.id
    );
    until("all payments are in evidence", || async {
        let found = market.door.number(proven.clone()).await;
        (usize::try_from(found) == Ok(CALLS)).then_some(())
    })
    .await;
    let asking: Vec<_> = paid
        .iter()
        .enumerate()
        .map(|(number, (buyer, quote, call))| {
            let (buyer, call, id) = (
                buyer.through(&market.door.apis[number % 2]),
                call.clone(),
                quote.relay_request_id.clone(),
            );
            tokio::spawn(async move {
                buyer
                    .redeem(&call, &id, demo_agent::Patience::default())
                    .await
                    .unwrap()
            })
        })
        .collect();
    for (asked, (_, quote, _)) in asking.into_iter().zip(&paid) {
        assert_eq!(
            ok(&asked.await.unwrap())["request_id"],
            quote.request_id.as_str(),
            "everybody gets her own answer"
        );
    }
    for (_, quote, _) in &paid {
        assert_eq!(market.service.count(&quote.request_id), 1);
    }
    assert_eq!(market.service.total(), CALLS);
    let sold = market
        .seller
        .get("/ledger/summary")
        .await
        .unwrap()
        .data(200)
        .unwrap();
    assert_eq!(sold["payable_micros"], 951_000 * CALLS, "{sold}");
}

async fn a_seller_is_never_called_beyond_her_limit() {
    const LIMIT: usize = 3;
    let market = Market::with(json!({ "endpoint": { "max_concurrency": LIMIT } })).await;
    let gate = Gate::shut();
    market.service.usually(Reply::json("1").behind(&gate));
    let mut paid = Vec::new();
    for _ in 0..12 {
        let call = market.call();
        paid.push((market.evidenced(&call).await, call));
    }
    let asking: Vec<_> = paid
        .iter()
        .map(|(quote, call)| market.redeem_meanwhile(call, quote))
        .collect();
    market.service.called(LIMIT).await;
    // Those beyond the limit are refused while the others are held.
    until("all beyond the limit are refused", || async {
        (asking.iter().filter(|asked| asked.is_finished()).count() == paid.len() - LIMIT)
            .then_some(())
    })
    .await;
    assert_eq!(market.service.total(), LIMIT);
    gate.open();
    let mut delivered = 0;
    for asked in asking {
        let answer = asked.await.unwrap();
        if answer.status == 200 {
            delivered += 1;
        } else {
            refused(&answer, 503, "SELLER_UNAVAILABLE");
        }
    }
    assert_eq!(delivered, LIMIT);
    for (quote, call) in &paid {
        ok(&market.redeem(call, quote).await);
        market.assert_settled(quote, 1).await;
    }
}

/// A JSON text of exactly this many bytes.
fn json_of(bytes: usize) -> String {
    format!("\"{}\"", "x".repeat(bytes - 2))
}

async fn bodies_up_to_the_limit_arrive_and_one_byte_more_does_not() {
    let market = Market::open().await;
    for bytes in [64 * 1024, 65 * 1024, MEBIBYTE] {
        let call = market.call_of(json_of(bytes));
        let (quote, answer) = market.buy(&call).await;
        ok(&answer);
        let arrival = market.service.called_for(&quote.request_id).await;
        assert!(
            arrival.request.body == call.body,
            "{bytes} bytes arrived changed"
        );
        market.assert_settled(&quote, 1).await;
    }
    for bytes in [MEBIBYTE + 1, 5 * MEBIBYTE, 9 * MEBIBYTE] {
        let answer = market
            .buyer
            .call(&market.call_of(json_of(bytes)), None)
            .await
            .unwrap();
        assert_eq!(
            refused(&answer, 413, "BODY_TOO_LARGE")["recovery"]["next_action"],
            "fix_request"
        );
    }
    assert_eq!(market.service.total(), 3);
    let largest = Market::with(json!({ "endpoint": { "max_request_bytes": 8 * MEBIBYTE } })).await;
    let call = largest.call_of(json_of(8 * MEBIBYTE));
    let (quote, answer) = largest.buy(&call).await;
    ok(&answer);
    assert_eq!(
        largest
            .service
            .called_for(&quote.request_id)
            .await
            .request
            .body
            .len(),
        8 * MEBIBYTE
    );
    largest.assert_settled(&quote, 1).await;
    let over = largest
        .buyer
        .call(&largest.call_of(json_of(8 * MEBIBYTE + 1)), None)
        .await
        .unwrap();
    refused(&over, 413, "BODY_TOO_LARGE");
}

async fn the_cap_of_a_paid_call_is_its_quotes() {
    let market = Market::open().await;
    let call = market.call_of(json_of(100_000));
    let quote = market.evidenced(&call).await;
    market
        .put_endpoint(json!({ "max_request_bytes": 10 }))
        .await;
    market.gateway_says("BODY_TOO_LARGE").await;
    // What was sold with that body is delivered with it.
    ok(&market.redeem(&call, &quote).await);
    market.assert_settled(&quote, 1).await;
}
