//! GitHub's REST API, and GitHub Enterprise's by its base address: releases, tags, attestations, issues, comments.
//! Requests in, what GitHub said out; octocrab does authentication and addressing.
//!
//! Every answer is bounded. Rate limits are kept, primary and secondary: a wait that fits into the caller's patience is
//! waited, a longer one is [`GithubError::RateLimited`]. Answers are kept with their `ETag` and asked for again
//! conditionally, which costs nothing of the limit. An asset is fetched without the token once GitHub sends us elsewhere.
//!
//! Source: docs.github.com, REST API version 2022-11-28, "Best practices" and "Rate limits".

use std::path::{Path, PathBuf};
use std::time::Duration;

use octocrab::Octocrab;
use octocrab::service::middleware::retry::RetryConfig;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use crate::types::{Digest, limits};

/// A repository's address: `owner/name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository {
    owner: String,
    name: String,
}

impl Repository {
    /// `owner/name`; nothing where it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (owner, name) = text.split_once('/')?;
        let plain = |part: &str| {
            !part.is_empty()
                && part.len() <= 100
                && !part.chars().all(|letter| letter == '.')
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        (plain(owner) && plain(name)).then(|| Self { owner: owner.to_owned(), name: name.to_owned() })
    }

    /// Whoever owns it.
    pub fn owner(&self) -> &str {
        &self.owner
    }
}

impl std::fmt::Display for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

/// Why GitHub gave no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum GithubError {
    /// No connection, a broken one, or no answer in time.
    #[error("cannot reach {service}: {message}")]
    Unreachable {
        /// Whom we asked.
        service: String,
        /// What went wrong.
        message: String,
    },
    /// A server's own fault, also after waiting and asking again.
    #[error("{service} answered {status}")]
    Failed {
        /// Whom we asked.
        service: String,
        /// The status.
        status: StatusCode,
    },
    /// The rate limit is used up for longer than the caller waits.
    #[error("{service} allows no more requests for {wait_s} seconds")]
    RateLimited {
        /// Whom we asked.
        service: String,
        /// How long.
        wait_s: u64,
    },
    /// It is not there, or not for this token.
    #[error("{service} has no {path}")]
    NotFound {
        /// Whom we asked.
        service: String,
        /// What for.
        path: String,
    },
    /// It said no.
    #[error("{service} refused {path} with {status}: {message}")]
    Refused {
        /// Whom we asked.
        service: String,
        /// What for.
        path: String,
        /// The status.
        status: StatusCode,
        /// What it said.
        message: String,
    },
    /// The answer has not the form that the API promises, or is larger than any honest one.
    #[error("{service} gave an answer to {path} that makes no sense: {message}")]
    Malformed {
        /// Whom we asked.
        service: String,
        /// What for.
        path: String,
        /// What is wrong with it.
        message: String,
    },
    /// A file of ours could not be written or read.
    #[error("cannot keep {path}: {message}")]
    Disk {
        /// The file.
        path: String,
        /// What went wrong.
        message: String,
    },
}

impl GithubError {
    /// Whether asking later may help: an outage, not an answer.
    pub const fn is_outage(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Failed { .. } | Self::RateLimited { .. })
    }
}

/// A published release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Its number.
    pub id: u64,
    /// The tag.
    pub tag_name: String,
    /// Whether it is not published yet.
    #[serde(default)]
    pub draft: bool,
    /// Whether it is marked as a pre-release.
    #[serde(default)]
    pub prerelease: bool,
    /// Its page.
    #[serde(default)]
    pub html_url: String,
    /// Its files.
    #[serde(default)]
    pub assets: Vec<Asset>,
}

/// A file of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asset {
    /// Its number: a file that is uploaded again has another one.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
    /// `uploaded`, or `open` while it is not there yet.
    #[serde(default)]
    pub state: String,
    /// What GitHub computed when it was uploaded, as `sha256:HEX`. A hint for what need not be fetched, and no proof.
    #[serde(default)]
    pub digest: Option<String>,
    /// When it was last changed.
    #[serde(default)]
    pub updated_at: String,
}

