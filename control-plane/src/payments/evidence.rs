//! CHECK: what the provider's record says of a payment, asked once for many and written down.
//!
//! Questions are collected for a moment into one `/requests/v3` call: webhook hints first, then
//! buyers who wait, then the sweeps. A payment is asked about once in 2 s; sooner answers come from
//! its row, except that a webhook says there is news.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crochet_shared::clock;
use crochet_shared::code::Code;
use crochet_shared::fault::{self, Point};
use crochet_shared::id::uuid_v7;
use crochet_shared::internal::{Check, CheckAnswer};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;

use super::model::{self, News, Quoted, State};
use super::relay::client::IDS_MAX;
use super::relay::{ProviderError, Record};
use super::store::evidence::{self as store, Expected, Notes};
use crate::app::App;
use crate::error::ApiError;
use crate::ledger::post::{self, Evidence};
use crate::metrics::names;

/// Longest that a question waits for company.
const COLLECT: Duration = Duration::from_millis(100);
/// How long the first question after a quiet time waits for company.
const COLLECT_QUIET: Duration = Duration::from_millis(10);
/// Longest answer to a check: the gateway waits 3 s.
const ANSWER_MAX: Duration = Duration::from_millis(2_900);
/// Most questions that wait; more are refused.
const QUEUE_MAX: usize = 20_000;
/// Calls to the provider at once.
const CALLS_MAX: usize = 4;
/// Pages followed for one call's ids.
const PAGES_MAX: usize = 4;
/// What a caller is told to wait when there is no answer in time, in seconds.
const RETRY_SECONDS: u32 = 2;

/// Who asks, the more urgent the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Background work.
    Sweep,
    /// A buyer waits.
    Buyer,
    /// The provider said there is news.
    Hint,
}

/// Questions to the provider, being collected.
#[derive(Debug, Default)]
pub struct Collector {
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    asked: HashMap<String, Question>,
    /// Who waits for calls that are under way.
    under_way: HashMap<String, Vec<oneshot::Sender<CheckAnswer>>>,
    next: u64,
    is_running: bool,
    last_call: Option<Instant>,
}

#[derive(Debug)]
struct Question {
    urgency: Urgency,
    number: u64,
    waiting: Vec<oneshot::Sender<CheckAnswer>>,
}

/// CHECK: asks the provider about one of the buyer's payments and records what it says.
pub async fn check(app: &Arc<App>, wanted: &Check) -> Result<CheckAnswer, ApiError> {
    let standing = store::standing(app.db.pool(), &wanted.relay_request_id, wanted.buyer.0)
        .await?
        .ok_or(Code::RelayRequestNotFound)?;
    if standing.is_fresh || !standing.state.awaits_evidence() {
        return Ok(model::answer_from_row(
            standing.state,
            standing.deposit_seen,
        ));
    }
    let answer = ask(app, &wanted.relay_request_id).await;
    // A failure is known without the provider; only a success would be news.
    if standing.state == State::Failed && matches!(answer, CheckAnswer::Unavailable { .. }) {
        return Ok(CheckAnswer::Failed);
    }
    Ok(answer)
}

/// The same for a gateway: where a deposit is known, others are told before. She who is told to wait for hers is not
/// asked for another when she calls again without its id.
pub async fn check_and_tell(app: &Arc<App>, wanted: &Check) -> Result<CheckAnswer, ApiError> {
    let answer = check(app, wanted).await?;
    if matches!(answer, CheckAnswer::Pending { .. }) {
        let id = &wanted.relay_request_id;
        let standing = store::standing(app.db.pool(), id, wanted.buyer.0).await?;
        if standing.is_some_and(|standing| standing.deposit_seen) {
            app.publisher.caught_up().await;
        }
    }
    Ok(answer)
}

/// Asks the provider for a buyer who waits.
pub async fn ask(app: &Arc<App>, relay_request_id: &str) -> CheckAnswer {
    let (answer, answered) = oneshot::channel();
    if !enqueue(app, relay_request_id, Urgency::Buyer, Some(answer)) {
        return unavailable(RETRY_SECONDS);
    }
    match tokio::time::timeout(ANSWER_MAX, answered).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) | Err(_) => unavailable(RETRY_SECONDS),
    }
}

/// Puts a question without waiting for its answer. `false` when too many wait already.
pub fn hint(app: &Arc<App>, relay_request_id: &str, urgency: Urgency) -> bool {
    enqueue(app, relay_request_id, urgency, None)
}

fn enqueue(
    app: &Arc<App>,
    id: &str,
    urgency: Urgency,
    answer: Option<oneshot::Sender<CheckAnswer>>,
) -> bool {
    let mut queue = app.payments.checks.queue.lock();
    let number = queue.next;
    queue.next += 1;
    // A call under way answers those who come while it is; a hint says there is newer news.
    if urgency != Urgency::Hint
        && let Some(waiting) = queue.under_way.get_mut(id)
    {
        waiting.extend(answer);
        return true;
    }
    if let Some(question) = queue.asked.get_mut(id) {
        question.urgency = question.urgency.max(urgency);
        question.waiting.extend(answer);
        return true;
    }
    if queue.asked.len() >= QUEUE_MAX {
        return false;
    }
    let question = Question {
        urgency,
        number,
        waiting: answer.into_iter().collect(),
    };
    queue.asked.insert(id.to_owned(), question);
    if !queue.is_running {
        queue.is_running = true;
        tokio::spawn(collect(Arc::clone(app)));
    }
    true
}

