//! Batches: what leaves together, when, and what each asker hears.

use super::*;
use futures_util::future::{FutureExt as _, join_all};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Semaphore;

type Sizes = Arc<Mutex<Vec<usize>>>;

/// A batcher whose other side waits for leave to answer, doubles numbers, and fails on 13.
fn doubling(waiting_max: usize) -> (Batcher<u32, u32>, Sizes, Arc<Semaphore>) {
    let sizes = Sizes::default();
    let gate = Arc::new(Semaphore::new(0));
    let (seen, leave) = (Arc::clone(&sizes), Arc::clone(&gate));
    let send: Send<u32, u32> = Box::new(move |items| {
        let (seen, leave) = (Arc::clone(&seen), Arc::clone(&leave));
        async move {
            seen.lock().push(items.len());
            leave.acquire().await.unwrap().forget();
            let answers = if items.contains(&13) {
                Err(Unanswered::Failed)
            } else if items.contains(&14) {
                Err(Unanswered::Lost)
            } else {
                Ok(items.iter().map(|item| item * 2).collect())
            };
            (items, answers)
        }
        .boxed()
    });
    let batcher = Batcher::new(waiting_max, |_| 1, BatchCounts::noop(), send);
    (batcher, sizes, gate)
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_lone_item_leaves_at_once_and_load_makes_batches() {
    let (batcher, sizes, gate) = doubling(1000);
    let asked = ask_all(&batcher, 100..230);
    until(|| batcher.0.queue.lock().waiting.len() + sizes.lock().iter().sum::<usize>() == 130)
        .await;
    gate.add_permits(100);
    for (item, answer) in (100..230).zip(join_all(asked).await) {
        assert_eq!(answer.unwrap(), Ok(item * 2));
    }
    let sizes = sizes.lock();
    assert!(sizes.iter().all(|size| *size <= BATCH_ITEMS_MAX));
    assert!(sizes.len() < 10, "{sizes:?}");
    assert_eq!(batcher.0.queue.lock().in_flight, 0);
}

#[tokio::test]
async fn the_item_at_fault_stands_alone() {
    let (batcher, _, gate) = doubling(1000);
    let asked = ask_all(&batcher, 0..30);
    // 14 shares a batch with others at first; alone, only its reply is lost.
    gate.add_permits(200);
    let answers = join_all(asked).await;
    assert_eq!(answers[13].as_ref().unwrap(), &Err(Unanswered::Failed));
    assert_eq!(answers[0].as_ref().unwrap(), &Ok(0));
}

#[tokio::test]
async fn a_lost_reply_is_told_and_the_next_batch_leaves() {
    let (batcher, sizes, gate) = doubling(1000);
    gate.add_permits(10);
    assert_eq!(batcher.ask(14).await, Err(Unanswered::Lost));
    assert_eq!(batcher.ask(7).await, Ok(14));
    assert_eq!(*sizes.lock(), [1, 1]);
}

/// Asks for these items at once.
fn ask_all(
    batcher: &Batcher<u32, u32>,
    items: std::ops::Range<u32>,
) -> Vec<tokio::task::JoinHandle<Result<u32, Unanswered>>> {
    items
        .map(|item| {
            let batcher = batcher.clone();
            tokio::spawn(async move { batcher.ask(item).await })
        })
        .collect()
}

fn waiting(batcher: &Batcher<u32, u32>) -> usize {
    batcher.0.queue.lock().waiting.len()
}

#[tokio::test]
async fn who_is_ready_to_ask_when_a_batch_comes_back_leaves_with_the_next() {
    let (batcher, sizes, gate) = doubling(1000);
    let mut asked = ask_all(&batcher, 100..101);
    until(|| sizes.lock().len() == 1).await;
    asked.extend(ask_all(&batcher, 101..102));
    until(|| waiting(&batcher) == 1).await;
    // In one turn: the batch comes back first, and then another asks.
    gate.add_permits(100);
    asked.extend(ask_all(&batcher, 102..103));
    join_all(asked).await;
    assert_eq!(*sizes.lock(), [1, 2]);
}

#[tokio::test]
async fn a_second_batch_leaves_when_many_wait_and_gives_way_when_few_do() {
    let (batcher, sizes, gate) = doubling(1000);
    let mut asked = ask_all(&batcher, 100..101);
    until(|| sizes.lock().len() == 1).await;
    let few = u32::try_from(DEEP_QUEUE).unwrap() - 1;
    asked.extend(ask_all(&batcher, 200..200 + few));
    until(|| waiting(&batcher) == DEEP_QUEUE - 1).await;
    assert_eq!(*sizes.lock(), [1], "few wait for the first to come back");
    asked.extend(ask_all(&batcher, 300..301));
    until(|| sizes.lock().len() == 2).await;
    assert_eq!(*sizes.lock(), [1, DEEP_QUEUE]);
    asked.extend(ask_all(&batcher, 400..403));
    until(|| waiting(&batcher) == 3).await;
    gate.add_permits(1);
    until(|| batcher.0.queue.lock().in_flight == 1).await;
    assert_eq!(
        waiting(&batcher),
        3,
        "the batch that is still away takes them"
    );
    gate.add_permits(100);
    assert!(
        join_all(asked)
            .await
            .into_iter()
            .all(|a| a.unwrap().is_ok())
    );
    assert_eq!(*sizes.lock(), [1, DEEP_QUEUE, 3]);
    assert_eq!(batcher.0.queue.lock().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_slow_batch_holds_nobody_up() {
    let (batcher, sizes, gate) = doubling(1000);
    let mut asked = ask_all(&batcher, 100..101);
    until(|| sizes.lock().len() == 1).await;
    asked.extend(ask_all(&batcher, 200..201));
    until(|| waiting(&batcher) == 1).await;
    tokio::time::advance(SLOW_AFTER * 2).await;
    until(|| sizes.lock().len() == 2).await;
    asked.extend(ask_all(&batcher, 300..301));
    until(|| waiting(&batcher) == 1).await;
    assert_eq!(*sizes.lock(), [1, 1], "the second is not slow yet");
    gate.add_permits(100);
    assert!(
        join_all(asked)
            .await
            .into_iter()
            .all(|a| a.unwrap().is_ok())
    );
    let queue = batcher.0.queue.lock();
    assert_eq!((queue.in_flight, queue.slow), (0, 0));
}

#[tokio::test]
async fn a_full_queue_refuses_and_a_panic_gives_the_place_back() {
    let (batcher, sizes, gate) = doubling(1);
    let mut asked = ask_all(&batcher, 0..1);
    until(|| sizes.lock().len() == 1).await;
    asked.extend(ask_all(&batcher, 1..2));
    until(|| waiting(&batcher) == 1).await;
    assert_eq!(batcher.ask(9).await, Err(Unanswered::Full));
    gate.add_permits(10);
    assert!(
        join_all(asked)
            .await
            .into_iter()
            .all(|a| a.unwrap().is_ok())
    );

    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let send: Send<u32, u32> = Box::new(move |items| {
        let first = counted.fetch_add(1, Ordering::Relaxed) == 0;
        async move {
            assert!(!first, "a fault of ours");
            let answers = Ok(items.clone());
            (items, answers)
        }
        .boxed()
    });
    let batcher = Batcher::new(10, |_| 1, BatchCounts::noop(), send);
    assert_eq!(batcher.ask(1).await, Err(Unanswered::Lost));
    until(|| batcher.0.queue.lock().in_flight == 0).await;
    assert_eq!(batcher.ask(2).await, Ok(2));
}

#[test]
fn heavy_items_travel_in_smaller_batches() {
    let send: Send<usize, ()> = Box::new(|items| {
        async move {
            let answers = Ok(vec![(); items.len()]);
            (items, answers)
        }
        .boxed()
    });
    let batcher = Batcher::new(10, |bytes| *bytes, BatchCounts::noop(), send);
    {
        let mut queue = batcher.0.queue.lock();
        for bytes in [BATCH_BYTES_MAX * 2, BATCH_BYTES_MAX, 1, 1] {
            let (asker, answer) = oneshot::channel();
            std::mem::forget(answer);
            queue.waiting.push_back(Asked { item: bytes, asker });
        }
        queue.in_flight = 1;
    }
    let mut leaving = Leaving::new(Arc::clone(&batcher.0));
    let sizes: Vec<_> = std::iter::from_fn(|| leaving.next_batch().map(|b| b.len())).collect();
    assert_eq!(sizes, [1, 1, 2]);
}
