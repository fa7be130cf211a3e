//! One exchange with a registry: retries where it says "later", redirects by hand, and a bound on what comes back.
//! Invariant: only the registry's own origin is sent its credentials; a redirect from TLS to none is not followed.

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderName, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Method, Response, StatusCode};
use url::Url;

use super::auth::{Access, Auth, Challenge};
use super::{Headers, Options, RegistryError};
use crate::clients::answer::plain;
use crate::types::limits;

/// Tries of one question, the first among them.
const TRIES: u32 = 3;
/// How long to wait before a second try where the registry does not say; twice as long before the third.
const PAUSE: Duration = Duration::from_millis(250);

/// The connection to one registry.
#[derive(Debug)]
pub(super) struct Wire {
    registry: String,
    client: reqwest::Client,
    pub(super) timeout: Duration,
}

/// What is asked.
#[derive(Debug, Clone)]
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) access: Access,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) body: Option<&'a [u8]>,
    /// Whether the whole exchange has a time limit; a layer's has none, as long as it goes on.
    pub(super) timed: bool,
}

impl Ask<'_> {
    pub(super) const fn get(url: Url, access: Access) -> Self {
        Self { method: Method::GET, url, access, headers: Vec::new(), body: None, timed: true }
    }
}

/// What came back, whole.
#[derive(Debug)]
pub(super) struct Answer {
    headers: Headers,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// A header field by its name in lower case.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

impl Wire {
    pub(super) fn new(registry: &str, options: &Options) -> Result<Self, RegistryError> {
        let unreachable = |cause: reqwest::Error| RegistryError::Unreachable { registry: registry.to_owned(), cause };
        let authorities = reqwest::Certificate::from_pem_bundle(&options.authorities).map_err(unreachable)?;
        let client = crate::clients::builder()
            .map_err(unreachable)?
            .read_timeout(crate::clients::READ_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .tls_certs_merge(authorities)
            .tls_danger_accept_invalid_certs(options.allow_insecure)
            .build()
            .map_err(unreachable)?;
        Ok(Self { registry: registry.to_owned(), client, timeout: options.timeout })
    }

    /// Asks the registry at this address how it wants to be asked.
    /// Where there is another address to try, no connection is answer enough.
    pub(super) async fn probe(&self, base: &Url, is_last: bool) -> Result<Challenge, RegistryError> {
        let what = format!("interface at {base}");
        let url = crate::clients::below(base, "v2/");
        let response = self.patiently(|| self.client.get(url.clone()).timeout(self.timeout), is_last).await?;
        match response.status() {
            status if status.is_success() => Ok(Challenge::None),
            StatusCode::UNAUTHORIZED => {
                let fields = response.headers().get_all(WWW_AUTHENTICATE).iter();
                let fields: Vec<&str> = fields.filter_map(|field| field.to_str().ok()).collect();
                Challenge::parse(&fields).map_err(|message| RegistryError::Malformed { what, message })
            }
            _ => Err(self.refused(&what, response).await),
        }
    }

    /// Asks, and reads the whole answer of at most `limit` bytes.
    pub(super) async fn ask(
        &self,
        what: &str,
        ask: &Ask<'_>,
        limit: u64,
        base: &Url,
        auth: &Auth,
        repository: &str,
    ) -> Result<Answer, RegistryError> {
        let response = self.send(what, ask, base, auth, repository).await?;
        let told = |(name, value): (&HeaderName, &reqwest::header::HeaderValue)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        };
        let headers = response.headers().iter().filter_map(told).collect();
        Ok(Answer { headers, body: self.read(what, response, limit).await? })
    }

    /// Asks, and says no where the registry does; the body is still to be read.
    pub(super) async fn send(
        &self,
        what: &str,
        ask: &Ask<'_>,
        base: &Url,
        auth: &Auth,
        repository: &str,
    ) -> Result<Response, RegistryError> {
        let mut url = ask.url.clone();
        let mut renewed = false;
        let mut redirects = 0;
        loop {
            // Nobody but the registry itself is told who asks: not the store that it keeps its layers in.
            let is_own = url.origin() == base.origin();
            let header = if is_own { auth.header(self, repository, ask.access).await? } else { None };
            let build = || {
                let mut request = self.client.request(ask.method.clone(), url.clone());
                for (name, value) in &ask.headers {
                    request = request.header(name, value);
                }
                if let Some(header) = &header {
                    request = request.header(AUTHORIZATION, header.clone());
                }
                if let Some(body) = ask.body {
                    request = request.body(body.to_vec());
                }
                if ask.timed { request.timeout(self.timeout) } else { request }
            };
            let response = self.patiently(build, true).await?;
            let status = response.status();
            let may_follow = ask.method == Method::GET || ask.method == Method::HEAD;
            if status.is_redirection() && may_follow {
                redirects += 1;
                url = self.next(what, &url, &response, redirects)?;
                continue;
            }
            // A token that was good a while ago may have run out.
            if status == StatusCode::UNAUTHORIZED && is_own && !renewed && auth.forget(ask.access) {
                renewed = true;
                continue;
            }
            if !status.is_success() {
                return Err(self.refused(what, response).await);
            }
            return Ok(response);
        }
    }

