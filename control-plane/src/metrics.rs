//! Metrics: one recorder a process, shown on the admin listener.
//!
//! [`names`] is the list. Gauges that need no question to anybody are set when somebody looks
//! ([`Shown`]); those that need Postgres or Redis by background work.

#[expect(missing_docs, reason = "each says what it is in its own sentence")]
pub mod names;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use crochet_shared::metric::{Kind, Metric};
use metrics::{Label, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;

use crate::app::App;

/// Upper bounds of every duration histogram, in seconds.
const SECONDS: [f64; 14] = [
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];
/// Of what waits for people and for retries: from a second to a day.
const LONG_SECONDS: [f64; 10] = [
    0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1_800.0, 7_200.0, 86_400.0,
];
/// Upper bounds of the buckets of a batch's size.
const ITEMS: [f64; 7] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];
/// How often the recorder tidies its histograms.
const UPKEEP_SECONDS: u64 = 5;

fn recorder() -> Result<PrometheusBuilder, BuildError> {
    let full = |metric: Metric| Matcher::Full(metric.name.to_owned());
    PrometheusBuilder::new()
        .set_buckets(&SECONDS)?
        .set_buckets_for_metric(full(names::INTERNAL_BATCH), &ITEMS)?
        .set_buckets_for_metric(full(names::SETTLEMENT_LAG), &LONG_SECONDS)
}

/// Installs the recorder and keeps it tidy. Call once, inside the runtime.
pub fn install() -> anyhow::Result<PrometheusHandle> {
    let handle = recorder()?.install_recorder()?;
    describe();
    let upkeep = handle.clone();
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_secs(UPKEEP_SECONDS));
        loop {
            ticks.tick().await;
            upkeep.run_upkeep();
        }
    });
    Ok(handle)
}

/// Says what each metric is, and lets every series whose labels are known stand at zero: the first
/// of anything is then an increase.
fn describe() {
    for metric in &names::ALL {
        match metric.kind {
            Kind::Counter => describe_counter!(metric.name, metric.says),
            Kind::Gauge => describe_gauge!(metric.name, metric.says),
            Kind::Histogram => describe_histogram!(metric.name, metric.says),
        }
        for series in metric.series() {
            let labels: Vec<Label> = series
                .into_iter()
                .map(|(name, value)| Label::from_static_parts(name, value))
                .collect();
            match metric.kind {
                Kind::Counter => drop(metrics::counter!(metric.name, labels)),
                Kind::Gauge => drop(metrics::gauge!(metric.name, labels)),
                Kind::Histogram => drop(metrics::histogram!(metric.name, labels)),
            }
        }
    }
    Collector::default().describe();
}

/// What the admin listener shows.
#[derive(Clone)]
pub struct Shown {
    app: Arc<App>,
    scrape: PrometheusHandle,
    process: Arc<Collector>,
}

impl std::fmt::Debug for Shown {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("Shown")
    }
}

impl Shown {
    /// Of this process.
    pub fn new(app: Arc<App>, scrape: PrometheusHandle) -> Self {
        Self {
            app,
            scrape,
            process: Arc::default(),
        }
    }

    /// Sets the gauges that are read off something here, and gives the text of them all.
    pub fn render(&self) -> String {
        for (name, pool) in [
            ("main", self.app.db.pool()),
            ("browsing", self.app.db.browsing()),
            ("calling", self.app.db.calling()),
        ] {
            let idle = pool.num_idle();
            let used = usize::try_from(pool.size())
                .unwrap_or(0)
                .saturating_sub(idle);
            for (state, connections) in [("idle", idle), ("used", used)] {
                metrics::gauge!(names::DB_CONNECTIONS.name, "pool" => name, "state" => state)
                    .set(as_f64(connections));
            }
            let most = pool.options().get_max_connections();
            metrics::gauge!(names::DB_MAX.name, "pool" => name).set(f64::from(most));
        }
        let waiting = self.app.payments.checks_waiting();
        metrics::gauge!(names::CHECKS_WAITING.name).set(as_f64(waiting));
        let up = self.app.relay.is_healthy();
        metrics::gauge!(names::RELAY_UP.name).set(f64::from(u8::from(up)));
        self.process.collect();
        self.scrape.render()
    }
}

/// Counts a turn of background work.
pub fn worked(work: &'static str, done: bool) {
    let result = if done { "done" } else { "failed" };
    metrics::counter!(names::BACKGROUND.name, "work" => work, "result" => result).increment(1);
    if done {
        let now = crochet_shared::clock::now().timestamp();
        metrics::gauge!(names::BACKGROUND_DONE.name, "work" => work)
            .set(f64::from(u32::try_from(now).unwrap_or(u32::MAX)));
    }
}

/// A count as a gauge takes it; exact as far as counts go.
pub fn as_f64(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::from(u32::MAX), f64::from)
}
