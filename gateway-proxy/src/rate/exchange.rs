//! The exchange with Redis: own hits go out, the others' come back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crochet_shared::id;
use crochet_shared::limit::{COUNT_GATEWAYS, GATEWAYS, TELL};
use crochet_shared::redis_key::hex;

use super::{ROOM_LATER, Rates, WINDOW_MS, Window, halves, join, ms_left};
use crate::gateway::Gateway;

/// Between two exchanges, unless one is wanted.
const EVERY: Duration = Duration::from_millis(100);
/// Between two exchanges at least, however much one is wanted.
const PAUSE: Duration = Duration::from_millis(2);
/// How often a gateway notes that it lives.
const LIVES_EVERY: Duration = Duration::from_millis(250);
/// After this from its first note, every other gateway has noted that it lives once more, and been
/// told of this one.
const KNOWN_AFTER: Duration = Duration::from_millis(500);
/// How long others are believed to live that Redis does not know of any more: it may have been
/// flushed, and they note it again.
const LIVE_ON: Duration = Duration::from_secs(5);
/// Longest a window with few hits waits for its exchange, in milliseconds.
const FEW_WAIT_MS: u32 = 500;
/// Windows that go out in one pipeline.
const AT_ONCE: usize = 512;
/// A window in Redis that ends so much later than ours, in milliseconds, is another one.
const OTHER_WINDOW_MS: u32 = 250;
/// Parts of a thousand in which a share of the traffic is told.
const WHOLE: u64 = 1_000;

/// What Redis has been told of a window, and what it told.
#[derive(Debug, Default)]
pub(super) struct Told {
    began: u32,
    /// Own hits that Redis has.
    hits: u32,
    /// When, in the clock of the windows.
    at: u32,
    /// Own hits and the others' of late, in halves: what lies further back weighs less.
    own_lately: u32,
    others_lately: u32,
}

/// What a window tells Redis.
struct Report {
    window: Arc<Window>,
    began: u32,
    /// Own hits when it was made.
    count: u32,
    /// Those since the last exchange.
    hits: u32,
    /// The others' hits as told last; `None` when this window was never told of.
    others: Option<u32>,
    left_ms: u32,
    at: u32,
}

/// Exchanges for good. Runs inside the service's runtime.
pub async fn run(gateway: Arc<Gateway>) {
    let name = hex(&id::random::<8>());
    let mut lived: Option<Instant> = None;
    let mut first: Option<Instant> = None;
    let mut most = (1, Instant::now());
    let mut away = false;
    loop {
        let rates = &gateway.rates;
        let mut answered = true;
        if lived.is_none_or(|at| at.elapsed() >= LIVES_EVERY) {
            answered = lives(&gateway, &name, &mut most).await;
            lived = answered.then(Instant::now);
        }
        answered = answered && exchange(&gateway, &name).await;
        if answered {
            let first = *first.get_or_insert_with(Instant::now);
            if first.elapsed() >= KNOWN_AFTER {
                rates.known.store(true, Ordering::Relaxed);
            }
        } else {
            rates.gateways.store(1, Ordering::Relaxed);
            rates.known.store(true, Ordering::Relaxed);
            lived = None;
        }
        rates.done.notify_waiters();
        note(&gateway, &mut away, answered);
        tokio::time::sleep(if answered { PAUSE } else { EVERY }).await;
        // Not wanted is the usual case, and says nothing.
        let _ = tokio::time::timeout(EVERY, rates.wanted.notified()).await;
    }
}

fn note(gateway: &Gateway, away: &mut bool, answered: bool) {
    gateway
        .metrics
        .limits_shared
        .set(if answered { 1.0 } else { 0.0 });
    match (*away, answered) {
        (false, false) => tracing::warn!("limits are counted here alone: Redis is away"),
        (true, true) => tracing::info!("limits are counted together again"),
        _ => {}
    }
    *away = !answered;
}

/// Notes that this gateway lives, and learns how many do.
async fn lives(gateway: &Gateway, name: &str, most: &mut (u32, Instant)) -> bool {
    let mut pipe = redis::pipe();
    pipe.cmd("EVAL")
        .arg(COUNT_GATEWAYS)
        .arg(1)
        .arg(GATEWAYS)
        .arg(name);
    let Some((count,)) = gateway.redis.pipeline::<(u32,)>(&pipe).await else {
        return false;
    };
    if count >= most.0 || most.1.elapsed() >= LIVE_ON {
        *most = (count.max(1), Instant::now());
    }
    gateway.rates.gateways.store(most.0, Ordering::Relaxed);
    true
}

