//! Where spans go: to a collector, in batches, from a thread of their own.
//!
//! What waits is bounded and given up when the collector is slow or away; nobody's call waits for it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider,
};

use crate::settings::Traced;

/// Spans that wait to be sent; more are given up.
const WAITING_MAX: usize = 4096;
/// Spans of one message.
const BATCH_MAX: usize = 512;
const SEND_EVERY: Duration = Duration::from_secs(2);
const SEND_TIME: Duration = Duration::from_secs(5);
/// How long what waits may take to leave at the end.
const END_TIME: Duration = Duration::from_secs(2);
/// Largest answer of a collector that is read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Traces that are made, until this is ended.
#[derive(Debug)]
pub struct Running(Option<SdkTracerProvider>);

/// Begins to make traces of this service, where they are wanted. Once a process.
pub fn start(service: &'static str, traced: Option<&Traced>) -> anyhow::Result<Running> {
    let Some(traced) = traced else {
        return Ok(Running(None));
    };
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Collector::new()?)
        .with_endpoint(traced.url.to_string())
        .with_timeout(SEND_TIME)
        .build()
        .context("the exporter of traces")?;
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(WAITING_MAX)
        .with_max_export_batch_size(BATCH_MAX)
        .with_scheduled_delay(SEND_EVERY)
        .build();
    let processor = BatchSpanProcessor::builder(exporter)
        .with_batch_config(batches)
        .build();
    let share = Sampler::TraceIdRatioBased(traced.share);
    let provider = SdkTracerProvider::builder()
        .with_span_processor(processor)
        .with_sampler(Sampler::ParentBased(Box::new(share)))
        .with_resource(Resource::builder().with_service_name(service).build())
        .build();
    crate::install(&provider)?;
    tracing::info!(share = traced.share, "traces are sent");
    Ok(Running(Some(provider)))
}

impl Running {
    /// Sends what waits, for a moment.
    pub fn end(self) {
        if let Some(provider) = self.0
            && let Err(error) = provider.shutdown_with_timeout(END_TIME)
        {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

/// The collector, spoken to with the client that the services have anyway. The thread that sends is no
/// runtime's, so that this brings a small one.
#[derive(Debug)]
struct Collector {
    runtime: tokio::runtime::Runtime,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Collector {
    fn new() -> anyhow::Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Self {
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?,
            client: Client::builder(TokioExecutor::new()).build(connector),
        })
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let request = request.map(Full::new);
        let exchange = async {
            let (head, body) = self.client.request(request).await?.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await?;
            Ok::<_, HttpError>(Response::from_parts(head, body.to_bytes()))
        };
        self.runtime
            .block_on(async { tokio::time::timeout(SEND_TIME, exchange).await })?
    }
}
