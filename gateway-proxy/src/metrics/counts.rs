//! Counts that other rooms hold: of a cache, a batch, Redis, the internal API.

use std::time::Duration;

use crochet_shared::metric::Metric;
use metrics::{Counter, Gauge, Histogram, Label, counter, gauge, histogram};

use super::names;
use crate::adapter::batch::Unanswered;

/// What the internal API is asked, as labels and in the order of [`InternalCall`].
pub(crate) const INTERNAL_CALLS: [&str; 10] = [
    "keys",
    "routes",
    "quotes",
    "quotes_create",
    "claims",
    "check",
    "settlements",
    "answers",
    "probes",
    "keys_used",
];

/// What the internal API is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as the routes of the internal API are")]
pub enum InternalCall {
    Keys,
    Routes,
    Quotes,
    CreateQuote,
    Claims,
    Check,
    Settlements,
    Answers,
    Probes,
    KeysUsed,
}

/// One cache's counts.
#[derive(Debug)]
#[expect(missing_docs, reason = "named as the labels are")]
pub struct CacheCounts {
    pub hit: Counter,
    pub stale: Counter,
    pub miss: Counter,
    pub from_redis: Counter,
    pub from_control_plane: Counter,
    /// Changes heard of.
    pub changed: Counter,
}

/// A batch's counts.
#[derive(Clone, Debug)]
pub struct BatchCounts {
    /// Items of a batch that leaves.
    pub items: Histogram,
    /// Items refused.
    pub full: Counter,
}

/// What became of what Redis was asked.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "named as the labels are")]
pub struct RedisCounts {
    pub answered: Counter,
    pub failed: Counter,
    pub left_alone: Counter,
}

/// What became of one kind of internal call.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "named as the labels are")]
pub struct InternalCounts {
    pub answered: Counter,
    pub unreachable: Counter,
    pub lost: Counter,
    pub failed: Counter,
    pub seconds: Histogram,
}

impl CacheCounts {
    pub(super) fn new(cache: &'static str) -> Self {
        let read = |result| count(&names::CACHE_READS, &[("cache", cache), ("result", result)]);
        let fetched = |from| count(&names::CACHE_FETCHES, &[("cache", cache), ("from", from)]);
        Self {
            hit: read("hit"),
            stale: read("stale"),
            miss: read("miss"),
            from_redis: fetched("redis"),
            from_control_plane: fetched("control_plane"),
            changed: count(&names::CHANGES, &[("cache", cache)]),
        }
    }

    /// Nothing believable stood here; whether something older did.
    pub fn missed(&self, was_known: bool) {
        if was_known {
            self.stale.increment(1);
        } else {
            self.miss.increment(1);
        }
    }
}

impl BatchCounts {
    pub(super) fn new(kind: &'static str) -> Self {
        Self {
            items: timer(&names::BATCH, &[("kind", kind)]),
            full: count(&names::QUEUE_FULL, &[("kind", kind)]),
        }
    }

    /// Counts nothing.
    #[cfg(test)]
    pub(crate) const fn noop() -> Self {
        Self {
            items: Histogram::noop(),
            full: Counter::noop(),
        }
    }
}

impl RedisCounts {
    pub(super) fn new(command: &'static str) -> Self {
        let asked = |result| {
            let labels = [("command", command), ("result", result)];
            count(&names::REDIS, &labels)
        };
        Self {
            answered: asked("answered"),
            failed: asked("failed"),
            left_alone: asked("left_alone"),
        }
    }

    /// Counts what was asked, and whether it was answered.
    pub fn count(&self, answered: bool) {
        if answered {
            self.answered.increment(1);
        } else {
            self.failed.increment(1);
        }
    }
}

impl InternalCounts {
    pub(super) fn new(call: &'static str) -> Self {
        let asked = |result| count(&names::INTERNAL, &[("call", call), ("result", result)]);
        Self {
            answered: asked("answered"),
            unreachable: asked("unreachable"),
            lost: asked("lost"),
            failed: asked("failed"),
            seconds: timer(&names::INTERNAL_SECONDS, &[("call", call)]),
        }
    }

    /// Counts how a call ended and how long it took.
    pub fn count<T>(&self, answered: &Result<T, Unanswered>, took: Duration) {
        self.seconds.record(took.as_secs_f64());
        match answered {
            Ok(_) => &self.answered,
            Err(Unanswered::Unreachable) => &self.unreachable,
            Err(Unanswered::Lost) => &self.lost,
            Err(Unanswered::Failed | Unanswered::Full) => &self.failed,
        }
        .increment(1);
    }
}

fn labels(of: &[(&'static str, &'static str)]) -> Vec<Label> {
    of.iter()
        .map(|(name, value)| Label::from_static_parts(name, value))
        .collect()
}

pub(super) fn count(metric: &Metric, of: &[(&'static str, &'static str)]) -> Counter {
    counter!(metric.name, labels(of))
}

pub(super) fn level(metric: &Metric, of: &[(&'static str, &'static str)]) -> Gauge {
    gauge!(metric.name, labels(of))
}

pub(super) fn timer(metric: &Metric, of: &[(&'static str, &'static str)]) -> Histogram {
    histogram!(metric.name, labels(of))
}
