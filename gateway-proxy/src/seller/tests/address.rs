//! Only a checked address is connected to.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crochet_shared::egress::{Egress, Forbidden};
use futures_util::future::join_all;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::ResolverConfig;
use hickory_resolver::net::runtime::TokioRuntimeProvider;

use super::dns::NameServer;
use super::script::{self, Canary, OK};
use super::{
    Network, NetworkConfig, Seller, SendError, endpoint, listing, loopback, seller, send_one,
};
use crate::seller::pool::Found;
use crate::seller::resolve::{ANSWER_AGE_MAX, Answer, Resolver, name_server};
use crate::seller::{Unsent, Unservable};

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// TEST-NET-1 is special; this is a public address that is never connected to here.
const PUBLIC: &str = "93.184.216.34";

fn network_asking(server: &NameServer, egress: Egress) -> Network {
    Network::new(NetworkConfig {
        egress,
        dns_servers: &[server.at],
        ..NetworkConfig::default()
    })
    .unwrap()
}

/// Production's rules, the canary's port being one of the configured ones.
fn strict(port: u16) -> Egress {
    Egress {
        allow_http: true,
        ports: vec![port],
        ..Egress::default()
    }
}

fn only(cidr: &str) -> Egress {
    Egress {
        allow_cidrs: vec![cidr.parse().unwrap()],
        ..strict(1)
    }
}

#[tokio::test]
async fn a_name_that_leads_inside_is_refused_before_any_connection() {
    let canary = Canary::at(LOCALHOST, 0);
    let port = canary.port();
    for answer in [
        &["127.0.0.1"][..],
        &["::1"],
        &["::ffff:127.0.0.1"],
        &["64:ff9b::7f00:1"],
        &["2002:7f00:1::"],
        &["::127.0.0.1"],
        &["0.0.0.0"],
        &["::"],
        &["10.0.0.1"],
        &["172.16.0.1"],
        &["192.168.0.1"],
        &["169.254.169.254"],
        &["fd00::1"],
        &["fe80::1"],
        &["100.64.0.1"],
        &["224.0.0.1"],
        // One bad address refuses the host, wherever it stands.
        &[PUBLIC, "127.0.0.1"],
        &["127.0.0.1", PUBLIC],
        &[PUBLIC, "::1"],
        &[PUBLIC, PUBLIC, PUBLIC, PUBLIC, PUBLIC, "127.0.0.1"],
    ] {
        let server = NameServer::always(answer, 60).await;
        let network = network_asking(&server, strict(port));
        let seller = seller(&format!("http://seller.test:{port}/"), &network);
        assert_eq!(
            send_one(&seller, &network).await.unwrap_err(),
            SendError::Unsent(Unsent::ForbiddenAddress),
            "{answer:?}"
        );
    }
    assert!(canary.is_silent());
}

#[tokio::test]
async fn a_literal_in_any_spelling_is_refused() {
    let canary = Canary::at(LOCALHOST, 0);
    let port = canary.port();
    let server = NameServer::always(&["127.0.0.1"], 60).await;
    let network = network_asking(&server, strict(port));
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.1.",
        "%31%32%37.0.0.1",
        "１２７.0.0.1",
        "127。0。0。1",
        "0",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::127.0.0.1]",
        "[::127.0.0.1]",
    ] {
        let record = endpoint(&format!("http://{host}:{port}/"));
        assert_eq!(
            Seller::new(listing(), &record, &network, None).unwrap_err(),
            Unservable::Url(Forbidden::Address),
            "{host}"
        );
    }
    // By name, the check comes when it is called.
    for host in ["localhost", "LOCALHOST", "localhost.", "seller.test."] {
        let seller = seller(&format!("http://{host}:{port}/"), &network);
        assert_eq!(
            send_one(&seller, &network).await.unwrap_err(),
            SendError::Unsent(Unsent::ForbiddenAddress),
            "{host}"
        );
    }
    assert!(canary.is_silent());
}

#[tokio::test]
async fn the_check_stands_directly_before_connect_for_literals_too() {
    let canary = Canary::at(LOCALHOST, 0);
    let server = NameServer::always(&[PUBLIC], 60).await;
    let lax = network_asking(&server, loopback());
    let port = canary.port();
    // Prepared when it was allowed, called when it no longer is.
    let seller = seller(&format!("http://127.0.0.1:{port}/"), &lax);
    let strict = network_asking(&server, strict(port));
    assert_eq!(
        send_one(&seller, &strict).await.unwrap_err(),
        SendError::Unsent(Unsent::ForbiddenAddress)
    );
    // Even if the answer had slipped through the first check.
    let answer = Answer::literal(LOCALHOST);
    let connected = strict.connect(&seller.target, None, &answer).await;
    assert_eq!(connected.err(), Some(Unsent::ForbiddenAddress));
    assert!(canary.is_silent());
}

#[tokio::test]
async fn a_name_that_is_bound_anew_between_two_calls_is_judged_anew() {
    let (at, seen) = script::start(|_, mut peer| async move {
        peer.read().await;
        peer.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
            .await;
    })
    .await;
    let other: IpAddr = [127, 0, 0, 2].into();
    let canary = Canary::at(other, at.port());
    let server =
        NameServer::start(move |_, nth| Some((vec![if nth == 0 { LOCALHOST } else { other }], 0)))
            .await;
    let network = network_asking(&server, only("127.0.0.1/32"));
    let seller = seller(&format!("http://seller.test:{}/", at.port()), &network);
    assert_eq!(send_one(&seller, &network).await.unwrap().status, 200);
    assert_eq!(
        send_one(&seller, &network).await.unwrap_err(),
        SendError::Unsent(Unsent::ForbiddenAddress)
    );
    assert_eq!((seen.arrivals(), server.asked()), (1, 2));
    assert!(canary.is_silent());
}

