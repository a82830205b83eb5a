//! Calls by TLS are the calls of the plain port.

use crochet_dev::Role;
use demo_agent::{Method, Quote};
use http::Version;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::stage::Stage;
use crate::harness::{Gate, Market, Reply, SOON, Service, manners, trials, until};

trials!(
    a_call_by_tls_is_the_same_call_in_both_versions_of_http,
    a_claimed_call_outlives_its_stream_and_a_stopping_gateway,
    a_large_answer_that_nobody_reads_is_cut_off_and_its_connection_serves_on,
);

async fn a_call_by_tls_is_the_same_call_in_both_versions_of_http() {
    let mut stage = Stage::set("tls").await;
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let mut door = stage.world.door.clone();
        door.apis = vec![stage.api(version)];
        let market = Market::within(&door, json!({})).await;
        bought_and_replayed(&market).await;
        passed_on(&market).await;
        refused_in_words(&market).await;
    }
    plain_http_is_not_answered(&stage).await;
    old_tls_is_refused(&stage).await;
    the_control_plane_is_told(&mut stage).await;
    stage.world.close().await;
}

/// That TLS was spoken, with which host, and HTTP/2's cookies in one line.
async fn the_control_plane_is_told(stage: &mut Stage) {
    let plane = Service::start().await;
    plane.usually(Reply::json("{}"));
    let (gateway, url) = (
        Role::Gateway(0),
        format!("http://127.0.0.1:{}", plane.port()),
    );
    stage.world.stack.tell(gateway, "CONTROL_PLANE_URL", &url);
    stage.world.stack.restart(gateway).await.unwrap();
    let host = format!("localhost:{}", stage.port.0.port());
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let cookies = [("cookie", "a=1"), ("cookie", "b=2")];
        let api = stage.api(version);
        let answer = api.send(Method::GET, "/health", None, &cookies, None).await;
        assert_eq!(answer.unwrap().status, 200);
        let arrival = plane.arrivals().pop().unwrap();
        for (name, value) in [
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", host.as_str()),
            ("x-forwarded-for", "127.0.0.1"),
            ("host", host.as_str()),
            ("cookie", "a=1; b=2"),
        ] {
            assert_eq!(arrival.header(name), value, "{name} of {version:?}");
        }
    }
}

/// 402, payment, answer, the same answer again; the books are those of any call.
async fn bought_and_replayed(market: &Market) {
    let call = market.call();
    let unpaid = market.buyer.call(&call, None).await.unwrap();
    manners(&unpaid);
    let quote = Quote::from_answer(&unpaid).unwrap();
    let id = [quote.relay_request_id.as_str()];
    market.door.sandbox.deposit(&id).await.unwrap();
    let answer = market.redeem(&call, &quote).await;
    assert_eq!(answer.status, 200, "{answer}");
    let again = market.once(&call, &quote).await;
    assert_eq!(again.headers["idempotent-replayed"], "true");
    assert_eq!(again.body, answer.body);
    market.assert_settled(&quote, 1).await;
}

/// What is the control plane's is passed on, cookies and all.
async fn passed_on(market: &Market) {
    let path = format!("/listings/{}", market.listing.id);
    let listing = market.api().get(&path, None).await.unwrap();
    assert_eq!(listing.data(200).unwrap()["id"], market.listing.id.as_str());
    let email = format!("{}@example.com", market.buyer.id);
    let human = json!({ "email": email, "password": "correct horse", "display_name": "H" });
    let signed_up = market
        .api()
        .post("/auth/signup", None, &human)
        .await
        .unwrap();
    assert_eq!(signed_up.status, 201, "{signed_up}");
    let cookie = signed_up.headers["set-cookie"].to_str().unwrap();
    let session = cookie.split(';').next().unwrap();
    let cookies = [("cookie", "theme=dark"), ("cookie", session)];
    let me = market.api().send(Method::GET, "/me", None, &cookies, None);
    let me = me.await.unwrap().data(200).unwrap();
    assert_eq!(me["authenticated_by"], "session");
}