/// Sends calls as long as there are questions.
async fn collect(app: Arc<App>) {
    let calls = Arc::new(Semaphore::new(CALLS_MAX));
    loop {
        let Ok(call) = Arc::clone(&calls).acquire_owned().await else {
            return;
        };
        tokio::time::sleep(app.payments.checks.pause()).await;
        let Some(ids) = app.payments.checks.take() else {
            return;
        };
        let app = Arc::clone(&app);
        tokio::spawn(async move {
            let call_under_way = UnderWay {
                collector: &app.payments.checks,
                ids: &ids,
            };
            let answers = look_up(&app, &ids).await;
            call_under_way.answer(&answers);
            drop(call);
        });
    }
}

impl Collector {
    /// How many questions wait.
    pub fn waiting(&self) -> usize {
        self.queue.lock().asked.len()
    }

    /// How long to wait for company: none for a full call, little after a quiet time.
    fn pause(&self) -> Duration {
        let queue = self.queue.lock();
        if queue.asked.len() >= IDS_MAX {
            return Duration::ZERO;
        }
        let since = queue
            .last_call
            .map_or(COLLECT, |last| last.elapsed().min(COLLECT));
        COLLECT.saturating_sub(since).max(COLLECT_QUIET)
    }

    /// The most urgent questions, oldest first; `None`, and no longer running, when there are none.
    fn take(&self) -> Option<Vec<String>> {
        let mut queue = self.queue.lock();
        if queue.asked.is_empty() {
            queue.is_running = false;
            return None;
        }
        queue.last_call = Some(Instant::now());
        let all = std::mem::take(&mut queue.asked);
        let mut all: Vec<(String, Question)> = all.into_iter().collect();
        all.sort_unstable_by_key(|(_, question)| (Reverse(question.urgency), question.number));
        let later = all.split_off(all.len().min(IDS_MAX));
        queue.asked.extend(later);
        let mut ids = Vec::with_capacity(all.len());
        for (id, question) in all {
            let waiting = queue.under_way.entry(id.clone()).or_default();
            waiting.extend(question.waiting);
            ids.push(id);
        }
        Some(ids)
    }
}

/// A call under way. However it ends, its ids are under way no longer.
struct UnderWay<'a> {
    collector: &'a Collector,
    ids: &'a [String],
}

impl UnderWay<'_> {
    fn answer(&self, answers: &Result<HashMap<String, CheckAnswer>, u32>) {
        let mut queue = self.collector.queue.lock();
        for id in self.ids {
            let answer = match answers {
                Ok(answers) => answers.get(id).copied(),
                Err(seconds) => Some(unavailable(*seconds)),
            };
            for waiting in queue.under_way.remove(id).unwrap_or_default() {
                // A caller that has gone needs no answer.
                let _ = waiting.send(answer.unwrap_or(unavailable(RETRY_SECONDS)));
            }
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut queue = self.collector.queue.lock();
        for id in self.ids {
            queue.under_way.remove(id);
        }
    }
}

/// Asks the provider and records; or says when to try again.
async fn look_up(app: &App, ids: &[String]) -> Result<HashMap<String, CheckAnswer>, u32> {
    let records = fetch(app, ids).await.map_err(|error| match error {
        ProviderError::Unavailable {
            retry_after_seconds,
            ..
        } => retry_after_seconds,
        ProviderError::Refused { .. } => RETRY_SECONDS,
    })?;
    apply(app, ids, &records).await.map_err(|error| {
        tracing::error!(%error, "the provider's news was not recorded");
        RETRY_SECONDS
    })
}

async fn fetch(app: &App, ids: &[String]) -> Result<Vec<Record>, ProviderError> {
    let mut records = Vec::new();
    let mut missing: Vec<&str> = ids.iter().map(String::as_str).collect();
    for _ in 0..PAGES_MAX {
        let page = app.relay.records(&missing).await?;
        missing.retain(|id| !page.records.iter().any(|record| record.id == *id));
        let progressed = !page.records.is_empty();
        records.extend(page.records);
        if page.continuation.is_none() || missing.is_empty() || !progressed {
            break;
        }
    }
    Ok(records)
}

