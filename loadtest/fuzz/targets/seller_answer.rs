//! What a seller sends back, over a real socket, through the room that talks to sellers: an answer
//! within its bounds, or a failure, and never a panic.
#![no_main]

use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crochet_shared::egress::Egress;
use crochet_shared::id::{ListingId, ProfileId};
use crochet_shared::internal::{EndpointRecord, Redelivery};
use crochet_shared::outcome::Encoding;
use gateway_proxy::limits::Budget;
use gateway_proxy::seller::{
    Network, NetworkConfig, Reading, Seller, SignedCall, Started, send,
};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

/// Larger than what draws on no budget.
const ANSWER_BYTES_MAX: u32 = 128 * 1024;
/// Room for one such answer and no more.
const BUDGET_BYTES: usize = 128 * 1024;
/// Longer than any answer from this machine takes.
const TIME_MAX: Duration = Duration::from_secs(5);

struct Stage {
    runtime: Runtime,
    listener: TcpListener,
    budget: Budget,
    network: Network,
    seller: Arc<Seller>,
}

thread_local! {
    static STAGE: RefCell<Stage> = RefCell::new(Stage::set());
}

impl Stage {
    fn set() -> Self {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = runtime
            .block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        let egress = Egress {
            allow_cidrs: vec!["127.0.0.0/8".parse().expect("a network")],
            allow_http: true,
            ..Egress::default()
        };
        let _entered = runtime.enter();
        let budget = Budget::new(BUDGET_BYTES);
        let network = Network::new(NetworkConfig {
            egress,
            reading: Some(Reading::new(budget.clone())),
            ..NetworkConfig::default()
        })
        .expect("a network");
        let endpoint = EndpointRecord {
            url,
            auth_header: None,
            secrets: vec![("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned(), None)],
            timeout_ms: 5_000,
            max_request_bytes: 1024,
            max_response_bytes: ANSWER_BYTES_MAX,
            max_concurrency: 1,
            redelivery: Redelivery::SameRequestId,
            paused: false,
        };
        let listing = ListingId::new(crochet_shared::clock::now());
        let seller = Seller::new(listing, &endpoint, &network, None).expect("a seller");
        drop(_entered);
        Self {
            runtime,
            listener,
            budget,
            network,
            seller,
        }
    }

    fn play(&self, answer: &[u8]) {
        let call = SignedCall {
            request_id: "gw_req_0123456789abcdef0123456789abcdef".to_owned(),
            buyer: ProfileId::new(crochet_shared::clock::now()),
            attempt: 1,
            test: false,
            body: Bytes::from_static(b"{}"),
            body_sha256: Sha256::digest(b"{}").into(),
        };
        self.runtime.block_on(async {
            let mut started = Started::default();
            let answering = async {
                let (mut stream, _) = self.listener.accept().await.expect("a connection");
                let mut request = [0; 2048];
                let _read = stream.read(&mut request).await;
                let _written = stream.write_all(answer).await;
                let _closed = stream.shutdown().await;
                stream
            };
            let sending = send(
                &self.seller,
                &self.network,
                &call,
                Instant::now() + TIME_MAX,
                &mut started,
            );
            let began = Instant::now();
            let (sent, _stream) = tokio::join!(sending, answering);
            assert!(
                began.elapsed() < TIME_MAX,
                "it waited for more than there was"
            );
            assert!(started.sent());
            if let Ok(answer) = sent {
                assert!((200..600).contains(&answer.status));
                assert!(answer.body.len() <= ANSWER_BYTES_MAX as usize);
                let texts = [&answer.content_type, &answer.content_encoding];
                for text in texts.into_iter().flatten() {
                    assert!(text.chars().count() <= 255 && !text.contains(char::is_control));
                }
                let _ = Encoding::of(&answer.body, answer.content_encoding.is_some());
            }
        });
        assert_eq!(self.budget.left(), BUDGET_BYTES, "something is held still");
    }
}

libfuzzer_sys::fuzz_target!(|answer: &[u8]| {
    STAGE.with_borrow(|stage| stage.play(answer));
});
