//! Which connections are used again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::Barrier;

use super::script::{self, OK};
use super::{Seller, endpoint, listing, network, seller, send_one};
use crate::seller::pool::Found;
use crate::seller::resolve::Answer;

#[tokio::test]
async fn calls_one_after_the_other_share_a_connection() {
    let (at, seen) = script::polite().await;
    let network = network();
    let seller = seller(&format!("http://{at}/"), &network);
    for _ in 0..20 {
        send_one(&seller, &network).await.unwrap();
    }
    assert_eq!((seen.connections(), seen.arrivals()), (1, 20));
}

#[tokio::test]
async fn a_failed_status_keeps_the_connection() {
    let (at, seen) = script::start(|_, mut peer| async move {
        while peer.read().await.is_some() {
            peer.write("HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nbusy")
                .await;
        }
    })
    .await;
    let network = network();
    let seller = seller(&format!("http://{at}/"), &network);
    for _ in 0..3 {
        assert_eq!(send_one(&seller, &network).await.unwrap().status, 503);
    }
    assert_eq!(seen.connections(), 1);
}

#[tokio::test]
async fn what_cannot_be_used_again_is_not_kept() {
    for head in [
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nkeep-alive: timeout=1\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        // More than was asked for: the next answer would be this.
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\n\r\n",
    ] {
        let (at, _) = script::start(move |_, mut peer| async move {
            while peer.read().await.is_some() {
                peer.write(head).await;
            }
        })
        .await;
        let network = network();
        let seller = seller(&format!("http://{at}/"), &network);
        assert_eq!(send_one(&seller, &network).await.unwrap().status, 200);
        assert_eq!(seller.pool.idle(), 0, "{head}");
    }
}

#[tokio::test]
async fn an_answer_nobody_asked_for_is_never_taken_for_one() {
    let planted = "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nplanted";
    let (told, mut is_planted) = tokio::sync::mpsc::unbounded_channel();
    let (plant, planting) = tokio::sync::watch::channel(());
    let (at, seen) = script::start(move |_, mut peer| {
        let (told, mut planting) = (told.clone(), planting.clone());
        async move {
            peer.read().await;
            peer.write(OK).await;
            planting.changed().await.unwrap();
            peer.write(planted).await;
            told.send(()).unwrap();
            peer.read().await;
        }
    })
    .await;
    let network = network();
    let seller = seller(&format!("http://{at}/"), &network);
    send_one(&seller, &network).await.unwrap();
    plant.send(()).unwrap();
    is_planted.recv().await.unwrap();
    assert_eq!(&send_one(&seller, &network).await.unwrap().body[..], b"{}");
    assert_eq!((seen.connections(), seen.arrivals()), (2, 2));
}

#[tokio::test]
async fn no_more_are_kept_than_may_be_used_at_once() {
    let all = Arc::new(Barrier::new(6));
    let (at, seen) = script::start(move |_, mut peer| {
        let all = Arc::clone(&all);
        async move {
            peer.read().await;
            all.wait().await;
            peer.write(OK).await;
            peer.read().await;
        }
    })
    .await;
    let network = network();
    let mut record = endpoint(&format!("http://{at}/"));
    record.max_concurrency = 2;
    let seller = Seller::new(listing(), &record, &network, None).unwrap();
    for call in join_all((0..6).map(|_| send_one(&seller, &network))).await {
        call.unwrap();
    }
    assert_eq!((seen.connections(), seller.pool.idle()), (6, 2));
}

#[tokio::test]
async fn a_connection_to_an_address_the_name_has_left_is_not_used() {
    let (at, seen) = script::polite().await;
    let network = network();
    let seller = seller(&format!("http://{at}/"), &network);
    send_one(&seller, &network).await.unwrap();
    assert_eq!(seller.pool.idle(), 1);
    let moved = Answer::literal([127, 0, 0, 9].into());
    seller.pool.learn(Arc::new(moved));
    // Nobody listens there.
    assert!(send_one(&seller, &network).await.is_err());
    assert_eq!((seller.pool.idle(), seen.arrivals()), (0, 1));
}

#[tokio::test]
async fn a_connection_that_idled_too_long_is_closed_and_not_used() {
    let (at, _) = script::polite().await;
    let network = network();
    let seller = seller(&format!("http://{at}/"), &network);
    send_one(&seller, &network).await.unwrap();
    let now = Instant::now();
    assert!(seller.pool.sweep(now), "young: kept and watched");
    assert_eq!(seller.pool.idle(), 1);
    // This seller does not say how long she keeps it.
    let late = now + Duration::from_secs(4);
    assert!(matches!(seller.pool.take(late), Found::Empty(_)));
    send_one(&seller, &network).await.unwrap();
    assert_eq!(seller.pool.idle(), 1);
    assert!(!seller.pool.sweep(Instant::now() + Duration::from_secs(4)));
    assert_eq!(seller.pool.idle(), 0);
}

#[tokio::test]
async fn a_new_version_keeps_connections_only_for_the_same_url() {
    let (at, seen) = script::polite().await;
    let network = network();
    let first = seller(&format!("http://{at}/"), &network);
    send_one(&first, &network).await.unwrap();
    let mut record = endpoint(&format!("http://{at}/"));
    record.auth_header = Some(("X-Key".to_owned(), "new".to_owned()));
    let second = Seller::new(listing(), &record, &network, Some(&first)).unwrap();
    send_one(&second, &network).await.unwrap();
    assert_eq!(seen.connections(), 1);
    assert_eq!(seen.requests()[1].header("x-key"), "new");
    record.url = format!("http://{at}/elsewhere");
    let third = Seller::new(listing(), &record, &network, Some(&second)).unwrap();
    send_one(&third, &network).await.unwrap();
    assert_eq!(seen.connections(), 2);
}
