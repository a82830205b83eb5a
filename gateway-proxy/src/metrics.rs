//! What operators count. Handles are made once; a request only adds to them.
//!
//! [`names`] is the list. Everything that is counted while a call is served is a handle here, so that
//! adding to it is an atomic addition; gauges that are read off something else are set when
//! somebody looks ([`Metrics::observe`]).

mod counts;
pub mod names;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use crochet_shared::code::Code;
use crochet_shared::metric::Kind as Shape;
use crochet_shared::outcome::SellerFailure;
use metrics::{Counter, Gauge, Histogram, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;

pub(crate) use counts::INTERNAL_CALLS;
pub use counts::{BatchCounts, CacheCounts, InternalCall, InternalCounts, RedisCounts};
use counts::{count, level, timer};

use crate::error::Kind;
use crate::gateway::Gateway;
use crate::seller::Closed;

/// Upper bounds of all durations' buckets, in seconds: from a cache hit to the longest timeout.
const SECONDS: [f64; 19] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0, 30.0, 120.0,
];
/// Upper bounds of the buckets of a batch's size.
const ITEMS: [f64; 7] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];

/// Whose request an answer was given to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// `POST /api/v1/gateway/:name`.
    Call,
    /// A seller's test of her endpoint.
    Test,
    /// Nobody's: a path that is none, or the internal API's.
    Other,
}

/// A want of room that refuses a call, besides the seller's ([`Closed`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The body budget is spent.
    Bodies,
    /// The key's calls of this minute are used.
    Key,
    /// The address tried too many unknown keys.
    Stranger,
}

/// Handles to all that is counted.
pub struct Metrics {
    /// By route, then by what [`place`] gives.
    answers: [Vec<Counter>; 3],
    passed: [Counter; 6],
    calls: [Histogram; 6],
    overhead: Histogram,
    forwards: [Counter; 7],
    refused: [Counter; 6],
    /// Asking for the claim, until its answer.
    pub claim: Histogram,
    /// The seller's part.
    pub forward: Histogram,
    /// Asking for the settlement, until it is durable.
    pub settle: Histogram,
    /// Asking the control plane for a quote.
    pub quote: Histogram,
    /// Having the provider asked about a payment.
    pub check: Histogram,
    /// Keys believed.
    pub keys: CacheCounts,
    /// Routes believed.
    pub routes: CacheCounts,
    /// Open quotes believed.
    pub quotes: CacheCounts,
    /// From a change's publication to its arrival.
    pub invalidation_lag: Histogram,
    /// 1 while the channel of changes is open.
    pub changes_connected: Gauge,
    /// How far this clock is ahead of the last control plane's that told until when everything is told.
    pub clock_ahead: Gauge,
    /// 1 while calls are counted together with other gateways.
    pub limits_shared: Gauge,
    /// Claims, quotes and settlements in batches, in this order.
    pub batches: [BatchCounts; 3],
    /// Records read of Redis.
    pub redis_get: RedisCounts,
    /// Pipelines sent to Redis.
    pub redis_pipeline: RedisCounts,
    /// By [`InternalCall`].
    pub internal: [InternalCounts; INTERNAL_CALLS.len()],
    /// Claims whose reply was lost and asked again.
    pub claims_lost: Counter,
    /// Settlements whose reply was lost and asked again.
    pub settles_lost: Counter,
    /// Settlements not durable within the time the buyer is kept waiting.
    pub settle_late: Counter,
    /// Settlements given up when the lease had ended.
    pub settle_abandoned: Counter,
    /// Answers cut off on their way.
    pub cut_off: Counter,
    /// Sellers' answers given up for want of room.
    pub crowded_out: Counter,
    /// Settlements that found the claim ended without them.
    pub settle_not_owner: Counter,
    /// Claims released because too little of the lease was left.
    pub lease_too_short: Counter,
    /// Failures that opened a breaker.
    pub breakers_opened: Counter,
    /// New certificates that serve.
    pub certificates_taken: Counter,
    /// New certificates that cannot.
    pub certificates_refused: Counter,
    /// HTTP/2 requests refused because their connection has too many.
    pub streams_refused: Counter,
    looked_at: LookedAt,
    process: Collector,
}

/// Gauges that are set when somebody looks.
struct LookedAt {
    underway: Gauge,
    sellers_underway: Gauge,
    breakers_open: Gauge,
    breakers_half_open: Gauge,
    budget_left: Gauge,
    budget: Gauge,
    control_plane_up: Gauge,
    draining: Gauge,
    told_age: Gauge,
    certificate_ends: Gauge,
    certificate_refused: Gauge,
    queues: [(Gauge, Gauge); 3],
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("Metrics")
    }
}

fn recorder() -> Result<PrometheusBuilder, BuildError> {
    let batch = Matcher::Full(names::BATCH.name.into());
    PrometheusBuilder::new()
        .set_buckets(&SECONDS)?
        .set_buckets_for_metric(batch, &ITEMS)
}

