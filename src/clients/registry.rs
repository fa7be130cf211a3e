//! A registry: a reference in, manifests, blobs and lists of referrers out, as the registry gave them; and small
//! artifacts the other way.
//!
//! Source: OCI distribution specification 1.1. References are read by `oci-client`; the exchanges are ours, since that
//! client reads answers whole however long they are and follows redirects unseen (docs/adr/0006-registries.md).
//! Invariant: every answer has a bound, whatever was asked for by digest has that digest, and a credential goes to the
//! registry that it is for, and to the token service that the registry names, and nowhere else. Nothing is judged here.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

pub use oci_client::Reference;
use reqwest::header::{ACCEPT, CONTENT_TYPE, LINK, LOCATION};
use reqwest::{Method, StatusCode};
use url::Url;

use crate::types::{Digest, limits};

mod auth;
pub mod credentials;
mod download;
mod exchange;

use auth::{Access, Auth};
use credentials::Credentials;
use exchange::{Ask, Wire};

/// An OCI image index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// An OCI image manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// What else a manifest may be: Docker's own forms of the two.
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
                         application/vnd.docker.distribution.manifest.v2+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json";

/// Why a registry gave no answer that can be used. No error carries a credential.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No connection, a broken one, or no answer in time.
    #[error("cannot reach the registry {registry}")]
    Unreachable {
        /// Whom we asked.
        registry: String,
        /// What went wrong below.
        #[source]
        cause: reqwest::Error,
    },
    /// The credentials do not suffice.
    #[error("the registry refuses {what}: {status}{}{message}", if message.is_empty() { "" } else { ": " })]
    Refused {
        /// What we asked for.
        what: String,
        /// The status.
        status: StatusCode,
        /// The beginning of what it said.
        message: String,
    },
    /// There is no such thing.
    #[error("the registry has no {what}")]
    NotFound {
        /// What we asked for.
        what: String,
    },
    /// Any other status.
    #[error("the registry answered {status} for {what}{}{message}", if message.is_empty() { "" } else { ": " })]
    Failed {
        /// What we asked for.
        what: String,
        /// The status.
        status: StatusCode,
        /// The beginning of what it said.
        message: String,
    },
    /// More than the bound.
    #[error("{what} has more than {limit} bytes")]
    TooLarge {
        /// What we asked for.
        what: String,
        /// The bound, in bytes.
        limit: u64,
    },
    /// Other bytes than were asked for.
    #[error("the registry gave {found} for {what}")]
    OtherDigest {
        /// What we asked for.
        what: String,
        /// What came.
        found: Digest,
    },
    /// The answer has not the form that the specification promises.
    #[error("the registry's answer for {what} makes no sense: {message}")]
    Malformed {
        /// What we asked for.
        what: String,
        /// What is wrong with it.
        message: String,
    },
    /// A credential would be sent in the clear.
    #[error("the credentials for {registry} would be sent in the clear to {to}")]
    Insecure {
        /// Whose credentials.
        registry: String,
        /// Where to.
        to: String,
    },
    /// A file of ours cannot be written or read.
    #[error("cannot write {path}")]
    Disk {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
}

/// How a registry is to be reached.
#[derive(Debug, Clone)]
pub struct Options {
    /// Plain HTTP is tried where HTTPS does not answer. On loopback it always is, unless authorities were named.
    pub allow_http: bool,
    /// Certificates are not checked.
    pub allow_insecure: bool,
    /// Further authorities, in PEM.
    pub authorities: Vec<u8>,
    /// Who asks; nobody in particular without.
    pub credentials: Option<Credentials>,
    /// How long one exchange may take; a layer may take longer, as long as it goes on.
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            allow_http: false,
            allow_insecure: false,
            authorities: Vec::new(),
            credentials: None,
            timeout: Duration::from_millis(limits::REGISTRY_EXCHANGE_MS),
        }
    }
}

/// One repository of a registry.
#[derive(Debug)]
pub struct Repository {
    /// As the user calls it: registry and repository.
    name: String,
    repository: String,
    base: Url,
    wire: Wire,
    auth: Auth,
}

/// A manifest or an index, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The media type that the registry gave it.
    pub media_type: String,
    /// The digest that it was asked for by; its SHA-256, where it was asked for by a tag.
    pub digest: Digest,
    /// The bytes that have this digest.
    pub bytes: Vec<u8>,
}

