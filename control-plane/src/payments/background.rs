//! Background work: each a named loop, safe beside as many replicas as there are.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::evidence::{self, Urgency};
use super::model::{SURPLUS_WORTH_MICROS, State};
use super::store::{sweep as store, waiting};
use super::{answers, lapse, outcomes, sweep};
use crate::app::App;
use crate::catalog;
use crate::ledger::{audit, totals};
use crate::metrics::{names, worked};

/// How often deadlines are looked at.
const DEADLINES: Duration = Duration::from_secs(1);
/// Most deadlines taken at once.
const DEADLINES_MAX: i64 = 200;
/// Most batches of claims looked at at once.
const LEASES_MAX: i64 = 50;
/// How often the partitions of stored answers are tended.
const ANSWERS: Duration = Duration::from_mins(10);
/// How often attempts are looked for that are older than they are kept.
const OLD_ATTEMPTS: Duration = Duration::from_mins(10);
/// How often ended calls are counted into their listings' stats.
const OUTCOMES: Duration = Duration::from_secs(2);
/// How often posted transfers are counted into their hours.
const LEDGER_HOURS: Duration = Duration::from_secs(30);
/// How often words are looked through for those that no listing has.
const UNUSED_WORDS: Duration = Duration::from_mins(1);
/// How often gauges are read.
const GAUGES: Duration = Duration::from_secs(15);
/// A deadline overdue by this much, in seconds, is a lag worth telling.
const LAG_SECONDS: f64 = 30.0;

/// Runs all of it until told to stop.
pub async fn run(app: Arc<App>, stopped: watch::Receiver<bool>) {
    let (sweep_every, audit_every) = (app.config.relay_sweep, app.config.audit_every);
    let walk = Arc::new(catalog::Walk::default());
    let hours = Arc::new(audit::Walk::default());
    tokio::join!(
        every("deadlines", DEADLINES, &app, stopped.clone(), deadlines),
        every(
            "provider_sweep",
            sweep_every,
            &app,
            stopped.clone(),
            |app| async move { Ok(sweep::run(&app).await?) }
        ),
        every(
            "stored_answers",
            ANSWERS,
            &app,
            stopped.clone(),
            |app| async move { Ok(answers::tend(&app).await?) }
        ),
        every(
            "old_attempts",
            OLD_ATTEMPTS,
            &app,
            stopped.clone(),
            |app| async move { Ok(outcomes::delete_old(&app).await?) }
        ),
        every(
            "outcomes",
            OUTCOMES,
            &app,
            stopped.clone(),
            |app| async move { Ok(outcomes::fold(&app).await?) }
        ),
        every(
            "ledger_hours",
            LEDGER_HOURS,
            &app,
            stopped.clone(),
            |app| async move { Ok(totals::fold(&app.db).await?) }
        ),
        every("unused_words", UNUSED_WORDS, &app, stopped.clone(), |app| {
            let walk = Arc::clone(&walk);
            async move { Ok(walk.go_on(&app).await?) }
        }),
        every("invariants", audit_every, &app, stopped.clone(), |app| {
            let hours = Arc::clone(&hours);
            async move { Ok(audit::observe(&app.db, &hours).await?) }
        }),
        every("refunds", audit_every, &app, stopped.clone(), refunds),
        every("gauges", GAUGES, &app, stopped, gauges),
    );
}

/// Runs `work` now and then at each period. A failure is told and tried again at the next.
async fn every<F>(
    name: &'static str,
    period: Duration,
    app: &Arc<App>,
    mut stopped: watch::Receiver<bool>,
    work: impl Fn(Arc<App>) -> F,
) where
    F: Future<Output = anyhow::Result<()>>,
{
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
        let worked_out = work(Arc::clone(app)).await;
        if let Err(error) = &worked_out {
            tracing::warn!(
                work = name,
                error = format!("{error:#}"),
                "background work failed"
            );
        }
        worked(name, worked_out.is_ok());
    }
}

