//! Permits: counted per endpoint, given back on drop, carried over versions.

use std::time::{Duration, Instant};

use bytes::Bytes;
use crochet_shared::outcome::SellerFailure;

use super::{
    Network, NetworkConfig, Seller, SellerAnswer, SendError, buyer, endpoint, listing, loopback,
    network,
};
use crate::seller::{BreakerConfig, Closed, Kept, Unavailable, Unsent};

const BUSY: Unavailable = Unavailable {
    retry_after_seconds: 1,
    why: Closed::Busy,
};

#[tokio::test]
async fn no_more_than_the_limit_and_a_place_comes_back_on_drop() {
    let network = network();
    let mut record = endpoint("http://127.0.0.1:1/");
    record.max_concurrency = 2;
    let seller = Seller::new(listing(), &record, &network, None).unwrap();
    let one = seller.try_admit().unwrap();
    let _two = seller.try_admit().unwrap();
    assert_eq!(seller.try_admit().unwrap_err(), BUSY);
    assert_eq!(seller.try_admit_test().unwrap_err(), BUSY);
    assert_eq!(seller.check(), Err(BUSY));
    drop(one);
    seller.check().unwrap();
    seller.check().unwrap();
    let _three = seller.try_admit().unwrap();
    assert_eq!(seller.try_admit().unwrap_err(), BUSY);
}

#[tokio::test]
async fn what_runs_counts_in_the_next_version_too() {
    let network = network();
    let mut record = endpoint("http://127.0.0.1:1/");
    record.max_concurrency = 1;
    let first = Seller::new(listing(), &record, &network, None).unwrap();
    let running = first.try_admit().unwrap();
    for url in ["http://127.0.0.1:1/", "http://127.0.0.1:1/moved"] {
        record.url = url.to_owned();
        let next = Seller::new(listing(), &record, &network, Some(&first)).unwrap();
        assert_eq!(next.try_admit().unwrap_err(), BUSY, "{url}");
    }
    drop(running);
    assert!(first.try_admit().is_ok());
}

#[tokio::test]
async fn an_open_breaker_outlives_a_new_version_but_not_a_new_url() {
    let network = network();
    let record = endpoint("http://127.0.0.1:1/");
    let first = Seller::new(listing(), &record, &network, None).unwrap();
    for _ in 0..5 {
        first.check().unwrap();
        let mut permit = first.try_admit().unwrap();
        permit.report(
            buyer(),
            &Err(SendError::Unsent(Unsent::Connect)),
            Instant::now(),
        );
    }
    let open = first.try_admit().unwrap_err();
    drop(first.try_admit_test().unwrap());
    assert_eq!(
        first.try_admit().unwrap_err().why,
        open.why,
        "a test tells the breaker nothing"
    );
    assert!((9..=10).contains(&open.retry_after_seconds));
    let mut changed = endpoint("http://127.0.0.1:1/");
    changed.max_response_bytes = 1;
    let same_url = Seller::new(listing(), &changed, &network, Some(&first)).unwrap();
    assert!(same_url.check().is_err() && same_url.try_admit().is_err());
    changed.url = "http://127.0.0.1:1/moved".to_owned();
    let moved = Seller::new(listing(), &changed, &network, Some(&same_url)).unwrap();
    moved.check().unwrap();
}

#[tokio::test]
async fn having_no_time_left_is_not_held_against_the_seller() {
    let network = network();
    let record = endpoint("http://127.0.0.1:1/");
    let seller = Seller::new(listing(), &record, &network, None).unwrap();
    for _ in 0..100 {
        let mut permit = seller.try_admit().unwrap();
        permit.report(
            buyer(),
            &Err(SendError::Unsent(Unsent::OutOfTime)),
            Instant::now(),
        );
    }
    seller.check().unwrap();
    // These are, all alike.
    for failure in [
        SellerFailure::Timeout,
        SellerFailure::TooLarge,
        SellerFailure::Invalid,
    ]
    .iter()
    .cycle()
    .take(20)
    {
        let mut permit = seller.try_admit().unwrap();
        permit.report(
            buyer(),
            &Err(SendError::Failed(*failure, None)),
            Instant::now(),
        );
    }
    assert!(seller.check().is_err());
}

#[tokio::test]
async fn what_nobody_is_charged_for_is_a_failure_of_the_sellers() {
    let network = network();
    for (status, fails) in [
        (204, false),
        (404, false),
        (302, true),
        (401, true),
        (429, true),
        (500, true),
    ] {
        let seller = super::seller("http://127.0.0.1:1/", &network);
        for _ in 0..20 {
            let answer = SellerAnswer {
                status,
                content_type: None,
                content_encoding: None,
                body: Bytes::new(),
                latency: Duration::ZERO,
                kept: Kept::default(),
            };
            let mut permit = seller.try_admit().unwrap();
            permit.report(buyer(), &Ok(answer), Instant::now());
        }
        assert_eq!(seller.check().is_err(), fails, "{status}");
    }
}

#[tokio::test]
async fn who_takes_all_the_time_to_connect_cannot_be_reached() {
    let network = network();
    let seller = super::seller("http://127.0.0.1:1/", &network);
    for _ in 0..5 {
        let mut permit = seller.try_admit().unwrap();
        let too_slow = Err(SendError::Unsent(Unsent::TooSlow));
        permit.report(buyer(), &too_slow, Instant::now());
    }
    assert!(seller.check().is_err());
}

#[tokio::test]
async fn a_permit_dropped_unused_burns_no_trial() {
    let breaker = BreakerConfig {
        open: Duration::ZERO,
        ..BreakerConfig::default()
    };
    let network = Network::new(NetworkConfig {
        egress: loopback(),
        breaker,
        ..NetworkConfig::default()
    })
    .unwrap();
    let mut record = endpoint("http://127.0.0.1:1/");
    record.max_concurrency = 5;
    let seller = Seller::new(listing(), &record, &network, None).unwrap();
    for _ in 0..5 {
        let mut permit = seller.try_admit().unwrap();
        permit.report(
            buyer(),
            &Err(SendError::Unsent(Unsent::Connect)),
            Instant::now(),
        );
    }
    // Half-open at once.
    for _ in 0..10 {
        drop(seller.try_admit().unwrap());
    }
    let trials: Vec<_> = (0..3).map(|_| seller.try_admit().unwrap()).collect();
    let no_trial = Unavailable {
        why: Closed::Breaker,
        ..BUSY
    };
    assert_eq!(seller.try_admit().unwrap_err(), no_trial);
    seller.check().unwrap();
    drop(trials);
    // Nor does one that the concurrency limit refuses.
    record.max_concurrency = 1;
    let narrow = Seller::new(listing(), &record, &network, Some(&seller)).unwrap();
    let only = narrow.try_admit().unwrap();
    for _ in 0..10 {
        assert_eq!(narrow.try_admit().unwrap_err(), BUSY);
    }
    drop(only);
    assert!(narrow.try_admit().is_ok());
}
