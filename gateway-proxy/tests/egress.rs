//! Where a call may go: only to an address that was checked, and over TLS only to whom the host name says.

use std::net::Ipv4Addr;

use crochet_dev::Options;
use demo_agent::Answer;
use serde_json::json;

use crate::harness::{
    Market, Names, Reply, Service, World, ok, refused, tls_service, trials, until,
};

trials!(
    a_name_that_moves_to_a_forbidden_address_is_not_connected_to,
    a_seller_behind_tls_is_verified_by_her_host_name,
    our_own_host_is_nobodys_endpoint,
);

const ALLOWED: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// On this machine too, so that a connection to it would be seen.
const FORBIDDEN: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

fn only_the_allowed(options: Options, names: &Names) -> Options {
    options
        .set("ENDPOINT_ALLOW_CIDRS", "127.0.0.1/32")
        .and_then(|options| options.set("DNS_SERVERS", &names.address()))
        .unwrap()
}

fn unreachable(answer: &Answer) {
    refused(answer, 502, "SELLER_UNREACHABLE");
    assert_eq!(answer.at("/data/attempts"), 0, "{answer}");
}

async fn a_name_that_moves_to_a_forbidden_address_is_not_connected_to() {
    let names = Names::start(&[ALLOWED]).await;
    let world = World::own("moving_name", |options| only_the_allowed(options, &names)).await;
    let service = Service::start().await;
    // The same port at the forbidden address, where a connection would be counted.
    let trap = Service::start_on(FORBIDDEN, service.port()).await;
    let url = format!("http://seller.test:{}/hook", service.port());
    let market = Market::selling_at(&world.door, service, &url, json!({})).await;
    // Nothing is pooled, so that each call needs a connection of its own.
    market
        .service
        .usually(Reply::new(200, &[("Connection", "close")], "1").then_close());
    let (quote, answer) = market.buy(&market.call()).await;
    ok(&answer);
    let arrival = market.service.called_for(&quote.request_id).await;
    assert_eq!(
        arrival.header("host"),
        format!("seller.test:{}", market.service.port())
    );
    market.assert_settled(&quote, 1).await;
    let call = market.call();
    let quote = market.evidenced(&call).await;
    // One forbidden address among those of a name forbids the name, whichever would be taken.
    for addresses in [
        &[FORBIDDEN][..],
        &[ALLOWED, FORBIDDEN],
        &[FORBIDDEN, ALLOWED],
        &[Ipv4Addr::new(10, 0, 0, 1)],
        &[],
    ] {
        names.move_to(addresses);
        unreachable(&market.once(&call, &quote).await);
        // The breaker must not be what keeps the next one from being tried.
        market.gateway_says("PAYMENT_REQUIRED").await;
        if addresses.len() == 1 {
            let path = format!("/listings/{}/endpoint/test", market.listing.id);
            let tested = market
                .seller
                .post(&path, &json!({}))
                .await
                .unwrap()
                .data(200)
                .unwrap();
            assert_eq!(tested["outcome"], "forbidden_address", "{tested}");
            let body = json!({ "private_endpoint_url": url }).to_string();
            let path = format!("/listings/{}/endpoint", market.listing.id);
            let saved = market
                .seller
                .send(demo_agent::Method::PUT, &path, &[], Some(body.into()))
                .await
                .unwrap();
            assert_eq!(
                (saved.status, saved.code().as_deref()),
                (400, Some("ENDPOINT_URL_FORBIDDEN")),
                "{saved}"
            );
        }
    }
    assert_eq!(
        (trap.connections(), market.service.total()),
        (0, 1),
        "connections to the forbidden address, calls"
    );
    names.move_to(&[ALLOWED]);
    let answer = until("the name is back", || async {
        let answer = market.redeem(&call, &quote).await;
        (answer.status == 200).then_some(answer)
    })
    .await;
    ok(&answer);
    market.assert_settled(&quote, 1).await;
    world.close().await;
}

async fn a_seller_behind_tls_is_verified_by_her_host_name() {
    let names = Names::start(&[ALLOWED]).await;
    let hers = rcgen::generate_simple_self_signed(["seller.test".to_owned()]).unwrap();
    let others = rcgen::generate_simple_self_signed(["other.test".to_owned()]).unwrap();
    let file = std::env::temp_dir().join(format!("crochet-suite-ca-{}.pem", std::process::id()));
    std::fs::write(&file, format!("{}{}", hers.cert.pem(), others.cert.pem())).unwrap();
    let world = World::own("tls", |options| {
        only_the_allowed(options, &names)
            .set("ENDPOINT_EXTRA_CA_FILE", file.to_str().unwrap())
            .unwrap()
    })
    .await;
    let service = tls_service(&hers).await;
    let url = format!("https://seller.test:{}/hook", service.port());
    let market = Market::selling_at(&world.door, service, &url, json!({})).await;
    let mut paid = Vec::new();
    for _ in 0..3 {
        let call = market.call();
        paid.push((market.evidenced(&call).await, call));
    }
    for (quote, call) in &paid {
        ok(&market.redeem(call, quote).await);
    }
    assert!(
        market.service.connections() < paid.len(),
        "TLS connections are pooled too"
    );
    for (quote, _) in &paid {
        market.assert_settled(quote, 1).await;
    }
    // Vouched for, but for another name: nothing is sent.
    let impostor = tls_service(&others).await;
    let url = format!("https://seller.test:{}/hook", impostor.port());
    let cheated = Market::selling_at(&world.door, impostor, &url, json!({})).await;
    let (quote, answer) = cheated.buy(&cheated.call()).await;
    unreachable(&answer);
    cheated.assert_still_paid(&quote, 0).await;
    world.close().await;
    std::fs::remove_file(&file).unwrap();
}

async fn our_own_host_is_nobodys_endpoint() {
    let names = Names::start(&[ALLOWED]).await;
    let world = World::own("own_host", |options| {
        only_the_allowed(options, &names)
            .set("PUBLIC_BASE_URL", "https://crochet.test")
            .unwrap()
    })
    .await;
    let market = Market::within(&world.door, json!({})).await;
    let path = format!("/listings/{}/endpoint", market.listing.id);
    for url in [
        "https://crochet.test/api/v1/gateway/x",
        "https://CROCHET.test./",
        "https://crochet.test:8443/",
    ] {
        let body = json!({ "private_endpoint_url": url }).to_string();
        let put = demo_agent::Method::PUT;
        let saved = market
            .seller
            .send(put, &path, &[], Some(body.into()))
            .await
            .unwrap();
        assert_eq!(
            (saved.status, saved.code().as_deref()),
            (400, Some("ENDPOINT_URL_FORBIDDEN")),
            "{url}: {saved}"
        );
    }
    let gateway_url = market.listing.gateway_url.as_deref().unwrap();
    assert!(
        gateway_url.starts_with("https://crochet.test/api/v1/gateway/"),
        "{gateway_url}"
    );
    market.assert_untouched().await;
    world.close().await;
}
