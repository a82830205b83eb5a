//! No SSRF: whatever a seller calls her host, saving it, testing it and calling it open no
//! connection to an address that is not public.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crochet_dev::{Options, Role};
use demo_agent::{Listing, Method, NewListing, PaidCall, Quote};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::spellings;
use crate::harness::{Market, Names, Reply, Service, World, sized, trials, until};

trials!(no_forbidden_address_is_connected_to_however_it_is_spelled => few);

/// Listings made and asked about at once.
const AT_ONCE: usize = 8;
/// Where the public name server of the test sends everybody at first.
const PUBLIC: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 34);
/// The one address that is open in the part about names that flip; its neighbour is not.
const OPEN: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
const SHUT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 4);

/// What listens at every address of this machine, on one port, and must not be connected to.
struct Traps(Vec<Service>);

impl Traps {
    async fn set() -> Self {
        let v4 = Service::start_on(Ipv4Addr::UNSPECIFIED, 0).await;
        let port = v4.port();
        let mut traps = vec![v4];
        // A machine without IPv6 has nothing to reach there.
        if tokio::net::TcpListener::bind((Ipv6Addr::LOCALHOST, port))
            .await
            .is_ok()
        {
            traps.push(Service::start_on(Ipv6Addr::LOCALHOST, port).await);
        }
        Self(traps)
    }

    fn port(&self) -> u16 {
        self.0[0].port()
    }

    fn connections(&self) -> usize {
        self.0.iter().map(Service::connections).sum()
    }
}

async fn no_forbidden_address_is_connected_to_however_it_is_spelled() {
    let traps = Traps::set().await;
    let urls = spellings::urls(traps.port());
    assert!(urls.len() >= 200, "{} spellings", urls.len());
    let names = Names::start(&[Ipv4Addr::LOCALHOST]).await;
    let mut world = World::own("no_ssrf", |options| {
        open_to_all(options, &names, traps.port())
    })
    .await;

    // Somebody whom saving did not stop: everything is open, and each spelling that is a URL is saved.
    let service = Service::start_on(OPEN, 0).await;
    let url = format!("http://{OPEN}:{}/hook", service.port());
    let market = Market::selling_at(&world.door, service, &url, json!({})).await;
    let saved = publish(&market, &urls).await;
    assert!(saved.len() > 100, "{} were saved", saved.len());
    let reached = tested(&market, &market.publish(at(&traps)).await.id).await;
    assert_eq!(
        (reached["outcome"].as_str(), traps.connections()),
        (Some("delivered"), 1),
        "the traps are there, and an open gateway reaches them: {reached}"
    );
    no_redirect_is_followed(&market, &traps).await;
    let moving = market.publish(named(&traps)).await;
    let paid = pay_for(&market, &saved, &moving).await;

    // From here on the gateway opens nothing.
    shut(&mut world, Role::Gateway(0)).await;
    let before = traps.connections();
    testing_reaches_nobody(&market, &saved).await;
    calling_reaches_nobody(&market, &paid).await;
    no_answer_of_a_name_server_helps(&market, &names, &moving).await;
    assert_eq!(traps.connections(), before, "connections by the gateway");

    // And neither does the control plane.
    shut(&mut world, Role::ControlPlane).await;
    saving_is_refused(&market, &names, &urls).await;
    assert_eq!(traps.connections(), before, "connections by saving");

    a_name_that_flips_is_connected_to_at_its_good_address_only(&mut world, &market, &names).await;
    world.close().await;
}

/// The traps' port is allowed everywhere, so that it is never what an address is refused for.
fn open_to_all(options: Options, names: &Names, port: u16) -> Options {
    let set = |options: Options, (name, value): (&str, &str)| options.set(name, value).unwrap();
    [
        ("ENDPOINT_ALLOW_CIDRS", "0.0.0.0/0,::/0"),
        ("DNS_SERVERS", &names.address()),
        ("ENDPOINT_PORTS", &port.to_string()),
        ("POW_DIFFICULTY", "1"),
        // What is refused must be refused for its address, not because it was refused before.
        ("BREAKER_CONNECT_FAILURES", "1000000"),
        ("BREAKER_MIN_CALLS", "1000000"),
    ]
    .into_iter()
    .fold(options.gateways(1), set)
}