#[derive(Debug, Deserialize)]
struct Reference {
    object: Object,
}

#[derive(Debug, Deserialize)]
struct Object {
    sha: String,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Debug, Deserialize)]
struct Attestations {
    #[serde(default)]
    attestations: Vec<Attestation>,
}

#[derive(Debug, Deserialize)]
struct Attestation {
    bundle: Option<Value>,
}

/// An issue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issue {
    /// Its number.
    pub number: u64,
    /// Its title.
    pub title: String,
    /// Its text.
    #[serde(default)]
    pub body: Option<String>,
    /// `open` or `closed`.
    pub state: String,
    /// Its labels.
    #[serde(default)]
    pub labels: Vec<Label>,
    /// Its page.
    #[serde(default)]
    pub html_url: String,
    /// There where it is a pull request: the API lists both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_request: Option<Value>,
}

/// A label of an issue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// Its name.
    pub name: String,
}

/// A comment on an issue or a pull request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comment {
    /// Its number.
    pub id: u64,
    /// Its text.
    #[serde(default)]
    pub body: Option<String>,
}

/// How GitHub is asked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `https://api.github.com`, or `https://HOST/api/v3` of an Enterprise server.
    pub base: Url,
    /// The token, where there is one.
    pub token: Option<String>,
    /// How long one request may wait for a limit to end.
    pub patience: Duration,
    /// How long between two tries after a server's own fault; doubled each time.
    pub pause: Duration,
    /// Where answers are kept with their `ETag`.
    pub cache: Option<PathBuf>,
}

/// A connection to GitHub.
#[derive(Debug, Clone)]
pub struct Github {
    service: String,
    octocrab: Octocrab,
    files: reqwest::Client,
    settings: Settings,
}

const VERSION: &str = "2022-11-28";
/// Tries of one request when the server itself fails.
const TRIES: u32 = 4;
/// Items that are asked for at once; GitHub gives no more.
const PAGE: usize = 100;
/// What GitHub advises to wait where a secondary limit names no time.
const SECONDARY_S: u64 = 60;

/// An answer, read whole.
struct Answer {
    headers: HeaderMap,
    body: Vec<u8>,
}

/// What a conditional request needs, kept on disk.
#[derive(Serialize, Deserialize)]
struct Kept {
    etag: String,
    link: Option<String>,
    body: String,
}

impl Github {
    /// A connection; nothing is asked yet.
    ///
    /// # Errors
    /// Where the settings make no client: an address that is none, a token with line breaks.
    pub fn new(settings: Settings) -> Result<Self, GithubError> {
        let service = settings.base.host_str().unwrap_or("GitHub").to_owned();
        let unusable = |error: &dyn std::fmt::Display| GithubError::Unreachable {
            service: service.clone(),
            message: error.to_string(),
        };
        // Redirects of the API itself (a renamed repository) stay on the host; what leaves it carries no token.
        let client = || {
            super::builder()
                .and_then(|it| it.read_timeout(super::READ_TIMEOUT).redirect(reqwest::redirect::Policy::none()).build())
        };
        let mut builder = Octocrab::builder()
            .add_retry_config(RetryConfig::None)
            .base_uri(settings.base.as_str())
            .map_err(|error| unusable(&error))?
            .add_header(HeaderName::from_static("x-github-api-version"), VERSION.to_owned());
        if let Some(token) = settings.token.as_deref().filter(|_| super::is_private(&settings.base)) {
            builder = builder.personal_token(token.to_owned());
        }
        let octocrab = builder
            .build_with_reqwest(client().map_err(|error| unusable(&error))?)
            .map_err(|error| unusable(&error))?;
        let files = client().map_err(|error| unusable(&error))?;
        Ok(Self { service, octocrab, files, settings })
    }

    /// The published releases of a repository, the newest first, at most so many.
    ///
    /// # Errors
    /// [`GithubError`].
    pub async fn release_list(&self, repository: &Repository, most: usize) -> Result<Vec<Release>, GithubError> {
        let releases: Vec<Release> = self.pages(&format!("/repos/{repository}/releases"), most).await?;
        Ok(releases.into_iter().filter(|release| !release.draft).collect())
    }

