//! The identity token that GitHub Actions gives to a job that may ask for one.
//!
//! Source: docs.github.com, "OpenID Connect reference". The token's claims are not judged here.

use std::time::Duration;

use serde::Deserialize;
use url::Url;

use super::answer::{ServiceError, fetch};

/// Asks GitHub Actions for a token for this audience. `url` and `secret` are the job's own.
///
/// # Errors
/// [`ServiceError`].
pub async fn github_token(url: Url, secret: &str, audience: &str, timeout: Duration) -> Result<String, ServiceError> {
    #[derive(Deserialize)]
    struct Answer {
        value: String,
    }
    let service = "GitHub's token service";
    if !super::is_private(&url) {
        return Err(ServiceError::Insecure { service: service.to_owned() });
    }
    let client =
        super::service(timeout).map_err(|cause| ServiceError::Unreachable { service: service.to_owned(), cause })?;
    let mut url = url;
    url.query_pairs_mut().append_pair("audience", audience);
    let answer = fetch(service, client.get(url).bearer_auth(secret)).await?;
    // The answer itself is a secret: what is wrong with it is not repeated.
    let answer: Answer =
        serde_json::from_slice(&answer).map_err(|_| ServiceError::malformed(service, "it holds no token"))?;
    Ok(answer.value)
}