impl Repository {
    /// Finds out how the registry wants to be spoken to.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn connect(reference: &Reference, options: Options) -> Result<Self, RegistryError> {
        let host = reference.resolve_registry();
        let malformed = |message: String| RegistryError::Malformed { what: format!("the address {host}"), message };
        let wire = Wire::new(host, &options)?;
        let mut addresses = Vec::new();
        for scheme in ["https", "http"] {
            let text = format!("{scheme}://{host}/");
            addresses.push(Url::parse(&text).map_err(|error| malformed(error.to_string()))?);
        }
        let is_here = addresses.first().is_some_and(super::is_loopback);
        // Whoever names an authority wants TLS and no way around it.
        let may_be_plain = options.allow_http || (is_here && options.authorities.is_empty());
        if !may_be_plain {
            addresses.truncate(1);
        }
        let mut failure = None;
        let last = addresses.last().cloned();
        for base in addresses {
            match wire.probe(&base, last.as_ref() == Some(&base)).await {
                Ok(challenge) => {
                    let auth = Auth::new(host, &base, challenge, options.credentials, options.allow_http)?;
                    let name = format!("{}/{}", reference.registry(), reference.repository());
                    return Ok(Self { name, repository: reference.repository().to_owned(), base, wire, auth });
                }
                Err(error @ RegistryError::Unreachable { .. }) => failure = failure.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        Err(failure.unwrap_or_else(|| malformed("there is none".to_owned())))
    }

    /// Registry and repository, as the user calls them.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The manifest or index of this tag or digest.
    ///
    /// # Errors
    /// [`RegistryError`]; `NotFound` where there is none.
    pub async fn manifest(&self, tag_or_digest: &str) -> Result<Manifest, RegistryError> {
        let what = self.what(tag_or_digest);
        let mut ask = Ask::get(self.url(&["manifests", tag_or_digest]), Access::Pull);
        ask.headers.push((ACCEPT, MANIFESTS.to_owned()));
        let answer = self.ask(&what, &ask, limits::REGISTRY_MANIFEST_BYTES).await?;
        let asked: Option<Digest> = tag_or_digest.parse().ok();
        let algorithm = asked.as_ref().map_or(crate::types::DigestAlgorithm::Sha256, Digest::algorithm);
        let found = algorithm.hash(&answer.body);
        let said = answer.header("docker-content-digest").and_then(|text| text.parse::<Digest>().ok());
        let differs = |digest: &Digest| digest.algorithm().hash(&answer.body) != *digest;
        if asked.as_ref().is_some_and(differs) || said.as_ref().is_some_and(differs) {
            return Err(RegistryError::OtherDigest { what, found });
        }
        let media_type = media_type(answer.header(CONTENT_TYPE.as_str())).to_owned();
        Ok(Manifest { media_type, digest: found, bytes: answer.body })
    }

    /// A blob that is read into memory, of at most `limit` bytes.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, RegistryError> {
        let what = self.what(&digest.to_string());
        let ask = Ask::get(self.url(&["blobs", &digest.to_string()]), Access::Pull);
        let answer = self.ask(&what, &ask, limit).await?;
        let found = digest.algorithm().hash(&answer.body);
        if found != *digest {
            return Err(RegistryError::OtherDigest { what, found });
        }
        Ok(answer.body)
    }

