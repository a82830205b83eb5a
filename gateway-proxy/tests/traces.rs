//! Traces of a paid call, as a collector receives them.

use std::collections::BTreeMap;

use crochet_dev::Role;
use demo_agent::Method;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::json;

use crate::harness::{Market, Reply, Service, World, hex, trials, until};

trials!(a_paid_call_is_one_trace_through_both_services);

/// Somebody else's trace, sampled.
const FOREIGN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

async fn a_paid_call_is_one_trace_through_both_services() {
    let collector = Service::start().await;
    collector.usually(Reply::status(200, ""));
    let endpoint = format!("http://127.0.0.1:{}", collector.port());
    let world = World::own("traces", |options| {
        options
            .set("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)
            .and_then(|options| options.set("OTEL_TRACES_SAMPLER_ARG", "1"))
            .unwrap()
    })
    .await;
    let market = Market::within(&world.door, json!({})).await;
    let call = market.call();
    let quote = market.evidenced(&call).await;
    let path = format!("/gateway/{}", call.listing);
    let headers = [
        (
            "x-crochet-relay-request-id",
            quote.relay_request_id.as_str(),
        ),
        ("x-request-id", "traced-call-1"),
        ("traceparent", FOREIGN),
    ];
    let body = Some(call.body.clone());
    let answer = market.buyer.send(Method::POST, &path, &headers, body).await;
    assert_eq!(answer.unwrap().status, 200);

    let spans = until("the whole trace is received", || async {
        let spans = received(&collector);
        let call = spans.iter().find(|span| {
            span.name == "gateway call" && span.says("request.id") == Some("traced-call-1")
        })?;
        let trace: Vec<Received> = spans
            .iter()
            .filter(|span| span.trace == call.trace)
            .cloned()
            .collect();
        let is_whole = |name: &str| trace.iter().filter(|span| span.name == name).count() == 2;
        (is_whole("claims") && is_whole("settlements")).then_some(trace)
    })
    .await;
    // One root, which is the gateway's; each question of its own, and the answer to it in the other service.
    let call = spans
        .iter()
        .find(|span| span.name == "gateway call")
        .unwrap();
    assert_eq!((call.parent.as_str(), call.service.as_str()), ("", GATEWAY));
    assert_eq!(
        call.says("crochet.request_id"),
        Some(quote.request_id.as_str())
    );
    assert_eq!(call.says("http.response.status_code"), Some("200"));
    for name in ["claims", "settlements"] {
        let of = |service: &str| {
            let mut found = spans.iter().filter(|span| span.name == name);
            found.find(|span| span.service == service).unwrap()
        };
        assert_eq!(of(GATEWAY).parent, call.id, "{name} is asked by the call");
        assert_eq!(of(CONTROL_PLANE).parent, of(GATEWAY).id, "{name}");
    }
    let seller = spans.iter().find(|span| span.name == "seller").unwrap();
    assert_eq!(
        (seller.parent.as_str(), seller.service.as_str()),
        (call.id.as_str(), GATEWAY)
    );
    // Who calls does not decide what is traced, nor under which name; and no secret goes to the collector.
    assert!(!FOREIGN.contains(&call.trace));
    let sent = collector.arrivals();
    for secret in [&market.buyer.key, &market.seller.key, &market.service.url()] {
        let is_told = |bytes: &[u8]| {
            let secret = secret.as_bytes();
            bytes.windows(secret.len()).any(|window| window == secret)
        };
        assert!(!sent.iter().any(|arrival| is_told(&arrival.request.body)));
    }
    let ended = world.log_of(Role::Gateway(0));
    assert!(ended.contains("traces are sent"));
    world.close().await;
}

const GATEWAY: &str = "crochet-gateway";
const CONTROL_PLANE: &str = "crochet-control-plane";

/// A span, as far as it is looked at.
#[derive(Clone, Debug)]
struct Received {
    service: String,
    name: String,
    trace: String,
    id: String,
    parent: String,
    says: BTreeMap<String, String>,
}

impl Received {
    fn says(&self, name: &str) -> Option<&str> {
        self.says.get(name).map(String::as_str)
    }
}

fn received(collector: &Service) -> Vec<Received> {
    let mut found = Vec::new();
    for arrival in collector.arrivals() {
        let message = ExportTraceServiceRequest::decode(&arrival.request.body[..]).unwrap();
        for of_one in message.resource_spans {
            let resource = of_one.resource.unwrap();
            let service = texts(&resource.attributes)["service.name"].clone();
            let spans = of_one.scope_spans.into_iter().flat_map(|scope| scope.spans);
            found.extend(spans.map(|span| read(&service, &span)));
        }
    }
    found
}

fn read(service: &str, span: &Span) -> Received {
    Received {
        service: service.to_owned(),
        name: span.name.clone(),
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        says: texts(&span.attributes),
    }
}

fn texts(
    attributes: &[opentelemetry_proto::tonic::common::v1::KeyValue],
) -> BTreeMap<String, String> {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    attributes
        .iter()
        .filter_map(|attribute| {
            let value = attribute.value.as_ref()?.value.as_ref()?;
            let Value::StringValue(text) = value else {
                return None;
            };
            Some((attribute.key.clone(), text.clone()))
        })
        .collect()
}
