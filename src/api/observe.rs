//! The layer around everything: each request gets a name and a span, is counted, and leaves one line in the log.
//!
//! The name is the client's `X-Request-Id` where that is sane, else a new one. It goes back in the answer, and stands
//! in problems, in the log, in the audit log and in the span. A `traceparent` of the client is taken over (W3C Trace
//! Context), so that its trace goes on here, and with whomever is asked on its behalf.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use opentelemetry::context::FutureExt as _;
use opentelemetry_http::HeaderExtractor;
use tracing::Instrument as _;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use super::App;
use crate::control::correlation;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longer names are not taken over.
const ID_BYTES: usize = 128;

/// Names, counts and follows the request.
pub(super) async fn observe(State(app): State<App>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let _under_way = app.metrics.begin();
    let id = id(request.headers());
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map(MatchedPath::as_str);
    let span = tracing::info_span!(
        target: "debvisor::request",
        "request",
        id = &*id,
        otel.name = format!("{method} {}", route.unwrap_or("unmatched")),
        otel.kind = "server",
        http.request.method = %method,
        http.route = route,
        http.response.status_code = tracing::field::Empty,
    );
    let parent =
        opentelemetry::global::get_text_map_propagator(|taken| taken.extract(&HeaderExtractor(request.headers())));
    // Without a collector nothing follows the span, and the trace is passed on as it came.
    let _ = span.set_parent(parent.clone());
    let answer = correlation::within(id.clone(), next.run(request)).with_context(parent).instrument(span.clone());
    let mut response = answer.await;
    let (status, took) = (response.status(), began.elapsed());
    span.record("http.response.status_code", status.as_u16());
    app.metrics.answered(route, &method, status, took);
    span.in_scope(|| {
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(target: "debvisor::access", %method, route, status = status.as_u16(), took_ms, "answered");
    });
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// The client's name for the request, where it is a plain word; else one of ours.
fn id(headers: &HeaderMap) -> Arc<str> {
    let said = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let sane = |said: &&str| {
        (1..=ID_BYTES).contains(&said.len())
            && said.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    };
    said.filter(sane).map_or_else(|| uuid::Uuid::now_v7().to_string().into(), Arc::from)
}
