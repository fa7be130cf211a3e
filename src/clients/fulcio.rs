//! Fulcio: a key's request and an identity token in, a certificate out.
//!
//! Source: Fulcio's API v2, `CreateSigningCertificate`.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::answer::{ServiceError, fetch};

/// A Fulcio instance.
#[derive(Debug, Clone)]
pub struct Fulcio {
    url: Url,
    client: reqwest::Client,
}

impl Fulcio {
    /// The instance at this address, and how long an exchange with it may take.
    ///
    /// # Errors
    /// Where no HTTP client can be made.
    pub fn new(url: Url, timeout: Duration) -> reqwest::Result<Self> {
        Ok(Self { url, client: super::service(timeout)? })
    }

    /// Asks for a certificate. `request` is a PKCS #10 request in PEM; the answer is the chain in PEM, the leaf first.
    ///
    /// # Errors
    /// [`ServiceError`]; a token that Fulcio does not accept is [`ServiceError::Refused`], and an address that is not
    /// safe for one [`ServiceError::Insecure`].
    pub async fn certificate(&self, token: &str, request: &str) -> Result<Vec<String>, ServiceError> {
        let service = format!("the certificate authority {}", self.url);
        if !super::is_private(&self.url) {
            return Err(ServiceError::Insecure { service });
        }
        let body = json!({
            "credentials": {"oidcIdentityToken": token},
            "certificateSigningRequest": STANDARD.encode(request),
        });
        let url = super::below(&self.url, "api/v2/signingCert");
        let answer = fetch(&service, self.client.post(url).json(&body)).await?;
        let answer: Answer =
            serde_json::from_slice(&answer).map_err(|error| ServiceError::malformed(&service, error.to_string()))?;
        let chain = answer
            .signed_certificate_embedded_sct
            .ok_or_else(|| ServiceError::malformed(&service, "it holds no certificate with its timestamp inside"))?;
        Ok(chain.chain.certificates)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    #[serde(default)]
    signed_certificate_embedded_sct: Option<Chained>,
}

#[derive(Deserialize)]
struct Chained {
    chain: Chain,
}

#[derive(Deserialize)]
struct Chain {
    certificates: Vec<String>,
}