    /// The release of a tag.
    ///
    /// # Errors
    /// [`GithubError`]; [`GithubError::NotFound`] where there is none.
    pub async fn release_by_tag(&self, repository: &Repository, tag: &str) -> Result<Release, GithubError> {
        let mut release: Release = self.one(&format!("/repos/{repository}/releases/tags/{}", segment(tag))).await?;
        // A release carries its first assets only; the list of them has pages.
        if release.assets.len() >= PAGE {
            let path = format!("/repos/{repository}/releases/{}/assets", release.id);
            release.assets = self.pages(&path, limits::RELEASE_FILES).await?;
        }
        Ok(release)
    }

    /// The commit that a tag points to, through annotated tags.
    ///
    /// # Errors
    /// [`GithubError`]; [`GithubError::NotFound`] where there is no such tag.
    pub async fn tag_commit(&self, repository: &Repository, tag: &str) -> Result<String, GithubError> {
        let reference: Reference = self.one(&format!("/repos/{repository}/git/ref/tags/{}", segment(tag))).await?;
        let mut object = reference.object;
        // A tag may point to a tag; nobody stacks more than a few.
        for _ in 0..4 {
            if object.kind != "tag" {
                break;
            }
            let tag: Reference = self.one(&format!("/repos/{repository}/git/tags/{}", segment(&object.sha))).await?;
            object = tag.object;
        }
        Ok(object.sha)
    }