    /// The pages of the list of referrers of a manifest; nothing where the registry has no such interface.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn referrers(&self, digest: &Digest) -> Result<Option<Vec<Vec<u8>>>, RegistryError> {
        let what = format!("list of referrers of {}", self.what(&digest.to_string()));
        let mut next = Some(self.url(&["referrers", &digest.to_string()]));
        let mut pages = Vec::new();
        while let Some(url) = next {
            if pages.len() >= limits::REFERRER_PAGES {
                let message = format!("it has more than {} pages", limits::REFERRER_PAGES);
                return Err(RegistryError::Malformed { what, message });
            }
            let mut ask = Ask::get(url.clone(), Access::Pull);
            ask.headers.push((ACCEPT, INDEX.to_owned()));
            let answer = match self.ask(&what, &ask, limits::REGISTRY_MANIFEST_BYTES).await {
                Ok(answer) => answer,
                Err(error) if pages.is_empty() && knows_no_referrers(&error) => return Ok(None),
                Err(error) => return Err(error),
            };
            // Some answer whatever they do not know with a page for people.
            if pages.is_empty() && media_type(answer.header(CONTENT_TYPE.as_str())) != INDEX {
                return Ok(None);
            }
            next = answer.header(LINK.as_str()).and_then(next_page).and_then(|link| url.join(link).ok());
            if next.as_ref().is_some_and(|next| next.origin() != self.base.origin()) {
                let message = "its next page is somewhere else".to_owned();
                return Err(RegistryError::Malformed { what, message });
            }
            pages.push(answer.body);
        }
        Ok(Some(pages))
    }

    /// Puts a blob into the repository, unless it is there.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn push_blob(&self, bytes: &[u8]) -> Result<Digest, RegistryError> {
        let digest = Digest::sha256(bytes);
        let what = self.what(&digest.to_string());
        let mut there = Ask::get(self.url(&["blobs", &digest.to_string()]), Access::Push);
        there.method = Method::HEAD;
        match self.ask(&what, &there, 0).await {
            Ok(_) => return Ok(digest),
            Err(RegistryError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        let mut start = Ask::get(self.url(&["blobs", "uploads", ""]), Access::Push);
        start.method = Method::POST;
        start.body = Some(&[]);
        let answer = self.ask(&what, &start, limits::REGISTRY_MANIFEST_BYTES).await?;
        let place = answer.header(LOCATION.as_str()).and_then(|text| self.base.join(text).ok());
        let mut place = place.ok_or_else(|| RegistryError::Malformed {
            what: what.clone(),
            message: "it does not say where to upload".to_owned(),
        })?;
        place.query_pairs_mut().append_pair("digest", &digest.to_string());
        let mut put = Ask::get(place, Access::Push);
        put.method = Method::PUT;
        put.headers.push((CONTENT_TYPE, "application/octet-stream".to_owned()));
        put.body = Some(bytes);
        self.ask(&what, &put, limits::REGISTRY_MANIFEST_BYTES).await?;
        Ok(digest)
    }

    /// Puts a manifest under a tag or its own digest. Whether the registry lists it as a referrer by itself.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub async fn push_manifest(
        &self,
        tag_or_digest: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<bool, RegistryError> {
        let what = self.what(tag_or_digest);
        let mut put = Ask::get(self.url(&["manifests", tag_or_digest]), Access::Push);
        put.method = Method::PUT;
        put.headers.push((CONTENT_TYPE, media_type.to_owned()));
        put.body = Some(bytes);
        let answer = self.ask(&what, &put, limits::REGISTRY_MANIFEST_BYTES).await?;
        Ok(answer.header("oci-subject").is_some())
    }

    /// What a tag or digest of this repository is called in errors and reports.
    pub fn what(&self, tag_or_digest: &str) -> String {
        let separator = if tag_or_digest.contains(':') { '@' } else { ':' };
        format!("{}{separator}{tag_or_digest}", self.name)
    }

    async fn ask(&self, what: &str, ask: &Ask<'_>, limit: u64) -> Result<exchange::Answer, RegistryError> {
        self.wire.ask(what, ask, limit, &self.base, &self.auth, &self.repository).await
    }

    fn url(&self, rest: &[&str]) -> Url {
        super::below(&self.base, &format!("v2/{}/{}", self.repository, rest.join("/")))
    }
}

/// Whether an answer to the question for referrers says that nobody knows the question.
fn knows_no_referrers(error: &RegistryError) -> bool {
    matches!(error, RegistryError::NotFound { .. })
        || matches!(error, RegistryError::Failed { status, .. } if matches!(
            *status,
            StatusCode::BAD_REQUEST | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_ACCEPTABLE | StatusCode::NOT_IMPLEMENTED
        ))
}

/// A media type without its parameters.
fn media_type(header: Option<&str>) -> &str {
    header.unwrap_or_default().split(';').next().unwrap_or_default().trim()
}

/// The target of a `Link` with `rel="next"` (RFC 8288).
fn next_page(header: &str) -> Option<&str> {
    let (target, parameters) = header.trim().strip_prefix('<')?.split_once('>')?;
    parameters.replace('"', "").contains("rel=next").then_some(target)
}

/// A header's fields that are told, by their names in lower case.
type Headers = BTreeMap<String, String>;