/// One exchange of all windows that were hit. Whether Redis answered.
async fn exchange(gateway: &Gateway, name: &str) -> bool {
    let rates = &gateway.rates;
    let now = gateway.millis(Instant::now());
    let active = std::mem::take(&mut *rates.active.lock());
    let mut reports = Vec::with_capacity(active.len());
    let mut later = Vec::new();
    for window in active {
        if window.is_due(now, rates.room(window.limit)) {
            reports.extend(report(window, now));
        } else {
            later.push(window);
        }
    }
    rates.active.lock().append(&mut later);
    for chunk in reports.chunks(AT_ONCE) {
        let mut pipe = redis::pipe();
        for report in chunk {
            pipe.cmd("EVAL")
                .arg(TELL)
                .arg(1)
                .arg(&report.window.name)
                .arg(name)
                .arg(report.count)
                .arg(report.left_ms)
                .arg(u8::from(report.others.is_some()));
        }
        let Some(answers) = gateway.redis.pipeline::<Vec<(u32, u32)>>(&pipe).await else {
            // It is told with the next hit.
            return false;
        };
        for (report, (total, left_ms)) in chunk.iter().zip(answers) {
            report.learn(total, left_ms, rates);
        }
    }
    true
}

impl Window {
    /// Whether it has something to tell that cannot wait.
    fn is_due(&self, now: u32, room: u32) -> bool {
        let told = self.told.lock();
        let (began, count) = self.standing(now);
        let fresh = told.began != began;
        let many = count.saturating_sub(told.hits) >= (room.min(self.limit) / 4).max(1);
        let long = now.wrapping_sub(told.at) >= FEW_WAIT_MS;
        self.urgent.load(Ordering::Acquire) || fresh || many || long
    }
}

/// What a window has to tell; nothing when it is over.
fn report(window: Arc<Window>, now: u32) -> Option<Report> {
    // From here on a hit queues it again.
    window.queued.store(false, Ordering::Release);
    window.urgent.store(false, Ordering::Release);
    let (began, count) = window.standing(now);
    if count == 0 {
        return None;
    }
    let mut told = window.told.lock();
    if told.began != began {
        *told = Told {
            began,
            ..Told::default()
        };
    }
    let hits = told.hits;
    drop(told);
    let others = window.view(began).map(|(others, _)| others);
    Some(Report {
        began,
        count,
        hits: count.saturating_sub(hits),
        others,
        left_ms: ms_left(began, now).max(1),
        at: now,
        window,
    })
}

impl Report {
    /// Takes what Redis answered: all hits, and how long its window lasts.
    fn learn(&self, total: u32, left_ms: u32, rates: &Rates) {
        if self.others.is_some() && left_ms > self.left_ms.saturating_add(OTHER_WINDOW_MS) {
            // Others have begun the next window already; this one's end is near.
            return;
        }
        let window = &self.window;
        // Counted from before it was asked, so never longer than Redis's own.
        let left_ms = left_ms.min(WINDOW_MS);
        let began = self.at.wrapping_sub(WINDOW_MS - left_ms);
        // Never fewer than before: a Redis that forgot is told again by who still calls.
        let before = self.others.unwrap_or_default();
        let others = total.saturating_sub(self.count).max(before);
        let mut told = window.told.lock();
        told.began = began;
        told.hits = self.count;
        told.at = self.at;
        told.own_lately = (told.own_lately + self.hits).div_ceil(2);
        told.others_lately = (told.others_lately + others.saturating_sub(before)).div_ceil(2);
        let left = window
            .limit
            .saturating_sub(others.saturating_add(self.count));
        let gateways = rates.gateways();
        let share = if gateways > 1 {
            // Nobody gets much at once: what is used up is told at once, and the next share is a
            // better one. Who was told nothing yet knows nothing of the traffic.
            let parts = if self.others.is_none() {
                2 * gateways
            } else {
                gateways.max(4)
            };
            let most = left / parts;
            let least = (rates.room(window.limit) / ROOM_LATER).max(1);
            told.share_of(left).min(most).max(least.min(left))
        } else {
            left
        };
        drop(told);
        window.begin_at(self.began, began);
        let since = join(self.count, self.at);
        window.since.store(since, Ordering::Relaxed);
        window.view.store(join(others, share), Ordering::Relaxed);
        window.of.store(began, Ordering::Release);
    }
}

impl Told {
    /// This process's part of `left`, by its part of the traffic of late.
    fn share_of(&self, left: u32) -> u32 {
        let (own, others) = (u64::from(self.own_lately), u64::from(self.others_lately));
        let part = WHOLE * own / (own + others).max(1);
        u32::try_from(u64::from(left) * part / WHOLE).unwrap_or(left)
    }
}

impl Window {
    /// Moves the window's beginning to where it is in Redis, with what was hit meanwhile.
    fn begin_at(&self, before: u32, began: u32) {
        // A window that has ended meanwhile stays as it is.
        let _ = self
            .word
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
                let (standing, count) = halves(word);
                (standing == before && standing != began).then(|| join(began, count))
            });
    }
}