    /// The Sigstore bundles that GitHub keeps about an artifact.
    ///
    /// # Errors
    /// [`GithubError`]. None at all is an empty list.
    pub async fn attestations(&self, repository: &Repository, digest: &Digest) -> Result<Vec<Value>, GithubError> {
        let path = format!("/repos/{repository}/attestations/{digest}?per_page={PAGE}");
        match self.one::<Attestations>(&path).await {
            Ok(found) => Ok(found.attestations.into_iter().filter_map(|attestation| attestation.bundle).collect()),
            Err(GithubError::NotFound { .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// The bytes of an asset from an offset on, as they come. The answer says whether GitHub honoured the offset.
    ///
    /// # Errors
    /// [`GithubError`].
    pub async fn asset(
        &self,
        repository: &Repository,
        asset: u64,
        from: u64,
    ) -> Result<(bool, reqwest::Response), GithubError> {
        let path = format!("/repos/{repository}/releases/assets/{asset}");
        let mut url = super::below(&self.settings.base, path.trim_start_matches('/'));
        let mut with_token = true;
        for _ in 0..=super::REDIRECTS {
            let mut request = self.files.get(url.clone()).header("accept", "application/octet-stream");
            if let Some(token) = self.settings.token.as_ref().filter(|_| with_token && super::is_private(&url)) {
                request = request.bearer_auth(token).header("x-github-api-version", VERSION);
            }
            if from > 0 {
                request = request.header("range", format!("bytes={from}-"));
            }
            let response = request.send().await.map_err(|error| self.unreachable(&error.without_url()))?;
            let status = response.status();
            if status.is_redirection() {
                let place = response.headers().get("location").and_then(|value| value.to_str().ok());
                let place = place.and_then(|place| url.join(place).ok());
                let next = place.ok_or_else(|| self.malformed(&path, "a redirect without a place"))?;
                if next.scheme() != "https" && !super::is_private(&next) {
                    return Err(self.malformed(&path, "a redirect to an address in the clear"));
                }
                with_token = with_token && next.origin() == self.settings.base.origin();
                url = next;
                continue;
            }
            return match status {
                StatusCode::PARTIAL_CONTENT => Ok((true, response)),
                StatusCode::OK => Ok((from == 0, response)),
                StatusCode::NOT_FOUND => Err(self.not_found(&path)),
                _ => match self.wait_of(status, response.headers(), b"") {
                    Some(wait) => {
                        Err(GithubError::RateLimited { service: self.service.clone(), wait_s: wait.as_secs() })
                    }
                    None if status.is_server_error() => {
                        Err(GithubError::Failed { service: self.service.clone(), status })
                    }
                    None => Err(self.refused(&path, status, b"")),
                },
            };
        }
        Err(self.malformed(&path, "it redirects without an end"))
    }

    /// Every issue with this label, open and closed, pull requests left out.
    ///
    /// # Errors
    /// [`GithubError`].
    pub async fn issue_list(&self, repository: &Repository, label: &str) -> Result<Vec<Issue>, GithubError> {
        let path = format!("/repos/{repository}/issues?state=all&labels={}", segment(label));
        let issues: Vec<Issue> = self.pages(&path, limits::WATCH_ISSUES).await?;
        Ok(issues.into_iter().filter(|issue| issue.pull_request.is_none()).collect())
    }

    /// Opens an issue.
    ///
    /// # Errors
    /// [`GithubError`].
    pub async fn issue_create(&self, repository: &Repository, issue: &Value) -> Result<Issue, GithubError> {
        self.write(Method::POST, &format!("/repos/{repository}/issues"), issue).await
    }

    /// Changes an issue: its title, text, labels, state.
    ///
    /// # Errors
    /// [`GithubError`].
    pub async fn issue_update(
        &self,
        repository: &Repository,
        number: u64,
        change: &Value,
    ) -> Result<Issue, GithubError> {
        self.write(Method::PATCH, &format!("/repos/{repository}/issues/{number}"), change).await
    }

    /// The comments on an issue or a pull request.
    ///
    /// # Errors
    /// [`GithubError`].
    pub async fn comment_list(&self, repository: &Repository, number: u64) -> Result<Vec<Comment>, GithubError> {
        self.pages(&format!("/repos/{repository}/issues/{number}/comments"), limits::WATCH_ISSUES).await
    }

    /// Comments on an issue or a pull request.
    ///
    /// # Errors
    /// [`GithubError`].
    pub async fn comment_create(
        &self,
        repository: &Repository,
        number: u64,
        body: &str,
    ) -> Result<Comment, GithubError> {
        let path = format!("/repos/{repository}/issues/{number}/comments");
        self.write(Method::POST, &path, &serde_json::json!({"body": body})).await
    }

    /// Changes a comment.
    ///
    /// # Errors
    /// [`GithubError`].
    pub async fn comment_update(&self, repository: &Repository, id: u64, body: &str) -> Result<Comment, GithubError> {
        let path = format!("/repos/{repository}/issues/comments/{id}");
        self.write(Method::PATCH, &path, &serde_json::json!({"body": body})).await
    }

    async fn one<T: DeserializeOwned>(&self, path: &str) -> Result<T, GithubError> {
        let answer = self.read(path).await?;
        self.parse(path, &answer.body)
    }

    /// Walks the pages of a list until it ends or `most` items are there.
    async fn pages<T: DeserializeOwned>(&self, path: &str, most: usize) -> Result<Vec<T>, GithubError> {
        let joint = if path.contains('?') { '&' } else { '?' };
        let mut found = Vec::new();
        let mut page = 1_usize;
        loop {
            let answer = self.read(&format!("{path}{joint}per_page={PAGE}&page={page}")).await?;
            let items: Vec<T> = self.parse(path, &answer.body)?;
            let ended = items.is_empty() || !has_next(&answer.headers);
            found.extend(items);
            if ended || found.len() >= most {
                found.truncate(most);
                return Ok(found);
            }
            page = page.saturating_add(1);
        }
    }

    /// A conditional GET, by what was kept of the last answer.
    async fn read(&self, path: &str) -> Result<Answer, GithubError> {
        let file = self.settings.cache.as_ref().map(|dir| self.kept_at(dir, path));
        let kept: Option<Kept> = file
            .as_ref()
            .and_then(|file| std::fs::read(file).ok())
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let etag = kept.as_ref().map(|kept| kept.etag.as_str());
        let Some(answer) = self.exchange(&Method::GET, path, None, etag).await? else {
            let kept =
                kept.ok_or_else(|| self.malformed(path, "it says that nothing changed, and nothing was kept"))?;
            let mut headers = HeaderMap::new();
            if let Some(link) = kept.link.as_deref().and_then(|link| HeaderValue::from_str(link).ok()) {
                headers.insert("link", link);
            }
            return Ok(Answer { headers, body: kept.body.into_bytes() });
        };
        let text = |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        if let (Some(file), Some(etag), Ok(body)) = (file, text("etag"), String::from_utf8(answer.body.clone())) {
            let kept = Kept { etag, link: text("link"), body };
            write_whole(&file, &serde_json::to_vec(&kept).unwrap_or_default())?;
        }
        Ok(answer)
    }

    async fn write<T: DeserializeOwned>(&self, method: Method, path: &str, body: &Value) -> Result<T, GithubError> {
        let answer = self.exchange(&method, path, Some(body), None).await?;
        let answer = answer.ok_or_else(|| self.malformed(path, "it says that nothing changed"))?;
        self.parse(path, &answer.body)
    }

    /// One request with its waits and tries. Nothing is returned where what was kept still holds (304).
    async fn exchange(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
        etag: Option<&str>,
    ) -> Result<Option<Answer>, GithubError> {
        let mut tries = 0_u32;
        loop {
            tries = tries.saturating_add(1);
            // A request that may have been carried out is not sent twice by itself: a second issue is worse than none.
            let may_repeat = tries < TRIES && *method == Method::GET;
            let pause = self.settings.pause.saturating_mul(1 << tries.min(6));
            match self.send(method, path, body, etag).await {
                Err(GithubError::Unreachable { .. }) if may_repeat => tokio::time::sleep(pause).await,
                Err(error) => return Err(error),
                Ok((StatusCode::NOT_MODIFIED, _)) => return Ok(None),
                Ok((status, answer)) if status.is_success() => return Ok(Some(answer)),
                Ok((status, answer)) => match self.wait_of(status, &answer.headers, &answer.body) {
                    // Refused before it was carried out: also what writes may be sent again.
                    Some(wait) if wait <= self.settings.patience && tries < TRIES => tokio::time::sleep(wait).await,
                    Some(wait) => {
                        return Err(GithubError::RateLimited { service: self.service.clone(), wait_s: wait.as_secs() });
                    }
                    None if status.is_server_error() && may_repeat => tokio::time::sleep(pause).await,
                    None if status.is_server_error() => {
                        return Err(GithubError::Failed { service: self.service.clone(), status });
                    }
                    None if status == StatusCode::NOT_FOUND => return Err(self.not_found(path)),
                    None => return Err(self.refused(path, status, &answer.body)),
                },
            }
        }
    }

    async fn send(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
        etag: Option<&str>,
    ) -> Result<(StatusCode, Answer), GithubError> {
        let url = super::below(&self.settings.base, "");
        let url = format!("{}{path}", url.as_str().trim_end_matches('/'));
        let mut request = http_request(method, &url);
        if let Some(etag) = etag {
            request = request.header("if-none-match", etag);
        }
        let request = self
            .octocrab
            .build_request(request.header("accept", "application/vnd.github+json"), body)
            .map_err(|error| self.unreachable(&error))?;
        let response = self.octocrab.execute(request).await.map_err(|error| self.unreachable(&error))?;
        let (head, body) = response.into_parts();
        let limit = usize::try_from(limits::EVIDENCE_BYTES).unwrap_or(usize::MAX);
        let body =
            axum::body::to_bytes(axum::body::Body::new(body), limit).await.map_err(|error| self.unreachable(&error))?;
        Ok((head.status, Answer { headers: head.headers, body: body.to_vec() }))
    }

    /// How long a limit makes us wait; nothing where the refusal is none of a limit.
    fn wait_of(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Option<Duration> {
        if status != StatusCode::FORBIDDEN && status != StatusCode::TOO_MANY_REQUESTS {
            return None;
        }
        let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
        if let Some(seconds) = number("retry-after") {
            return Some(Duration::from_secs(seconds));
        }
        if number("x-ratelimit-remaining") == Some(0) {
            // The server's own clock: ours may be off.
            let date = headers.get("date").and_then(|date| date.to_str().ok());
            let date = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
            let now = date.map(|date| date.timestamp().as_second()).and_then(|now| u64::try_from(now).ok());
            let reset = number("x-ratelimit-reset");
            let wait = reset.zip(now).map_or(SECONDARY_S, |(reset, now)| reset.saturating_sub(now).saturating_add(1));
            return Some(Duration::from_secs(wait));
        }
        let secondary = status == StatusCode::TOO_MANY_REQUESTS
            || String::from_utf8_lossy(body).to_ascii_lowercase().contains("secondary rate limit");
        secondary.then(|| Duration::from_secs(SECONDARY_S))
    }

    fn parse<T: DeserializeOwned>(&self, path: &str, body: &[u8]) -> Result<T, GithubError> {
        serde_json::from_slice(body).map_err(|error| self.malformed(path, &error.to_string()))
    }

    fn kept_at(&self, dir: &Path, path: &str) -> PathBuf {
        // A token sees what another does not: what is kept is kept by token too.
        let token = self.settings.token.as_deref().unwrap_or_default();
        let key = format!("{}\n{path}\n{}", self.settings.base, Digest::sha256(token.as_bytes()));
        dir.join(format!("{}.json", Digest::sha256(key.as_bytes()).to_hex()))
    }

    fn unreachable(&self, error: &dyn std::error::Error) -> GithubError {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(next) = cause {
            message = next.to_string();
            cause = next.source();
        }
        GithubError::Unreachable { service: self.service.clone(), message }
    }

    fn malformed(&self, path: &str, message: &str) -> GithubError {
        let (service, path) = (self.service.clone(), path.to_owned());
        GithubError::Malformed { service, path, message: message.to_owned() }
    }

    fn not_found(&self, path: &str) -> GithubError {
        GithubError::NotFound { service: self.service.clone(), path: path.to_owned() }
    }

    fn refused(&self, path: &str, status: StatusCode, body: &[u8]) -> GithubError {
        let said: Option<Value> = serde_json::from_slice(body).ok();
        let message = said.as_ref().and_then(|said| said.get("message")?.as_str()).unwrap_or("no reason given");
        let plain = |letter: &char| letter.is_alphanumeric() || letter.is_ascii_punctuation() || *letter == ' ';
        let message = message.chars().filter(plain).take(300).collect();
        GithubError::Refused { service: self.service.clone(), path: path.to_owned(), status, message }
    }
}

/// A file that is there whole or not at all.
fn write_whole(file: &Path, bytes: &[u8]) -> Result<(), GithubError> {
    let failed =
        |error: std::io::Error| GithubError::Disk { path: file.display().to_string(), message: error.to_string() };
    let dir = file.parent().unwrap_or_else(|| Path::new("."));
    std::fs::create_dir_all(dir).map_err(failed)?;
    let new = tempfile::NamedTempFile::new_in(dir).map_err(failed)?;
    std::fs::write(new.path(), bytes).map_err(failed)?;
    new.persist(file).map_err(|error| failed(error.error))?;
    Ok(())
}

fn http_request(method: &Method, url: &str) -> axum::http::request::Builder {
    axum::http::Request::builder().method(method.clone()).uri(url)
}

/// Whether the `Link` header names a next page (RFC 8288).
fn has_next(headers: &HeaderMap) -> bool {
    headers.get("link").and_then(|link| link.to_str().ok()).is_some_and(|link| link.contains("rel=\"next\""))
}

/// A name as one segment of a path.
fn segment(name: &str) -> String {
    // The form encoding writes a blank as `+`, which a path takes at its word.
    url::form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>().replace('+', "%20")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_two_plain_names() {
        for good in ["o/r", "my-org/my_repo.rs", "a1/.github"] {
            assert_eq!(Repository::parse(good).unwrap().to_string(), good);
        }
        for bad in ["", "o", "o/", "/r", "o/r/x", "o/..", "o/r?x", "o/r#", "ö/r", "o /r"] {
            assert!(Repository::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_tag_is_one_segment_of_a_path() {
        assert_eq!(segment("v1.0/x y+z"), "v1.0%2Fx%20y%2Bz");
    }
}