/// Restarts a service with the endpoint rules of production, but for plain http.
async fn shut(world: &mut World, role: Role) {
    world.stack.set("ENDPOINT_ALLOW_CIDRS", "").unwrap();
    world.stack.restart(role).await.unwrap();
}

fn at(traps: &Traps) -> Value {
    json!({ "private_endpoint_url": format!("http://127.0.0.1:{}/hook", traps.port()) })
}

fn named(traps: &Traps) -> Value {
    json!({ "private_endpoint_url": format!("http://moving.test:{}/hook", traps.port()) })
}

/// A listing for each spelling; those that are refused even by an open stack are left out.
async fn publish(market: &Market, urls: &[String]) -> Vec<Listing> {
    let listings = futures_util::stream::iter(urls.iter().enumerate()).map(|(number, url)| {
        let new = NewListing::per_call(&format!("Spelling {number}"), "1", url);
        async move {
            match market.seller.publish(&new).await {
                Ok(listing) => Some(listing),
                Err(error) => {
                    let why = format!("{error:#}");
                    assert!(
                        why.contains("ENDPOINT_URL_FORBIDDEN") || why.contains("VALIDATION_ERROR"),
                        "{url:?}: {why}"
                    );
                    None
                }
            }
        }
    });
    let listings = listings.buffer_unordered(AT_ONCE);
    listings.filter_map(async |listing| listing).collect().await
}

async fn tested(market: &Market, listing: &str) -> Value {
    let path = format!("/listings/{listing}/endpoint/test");
    let answer = market.seller.post(&path, &json!({})).await.unwrap();
    answer.data(200).unwrap()
}

/// A seller who is reached may send nobody on to where she could not be called herself.
async fn no_redirect_is_followed(market: &Market, traps: &Traps) {
    let inside = format!("http://127.0.0.1:{}/hook", traps.port());
    let before = traps.connections();
    for status in [300, 301, 302, 303, 305, 307, 308, 200, 201, 503] {
        let headers = [
            ("Location", inside.as_str()),
            ("Content-Location", inside.as_str()),
            ("Refresh", &format!("0; url={inside}")),
            ("Link", &format!("<{inside}>; rel=preload")),
            ("Alt-Svc", &format!("h2=\"127.0.0.1:{}\"", traps.port())),
        ];
        market.service.then(Reply::new(status, &headers, "{}"));
        let told = tested(market, &market.listing.id).await;
        assert_eq!(told["status_code"], status, "{told}");
    }
    assert_eq!(traps.connections(), before, "connections by a redirect");
}

/// Some of the listings paid for while they could be, and the one whose name will move.
async fn pay_for(market: &Market, saved: &[Listing], moving: &Listing) -> Vec<(PaidCall, Quote)> {
    let step = sized(saved.len() / 12, 1).max(1);
    let listings = saved.iter().step_by(step).chain([moving]);
    let paying = futures_util::stream::iter(listings).map(async |listing| {
        let call = PaidCall::new(&listing.id, &json!({ "spelled": listing.slug }));
        let quote = market.evidenced(&call).await;
        (call, quote)
    });
    paying.buffered(AT_ONCE).collect().await
}

async fn testing_reaches_nobody(market: &Market, saved: &[Listing]) {
    let testing = futures_util::stream::iter(saved).map(async |listing| {
        let path = format!("/listings/{}/endpoint/test", listing.id);
        let answer = market.seller.post(&path, &json!({})).await.unwrap();
        // An address in the URL itself is seen before anything is tried.
        assert!(
            answer.at("/data/outcome") == "forbidden_address"
                || answer.code().as_deref() == Some("SELLER_UNAVAILABLE"),
            "{}: {answer}",
            listing.json["name"]
        );
    });
    testing.buffer_unordered(AT_ONCE).collect::<()>().await;
}