/// Makes this process's metrics readable; call once, before [`Metrics::new`].
pub fn install() -> Result<PrometheusHandle, BuildError> {
    recorder()?.install_recorder()
}

impl Metrics {
    /// Makes the handles with the recorder in force.
    pub fn new() -> Self {
        describe();
        let process = Collector::default();
        process.describe();
        let phase = |phase| timer(&names::PHASE, &[("phase", phase)]);
        let lost = |step| count(&names::REPLIES_LOST, &[("step", step)]);
        let plain = |metric| count(metric, &[]);
        Self {
            answers: ["call", "test", "other"].map(answers),
            passed: names::CLASSES.map(|status| count(&names::PASSED, &[("status", status)])),
            calls: CALL_RESULTS.map(|result| timer(&names::CALL, &[("result", result)])),
            overhead: timer(&names::OVERHEAD, &[]),
            forwards: FORWARDED.map(|outcome| count(&names::FORWARDS, &[("outcome", outcome)])),
            refused: REASONS.map(|reason| count(&names::REFUSED, &[("reason", reason)])),
            claim: phase("claim"),
            forward: phase("forward"),
            settle: phase("settle"),
            quote: phase("quote"),
            check: phase("check"),
            keys: CacheCounts::new("key"),
            routes: CacheCounts::new("route"),
            quotes: CacheCounts::new("quote"),
            invalidation_lag: timer(&names::LAG, &[]),
            changes_connected: level(&names::CHANGES_CONNECTED, &[]),
            clock_ahead: level(&names::CLOCK_AHEAD, &[]),
            limits_shared: level(&names::LIMITS_SHARED, &[]),
            batches: names::BATCHES.map(BatchCounts::new),
            redis_get: RedisCounts::new("get"),
            redis_pipeline: RedisCounts::new("pipeline"),
            internal: INTERNAL_CALLS.map(InternalCounts::new),
            claims_lost: lost("claim"),
            settles_lost: lost("settle"),
            settle_late: plain(&names::SETTLE_LATE),
            settle_abandoned: plain(&names::SETTLE_ABANDONED),
            cut_off: plain(&names::CUT_OFF),
            crowded_out: plain(&names::CROWDED_OUT),
            settle_not_owner: plain(&names::SETTLE_NOT_OWNER),
            lease_too_short: plain(&names::LEASE_TOO_SHORT),
            breakers_opened: plain(&names::BREAKERS_OPENED),
            certificates_taken: count(&names::CERTIFICATES, &[("outcome", "taken")]),
            certificates_refused: count(&names::CERTIFICATES, &[("outcome", "refused")]),
            streams_refused: plain(&names::STREAMS_REFUSED),
            looked_at: LookedAt::new(),
            process,
        }
    }

    /// Counts an answer.
    pub fn count(&self, route: Route, kind: Kind) {
        let answers = self.answers.get(route as usize);
        if let Some(counter) = answers.and_then(|answers| answers.get(place(kind))) {
            counter.increment(1);
        }
    }

    /// Counts an answer and how long it took.
    pub fn answered(&self, route: Route, kind: Kind, took: Duration, seller: Option<Duration>) {
        self.count(route, kind);
        if let Some(histogram) = call_result(kind).and_then(|place| self.calls.get(place)) {
            Self::took(histogram, took);
        }
        if let Some(seller) = seller {
            Self::took(&self.overhead, took.saturating_sub(seller));
        }
    }

    /// Counts a request that was passed on, by the control plane's status; none when there was no
    /// answer.
    pub fn passed(&self, status: Option<u16>) {
        let class = status.map_or(5, |status| usize::from(status / 100).clamp(1, 5) - 1);
        if let Some(counter) = self.passed.get(class) {
            counter.increment(1);
        }
    }

    /// Counts how a call to a seller ended: handled, failed, or not sent for a want of time (`None`).
    pub fn forwarded(&self, ended: Option<Result<(), SellerFailure>>) {
        let place = match ended {
            Some(Ok(())) => 0,
            Some(Err(SellerFailure::Status)) => 1,
            Some(Err(SellerFailure::Unreachable)) => 2,
            Some(Err(SellerFailure::Timeout | SellerFailure::LeaseExpired)) => 3,
            Some(Err(SellerFailure::TooLarge)) => 4,
            Some(Err(SellerFailure::Invalid)) => 5,
            None => 6,
        };
        if let Some(counter) = self.forwards.get(place) {
            counter.increment(1);
        }
    }

    /// Counts a call refused for its seller.
    pub fn closed(&self, why: Closed) {
        self.refuse(match why {
            Closed::Withdrawn => 0,
            Closed::Breaker => 1,
            Closed::Busy => 2,
        });
    }

    /// Counts a call refused for a want of room here.
    pub fn full(&self, why: Full) {
        self.refuse(match why {
            Full::Bodies => 3,
            Full::Key => 4,
            Full::Stranger => 5,
        });
    }

