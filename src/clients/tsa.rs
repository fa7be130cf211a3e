//! A timestamp authority: a digest in, its signed answer out.
//!
//! Source: RFC 3161 sections 2.4 and 3.4. The answer is not looked into here.

use std::time::Duration;

use const_oid::ObjectIdentifier;
use const_oid::db::rfc5912::ID_SHA_256;
use der::asn1::{Null, OctetString, Uint};
use der::{Encode as _, Sequence};
use url::Url;

use super::answer::{ServiceError, fetch};
use crate::types::Digest;

/// A timestamp authority.
#[derive(Debug, Clone)]
pub struct TimestampAuthority {
    url: Url,
    client: reqwest::Client,
}

#[derive(Sequence)]
struct Request {
    version: u8,
    imprint: Imprint,
    nonce: Uint,
    certificate: bool,
}

#[derive(Sequence)]
struct Imprint {
    algorithm: Algorithm,
    digest: OctetString,
}

#[derive(Sequence)]
struct Algorithm {
    oid: ObjectIdentifier,
    parameters: Null,
}

impl TimestampAuthority {
    /// The authority at this address, and how long an exchange with it may take.
    ///
    /// # Errors
    /// Where no HTTP client can be made.
    pub fn new(url: Url, timeout: Duration) -> reqwest::Result<Self> {
        Ok(Self { url, client: super::service(timeout)? })
    }

    /// Asks for a timestamp over a SHA-256 digest. `nonce` is random and ties the answer to this question; that the
    /// answer has it is for the caller to see.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn timestamp(&self, digest: &Digest, nonce: [u8; 8]) -> Result<Vec<u8>, ServiceError> {
        let service = format!("the timestamp authority {}", self.url);
        let encode = || -> Result<Vec<u8>, der::Error> {
            Request {
                version: 1,
                imprint: Imprint {
                    algorithm: Algorithm { oid: ID_SHA_256, parameters: Null },
                    digest: OctetString::new(digest.as_bytes())?,
                },
                nonce: Uint::new(&nonce)?,
                certificate: true,
            }
            .to_der()
        };
        let body = encode().map_err(|error| ServiceError::malformed(&service, error.to_string()))?;
        let request =
            self.client.post(self.url.clone()).header("Content-Type", "application/timestamp-query").body(body);
        fetch(&service, request).await
    }
}
