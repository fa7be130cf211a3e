//! Outbound calls. They return wire structs, never judgments.
//! A call that is made for a request of the control plane carries on the trace that this is a part of.

use std::time::Duration;

use opentelemetry::trace::TraceContextExt as _;
use opentelemetry_http::HeaderInjector;
use reqwest::RequestBuilder;
use reqwest::header::HeaderMap;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

pub mod answer;
pub mod fulcio;
pub mod github;
pub mod oidc;
pub mod openid;
pub mod registry;
pub mod rekor;
pub mod tsa;
pub mod tuf;
pub mod webhook;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a file server may be silent in the middle of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(20);
/// Redirects that are followed; a content delivery network needs one or two.
const REDIRECTS: usize = 5;

/// The client for files that anybody may fetch.
fn http() -> reqwest::Result<reqwest::Client> {
    builder()?.read_timeout(READ_TIMEOUT).redirect(reqwest::redirect::Policy::limited(REDIRECTS)).build()
}

/// The client for signing services, with a bound on the whole exchange. None of them redirects, and a token or a
/// signature that was sent to one must go nowhere else.
fn service(timeout: Duration) -> reqwest::Result<reqwest::Client> {
    builder()?.redirect(reqwest::redirect::Policy::none()).timeout(timeout).build()
}

/// The same with `traceparent` (W3C Trace Context): of the span that it is made in, where spans are followed; else as
/// whoever asked us sent it. Nothing where there is neither.
fn traced(request: RequestBuilder) -> RequestBuilder {
    let mut context = tracing::Span::current().context();
    if !context.span().span_context().is_valid() {
        context = opentelemetry::Context::current();
    }
    let mut headers = HeaderMap::new();
    opentelemetry::global::get_text_map_propagator(|taken| {
        taken.inject_context(&context, &mut HeaderInjector(&mut headers));
    });
    request.headers(headers)
}

/// Whether a secret that is sent to this address stays one: it goes through TLS, or never leaves this machine.
fn is_private(url: &url::Url) -> bool {
    url.scheme() == "https" || is_loopback(url)
}

/// Whether an address is on this very machine.
fn is_loopback(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// What every client has: rustls with aws-lc-rs, the system's authorities and, where an image has none, Mozilla's.
fn builder() -> reqwest::Result<reqwest::ClientBuilder> {
    // Fails only where a provider is installed already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let authorities = webpki_root_certs::TLS_SERVER_ROOT_CERTS
        .iter()
        .map(|der| reqwest::Certificate::from_der(der))
        .collect::<reqwest::Result<Vec<_>>>()?;
    Ok(reqwest::Client::builder()
        .user_agent(concat!("debvisor/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .tls_certs_merge(authorities))
}

/// An address below another one, whether or not that ends in a slash.
fn below(base: &url::Url, path: &str) -> url::Url {
    let mut url = base.clone();
    let joined = format!("{}/{path}", base.path().trim_end_matches('/'));
    url.set_path(&joined);
    url
}
