//! One POST of JSON to an address of the user's own, authenticated where there is a secret.
//!
//! The header `X-DebVisor-Signature-256: sha256=HEX` is HMAC-SHA-256 (RFC 2104) of the body, as GitHub signs its own.

use std::time::Duration;

use aws_lc_rs::hmac;
use url::Url;

use super::answer::{ServiceError, fetch};

/// Posts the body.
///
/// # Errors
/// [`ServiceError`]; one that is meant for a secret over an address in the clear is not made.
pub async fn post(url: &Url, body: &[u8], secret: Option<&[u8]>, timeout: Duration) -> Result<(), ServiceError> {
    let service = "the webhook";
    let unreachable = |cause| ServiceError::Unreachable { service: service.to_owned(), cause };
    let client = super::service(timeout).map_err(unreachable)?;
    let mut request = client.post(url.clone()).header("content-type", "application/json").body(body.to_vec());
    if let Some(secret) = secret {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), body);
        request = request.header("x-debvisor-signature-256", format!("sha256={}", hex::encode(tag)));
    }
    fetch(service, request).await.map(drop)
}
