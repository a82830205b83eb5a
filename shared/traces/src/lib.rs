//! Traces of both services: which calls are followed, and how one service's part finds the other's.
//!
//! Off unless an endpoint is named, and then nothing here costs more than a look at whether it is. A
//! gateway call begins a trace, or does not, by chance ([`TraceArgs`]); what a client says of traces of
//! its own is not believed. Its questions to the control plane carry W3C's `traceparent`. A batch of
//! questions belongs to the trace of its first item that is followed, and links the others'.
//!
//! Spans name steps, ids of requests and statuses: no key, no body, no seller's URL, no address.

mod collector;
mod settings;

use std::future::Future;
use std::sync::OnceLock;

use http::HeaderMap;
use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{
    FutureExt as _, Link, Span as _, SpanContext, SpanKind, TraceContextExt as _, Tracer as _,
    TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{HeaderExtractor, HeaderInjector};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracer;
use serde::{Serialize, Serializer};

pub use collector::{Running, start};
pub use settings::{TraceArgs, Traced};

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Links of a batch, at most: as many as a batch has items.
const LINKS_MAX: usize = 64;

/// Where the current task stands, when it is followed.
fn current() -> Option<Context> {
    TRACER.get()?;
    let context = Context::current();
    context
        .span()
        .span_context()
        .is_sampled()
        .then_some(context)
}

/// A gateway call: a trace of its own, or none. `describe` tells of its end.
pub async fn call<T>(
    name: &'static str,
    request_id: impl FnOnce() -> String,
    work: impl Future<Output = T>,
    describe: impl FnOnce(&T) -> Vec<(&'static str, String)>,
) -> T {
    let Some(tracer) = TRACER.get() else {
        return work.await;
    };
    let builder = tracer.span_builder(name).with_kind(SpanKind::Server);
    let mut span = tracer.build_with_context(builder, &Context::new());
    if !span.span_context().is_sampled() {
        return work.await;
    }
    span.set_attribute(KeyValue::new("request.id", request_id()));
    let context = Context::new().with_span(span);
    let done = work.with_context(context.clone()).await;
    for (name, value) in describe(&done) {
        context.span().set_attribute(KeyValue::new(name, value));
    }
    context.span().end();
    done
}

/// A step of what is followed; else only what is done.
pub async fn step<T>(name: &'static str, kind: SpanKind, work: impl Future<Output = T>) -> T {
    let (Some(tracer), Some(parent)) = (TRACER.get(), current()) else {
        return work.await;
    };
    let builder = tracer.span_builder(name).with_kind(kind);
    let context = parent.with_span(tracer.build_with_context(builder, &parent));
    let done = work.with_context(context.clone()).await;
    context.span().end();
    done
}

pub use opentelemetry::trace::SpanKind as Kind;

/// An item of a batch, and whose trace asked for it. On the wire it is the item.
#[derive(Clone, Debug)]
pub struct Followed<I> {
    /// The item.
    pub item: I,
    by: Option<SpanContext>,
}

impl<I> Followed<I> {
    /// Asked for by the current task.
    pub fn by_current(item: I) -> Self {
        let by = current().map(|context| context.span().span_context().clone());
        Self { item, by }
    }
}

impl<I: Serialize> Serialize for Followed<I> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.item.serialize(to)
    }
}

/// A question on its way; it has ended when this is dropped.
#[derive(Debug)]
pub struct Asking(Context);

/// A question that the current task asks; none when it is not followed.
pub fn asking(name: &'static str) -> Option<Asking> {
    let parent = current()?;
    Some(ask(name, &parent, Vec::new()))
}

/// A batch of questions; none when none of its items is followed.
pub fn asking_all<I>(name: &'static str, batch: &[Followed<I>]) -> Option<Asking> {
    TRACER.get()?;
    let mut followed = batch.iter().filter_map(|item| item.by.clone());
    let parent = Context::new().with_remote_span_context(followed.next()?);
    let links = followed
        .take(LINKS_MAX)
        .map(|other| Link::new(other, Vec::new(), 0))
        .collect();
    Some(ask(name, &parent, links))
}

fn ask(name: &'static str, parent: &Context, links: Vec<Link>) -> Asking {
    let Some(tracer) = TRACER.get() else {
        return Asking(Context::new());
    };
    let builder = tracer
        .span_builder(name)
        .with_kind(SpanKind::Client)
        .with_links(links);
    Asking(parent.with_span(tracer.build_with_context(builder, parent)))
}

impl Asking {
    /// Says in the question's head whose it is.
    pub fn say(&self, headers: &mut HeaderMap) {
        let propagator = TraceContextPropagator::new();
        propagator.inject_context(&self.0, &mut HeaderInjector(headers));
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.span().end();
    }
}

/// Answers a question whose head may say that it is followed. Only for questions of our own services:
/// whoever is believed here decides what is sent.
pub async fn answering<T>(
    name: &'static str,
    headers: &HeaderMap,
    work: impl Future<Output = T>,
) -> T {
    let Some(tracer) = TRACER.get() else {
        return work.await;
    };
    let propagator = TraceContextPropagator::new();
    let parent = propagator.extract_with_context(&Context::new(), &HeaderExtractor(headers));
    if !parent.span().span_context().is_sampled() {
        return work.await;
    }
    let builder = tracer.span_builder(name).with_kind(SpanKind::Server);
    let context = parent.with_span(tracer.build_with_context(builder, &parent));
    let done = work.with_context(context.clone()).await;
    context.span().end();
    done
}

/// Makes the tracer that everything here asks; a second one is refused.
fn install(provider: &opentelemetry_sdk::trace::SdkTracerProvider) -> anyhow::Result<()> {
    let tracer = provider.tracer("crochet");
    TRACER
        .set(tracer)
        .map_err(|_| anyhow::anyhow!("traces are on already"))
}