/// Limits of heads and bodies hold, and the connection serves on.
async fn refused_in_words(market: &Market) {
    let path = format!("/gateway/{}", market.listing.id);
    let large = "x".repeat(40 * 1024);
    let headers = [("x-large", large.as_str())];
    let body = Some(market.call().body);
    let answer = market.buyer.send(Method::POST, &path, &headers, body);
    let answer = answer.await.unwrap();
    assert_eq!(
        (answer.status, answer.code().as_deref()),
        (431, Some("HEADERS_TOO_LARGE"))
    );
    let body = vec![b' '; 2 * 1024 * 1024];
    let call = market.call_of(body);
    let answer = market.buyer.call(&call, None).await.unwrap();
    assert_eq!(
        (answer.status, answer.code().as_deref()),
        (413, Some("BODY_TOO_LARGE"))
    );
    let unknown = market.buyer.send(Method::GET, "/gateway/x", &[], None);
    assert_eq!(unknown.await.unwrap().status, 405);
}

/// Somebody who speaks no TLS hears no HTTP, and is not kept.
async fn plain_http_is_not_answered(stage: &Stage) {
    let mut stream = TcpStream::connect(stage.port.0).await.unwrap();
    let request = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let heard = heard(&mut stream).await;
    assert!(!heard.starts_with(b"HTTP/"), "{heard:?}");
}

/// The hello of a client that knows TLS 1.1 and nothing newer is answered with an alert.
async fn old_tls_is_refused(stage: &Stage) {
    const PROTOCOL_VERSION: [u8; 2] = [2, 70];
    const SIGNATURE_ALGORITHMS: [u8; 8] = [0, 13, 0, 4, 0, 2, 4, 3];
    let mut hello = vec![1, 0, 0, 51, 3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x13, 1, 0, 0, 8]);
    hello.extend(SIGNATURE_ALGORITHMS);
    let mut record = vec![22, 3, 1, 0, 55];
    record.extend(hello);
    let mut stream = TcpStream::connect(stage.port.0).await.unwrap();
    stream.write_all(&record).await.unwrap();
    let heard = heard(&mut stream).await;
    assert_eq!(heard.first(), Some(&21), "an alert: {heard:?}");
    assert!(heard.ends_with(&PROTOCOL_VERSION), "{heard:?}");
}

/// Everything until the other side closes, which it does soon.
async fn heard(stream: &mut TcpStream) -> Vec<u8> {
    let mut heard = Vec::new();
    let read = tokio::time::timeout(SOON, stream.read_to_end(&mut heard)).await;
    // A reset is an end too.
    drop(read.expect("the connection ends"));
    heard
}

async fn a_claimed_call_outlives_its_stream_and_a_stopping_gateway() {
    let mut stage = Stage::set("streams").await;
    let mut door = stage.world.door.clone();
    door.apis = vec![stage.api(Version::HTTP_2)];
    let market = Market::within(&door, json!({})).await;
    reset_while_claimed(&stage, &market).await;

    let gate = Gate::shut();
    market.service.then(Reply::json("2").behind(&gate));
    let call = market.call();
    let quote = market.evidenced(&call).await;
    let answering = market.redeem_meanwhile(&call, &quote);
    market.service.called_for(&quote.request_id).await;
    let port = stage.port.0;
    let stopping = tokio::spawn(async move {
        let status = stage.world.stack.terminate(Role::Gateway(0)).await.unwrap();
        (stage, status)
    });
    // The stop is heard: nobody new is let in.
    until("the gateway listens no longer", || async {
        let refused = TcpStream::connect(port).await.is_err();
        refused.then_some(())
    })
    .await;
    gate.open();
    let answer = answering.await.unwrap();
    assert_eq!(answer.status, 200, "{answer}");
    let (mut stage, status) = stopping.await.unwrap();
    assert!(status.success(), "{status}");
    stage
        .world
        .stack
        .start_again(Role::Gateway(0))
        .await
        .unwrap();
    market.assert_settled(&quote, 1).await;
    stage.world.close().await;
}