/// The payments stay good, whoever could not be called.
async fn calling_reaches_nobody(market: &Market, paid: &[(PaidCall, Quote)]) {
    for (call, quote) in paid {
        let answer = market.redeem(call, quote).await;
        match answer.code().as_deref() {
            Some("SELLER_UNREACHABLE") => {
                assert_eq!(answer.at("/data/attempts"), 0, "{answer}");
            }
            // An address in the URL itself is seen before the call is claimed.
            Some("SELLER_UNAVAILABLE") => {}
            _ => panic!("{}: {answer}", call.listing),
        }
        assert_eq!(market.relay_request(quote).await["status"], "paid");
    }
}

/// The name of an endpoint that was saved may lead anywhere later, to several places at once too.
async fn no_answer_of_a_name_server_helps(market: &Market, names: &Names, moving: &Listing) {
    let public = IpAddr::V4(PUBLIC);
    for address in spellings::addresses() {
        for answer in [
            &[address][..],
            &[public, address],
            &[address, public],
            &[public, public, address],
        ]
        .into_iter()
        .take(sized(2, 4))
        {
            names.move_to(answer);
            let told = tested(market, &moving.id).await;
            assert_eq!(told["outcome"], "forbidden_address", "{answer:?}: {told}");
        }
    }
}

async fn saving_is_refused(market: &Market, names: &Names, urls: &[String]) {
    names.move_to(&[IpAddr::V4(Ipv4Addr::LOCALHOST)]);
    let path = format!("/listings/{}/endpoint", market.listing.id);
    for url in urls {
        let body = json!({ "private_endpoint_url": url }).to_string();
        let answer = market
            .seller
            .send(Method::PUT, &path, &[], Some(body.into()))
            .await
            .unwrap();
        // What is no URL at all may be named as a bad field.
        assert!(
            answer.status == 400
                && ["ENDPOINT_URL_FORBIDDEN", "VALIDATION_ERROR"]
                    .contains(&answer.code().unwrap_or_default().as_str()),
            "{url:?}: {answer}"
        );
    }
    for address in spellings::addresses() {
        names.move_to(&[IpAddr::V4(PUBLIC), address]);
        // A name of its own each time: the control plane may remember an answer.
        let host = format!("{}.test", crochet_shared::redis_key::hex(&spelled(address)));
        let body = json!({ "private_endpoint_url": format!("https://{host}/") }).to_string();
        let answer = market
            .seller
            .send(Method::PUT, &path, &[], Some(body.into()))
            .await
            .unwrap();
        assert!(
            answer.status == 400 && answer.code().as_deref() == Some("ENDPOINT_URL_FORBIDDEN"),
            "{address}: {answer}"
        );
    }
}

fn spelled(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// A name with no life at all, good when it is looked at and bad when it is looked at again.
async fn a_name_that_flips_is_connected_to_at_its_good_address_only(
    world: &mut World,
    market: &Market,
    names: &Names,
) {
    world
        .stack
        .set("ENDPOINT_ALLOW_CIDRS", &format!("{OPEN}/32"))
        .unwrap();
    for role in [Role::Gateway(0), Role::ControlPlane] {
        world.stack.restart(role).await.unwrap();
    }
    let trap = Service::start_on(SHUT, market.service.port()).await;
    names.move_to(&[OPEN]);
    let url = format!("http://flipping.test:{}/hook", market.service.port());
    let flipping = until("the control plane is back", || async {
        let new = NewListing::per_call("Flipping", "1", &url);
        market.seller.publish(&new).await.ok()
    })
    .await;
    names.alternate(OPEN.into(), SHUT.into());
    // Nothing is pooled, so that each call looks the name up.
    market
        .service
        .usually(Reply::new(200, &[("Connection", "close")], "1").then_close());
    let mut outcomes = std::collections::BTreeMap::<String, usize>::new();
    for _ in 0..sized(40, 1_000) {
        let told = tested(market, &flipping.id).await;
        let outcome = told["outcome"].as_str().unwrap().to_owned();
        *outcomes.entry(outcome).or_default() += 1;
    }
    println!("of a name that flips: {outcomes:?}");
    assert_eq!(
        trap.connections(),
        0,
        "connections to the address that is shut"
    );
    assert!(
        outcomes.contains_key("delivered") && outcomes.contains_key("forbidden_address"),
        "{outcomes:?}"
    );
    assert_eq!(outcomes.len(), 2, "{outcomes:?}");
}