#[cfg(test)]
mod tests {
    use super::super::Hit;
    use super::*;

    fn two_gateways() -> Rates {
        let rates = Rates::default();
        rates.gateways.store(2, Ordering::Relaxed);
        rates
    }

    fn hits(rates: &Rates, window: &Arc<Window>, now: u32, most: u32) -> u32 {
        let taken = |_: &u32| matches!(rates.hit(window, now), Hit::Taken(_));
        u32::try_from((0..most).take_while(taken).count()).unwrap()
    }

    #[test]
    fn what_others_hit_counts_and_the_window_is_theirs() {
        let rates = two_gateways();
        let window = Arc::new(Window::new("w".into(), 1_000));
        assert_eq!(hits(&rates, &window, 50_000, 10), 10);
        let told = report(Arc::clone(&window), 50_000).unwrap();
        assert_eq!(
            (told.count, told.others, told.left_ms),
            (10, None, WINDOW_MS)
        );
        told.learn(1_000, 20_000, &rates);
        let Hit::Full(full) = rates.hit(&window, 50_000) else {
            panic!("the quota is used up elsewhere");
        };
        assert_eq!(full.retry_after_seconds, 20);
        assert!(window.check(50_000).is_err());
        assert!(window.check(70_000).is_ok(), "the window ended as theirs");
    }

    #[test]
    fn shares_follow_the_traffic_and_sum_to_what_is_left() {
        let rates = two_gateways();
        let window = Arc::new(Window::new("w".into(), 1_000));
        assert_eq!(hits(&rates, &window, 0, 20), 20);
        let told = report(Arc::clone(&window), 0).unwrap();
        // Told for the first time: nobody knows the traffic yet, so each gets the same.
        told.learn(20, WINDOW_MS, &rates);
        assert_eq!(hits(&rates, &window, 1, 40), 40);
        // The other one has had three times as many since.
        let told = report(Arc::clone(&window), 1).unwrap();
        told.learn(180, WINDOW_MS, &rates);
        let taken = hits(&rates, &window, 2, 1_000);
        assert!((820 / 4..=820 / 3).contains(&taken), "{taken} of 820");
        assert_eq!(rates.hit(&window, 2), Hit::Unsure);
    }

    #[test]
    fn a_share_of_long_ago_is_good_for_little() {
        let rates = two_gateways();
        let window = Arc::new(Window::new("w".into(), 1_000));
        hits(&rates, &window, 0, 20);
        let told = report(Arc::clone(&window), 0).unwrap();
        told.learn(20, WINDOW_MS, &rates);
        let later = hits(&rates, &window, 5_000, 1_000);
        assert_eq!(later, rates.room(1_000) / ROOM_LATER);
    }

    #[test]
    fn a_report_that_crossed_the_windows_end_changes_nothing() {
        let rates = two_gateways();
        let window = Arc::new(Window::new("w".into(), 100));
        hits(&rates, &window, 0, 2);
        let first = report(Arc::clone(&window), 0).unwrap();
        first.learn(50, 10_000, &rates);
        hits(&rates, &window, 9_000, 1);
        let late = report(Arc::clone(&window), 9_990).unwrap();
        assert_eq!((late.count, late.others, late.left_ms), (3, Some(48), 10));
        late.learn(100, WINDOW_MS, &rates);
        assert!(window.check(9_990).is_ok());
        assert!(window.check(10_000).is_ok());
    }

    #[test]
    fn a_redis_that_forgot_makes_nothing_undone() {
        let rates = two_gateways();
        let window = Arc::new(Window::new("w".into(), 100));
        hits(&rates, &window, 0, 2);
        let first = report(Arc::clone(&window), 0).unwrap();
        first.learn(98, WINDOW_MS, &rates);
        hits(&rates, &window, 1, 1);
        let after = report(Arc::clone(&window), 1).unwrap();
        // Of the others' 96 it knows nothing any more.
        after.learn(3, WINDOW_MS - 1, &rates);
        assert_eq!(hits(&rates, &window, 2, 10), 1);
        assert!(matches!(rates.hit(&window, 2), Hit::Full(_)));
    }

    #[test]
    fn few_hits_wait_and_many_do_not() {
        let rates = two_gateways();
        let window = Arc::new(Window::new("w".into(), 1_000));
        let room = rates.room(1_000);
        hits(&rates, &window, 0, 5);
        assert!(window.is_due(0, room), "a new window is told at once");
        report(Arc::clone(&window), 0)
            .unwrap()
            .learn(5, WINDOW_MS, &rates);
        hits(&rates, &window, 1, 1);
        assert!(!window.is_due(1, room));
        assert!(window.is_due(FEW_WAIT_MS, room));
        hits(&rates, &window, 1, room / 4);
        assert!(window.is_due(1, room));
    }
}
