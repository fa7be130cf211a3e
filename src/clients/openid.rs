//! OpenID providers: what they say of themselves, their keys, and an ID token for a code (OpenID Connect Core 1.0 and
//! Discovery 1.0). What a token says is not judged here.
//! Invariant: nothing goes to an address that a stranger could listen on, no redirect is followed, no error carries a
//! code, a secret or a token.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use openidconnect::core::{CoreClient, CoreClientAuthMethod, CoreIdToken, CoreJsonWebKeySet, CoreProviderMetadata};
use openidconnect::{
    AccessToken, AsyncHttpClient, AuthType, AuthorizationCode, ClientId, ClientSecret, DiscoveryError, HttpRequest,
    HttpResponse, IssuerUrl, OAuth2TokenResponse as _, PkceCodeVerifier, RedirectUrl, RequestTokenError,
    TokenResponse as _,
};

use super::answer::plain;
use crate::types::limits;

/// Why a provider gave no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenIdError {
    /// No connection, no answer in time, or one that says that the provider is not well.
    #[error("{issuer} does not answer: {why}")]
    Unreachable {
        /// Whom we asked.
        issuer: String,
        /// What stood in the way.
        why: String,
    },
    /// It said no to the code.
    #[error("{issuer} refuses the code: {why}")]
    Refused {
        /// Whom we asked.
        issuer: String,
        /// The error code that it gave (RFC 6749 section 5.2).
        why: String,
    },
    /// Its answer has not the form that the specification promises, or it says to be somebody else.
    #[error("{issuer} gave an answer that makes no sense: {why}")]
    Malformed {
        /// Whom we asked.
        issuer: String,
        /// What is wrong with it.
        why: String,
    },
}

/// What this side is to a provider.
pub struct Client<'a> {
    /// The identifier that the provider knows it by.
    pub id: &'a str,
    /// The secret that goes with it; none for a public client.
    pub secret: Option<&'a str>,
    /// Where the provider sends browsers back to.
    pub redirect: &'a RedirectUrl,
}

/// What asks providers.
#[derive(Debug, Clone)]
pub struct OpenId {
    http: reqwest::Client,
}

impl OpenId {
    /// A client whose exchanges end after this time.
    ///
    /// # Errors
    /// Where TLS cannot be set up.
    pub fn new(timeout: Duration) -> reqwest::Result<Self> {
        Ok(Self { http: super::service(timeout)? })
    }

    /// What the provider says of itself, with its keys. Its issuer is the one that was asked, byte by byte.
    ///
    /// # Errors
    /// [`OpenIdError`].
    pub async fn discover(&self, issuer: &IssuerUrl) -> Result<CoreProviderMetadata, OpenIdError> {
        CoreProviderMetadata::discover_async(issuer.clone(), self).await.map_err(|error| told(issuer, error))
    }

    /// The provider's keys as they are now.
    ///
    /// # Errors
    /// [`OpenIdError`].
    pub async fn keys(&self, metadata: &CoreProviderMetadata) -> Result<CoreJsonWebKeySet, OpenIdError> {
        let fetched = CoreJsonWebKeySet::fetch_async(metadata.jwks_uri(), self).await;
        fetched.map_err(|error| told(metadata.issuer(), error))
    }

    /// What the provider gives for a code: the ID token, and the access token with which it tells more.
    ///
    /// # Errors
    /// [`OpenIdError`].
    pub async fn exchange(
        &self,
        metadata: &CoreProviderMetadata,
        client: Client<'_>,
        code: String,
        verifier: String,
    ) -> Result<(CoreIdToken, AccessToken), OpenIdError> {
        let issuer = metadata.issuer().to_string();
        let malformed = |why: &str| OpenIdError::Malformed { issuer: issuer.clone(), why: why.to_owned() };
        let secret = client.secret.map(|secret| ClientSecret::new(secret.to_owned()));
        let known = CoreClient::from_provider_metadata(metadata.clone(), ClientId::new(client.id.to_owned()), secret)
            .set_redirect_uri(client.redirect.clone());
        // The default is the basic scheme (RFC 8414 section 2); some providers take nothing but the body.
        let methods = metadata.token_endpoint_auth_methods_supported();
        let only_post = methods.is_some_and(|methods| {
            methods.contains(&CoreClientAuthMethod::ClientSecretPost)
                && !methods.contains(&CoreClientAuthMethod::ClientSecretBasic)
        });
        let known = if only_post { known.set_auth_type(AuthType::RequestBody) } else { known };
        let request = known
            .exchange_code(AuthorizationCode::new(code))
            .map_err(|_| malformed("it names no token endpoint"))?
            .set_pkce_verifier(PkceCodeVerifier::new(verifier));
        let answer = request.request_async(self).await.map_err(|error| match error {
            RequestTokenError::ServerResponse(said) => {
                OpenIdError::Refused { issuer: issuer.clone(), why: plain(said.error().to_string().as_bytes()) }
            }
            RequestTokenError::Request(error) => {
                OpenIdError::Unreachable { issuer: issuer.clone(), why: error.to_string() }
            }
            // The answer itself may be a secret: what is wrong with it is not repeated.
            RequestTokenError::Parse(..) => malformed("its token endpoint's answer cannot be read"),
            RequestTokenError::Other(_) => malformed("its token endpoint's answer has no content"),
        })?;
        let token = answer.id_token().cloned().ok_or_else(|| malformed("there is no ID token in its answer"))?;
        Ok((token, answer.access_token().clone()))
    }

