//! Never sent twice: the guard and both of its edges.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crochet_shared::outcome::SellerFailure;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;
use tokio::sync::{Notify, mpsc};

use super::script::{self, OK, Untold};
use super::{
    PATIENCE, SendError, SignedCall, Started, call, network, seller, send_one, send_within,
};
use crate::seller::{Unsent, send};

const ROUNDS: usize = 100;

#[tokio::test]
async fn a_connection_closed_while_idle_is_replaced_and_the_request_arrives_once() {
    for reset in [false, true] {
        let (closed, mut is_closed) = mpsc::unbounded_channel();
        let close = Arc::new(Notify::new());
        let told = Arc::clone(&close);
        let (at, seen) = script::start(move |_, mut peer| {
            let (closed, close) = (closed.clone(), Arc::clone(&told));
            async move {
                peer.read().await;
                peer.write(OK).await;
                close.notified().await;
                if reset {
                    let socket = socket2::SockRef::from(&peer.stream);
                    socket.set_linger(Some(Duration::ZERO)).unwrap();
                }
                drop(peer);
                closed.send(()).unwrap();
            }
        })
        .await;
        let network = network();
        let seller = seller(&format!("http://{at}/call"), &network);
        for round in 1..=ROUNDS {
            assert_eq!(send_one(&seller, &network).await.unwrap().status, 200);
            assert_eq!(seen.arrivals(), round);
            assert_eq!(seen.connections(), round, "each on a fresh connection");
            assert_eq!(seller.pool.idle(), 1, "and each connection was kept");
            close.notify_one();
            is_closed.recv().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_close_that_the_runtime_has_not_been_told_of_is_seen_too() {
    let untold = Untold::start(|tcp| tcp);
    let network = network();
    let seller = seller(&format!("http://{}/", untold.at), &network);
    for _ in 0..ROUNDS {
        untold.expect_one();
        assert_eq!(send_one(&seller, &network).await.unwrap().status, 200);
        assert_eq!(seller.pool.idle(), 1);
        drop(untold.answered());
    }
}

#[tokio::test]
async fn an_answer_nobody_asked_for_is_nobodys_though_the_runtime_has_not_been_told_of_it() {
    let untold = Untold::start(|tcp| tcp);
    let network = network();
    let seller = seller(&format!("http://{}/", untold.at), &network);
    // Kept open, so that nothing but these bytes speaks against them.
    let mut kept = Vec::new();
    for _ in 0..ROUNDS {
        untold.expect_one();
        assert_eq!(&send_one(&seller, &network).await.unwrap().body[..], b"{}");
        assert_eq!(seller.pool.idle(), 1);
        let mut stream = untold.answered();
        let planted = "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nplanted";
        stream.write_all(planted.as_bytes()).unwrap();
        kept.push(stream);
    }
}

#[tokio::test]
async fn a_request_that_was_read_and_not_answered_is_never_sent_again() {
    let (at, seen) = script::start(|_, mut peer| async move {
        peer.read().await;
        peer.write(OK).await;
        // The second request is taken, and nothing comes back.
        peer.read().await;
    })
    .await;
    let network = network();
    let seller = seller(&format!("http://{at}/call"), &network);
    for round in 1..=ROUNDS {
        let (ended, answered) = send_within(&seller, &network, PATIENCE).await;
        assert_eq!(ended.unwrap().status, 200);
        assert!(answered.sent() && answered.is_settled());
        let (ended, started) = send_within(&seller, &network, PATIENCE).await;
        assert_eq!(
            ended.unwrap_err(),
            SendError::Failed(SellerFailure::Invalid, None)
        );
        assert!(started.sent());
        assert_eq!(seen.arrivals(), round * 2);
        assert_eq!(seen.connections(), round);
    }
}

#[tokio::test]
async fn other_idle_connections_do_not_tempt_it() {
    let open = Arc::new(tokio::sync::Barrier::new(8));
    let (at, seen) = script::start(move |_, mut peer| {
        let open = Arc::clone(&open);
        async move {
            peer.read().await;
            open.wait().await;
            peer.write(OK).await;
            peer.read().await;
        }
    })
    .await;
    let network = network();
    let seller = seller(&format!("http://{at}/call"), &network);
    let warm = (0..8).map(|_| send_one(&seller, &network));
    for warmed in futures_util::future::join_all(warm).await {
        warmed.unwrap();
    }
    assert_eq!(seller.pool.idle(), 8);
    let ended = send_one(&seller, &network).await;
    assert!(matches!(
        ended,
        Err(SendError::Failed(SellerFailure::Invalid, None))
    ));
    assert_eq!((seen.arrivals(), seen.connections()), (9, 8));
    assert_eq!(seller.pool.idle(), 7);
}

#[tokio::test]
async fn a_body_cut_off_on_its_way_is_an_attempt() {
    // Larger than what the two sockets buffer, so that the write is under way when it breaks.
    let body = Bytes::from(vec![b'1'; 8 * 1024 * 1024]);
    let (at, seen) = script::start(|_, mut peer| async move {
        let mut some = [0; 1000];
        peer.stream.read_exact(&mut some).await.unwrap();
    })
    .await;
    let network = network();
    let seller = seller(&format!("http://{at}/call"), &network);
    let call = SignedCall {
        body_sha256: Sha256::digest(&body).into(),
        body,
        ..call(b"")
    };
    let mut started = Started::default();
    let deadline = std::time::Instant::now() + PATIENCE;
    let ended = send(&seller, &network, &call, deadline, &mut started).await;
    assert_eq!(
        ended.unwrap_err(),
        SendError::Failed(SellerFailure::Invalid, None)
    );
    assert!(started.sent());
    assert_eq!(seen.connections(), 1);
}

#[tokio::test]
async fn an_answer_before_the_body_was_read_is_an_answer() {
    let (at, _) = script::start(|_, mut peer| async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(peer.stream.read_u8().await.unwrap());
        }
        peer.write("HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            .await;
        // Reading on keeps the kernel from resetting the answer away.
        let mut rest = Vec::new();
        let _ = peer.stream.read_to_end(&mut rest).await;
    })
    .await;
    let network = network();
    let seller = seller(&format!("http://{at}/call"), &network);
    let call = call(&vec![b'1'; 8 * 1024 * 1024]);
    let deadline = std::time::Instant::now() + PATIENCE;
    let ended = send(&seller, &network, &call, deadline, &mut Started::default()).await;
    assert_eq!(ended.unwrap().status, 413);
}

#[tokio::test]
async fn nobody_listening_is_unsent() {
    let port = script::Canary::at([127, 0, 0, 1].into(), 0).port();
    let network = network();
    let seller = seller(&format!("http://127.0.0.1:{port}/"), &network);
    let (ended, started) = send_within(&seller, &network, PATIENCE).await;
    assert_eq!(ended.unwrap_err(), SendError::Unsent(Unsent::Connect));
    assert!(!started.sent());
}

#[tokio::test]
async fn time_that_runs_out_before_the_first_byte_uses_no_attempt() {
    // Accepts, and never says a word of TLS.
    let (at, _) = script::start(|_, peer| async move {
        std::future::pending::<()>().await;
        drop(peer);
    })
    .await;
    let network = network();
    let seller = seller(&format!("https://{at}/"), &network);
    let (ended, started) = send_within(&seller, &network, Duration::from_millis(50)).await;
    assert_eq!(ended.unwrap_err(), SendError::Unsent(Unsent::OutOfTime));
    // The TLS greeting is no byte of the request.
    assert!(!started.sent());
    assert_eq!(started.elapsed(), None);
    let (ended, _) = send_within(&seller, &network, Duration::ZERO).await;
    assert_eq!(ended.unwrap_err(), SendError::Unsent(Unsent::OutOfTime));
    // There was time enough: she cannot be reached.
    let (ended, started) = send_within(&seller, &network, Duration::from_millis(600)).await;
    assert_eq!(ended.unwrap_err(), SendError::Unsent(Unsent::TooSlow));
    assert!(!started.sent());
}

#[tokio::test]
async fn time_that_runs_out_afterwards_is_a_timeout() {
    let (at, seen) = script::start(|_, mut peer| async move {
        peer.read().await;
        std::future::pending::<()>().await;
    })
    .await;
    let network = network();
    let seller = seller(&format!("http://{at}/"), &network);
    let (ended, started) = send_within(&seller, &network, Duration::from_millis(100)).await;
    assert_eq!(
        ended.unwrap_err(),
        SendError::Failed(SellerFailure::Timeout, None)
    );
    assert!(started.sent());
    assert!(started.elapsed() >= Some(Duration::from_millis(90)));
    assert_eq!(seen.connections(), 1);
    assert_eq!(seller.pool.idle(), 0);
}

#[tokio::test]
async fn a_dripping_answer_is_cut_off_at_the_deadline_and_its_status_told() {
    let (at, _) = script::start(|_, mut peer| async move {
        peer.read().await;
        peer.write("HTTP/1.1 200 OK\r\ncontent-length: 60000\r\n\r\n")
            .await;
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        loop {
            tick.tick().await;
            peer.write("1").await;
        }
    })
    .await;
    let network = network();
    let seller = seller(&format!("http://{at}/"), &network);
    let (ended, _) = send_within(&seller, &network, Duration::from_millis(150)).await;
    assert_eq!(
        ended.unwrap_err(),
        SendError::Failed(SellerFailure::Timeout, Some(200))
    );
}

#[tokio::test]
async fn a_call_that_is_dropped_still_tells_whether_it_was_sent() {
    let arrived = Arc::new(Notify::new());
    let told = Arc::clone(&arrived);
    let (at, _) = script::start(move |_, mut peer| {
        let told = Arc::clone(&told);
        async move {
            peer.read().await;
            told.notify_one();
            std::future::pending::<()>().await;
        }
    })
    .await;
    let network = network();
    let seller = seller(&format!("http://{at}/"), &network);
    let mut started = Started::default();
    let call = call(b"{}");
    let deadline = std::time::Instant::now() + PATIENCE;
    tokio::select! {
        ended = send(&seller, &network, &call, deadline, &mut started) => panic!("{ended:?}"),
        () = arrived.notified() => {}
    }
    assert!(started.sent());
    assert_eq!(seller.pool.idle(), 0);
}
