//! What operators count. Handles are made once; a request only adds to them.

use std::time::Duration;

use crochet_shared::code::Code;
use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, gauge, histogram,
};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};

use crate::error::Kind;

/// Upper bounds of the phases' buckets, in seconds: from a cache hit to the longest timeout.
const SECONDS: [f64; 16] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
    30.0, 120.0,
];

/// Handles to all that is counted.
pub struct Metrics {
    codes: Vec<Counter>,
    delivered: Counter,
    replayed: Counter,
    pending: Counter,
    tested: Counter,
    preflight: Counter,
    /// Requests passed to the control plane.
    pub passed: Counter,
    /// Requests the control plane could not be reached for.
    pub pass_failed: Counter,
    /// Requests under way.
    pub underway: Gauge,
    /// Bytes of the body budget not taken.
    pub budget_left: Gauge,
    /// 1 while the channel of changes is open.
    pub changes_connected: Gauge,
    /// 1 while calls are counted together with other gateways.
    pub limits_shared: Gauge,
    /// 1 while the internal API answers.
    pub control_plane_up: Gauge,
    /// Claims and settlements whose reply was lost and asked again.
    pub replies_lost: Counter,
    /// Settlements not durable within the time the buyer is kept waiting.
    pub settle_late: Counter,
    /// Settlements given up when the lease had ended.
    pub settle_abandoned: Counter,
    /// Settlements that found the claim ended without them.
    pub settle_not_owner: Counter,
    /// Claims released because too little of the lease was left.
    pub lease_too_short: Counter,
    /// From arrival to the last byte of a gateway answer handed over.
    pub total: Histogram,
    /// Asking for the claim, until its answer.
    pub claim: Histogram,
    /// The seller's part.
    pub forward: Histogram,
    /// Asking for the settlement, until it is durable.
    pub settle: Histogram,
    /// Items of a batch.
    pub batch_items: Histogram,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("Metrics")
    }
}

/// Makes this process's metrics readable; call once, before [`Metrics::new`].
pub fn install() -> Result<PrometheusHandle, BuildError> {
    PrometheusBuilder::new()
        .set_buckets(&SECONDS)?
        .set_buckets_for_metric(
            metrics_exporter_prometheus::Matcher::Full("gateway_batch_items".into()),
            &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0],
        )?
        .install_recorder()
}

impl Metrics {
    /// Makes the handles with the recorder in force.
    pub fn new() -> Self {
        describe();
        let answer = |result: &'static str| counter!("gateway_answers_total", "result" => result);
        Self {
            codes: Code::ALL.iter().map(|code| answer(code.as_str())).collect(),
            delivered: answer("delivered"),
            replayed: answer("replayed"),
            pending: answer("pending"),
            tested: answer("tested"),
            preflight: answer("preflight"),
            passed: counter!("gateway_passed_total"),
            pass_failed: counter!("gateway_pass_failed_total"),
            underway: gauge!("gateway_underway"),
            budget_left: gauge!("gateway_body_budget_left_bytes"),
            changes_connected: gauge!("gateway_changes_connected"),
            limits_shared: gauge!("gateway_limits_shared"),
            control_plane_up: gauge!("gateway_control_plane_up"),
            replies_lost: counter!("gateway_replies_lost_total"),
            settle_late: counter!("gateway_settle_late_total"),
            settle_abandoned: counter!("gateway_settle_abandoned_total"),
            settle_not_owner: counter!("gateway_settle_not_owner_total"),
            lease_too_short: counter!("gateway_lease_too_short_total"),
            total: histogram!("gateway_call_seconds"),
            claim: histogram!("gateway_phase_seconds", "phase" => "claim"),
            forward: histogram!("gateway_phase_seconds", "phase" => "forward"),
            settle: histogram!("gateway_phase_seconds", "phase" => "settle"),
            batch_items: histogram!("gateway_batch_items"),
        }
    }

    /// Counts an answer.
    pub fn count(&self, kind: Kind) {
        match kind {
            Kind::Code(code) => {
                if let Some(counter) = self.codes.get(code as usize) {
                    counter.increment(1);
                }
            }
            Kind::Delivered => self.delivered.increment(1),
            Kind::Replayed => self.replayed.increment(1),
            Kind::Pending => self.pending.increment(1),
            Kind::Tested => self.tested.increment(1),
            Kind::Preflight => self.preflight.increment(1),
        }
    }

    /// Records how long a phase took.
    pub fn took(histogram: &Histogram, time: Duration) {
        histogram.record(time.as_secs_f64());
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn describe() {
    describe_counter!(
        "gateway_answers_total",
        "Answers of the gateway's own, by the contract's code or by outcome."
    );
    describe_counter!(
        "gateway_replies_lost_total",
        "Claims and settlements whose reply was lost and asked for again."
    );
    describe_counter!(
        "gateway_settle_abandoned_total",
        "Settlements given up after their lease. Each needs an operator's eye."
    );
    describe_gauge!(
        "gateway_changes_connected",
        "1 while changes are heard of through Redis."
    );
    describe_gauge!(
        "gateway_limits_shared",
        "1 while calls are counted together with other gateways, through Redis."
    );
    describe_gauge!(
        "gateway_control_plane_up",
        "1 while the internal API answers."
    );
}
