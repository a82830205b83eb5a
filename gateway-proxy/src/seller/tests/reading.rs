//! Large answers, and the room that they are read in.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crochet_shared::outcome::SellerFailure;
use tokio::sync::Notify;

use super::script::{self, Seen};
use super::{
    Network, NetworkConfig, PATIENCE, Seller, SendError, endpoint, listing, loopback, send_one,
    send_within,
};
use crate::limits::{Budget, FREE_BYTES};
use crate::seller::Reading;

const MIB: usize = 1024 * 1024;

/// Sellers whose network has this budget for their answers.
fn drawing_on(budget: &Budget) -> Network {
    Network::new(NetworkConfig {
        egress: loopback(),
        reading: Some(Reading::new(budget.clone())),
        ..NetworkConfig::default()
    })
    .unwrap()
}

fn seller_at(at: std::net::SocketAddr, network: &Network) -> Arc<Seller> {
    let mut record = endpoint(&format!("http://{at}/"));
    record.max_response_bytes = 8 * 1024 * 1024;
    Seller::new(listing(), &record, network, None).unwrap()
}

/// One who answers so many bytes, and says how many.
async fn large(bytes: usize, network: &Network) -> Arc<Seller> {
    let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {bytes}\r\n\r\n");
    let (at, _) = script::answering(head + &"1".repeat(bytes)).await;
    seller_at(at, network)
}

/// One who says that she answers so many bytes, sends all but one, and waits.
async fn unfinished(bytes: usize, network: &Network) -> (Arc<Seller>, Seen) {
    let (at, seen) = script::start(move |_, mut peer| async move {
        peer.read().await;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n");
        peer.write(head + &"1".repeat(bytes - 1)).await;
        std::future::pending::<()>().await;
    })
    .await;
    (seller_at(at, network), seen)
}

#[tokio::test]
async fn a_large_answer_draws_on_the_budget() {
    let budget = Budget::new(3 * MIB);
    let network = drawing_on(&budget);
    let seller = large(2 * MIB, &network).await;
    let held = send_one(&seller, &network).await.unwrap();
    assert_eq!(held.body.len(), 2 * MIB);
    // Of the last step what is not read.
    let left = budget.left();
    assert!((MIB..MIB + MIB / 4).contains(&left), "{left} bytes left");
    // Half of the next finds room, and the rest goes on without.
    let without = send_one(&seller, &network).await.unwrap();
    assert_eq!(without.body.len(), 2 * MIB);
    assert!(budget.left() < MIB / 4, "{} bytes left", budget.left());
    // While that one is held, nobody else does, and waits no longer than the deadline.
    let (ended, _) = send_within(&seller, &network, Duration::from_millis(200)).await;
    assert_eq!(ended.unwrap_err(), SendError::Crowded(Some(200)));
    drop((held, without));
    assert_eq!(budget.left(), 3 * MIB);
    assert!(send_one(&seller, &network).await.is_ok());
}

#[tokio::test]
async fn a_whole_answer_fails_for_no_room() {
    let budget = Budget::new(3 * MIB);
    let network = drawing_on(&budget);
    // What makes it a large one is its last byte.
    let seller = large(FREE_BYTES + 1, &network).await;
    let spent = budget.take(3 * MIB).unwrap();
    // One goes on without room, and is held: whoever waits now waits for ever.
    let turn = send_one(&large(MIB, &network).await, &network)
        .await
        .unwrap();
    let whole = async |seller: &Arc<Seller>| {
        let (ended, _) = send_within(seller, &network, Duration::from_secs(2)).await;
        ended.unwrap().body.len()
    };
    assert_eq!(whole(&seller).await, FREE_BYTES + 1);
    // Where its end is told by no length, too.
    let chunked = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{}\r\n0\r\n\r\n",
        FREE_BYTES + 1,
        "1".repeat(FREE_BYTES + 1)
    );
    let (at, _) = script::answering(chunked).await;
    assert_eq!(whole(&seller_at(at, &network)).await, FREE_BYTES + 1);
    drop(spent);
    // What came before its last part finds room, and all of it would not.
    let spent = budget.take(3 * MIB - 2 * FREE_BYTES).unwrap();
    let longer = large(2 * FREE_BYTES + 1, &network).await;
    assert_eq!(whole(&longer).await, 2 * FREE_BYTES + 1);
    drop((turn, spent));
}

#[tokio::test]
async fn whoever_comes_slowly_is_given_up_when_others_wait_and_not_before() {
    let budget = Budget::new(MIB);
    let network = drawing_on(&budget);
    let (slow, seen) = unfinished(MIB / 2, &network).await;
    let other = large(2 * MIB, &network).await;
    let (began, ended) = (Instant::now(), Notify::new());
    let slowly = async {
        let failed = send_one(&slow, &network).await.unwrap_err();
        ended.notify_one();
        (failed, began.elapsed())
    };
    let others = async {
        while budget.left() > MIB / 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // One goes on without room, for whom nobody is given up; the next waits.
        let without = send_one(&other, &network).await.unwrap();
        let giving_way = async {
            ended.notified().await;
            drop(without);
        };
        let (next, ()) = tokio::join!(send_one(&other, &network), giving_way);
        next.unwrap().body.len()
    };
    let ((failed, took), next) = tokio::join!(slowly, others);
    assert_eq!(failed, SendError::Crowded(Some(200)));
    // Half a second for its bytes, and one more.
    let due = Duration::from_millis(1_400)..PATIENCE;
    assert!(due.contains(&took), "{took:?}");
    assert_eq!(next, 2 * MIB);
    assert_eq!((seen.connections(), budget.left()), (1, MIB));
    // What was given up halfway is not used again.
    let _again = send_within(&slow, &network, Duration::from_millis(100)).await;
    assert_eq!(seen.connections(), 2);
}

#[tokio::test]
async fn an_answer_without_a_length_gives_back_what_it_did_not_need() {
    let raw = format!(
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}",
        "1".repeat(2 * MIB)
    );
    let budget = Budget::new(9 * MIB);
    let network = drawing_on(&budget);
    let (at, _) = script::answering(raw).await;
    let held = send_one(&seller_at(at, &network), &network).await.unwrap();
    assert_eq!(held.body.len(), 2 * MIB);
    assert_eq!(budget.left(), 7 * MIB);
}

#[tokio::test]
async fn a_failure_holds_nothing() {
    let budget = Budget::new(MIB);
    let network = drawing_on(&budget);
    let raw = format!(
        "HTTP/1.1 500 Oops\r\nContent-Length: {MIB}\r\n\r\n{}",
        "1".repeat(MIB)
    );
    let (at, _) = script::answering(raw).await;
    let failed = send_one(&seller_at(at, &network), &network).await.unwrap();
    assert_eq!((failed.status, budget.left()), (500, MIB));
    let raw = "HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n".to_owned() + &"1".repeat(100_000);
    let (at, _) = script::answering(raw).await;
    let broken = send_one(&seller_at(at, &network), &network)
        .await
        .unwrap_err();
    assert_eq!(broken, SendError::Failed(SellerFailure::Invalid, Some(200)));
    assert_eq!(budget.left(), MIB);
}
