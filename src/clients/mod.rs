//! Outbound calls. They return wire structs, never judgments.

use std::time::Duration;

pub mod answer;
pub mod fulcio;
pub mod oidc;
pub mod rekor;
pub mod tsa;
pub mod tuf;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server may be silent in the middle of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(20);
/// Redirects that are followed; a content delivery network needs one or two.
const REDIRECTS: usize = 5;

/// The one HTTP client: rustls with aws-lc-rs, the system's authorities and, where an image has none, Mozilla's.
fn http() -> reqwest::Result<reqwest::Client> {
    // Fails only where a provider is installed already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let authorities = webpki_root_certs::TLS_SERVER_ROOT_CERTS
        .iter()
        .map(|der| reqwest::Certificate::from_der(der))
        .collect::<reqwest::Result<Vec<_>>>()?;
    reqwest::Client::builder()
        .user_agent(concat!("debvisor/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .redirect(reqwest::redirect::Policy::limited(REDIRECTS))
        .tls_certs_merge(authorities)
        .build()
}

/// An address below another one, whether or not that ends in a slash.
fn below(base: &url::Url, path: &str) -> url::Url {
    let mut url = base.clone();
    let joined = format!("{}/{path}", base.path().trim_end_matches('/'));
    url.set_path(&joined);
    url
}