/// Records what the provider says of `ids`; an id without a record is one it does not know. Answers
/// for those that are ours.
pub async fn apply(
    app: &App,
    ids: &[String],
    records: &[Record],
) -> Result<HashMap<String, CheckAnswer>, sqlx::Error> {
    let pool = app.db.pool();
    let by_id = telling(records);
    let mut answers = HashMap::new();
    let mut notes = Notes::default();
    let mut heard: Vec<(String, News)> = Vec::new();
    for expected in store::expected(pool, ids).await? {
        let record = by_id.get(expected.relay_request_id.as_str()).copied();
        let quoted = quoted(&expected);
        let news = model::news(record, &quoted);
        if !expected.state.awaits_evidence() {
            let state = settled(app, &expected, record).await?;
            answers.insert(
                expected.relay_request_id,
                model::check_answer(news, Some(state)),
            );
            continue;
        }
        if let (News::Success(arrived), Some(record)) = (news, record) {
            let state = success(app, record, arrived).await?;
            answers.insert(expected.relay_request_id, model::check_answer(news, state));
            continue;
        }
        push(&mut notes, &expected, record, news);
        heard.push((expected.relay_request_id, news));
    }
    if !heard.is_empty() {
        let after = store::note(pool, &notes).await?;
        for (id, news) in heard {
            let state = after
                .iter()
                .find(|row| row.relay_request_id == id)
                .map(|row| row.state);
            answers.insert(id, model::check_answer(news, state));
        }
    }
    // No gateway should go on giving out a quote whose deposit is known.
    app.publisher.wake();
    Ok(answers)
}

/// The record that tells of each payment: of several, one that says that it was filled and what with, else one
/// that says that it was filled, else the last.
fn telling(records: &[Record]) -> HashMap<&str, &Record> {
    let says = |record: &Record| {
        (
            record.is_filled(),
            record.is_filled() && record.output.is_some(),
        )
    };
    let mut by_id: HashMap<&str, &Record> = HashMap::with_capacity(records.len());
    for record in records {
        let told = by_id.entry(record.id.as_str()).or_insert(record);
        if says(record) >= says(told) {
            *told = record;
        }
    }
    by_id
}

fn quoted(expected: &Expected) -> Quoted {
    Quoted {
        recipient: expected.recipient.clone(),
        chain_id: expected.chain_id,
        token: expected.token.clone(),
        amount: expected.amount,
    }
}

fn push(notes: &mut Notes, expected: &Expected, record: Option<&Record>, news: News) {
    notes
        .relay_request_ids
        .push(expected.relay_request_id.clone());
    notes
        .statuses
        .push(record.map(|record| record.status_text.clone()));
    notes.seen.push(news == News::UnderWay);
    notes.failed.push(news == News::Failed);
    notes
        .reasons
        .push(record.and_then(|record| record.fail_reason.clone()));
}

/// Records a success; gives the state after it.
async fn success(
    app: &App,
    record: &Record,
    arrived: model::Arrived,
) -> Result<Option<State>, sqlx::Error> {
    let pool = app.db.pool();
    let Some(output) = &record.output else {
        return Ok(None);
    };
    let evidence = Evidence {
        relay_request_id: &record.id,
        provider_status: &record.status_text,
        matches: arrived.matches,
        received: arrived.received,
        recipient: record.recipient.as_deref(),
        chain_id: output.chain_id,
        token: &output.token,
        amount: &output.amount,
        in_tx_hashes: &record.in_tx_hashes,
        out_tx_hashes: &record.out_tx_hashes,
        provider_updated_at: record.updated_at,
    };
    let now = clock::now();
    let ids = [uuid_v7(now), uuid_v7(now), uuid_v7(now)];
    let redeem_seconds = app.config.redeem.as_secs_f64();
    fault::pass(Point::BeforeEvidence);
    let recorded = post::payment(pool, &evidence, redeem_seconds, ids).await?;
    fault::pass(Point::AfterEvidence);
    match recorded {
        Some(state) => {
            let result = if arrived.matches { "paid" } else { "mismatch" };
            metrics::counter!(names::EVIDENCE.name, "result" => result).increment(1);
            if !arrived.matches {
                tracing::error!(relay_request_id = record.id, recipient = record.recipient, output = ?record.output,
                    "ALERT: a payment succeeded otherwise than quoted; a refund is due");
            }
            Ok(Some(state))
        }
        // Another replica recorded it first.
        None => store::state(pool, &record.id).await,
    }
}

/// A request with evidence changes by one kind of news only: the provider sent back what was due.
async fn settled(
    app: &App,
    expected: &Expected,
    record: Option<&Record>,
) -> Result<State, sqlx::Error> {
    let refunded_at = record
        .filter(|record| expected.state == State::RefundDue && record.is_refunded())
        .and_then(|record| record.updated_at);
    let Some(refunded_at) = refunded_at else {
        return Ok(expected.state);
    };
    let id = uuid_v7(clock::now());
    let relay_request_id = &expected.relay_request_id;
    if post::refund_paid(app.db.pool(), relay_request_id, refunded_at, id).await? {
        tracing::info!(relay_request_id, "the provider paid a refund that was due");
        return Ok(State::Refunded);
    }
    Ok(expected.state)
}

const fn unavailable(retry_after_seconds: u32) -> CheckAnswer {
    CheckAnswer::Unavailable {
        retry_after_seconds,
    }
}
