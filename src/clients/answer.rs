//! One HTTP exchange with a bound on the answer: what every client of a signing service needs.
//! Errors name the service and carry no token.

use reqwest::{RequestBuilder, StatusCode};

/// Why a service gave no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// No connection, a broken one, or no answer in time.
    #[error("cannot reach {service}")]
    Unreachable {
        /// Whom we asked.
        service: String,
        /// What went wrong below.
        #[source]
        cause: reqwest::Error,
    },
    /// The service said no.
    #[error("{service} answered {status}{}{message}", if message.is_empty() { "" } else { ": " })]
    Refused {
        /// Whom we asked.
        service: String,
        /// The status.
        status: StatusCode,
        /// The beginning of what it said.
        message: String,
        /// Where it says that the answer is instead.
        location: Option<String>,
    },
    /// The address would carry a secret in the clear.
    #[error("{service} would be sent a token in the clear")]
    Insecure {
        /// Whom we did not ask.
        service: String,
    },
    /// The answer has not the form that the service's interface promises.
    #[error("{service} gave an answer that makes no sense: {message}")]
    Malformed {
        /// Whom we asked.
        service: String,
        /// What is wrong with it.
        message: String,
    },
}

impl ServiceError {
    /// An answer that makes no sense.
    pub fn malformed(service: &str, message: impl Into<String>) -> Self {
        Self::Malformed { service: service.to_owned(), message: message.into() }
    }
}

/// Answers of signing services are some kilobytes.
const ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// So much of a refusal is repeated to the user.
const MESSAGE_CHARS: usize = 300;

/// Sends the request and reads the whole answer, or says why there is none.
///
/// # Errors
/// [`ServiceError`].
pub async fn fetch(service: &str, request: RequestBuilder) -> Result<Vec<u8>, ServiceError> {
    let unreachable = |cause: reqwest::Error| ServiceError::Unreachable {
        service: service.to_owned(),
        // The address may carry a token in its query.
        cause: cause.without_url(),
    };
    let mut response = super::traced(request).send().await.map_err(unreachable)?;
    let status = response.status();
    let location = response.headers().get("location").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if body.len().saturating_add(chunk.len()) > ANSWER_BYTES {
            return Err(ServiceError::malformed(service, format!("it has more than {ANSWER_BYTES} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    if status.is_success() {
        return Ok(body);
    }
    Err(ServiceError::Refused { service: service.to_owned(), status, message: plain(&body), location })
}

/// The beginning of a stranger's words on their way to a terminal: letters, digits and ASCII's punctuation, nothing
/// that steers one.
pub(super) fn plain(body: &[u8]) -> String {
    let is_plain = |letter: &char| letter.is_alphanumeric() || letter.is_ascii_punctuation() || *letter == ' ';
    String::from_utf8_lossy(body).chars().filter(is_plain).take(MESSAGE_CHARS).collect()
}