    fn next(&self, what: &str, from: &Url, response: &Response, count: usize) -> Result<Url, RegistryError> {
        let malformed = |message: &str| RegistryError::Malformed { what: what.to_owned(), message: message.to_owned() };
        if count > crate::clients::REDIRECTS {
            return Err(malformed("it redirects without an end"));
        }
        let place = response.headers().get(LOCATION).and_then(|place| place.to_str().ok());
        let url = place.and_then(|place| from.join(place).ok()).ok_or_else(|| malformed("it redirects to nowhere"))?;
        if url.scheme() != "https" && (from.scheme() == "https" || url.scheme() != "http") {
            return Err(malformed("it redirects to where there is no TLS"));
        }
        Ok(url)
    }

    /// Sends, and again a little later where that may help: no connection, or a registry that says so.
    async fn patiently(
        &self,
        build: impl Fn() -> reqwest::RequestBuilder,
        reconnects: bool,
    ) -> Result<Response, RegistryError> {
        let mut pause = PAUSE;
        let mut tries = 0;
        loop {
            tries += 1;
            let outcome = crate::clients::traced(build()).send().await;
            let wait = match &outcome {
                Ok(response) if is_for_later(response.status()) => asked_wait(response).unwrap_or(pause),
                // What was sent may have arrived unless there was no connection at all.
                Err(error) if error.is_connect() && reconnects => pause,
                _ => Duration::MAX,
            };
            if tries >= TRIES || wait > Duration::from_millis(limits::REGISTRY_RETRY_MS) {
                return outcome.map_err(|cause| self.unreachable(cause));
            }
            tokio::time::sleep(wait).await;
            pause = pause.saturating_mul(2);
        }
    }

    pub(super) fn unreachable(&self, cause: reqwest::Error) -> RegistryError {
        // The address may carry a token in its query.
        RegistryError::Unreachable { registry: self.registry.clone(), cause: cause.without_url() }
    }

    /// The body, of at most `limit` bytes.
    pub(super) async fn read(&self, what: &str, mut response: Response, limit: u64) -> Result<Vec<u8>, RegistryError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|cause| self.unreachable(cause))? {
            if body.len().saturating_add(chunk.len()) as u64 > limit {
                return Err(RegistryError::TooLarge { what: what.to_owned(), limit });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    async fn refused(&self, what: &str, response: Response) -> RegistryError {
        let (what, status) = (what.to_owned(), response.status());
        let body = self.read(&what, response, limits::REGISTRY_MANIFEST_BYTES).await.unwrap_or_default();
        let message = said(&body);
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => RegistryError::Refused { what, status, message },
            StatusCode::NOT_FOUND => RegistryError::NotFound { what },
            _ => RegistryError::Failed { what, status, message },
        }
    }

    /// Sends a request to somebody else than the registry: its token service.
    pub(super) async fn elsewhere(
        &self,
        what: &str,
        build: impl Fn(&reqwest::Client) -> reqwest::RequestBuilder,
    ) -> Result<Vec<u8>, RegistryError> {
        let response = self.patiently(|| build(&self.client).timeout(self.timeout), true).await?;
        if !response.status().is_success() {
            return Err(self.refused(what, response).await);
        }
        self.read(what, response, limits::REGISTRY_MANIFEST_BYTES).await
    }
}

const fn is_for_later(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

/// `Retry-After` in seconds (RFC 9110 section 10.2.3); a date is not waited for.
fn asked_wait(response: &Response) -> Option<Duration> {
    response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// The first error's own words, where the answer is in the specification's form; else its beginning.
fn said(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Errors {
        errors: Vec<One>,
    }
    #[derive(serde::Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let first = serde_json::from_slice::<Errors>(body).ok().and_then(|errors| errors.errors.into_iter().next());
    match first {
        Some(one) => plain(format!("{} {}", one.code, one.message).trim().as_bytes()),
        None => plain(body),
    }
}
