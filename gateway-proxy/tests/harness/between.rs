//! Something between a gateway and the control plane's internal API that delays and loses what passes.

use std::sync::{Arc, Mutex};

use crochet_shared::internal::ClaimAnswer;
use fault_proxy::http1::Message;
use fault_proxy::{Fate, FaultProxy, Share};

use super::service::Gate;

/// What happens to a request that passes.
#[derive(Clone, Debug)]
pub(crate) enum Mischief {
    /// It is passed on and answered; the answer is lost with the connection.
    LoseReply,
    /// It is never passed on; the connection is cut.
    LoseRequest,
    /// It is passed on and answered; the answer waits until the gate is open.
    HoldReply(Gate),
    /// It is passed on; the claims granted in its answer have leases of this many milliseconds.
    ShortenLeases(u32),
}

#[derive(Debug, Default)]
struct State {
    /// Path, what happens, how many more times.
    rules: Mutex<Vec<(String, Mischief, usize)>>,
    /// Every path that passed.
    seen: Mutex<Vec<String>>,
    /// What is lost of the replies that no rule is about.
    share: Share,
}

/// A running interloper; a gateway is told its URL in place of the control plane's.
#[derive(Debug)]
pub(crate) struct Between {
    proxy: FaultProxy,
    state: Arc<State>,
}

impl Between {
    /// In front of `origin` (`http://127.0.0.1:PORT`).
    pub(crate) async fn start(origin: &str) -> Self {
        let upstream = origin
            .trim_start_matches("http://")
            .trim_end_matches('/')
            .parse()
            .unwrap();
        let state = Arc::<State>::default();
        let judge = Arc::clone(&state);
        let proxy = FaultProxy::http(upstream, move |request| judge.fate(request.second_word()));
        Self {
            proxy: proxy.await.unwrap(),
            state,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.proxy.address())
    }

    /// What share of the replies is lost besides what is planned.
    pub(crate) fn share(&self) -> &Share {
        &self.state.share
    }

    /// The next `times` requests to a path that ends in `path` suffer `mischief`.
    pub(crate) fn plan(&self, path: &str, mischief: Mischief, times: usize) {
        self.state
            .rules
            .lock()
            .unwrap()
            .push((path.to_owned(), mischief, times));
    }

    /// Nothing more happens to anybody.
    pub(crate) fn make_peace(&self) {
        self.state.rules.lock().unwrap().clear();
    }

    /// How many requests to a path that ends in `path` passed.
    pub(crate) fn seen(&self, path: &str) -> usize {
        self.state
            .seen
            .lock()
            .unwrap()
            .iter()
            .filter(|seen| seen.ends_with(path))
            .count()
    }

    /// How many planned mischiefs on `path` have not happened yet.
    pub(crate) fn left(&self, path: &str) -> usize {
        self.state
            .rules
            .lock()
            .unwrap()
            .iter()
            .filter(|(planned, ..)| planned == path)
            .map(|(.., left)| *left)
            .sum()
    }
}

impl State {
    fn fate(&self, path: &str) -> Fate {
        self.seen.lock().unwrap().push(path.to_owned());
        match self.planned(path) {
            Some(Mischief::LoseReply) => Fate::LoseReply,
            Some(Mischief::LoseRequest) => Fate::LoseRequest,
            Some(Mischief::HoldReply(gate)) => {
                Fate::HoldReply(Box::pin(async move { gate.wait().await }))
            }
            Some(Mischief::ShortenLeases(milliseconds)) => {
                Fate::Rewrite(Box::new(move |answer| shortened(answer, milliseconds)))
            }
            None if self.share.falls() => Fate::LoseReply,
            None => Fate::Pass,
        }
    }

    fn planned(&self, path: &str) -> Option<Mischief> {
        let mut rules = self.rules.lock().unwrap();
        let (_, mischief, left) = rules
            .iter_mut()
            .find(|(planned, _, left)| path.ends_with(planned.as_str()) && *left > 0)?;
        *left -= 1;
        Some(mischief.clone())
    }
}

/// The same answer to a batch of claims with other leases.
fn shortened(answer: &Message, milliseconds: u32) -> Vec<u8> {
    let mut claims: Vec<ClaimAnswer> = rmp_serde::from_slice(&answer.body).expect("claims");
    for claim in &mut claims {
        if let ClaimAnswer::Claimed(grant) = claim {
            grant.lease_ms = milliseconds;
        }
    }
    let body = rmp_serde::to_vec_named(&claims).expect("claims");
    let mut bytes = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/msgpack\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend(body);
    bytes
}
