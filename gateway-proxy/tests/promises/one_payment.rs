//! One payment, one consumption.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use demo_agent::{Agent, Answer, PaidCall, Quote};
use serde_json::json;

use super::trade::{Purchase, agree_on_one_call_each, each, everywhere, paid_in_advance};
use crate::harness::{Door, Market, Reply, World, refused, sized, trials};

trials!(one_payment_is_one_consumption_however_often_and_wherever_it_is_tried => few);

/// A try that a machine too busy to answer in time has refused: nothing is consumed by it. At most one in
/// a thousand may be, in the small form one in a hundred; it was one in seventy while each replay read the
/// stored answer for itself.
const REFUSED: &str = "refused";
/// Payments that are tried at the same time.
const PAYMENTS_AT_ONCE: usize = 4;

async fn one_payment_is_one_consumption_however_often_and_wherever_it_is_tried() {
    let (payments, retries) = (sized(25, 1_000), sized(24, 200));
    let flush_every = Duration::from_millis(if crate::harness::is_full() {
        1_000
    } else {
        200
    });
    let world = World::own("one_payment", |options| options).await;
    let endpoint = json!({ "endpoint": { "max_concurrency": 1000 } });
    let market = Market::within(&world.door, endpoint).await;
    // Long enough that most of the retries come while the seller works.
    let slow = Reply::json("\"once\"").after(Duration::from_millis(20));
    market.service.usually(slow);
    let paid = paid_in_advance(&market, payments).await;
    let flushing = Flushing::every(flush_every, &world.door);
    let buyers = everywhere(&market);
    let tried = each(PAYMENTS_AT_ONCE, paid.into_iter(), |(call, quote)| {
        tried(&buyers, call, quote, retries)
    })
    .await;
    let flushes = flushing.stop().await;
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    let mut purchases = Vec::new();
    for (purchase, found) in tried {
        for (kind, count) in found {
            *kinds.entry(kind).or_default() += count;
        }
        purchases.push(purchase);
    }
    println!("{payments} payments × {retries} retries, {flushes} flushes: {kinds:?}");
    assert!(flushes > 2, "Redis was flushed {flushes} times only");
    agree_on_one_call_each(&market, &purchases).await;
    let refused = kinds.get(REFUSED).copied().unwrap_or_default();
    let one_in = sized(100, 1_000);
    assert!(refused * one_in <= payments * retries, "{kinds:?}");
    world.close().await;
}

/// Tries one payment so many times at once through every gateway. One answer is the delivery, all others
/// are its bytes again or *in progress*. Should that one have been refused, others tell what it was.
async fn tried(
    buyers: &[Agent],
    call: PaidCall,
    quote: Quote,
    retries: usize,
) -> (Purchase, BTreeMap<&'static str, usize>) {
    let asked = each(retries, 0..retries, |number| {
        buyers[number % buyers.len()].call(&call, Some(&quote.relay_request_id))
    })
    .await;
    let mut found = BTreeMap::new();
    let mut bodies = BTreeSet::new();
    let mut delivered: Option<Answer> = None;
    for answer in asked {
        let answer = answer.unwrap();
        let kind = if answer.status == 503 {
            refused(&answer, 503, "SERVICE_UNAVAILABLE");
            REFUSED
        } else if answer.status != 200 {
            refused(&answer, 409, "GATEWAY_REQUEST_IN_PROGRESS");
            "in progress"
        } else if answer.header("idempotent-replayed").is_some() {
            "replayed"
        } else {
            "delivered"
        };
        if answer.status == 200 {
            bodies.insert(answer.body.clone());
            delivered = Some(answer);
        }
        *found.entry(kind).or_default() += 1;
    }
    let answer = delivered.unwrap_or_else(|| panic!("no try was told the answer: {found:?}"));
    assert_eq!(bodies.len(), 1, "the same bytes for everybody: {found:?}");
    let deliveries = found.get("delivered").copied().unwrap_or_default();
    assert!(
        deliveries == 1 || found.contains_key(REFUSED) && deliveries == 0,
        "{found:?}"
    );
    let purchase = Purchase {
        call,
        quote,
        answer,
    };
    (purchase, found)
}

/// Empties Redis again and again.
struct Flushing {
    stop: Arc<AtomicBool>,
    flushes: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Flushing {
    fn every(pause: Duration, door: &Door) -> Self {
        let (stop, flushes) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let (stopped, counted, door) = (Arc::clone(&stop), Arc::clone(&flushes), door.clone());
        let task = tokio::spawn(async move {
            let mut every = tokio::time::interval(pause);
            while !stopped.load(Ordering::Relaxed) {
                every.tick().await;
                door.flush().await;
                AtomicUsize::fetch_add(&counted, 1, Ordering::Relaxed);
            }
        });
        Self {
            stop,
            flushes,
            task,
        }
    }

    async fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        self.flushes.load(Ordering::Relaxed)
    }
}