    fn refuse(&self, place: usize) {
        if let Some(counter) = self.refused.get(place) {
            counter.increment(1);
        }
    }

    /// Records how long something took.
    pub fn took(histogram: &Histogram, time: Duration) {
        histogram.record(time.as_secs_f64());
    }

    /// Sets the gauges that are read off something else. Asks nobody outside this process.
    pub fn observe(&self, gateway: &Gateway) {
        let now = Instant::now();
        let (open, half_open, underway) = gateway.routes.sellers(now);
        let to = &self.looked_at;
        to.told_age.set(gateway.hearing.told_age(now).as_secs_f64());
        let show = |gauge: &Gauge, value: usize| gauge.set(as_f64(value));
        show(&to.underway, gateway.underway.count());
        show(&to.sellers_underway, underway);
        show(&to.breakers_open, open);
        show(&to.breakers_half_open, half_open);
        show(
            &to.budget_left,
            gateway.budget.left().min(gateway.answers.left()),
        );
        show(&to.budget, gateway.config.body_budget_bytes / 2);
        show(&to.control_plane_up, gateway.control_plane.is_up().into());
        show(&to.draining, gateway.is_draining().into());
        if let Some(certificate) = &gateway.certificate {
            show(
                &to.certificate_ends,
                usize::try_from(certificate.ends()).unwrap_or(0),
            );
            show(&to.certificate_refused, certificate.is_refused().into());
        }
        for ((waiting, most), queue) in to.queues.iter().zip(gateway.control_plane.queues()) {
            show(waiting, queue.0);
            show(most, queue.1);
        }
        self.process.collect();
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// In the order of [`call_result`].
const CALL_RESULTS: [&str; 6] = [
    "delivered",
    "replayed",
    "payment_required",
    "pending",
    "tested",
    "refused",
];
/// In the order of [`Metrics::forwarded`].
const FORWARDED: [&str; 7] = [
    "handled",
    "status",
    "unreachable",
    "timeout",
    "too_large",
    "invalid",
    "too_late",
];
/// In the order of [`Metrics::closed`] and [`Metrics::full`].
const REASONS: [&str; 6] = [
    "seller_withdrawn",
    "seller_breaker",
    "seller_busy",
    "body_budget",
    "key_rate",
    "stranger_rate",
];

fn call_result(kind: Kind) -> Option<usize> {
    match kind {
        Kind::Delivered => Some(0),
        Kind::Replayed => Some(1),
        Kind::Code(Code::PaymentRequired | Code::PaymentFailed) => Some(2),
        Kind::Pending => Some(3),
        Kind::Tested => Some(4),
        Kind::Code(_) => Some(5),
        Kind::Preflight => None,
    }
}

/// Where a kind of answer stands among the counters of its route: after the codes, the outcomes.
fn place(kind: Kind) -> usize {
    let after = Code::ALL.len();
    match kind {
        Kind::Code(code) => code as usize,
        Kind::Delivered => after,
        Kind::Replayed => after + 1,
        Kind::Pending => after + 2,
        Kind::Tested => after + 3,
        Kind::Preflight => after + 4,
    }
}

fn answers(route: &'static str) -> Vec<Counter> {
    let outcomes = ["delivered", "replayed", "pending", "tested", "preflight"];
    Code::ALL
        .iter()
        .map(|code| code.as_str())
        .chain(outcomes)
        .map(|result| count(&names::ANSWERS, &[("route", route), ("result", result)]))
        .collect()
}

impl LookedAt {
    fn new() -> Self {
        let plain = |metric| level(metric, &[]);
        let breakers = |state| level(&names::BREAKERS, &[("state", state)]);
        Self {
            underway: plain(&names::UNDERWAY),
            sellers_underway: plain(&names::SELLERS_UNDERWAY),
            breakers_open: breakers("open"),
            breakers_half_open: breakers("half_open"),
            budget_left: plain(&names::BUDGET_LEFT),
            budget: plain(&names::BUDGET),
            control_plane_up: plain(&names::CONTROL_PLANE_UP),
            draining: plain(&names::DRAINING),
            told_age: plain(&names::TOLD_AGE),
            certificate_ends: plain(&names::CERTIFICATE_ENDS),
            certificate_refused: plain(&names::CERTIFICATE_REFUSED),
            queues: names::BATCHES.map(|kind| {
                let labels = [("kind", kind)];
                (
                    level(&names::QUEUE, &labels),
                    level(&names::QUEUE_MAX, &labels),
                )
            }),
        }
    }
}

fn describe() {
    for metric in &names::ALL {
        match metric.kind {
            Shape::Counter => describe_counter!(metric.name, metric.says),
            Shape::Gauge => describe_gauge!(metric.name, metric.says),
            Shape::Histogram => describe_histogram!(metric.name, metric.says),
        }
    }
}

/// A count as a gauge takes it.
#[expect(
    clippy::cast_precision_loss,
    reason = "a gauge shows it, nobody computes with it"
)]
fn as_f64(count: usize) -> f64 {
    count as f64
}
