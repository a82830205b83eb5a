//! Many calls at once, on several threads and runtimes, to a seller who hangs up whenever she likes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::script::{self, OK};
use super::{PATIENCE, SendError, SignedCall, Started, call, network, seller};
use crate::seller::{Network, Seller, send};

const CALLERS: usize = 32;
const CALLS_EACH: usize = 40;

/// What came of one call: its id, whether it may have been sent, and whether it was answered.
type Fate = (String, bool, bool);

async fn caller(nth: usize, seller: Arc<Seller>, network: Arc<Network>) -> Vec<Fate> {
    let mut fates = Vec::with_capacity(CALLS_EACH);
    for turn in 0..CALLS_EACH {
        let id = format!("gw_req_{nth}_{turn}");
        let call = SignedCall {
            request_id: id.clone(),
            ..call(b"{}")
        };
        let mut started = Started::default();
        let deadline = Instant::now() + PATIENCE;
        let ended = send(&seller, &network, &call, deadline, &mut started).await;
        let sent = match &ended {
            Ok(_) => true,
            Err(SendError::Failed(_, _) | SendError::Crowded(_)) => {
                assert!(started.sent());
                true
            }
            Err(SendError::Unsent(_)) => {
                assert!(!started.sent());
                false
            }
        };
        fates.push((id, sent, ended.is_ok()));
    }
    fates
}

/// A seller who answers, hangs up before or after, resets, or breaks off, in turn.
async fn moody() -> (std::net::SocketAddr, script::Seen) {
    let mood = Arc::new(AtomicUsize::new(0));
    script::start(move |_, mut peer| {
        let mood = Arc::clone(&mood);
        async move {
            while peer.read().await.is_some() {
                match mood.fetch_add(1, Ordering::Relaxed) % 11 {
                    0 => return,
                    1 => {
                        peer.write(OK).await;
                        return;
                    }
                    2 => {
                        let socket = socket2::SockRef::from(&peer.stream);
                        socket.set_linger(Some(Duration::ZERO)).unwrap();
                        return;
                    }
                    3 => {
                        peer.write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}")
                            .await;
                        return;
                    }
                    _ => peer.write(OK).await,
                }
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_request_arrives_twice_and_none_that_was_unsent_arrives() {
    let (at, seen) = moody().await;
    let network = Arc::new(network());
    let seller = seller(&format!("http://{at}/"), &network);
    // Half of the callers on this runtime, half each on a runtime of its own, as pingora has it
    // without work stealing; all share one pool.
    let here = (0..CALLERS / 2)
        .map(|nth| tokio::spawn(caller(nth, Arc::clone(&seller), Arc::clone(&network))));
    let elsewhere = (CALLERS / 2..CALLERS).map(|nth| {
        let (seller, network) = (Arc::clone(&seller), Arc::clone(&network));
        tokio::task::spawn_blocking(move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
                .block_on(caller(nth, seller, network))
        })
    });
    let (here, elsewhere): (Vec<_>, Vec<_>) = (here.collect(), elsewhere.collect());
    let mut fates = Vec::new();
    for done in join_all(here.into_iter().chain(elsewhere)).await {
        fates.extend(done.unwrap());
    }

    let mut arrivals: HashMap<String, usize> = HashMap::new();
    for arrived in seen.requests() {
        *arrivals
            .entry(arrived.header("webhook-id").to_owned())
            .or_default() += 1;
    }
    assert_eq!(fates.len(), CALLERS * CALLS_EACH);
    for (id, sent, answered) in fates {
        let times = arrivals.get(&id).copied().unwrap_or(0);
        assert!(times <= usize::from(sent), "{id} arrived {times} times");
        assert!(!answered || times == 1, "{id} was answered unasked");
    }
    assert!(
        seen.connections() < seen.arrivals(),
        "connections were reused"
    );
}