#[tokio::test]
async fn a_ttl_of_zero_bounds_new_connections_and_not_the_one_that_is_open() {
    let (at, seen) = script::polite().await;
    let server = NameServer::always(&["127.0.0.1"], 0).await;
    let network = network_asking(&server, loopback());
    let seller = seller(&format!("http://seller.test:{}/", at.port()), &network);
    for _ in 0..5 {
        send_one(&seller, &network).await.unwrap();
    }
    assert_eq!((seen.connections(), server.asked()), (1, 1));
    // A second connection at the same time asks again.
    let calls = [send_one(&seller, &network), send_one(&seller, &network)];
    for call in join_all(calls).await {
        call.unwrap();
    }
    assert_eq!((seen.connections(), server.asked()), (2, 2));
}

#[tokio::test]
async fn calls_at_once_share_one_question_and_a_fresh_answer_is_kept() {
    let server = NameServer::always(&["127.0.0.1", "127.0.0.3"], 30).await;
    let resolver = Resolver::new(&[server.at]).unwrap();
    let lookups = (0..50).map(|_| resolver.lookup("seller.test"));
    let answers = join_all(lookups).await;
    let later = resolver.lookup("seller.test").await.unwrap();
    assert_eq!(later.addresses.len(), 2);
    for answer in answers {
        assert!(Arc::ptr_eq(&answer.unwrap(), &later));
    }
    assert_eq!(server.asked(), 1);
    resolver.lookup("other.test").await.unwrap();
    assert_eq!(server.asked(), 2);
}

#[tokio::test]
async fn no_answer_is_acted_on_for_more_than_a_minute() {
    let server = NameServer::always(&["127.0.0.1"], 86_400).await;
    let resolver = Resolver::new(&[server.at]).unwrap();
    let answer = resolver.lookup("seller.test").await.unwrap();
    let now = Instant::now();
    assert!(answer.is_fresh(now) && answer.is_kept(now));
    let later = now + ANSWER_AGE_MAX;
    assert!(!answer.is_fresh(later) && !answer.is_kept(later));
}

#[tokio::test]
async fn after_a_minute_even_an_open_connection_waits_for_a_new_answer() {
    let (at, _) = script::polite().await;
    let server = NameServer::always(&["127.0.0.1"], 86_400).await;
    let network = network_asking(&server, loopback());
    let seller = seller(&format!("http://seller.test:{}/", at.port()), &network);
    send_one(&seller, &network).await.unwrap();
    let now = Instant::now();
    assert!(matches!(seller.pool.take(now), Found::Idle(_)));
    let later = now + ANSWER_AGE_MAX;
    assert!(matches!(seller.pool.take(later), Found::Stale));
}

#[tokio::test]
async fn a_short_ttl_is_kept_to() {
    let server = NameServer::always(&["127.0.0.1"], 7).await;
    let resolver = Resolver::new(&[server.at]).unwrap();
    let answer = resolver.lookup("seller.test").await.unwrap();
    let later = Instant::now() + Duration::from_secs(7);
    assert!(answer.is_fresh(Instant::now()) && !answer.is_fresh(later));
    assert!(answer.is_kept(later));
}

#[tokio::test]
async fn a_name_without_an_answer_is_unresolved_in_time() {
    let silent = NameServer::start(|_, _| None).await;
    let empty = NameServer::always(&[], 60).await;
    for server in [silent, empty] {
        let network = network_asking(&server, loopback());
        let seller = seller("http://seller.test:1/", &network);
        let before = Instant::now();
        assert_eq!(
            send_one(&seller, &network).await.unwrap_err(),
            SendError::Unsent(Unsent::Unresolved)
        );
        assert!(before.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test]
async fn names_are_asked_as_they_stand() {
    // Everything under the search domain leads somewhere; the name itself does not.
    let server = NameServer::start(|name, _| {
        let addresses = if name.ends_with("search.test") {
            vec![LOCALHOST]
        } else {
            Vec::new()
        };
        Some((addresses, 60))
    })
    .await;
    let search = vec!["search.test.".parse().unwrap()];
    let config = ResolverConfig::from_parts(None, search, vec![name_server(server.at)]);
    let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let resolver = Resolver::of(builder).unwrap();
    assert!(resolver.lookup("seller").await.is_err());
    assert!(resolver.lookup("seller.search.test").await.is_ok());
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_refuses() {
    let (at, seen) = script::start_at([127, 0, 0, 3].into(), 0, |_, mut peer| async move {
        peer.read().await;
        peer.write(OK).await;
    })
    .await;
    let server = NameServer::always(&["127.0.0.4", "::1", "127.0.0.3"], 60).await;
    let network = network_asking(&server, loopback());
    let seller = seller(&format!("http://seller.test:{}/", at.port()), &network);
    assert_eq!(send_one(&seller, &network).await.unwrap().status, 200);
    assert_eq!(seen.arrivals(), 1);
}
