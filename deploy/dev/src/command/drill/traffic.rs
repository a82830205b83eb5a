//! Buyers at a fixed rate, who go to whichever gateway says it is ready, and count what they hear.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use crochet_dev::Readiness;
use demo_agent::{Agent, Answer, PaidCall, Quote, Sandbox, random_hex};
use serde_json::json;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;

/// Between two looks of a buyer at a call that is pending or in progress.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest a purchase may take.
const LIMIT: Duration = Duration::from_mins(1);

/// Whom the buyers are, and what they buy.
pub(super) struct Buyers {
    /// The same buyer through each gateway.
    pub(super) through: Vec<Agent>,
    pub(super) listing: String,
    pub(super) sandbox: Sandbox,
    pub(super) gateways: Readiness,
}

/// What was heard.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Purchases carried through to their answer.
    pub(super) purchases: usize,
    /// Requests that were answered as they should be.
    pub(super) answered: usize,
    /// Connections that broke, and calls that never ended.
    pub(super) failed: Vec<String>,
    /// Answers that refuse.
    pub(super) refused: Vec<String>,
}

impl Heard {
    /// Everything that was asked.
    pub(super) fn calls(&self) -> usize {
        self.answered + self.failed.len() + self.refused.len()
    }

    fn add(&mut self, other: Self) {
        self.purchases += other.purchases;
        self.answered += other.answered;
        self.failed.extend(other.failed);
        self.refused.extend(other.refused);
    }
}

/// Load that goes on until it is ended.
pub(super) struct Traffic {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    task: JoinHandle<Heard>,
}

impl Traffic {
    /// So many purchases a second, however long each takes.
    pub(super) fn begin(buyers: Buyers, per_second: u32) -> Self {
        let (stop, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let task = tokio::spawn(steady(
            Arc::new(buyers),
            per_second,
            Arc::clone(&stop),
            Arc::clone(&done),
        ));
        Self { stop, done, task }
    }

    /// How many purchases have ended, one way or the other.
    pub(super) fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    pub(super) async fn end(self) -> Result<Heard> {
        self.stop.store(true, Ordering::Relaxed);
        Ok(self.task.await?)
    }
}

async fn steady(
    buyers: Arc<Buyers>,
    per_second: u32,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
) -> Heard {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / per_second.max(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut under_way = JoinSet::new();
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let (buyers, done) = (Arc::clone(&buyers), Arc::clone(&done));
        under_way.spawn(async move {
            let mut heard = Heard::default();
            let bought = buyers.buy(&mut heard).await;
            heard.purchases += usize::from(bought.is_some());
            done.fetch_add(1, Ordering::Relaxed);
            heard
        });
    }
    let mut heard = Heard::default();
    for one in under_way.join_all().await {
        heard.add(one);
    }
    heard
}

impl Buyers {
    /// Quote, deposit, a look at the listing, the call until it is delivered; nothing when anything on the
    /// way was not as it should be.
    async fn buy(&self, heard: &mut Heard) -> Option<()> {
        let input = random_hex::<8>().ok()?;
        let call = PaidCall::new(&self.listing, &json!({ "input": input }));
        let answer = self.ask(&call, None, heard).await?;
        let quote = Quote::from_answer(&answer).ok()?;
        let id = quote.relay_request_id.as_str();
        if let Err(error) = self.sandbox.deposit(&[id]).await {
            heard.failed.push(format!("the provider: {error:#}"));
            return None;
        }
        let buyer = self.turn()?;
        let path = format!("/listings/{}", self.listing);
        note(buyer.get(&path).await, &[200], heard)?;
        let begun = Instant::now();
        loop {
            if self.ask(&call, Some(id), heard).await?.status == 200 {
                return Some(());
            }
            if begun.elapsed() > LIMIT {
                heard
                    .failed
                    .push(format!("{} never ended", quote.request_id));
                return None;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn turn(&self) -> Option<&Agent> {
        self.through.get(self.gateways.turn())
    }

    async fn ask(&self, call: &PaidCall, paid: Option<&str>, heard: &mut Heard) -> Option<Answer> {
        let wanted: &[u16] = match paid {
            None => &[402],
            Some(_) => &[200, 202, 409],
        };
        note(self.turn()?.call(call, paid).await, wanted, heard)
    }
}

/// Counts an answer; gives back the one that is as wanted.
fn note(answer: Result<Answer>, wanted: &[u16], heard: &mut Heard) -> Option<Answer> {
    match answer {
        Ok(answer) if wanted.contains(&answer.status) => {
            heard.answered += 1;
            Some(answer)
        }
        Ok(answer) => {
            heard.refused.push(answer.to_string());
            None
        }
        Err(error) => {
            heard.failed.push(format!("{error:#}"));
            None
        }
    }
}
