//! The log of a server, on stderr, and its traces, to a collector where the configuration names one.
//!
//! Traces go in batches by a thread of their own, out of a queue with an end: when the collector is slow or gone,
//! spans are dropped, and no request waits for it.

use std::future::Future;
use std::io::IsTerminal as _;
use std::pin::Pin;
use std::time::Duration;

use anyhow::Context as _;
use axum::body::Bytes;
use axum::http::{Request, Response};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider};
use tokio::runtime::Handle;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::cli::Context;
use crate::config::{LogConfig, LogFormat, TelemetryConfig};

/// Spans that wait for the collector; further ones are dropped.
const QUEUE: usize = 2_048;
/// How often they are sent.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long the collector may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is sent to the collector, until the end.
pub(super) struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// From here on there is a log; and traces, where a collector is named.
    pub(super) fn start(
        log: &LogConfig,
        telemetry: &TelemetryConfig,
        context: &Context,
        runtime: &Handle,
    ) -> anyhow::Result<Self> {
        // Also where nothing is sent from here: who is asked on behalf of a request may have a collector.
        opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
        // A line of the log names the request that it is about, whatever else is logged.
        let logged = EnvFilter::try_new(format!("{},debvisor::request=info", log.filter)).unwrap_or_default();
        let line = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        let line = match log.format {
            LogFormat::Text => line.with_ansi(std::io::stderr().is_terminal() && !context.environment.no_color).boxed(),
            LogFormat::Json => line.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed(),
        };
        let provider = match &telemetry.otlp_endpoint {
            None => None,
            Some(endpoint) => Some(provider(endpoint, &telemetry.service_name, runtime)?),
        };
        let traced = provider.as_ref().map(|provider| {
            let tracer = provider.tracer("debvisor");
            tracing_opentelemetry::layer().with_tracer(tracer).with_filter(EnvFilter::new("debvisor=info"))
        });
        tracing_subscriber::registry().with(line.with_filter(logged)).with(traced).init();
        Ok(Self { provider })
    }

    /// Sends what waits.
    pub(super) fn end(self) {
        if let Some(provider) = self.provider {
            // A collector that is gone is not waited for.
            let _ = provider.shutdown_with_timeout(PATIENCE);
        }
    }
}

fn provider(endpoint: &str, service: &str, runtime: &Handle) -> anyhow::Result<SdkTracerProvider> {
    let http = {
        let _inside = runtime.enter();
        reqwest::Client::builder().timeout(PATIENCE).build().context("cannot make a client for traces")?
    };
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Posting { http, runtime: runtime.clone() })
        .with_endpoint(endpoint)
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(PATIENCE)
        .build()
        .context("cannot send traces")?;
    let batches = BatchConfigBuilder::default().with_max_queue_size(QUEUE).with_scheduled_delay(INTERVAL).build();
    let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
    let resource = Resource::builder().with_service_name(service.to_owned()).build();
    Ok(SdkTracerProvider::builder().with_span_processor(processor).with_resource(resource).build())
}

/// The way to the collector: the thread that sends has no runtime of its own, so the server's does it.
#[derive(Debug)]
struct Posting {
    http: reqwest::Client,
    runtime: Handle,
}

impl HttpClient for Posting {
    fn send_bytes<'client, 'sent>(
        &'client self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'sent>>
    where
        'client: 'sent,
        Self: 'sent,
    {
        let http = self.http.clone();
        let sent = self.runtime.spawn(async move {
            let answer = http.execute(reqwest::Request::try_from(request)?).await?;
            let mut response = Response::builder().status(answer.status());
            if let Some(headers) = response.headers_mut() {
                headers.extend(answer.headers().clone());
            }
            Ok::<_, HttpError>(response.body(answer.bytes().await?)?)
        });
        Box::pin(async move { sent.await? })
    }
}