/// Looks at what is due: quotes whose time is over are asked about (and so expire, if no deposit is
/// known), claims and payments whose time is over are ended.
pub(super) async fn deadlines(app: Arc<App>) -> anyhow::Result<()> {
    // One that fails does not keep the other from its turn.
    let (leases, due) = (leases(&app).await, due(&app).await);
    leases.and(due)
}

async fn due(app: &Arc<App>) -> anyhow::Result<()> {
    loop {
        let due = store::take_due(app.db.pool(), DEADLINES_MAX).await?;
        let taken = i64::try_from(due.len())?;
        let mut over = Vec::new();
        for due in due {
            match due.state {
                State::Quoted => {
                    // A full queue is tried again: the deadline is only put off.
                    let _ = evidence::hint(app, &due.relay_request_id, Urgency::Sweep);
                }
                State::Paid | State::Claimed => over.push(due.id),
                State::Delivered
                | State::RefundDue
                | State::Refunded
                | State::Expired
                | State::Failed => {
                    tracing::error!(
                        relay_request_id = due.relay_request_id,
                        "a closed request has a deadline"
                    );
                }
            }
        }
        if !over.is_empty() {
            lapse::lapse(app, &over).await?;
        }
        if taken < DEADLINES_MAX {
            return Ok(());
        }
    }
}

/// Ends claims whose leases are over.
async fn leases(app: &App) -> anyhow::Result<()> {
    let grace = app.config.lease_grace.as_secs_f64();
    loop {
        let over = store::take_leases(app.db.pool(), LEASES_MAX, grace).await?;
        if !over.open.is_empty() {
            lapse::lapse(app, &over.open).await?;
        }
        if over.batches < LEASES_MAX {
            return Ok(());
        }
    }
}

async fn gauges(app: Arc<App>) -> anyhow::Result<()> {
    let pool = app.db.pool();
    let open = store::open(pool).await?;
    let mut oldest = 0.0_f64;
    for (state, name) in [
        (State::Quoted, "quoted"),
        (State::Paid, "paid"),
        (State::Claimed, "claimed"),
    ] {
        let found = open.iter().find(|open| open.state == state);
        let (count, micros) = found.map_or((0, 0), |open| (open.count, open.micros));
        metrics::gauge!(names::OPEN_REQUESTS.name, "state" => name).set(amount_as_f64(count));
        metrics::gauge!(names::OPEN_MICROS.name, "state" => name).set(amount_as_f64(micros));
        oldest = oldest.max(found.map_or(0.0, |open| open.paid_seconds));
    }
    metrics::gauge!(names::PAID_OLDEST.name).set(oldest);
    metrics::gauge!(names::DEPOSIT_OLDEST.name).set(waiting::oldest_deposit(pool).await?);
    let overdue = store::overdue(pool, LAG_SECONDS).await?;
    metrics::gauge!(names::OVERDUE.name).set(amount_as_f64(overdue));
    Ok(())
}

/// Looks for what is owed back. Rarer than the other gauges: closed purchases are not few.
async fn refunds(app: Arc<App>) -> anyhow::Result<()> {
    let due = waiting::refunds_due(app.db.pool(), SURPLUS_WORTH_MICROS).await?;
    metrics::gauge!(names::REFUND_DUE.name).set(amount_as_f64(due.count));
    metrics::gauge!(names::REFUND_DUE_MICROS.name).set(amount_as_f64(due.micros));
    metrics::gauge!(names::REFUND_DUE_OLDEST.name).set(due.oldest_seconds);
    metrics::gauge!(names::DUST.name).set(amount_as_f64(due.dust_count));
    metrics::gauge!(names::DUST_MICROS.name).set(amount_as_f64(due.dust_micros));
    Ok(())
}

/// A count or an amount as a gauge takes it.
#[expect(
    clippy::cast_precision_loss,
    reason = "a gauge shows it, nobody computes with it"
)]
fn amount_as_f64(amount: i64) -> f64 {
    amount as f64
}