/// A buyer who resets her stream gets her answer by asking again.
async fn reset_while_claimed(stage: &Stage, market: &Market) {
    let gate = Gate::shut();
    market.service.then(Reply::json("1").behind(&gate));
    let call = market.call();
    let quote = market.evidenced(&call).await;
    let mut client = stage.http2().await;
    let relay = Some(quote.relay_request_id.as_str());
    let head = stage.head(&market.buyer, &call, relay);
    let (answer, mut stream) = client.send_request(head, false).unwrap();
    stream.send_data(call.body.clone(), true).unwrap();
    market.service.called_for(&quote.request_id).await;
    stream.send_reset(h2::Reason::CANCEL);
    assert!(answer.await.is_err(), "the stream is reset");
    // The reset is on its way before the seller answers: the connection has answered something since.
    let unpaid = stage.head(&market.buyer, &market.call(), None);
    let (answer, mut stream) = client
        .ready()
        .await
        .unwrap()
        .send_request(unpaid, false)
        .unwrap();
    stream.send_data(market.call().body, true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 402);
    gate.open();
    market.reaches(&quote, "delivered").await;
    let answer = market.once(&call, &quote).await;
    assert_eq!(answer.headers["idempotent-replayed"], "true");
    market.assert_settled(&quote, 1).await;
}

async fn a_large_answer_that_nobody_reads_is_cut_off_and_its_connection_serves_on() {
    const MEBIBYTE: usize = 1024 * 1024;
    // Half of it may be on its way: two of these answers.
    const BUDGET: usize = 16 * MEBIBYTE;
    const ANSWER_BYTES: usize = 15 * MEBIBYTE / 4;
    let mut stage = Stage::set("cut_streams").await;
    let (gateway, budget) = (Role::Gateway(0), BUDGET.to_string());
    stage
        .world
        .stack
        .tell(gateway, "BODY_BUDGET_BYTES", &budget);
    stage.world.stack.restart(gateway).await.unwrap();
    let mut door = stage.world.door.clone();
    door.apis = vec![stage.api(Version::HTTP_2)];
    let market = Market::within(&door, json!({})).await;
    let large = format!("\"{}\"", "x".repeat(ANSWER_BYTES - 2));
    let mut unread = Vec::new();
    for _ in 0..3 {
        market.service.then(Reply::json(&large));
        let call = market.call();
        let quote = market.evidenced(&call).await;
        let mut client = stage.http2().await;
        let relay = Some(quote.relay_request_id.as_str());
        let head = stage.head(&market.buyer, &call, relay);
        let (answer, mut stream) = client.send_request(head, false).unwrap();
        stream.send_data(call.body.clone(), true).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), 200);
        unread.push((client, call, quote, answer.into_body()));
    }
    let (mut client, call, quote, body) = unread.remove(0);
    let error = bytes_of(body).await.unwrap_err();
    assert!(error.is_reset(), "{error}");
    let unpaid = stage.head(&market.buyer, &market.call(), None);
    let (answer, mut stream) = client.send_request(unpaid, false).unwrap();
    stream.send_data(market.call().body, true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 402);
    let answer = market.redeem_patiently(&call, &quote).await;
    assert_eq!(answer.status, 200, "{answer}");
    assert_eq!(answer.headers["idempotent-replayed"], "true");
    assert!(answer.body.len() > ANSWER_BYTES);
    market.assert_settled(&quote, 1).await;
    // The others were not.
    for (_client, _, quote, body) in unread {
        let bytes = bytes_of(body).await.unwrap();
        assert!(bytes > ANSWER_BYTES, "{bytes} bytes came");
        market.assert_settled(&quote, 1).await;
    }
    stage.world.close().await;
}

/// Reads a stream to its end.
async fn bytes_of(mut body: h2::RecvStream) -> Result<usize, h2::Error> {
    let mut bytes = 0;
    while let Some(part) = body.data().await {
        let part = part?.len();
        bytes += part;
        body.flow_control().release_capacity(part)?;
    }
    Ok(bytes)
}