    /// What the provider tells of the person whom the access token is about (OpenID Connect Core 1.0 section 5.3);
    /// nothing where it has no place for that.
    ///
    /// # Errors
    /// [`OpenIdError`].
    pub async fn user_info(
        &self,
        metadata: &CoreProviderMetadata,
        token: &AccessToken,
    ) -> Result<serde_json::Map<String, serde_json::Value>, OpenIdError> {
        let Some(address) = metadata.userinfo_endpoint() else { return Ok(serde_json::Map::new()) };
        let issuer = metadata.issuer().to_string();
        let malformed = |why: &str| OpenIdError::Malformed { issuer: issuer.clone(), why: why.to_owned() };
        let request = axum::http::Request::builder()
            .uri(address.as_str())
            .header(reqwest::header::ACCEPT, "application/json")
            .header(reqwest::header::AUTHORIZATION, format!("Bearer {}", token.secret()))
            .body(Vec::new())
            .map_err(|_| malformed("the address of its user information is none"))?;
        let answer = self.ask(request).await;
        let answer =
            answer.map_err(|error| OpenIdError::Unreachable { issuer: issuer.clone(), why: error.to_string() })?;
        if !answer.status().is_success() {
            return Err(malformed("it tells nothing of the person"));
        }
        serde_json::from_slice(answer.body()).map_err(|_| malformed("what it tells of the person cannot be read"))
    }

    async fn ask(&self, request: HttpRequest) -> Result<HttpResponse, Fault> {
        let (head, body) = request.into_parts();
        let url: url::Url = head.uri.to_string().parse().map_err(|_| Fault("an address cannot be read".to_owned()))?;
        if !super::is_private(&url) {
            return Err(Fault(format!("{} is not reached by TLS", url.host_str().unwrap_or_default())));
        }
        let request = self.http.request(head.method, url).headers(head.headers).body(body);
        let mut response = super::traced(request).send().await.map_err(|error| Fault::of(&error))?;
        let status = response.status();
        if status.is_server_error() || status == reqwest::StatusCode::TOO_MANY_REQUESTS {
            return Err(Fault(format!("it answered {status}")));
        }
        let mut answer = axum::http::Response::builder().status(status);
        if let Some(kind) = response.headers().get(reqwest::header::CONTENT_TYPE) {
            answer = answer.header(reqwest::header::CONTENT_TYPE, kind);
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| Fault::of(&error))? {
            if body.len().saturating_add(chunk.len()) > limits::OPENID_ANSWER_BYTES {
                return Err(Fault(format!("its answer has more than {} bytes", limits::OPENID_ANSWER_BYTES)));
            }
            body.extend_from_slice(&chunk);
        }
        answer.body(body).map_err(|_| Fault("its answer cannot be read".to_owned()))
    }
}

impl<'c> AsyncHttpClient<'c> for OpenId {
    type Error = Fault;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, Fault>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.ask(request))
    }
}

/// What went wrong below, without any address: one may carry a code.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Fault(String);

impl Fault {
    fn of(error: &reqwest::Error) -> Self {
        let what = if error.is_timeout() {
            "there is no answer in time"
        } else if error.is_connect() {
            "there is no connection"
        } else {
            "the exchange broke off"
        };
        Self(what.to_owned())
    }
}

fn told(issuer: &IssuerUrl, error: DiscoveryError<Fault>) -> OpenIdError {
    let issuer = issuer.to_string();
    match error {
        DiscoveryError::Request(fault) => OpenIdError::Unreachable { issuer, why: fault.to_string() },
        DiscoveryError::Response(status, ..) => {
            OpenIdError::Unreachable { issuer, why: format!("it answered {status} where a document should be") }
        }
        DiscoveryError::Validation(why) => OpenIdError::Malformed { issuer, why: plain(why.as_bytes()) },
        other => OpenIdError::Malformed { issuer, why: plain(other.to_string().as_bytes()) },
    }
}
