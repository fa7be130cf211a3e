//! The user's credentials for a registry, as `docker login` keeps them: Docker's configuration in, a name and a secret
//! out. A helper is run where the configuration names one.
//!
//! Source: docs.docker.com, "docker login", and the protocol of docker-credential-helpers. Nothing is written.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use zeroize::Zeroizing;

use crate::types::limits;

/// Who asks.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user's name; empty beside an identity token.
    pub username: String,
    /// What proves it.
    pub secret: Secret,
}

/// What proves who asks; wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// A password or a personal access token.
    Password(Zeroizing<String>),
    /// A token with which the token service gives others.
    IdentityToken(Zeroizing<String>),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({}, …)", self.username)
    }
}

impl Credentials {
    /// A name with its password.
    pub fn new(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self { username: username.into(), secret: Secret::Password(Zeroizing::new(password.into())) }
    }
}

/// Why the credentials that the user has stored cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// Docker's configuration.
    #[error("cannot read {path}: {message}")]
    Unreadable {
        /// Where it is.
        path: PathBuf,
        /// What is wrong; never what is in it.
        message: String,
    },
    /// A program that the configuration names.
    #[error("the credential helper {helper} failed: {message}")]
    Helper {
        /// The program.
        helper: String,
        /// What is wrong; never what it answered.
        message: String,
    },
}

/// Docker Hub's name in Docker's configuration.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// The credentials for a registry in Docker's `config.json` of this directory; none where there are none.
///
/// # Errors
/// [`CredentialsError`]; a configuration that is not there is none.
pub async fn stored(dir: &Path, registry: &str) -> Result<Option<Credentials>, CredentialsError> {
    let path = dir.join("config.json");
    let unreadable = |message: String| CredentialsError::Unreadable { path: path.clone(), message };
    let text = match std::fs::metadata(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error.to_string())),
        Ok(metadata) if !metadata.is_file() => return Err(unreadable("it is no file".to_owned())),
        Ok(metadata) if metadata.len() > limits::DOCKER_CONFIG_BYTES => {
            return Err(unreadable(format!("it has more than {} bytes", limits::DOCKER_CONFIG_BYTES)));
        }
        Ok(_) => std::fs::read(&path).map(Zeroizing::new).map_err(|error| unreadable(error.to_string()))?,
    };
    let config: Config = serde_json::from_slice(&text)
        .map_err(|error| unreadable(format!("line {}, column {}: no sound JSON", error.line(), error.column())))?;
    let names = names_of(registry);
    let helper = names.iter().find_map(|name| config.helpers.get(name)).or(config.store.as_ref());
    if let Some(helper) = helper.filter(|helper| !helper.is_empty()) {
        let asked = names.first().map_or(registry, String::as_str);
        if let Some(found) = ask_helper(helper, asked).await? {
            return Ok(Some(found));
        }
    }
    let is_for = |written: &str| names.iter().any(|name| name == written || bare(written) == bare(name));
    let found = names.iter().find_map(|name| config.auths.get(name));
    let found = found.or_else(|| config.auths.iter().find(|(written, _)| is_for(written)).map(|(_, entry)| entry));
    found.map_or(Ok(None), |entry| entry.read().map_err(unreadable))
}

/// How Docker's configuration may name a registry; the usual name first.
fn names_of(registry: &str) -> Vec<String> {
    match registry {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => {
            [DOCKER_HUB, "index.docker.io", "docker.io"].map(str::to_owned).into()
        }
        other => vec![other.to_owned()],
    }
}

/// A name without scheme and path, as older versions wrote it.
fn bare(name: &str) -> &str {
    let rest = name.split_once("://").map_or(name, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    auth: Option<Hidden>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<Hidden>,
    #[serde(default, rename = "identitytoken")]
    identity_token: Option<Hidden>,
}

/// A text out of a document that is wiped from memory when dropped.
pub(super) struct Hidden(pub(super) Zeroizing<String>);

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

impl Entry {
    fn read(&self) -> Result<Option<Credentials>, String> {
        if let Some(token) = self.identity_token.as_ref().filter(|token| !token.0.is_empty()) {
            return Ok(Some(Credentials { username: String::new(), secret: Secret::IdentityToken(token.0.clone()) }));
        }
        if let (Some(username), Some(password)) = (&self.username, &self.password) {
            return Ok(Some(Credentials { username: username.clone(), secret: Secret::Password(password.0.clone()) }));
        }
        let Some(both) = self.auth.as_ref().map(|both| &both.0).filter(|both| !both.is_empty()) else {
            return Ok(None);
        };
        let bytes = STANDARD.decode(both.trim()).map(Zeroizing::new).map_err(|_| "an `auth` is not base64")?;
        let text = std::str::from_utf8(&bytes).map_err(|_| "an `auth` is no text")?;
        let (username, password) = text.split_once(':').ok_or("an `auth` has no password")?;
        // Docker wrote a NUL behind it at times.
        Ok(Some(Credentials::new(username, password.trim_end_matches('\0'))))
    }
}

/// Asks `docker-credential-NAME get`.
async fn ask_helper(name: &str, registry: &str) -> Result<Option<Credentials>, CredentialsError> {
    let helper = format!("docker-credential-{name}");
    let failed = |message: &str| CredentialsError::Helper { helper: helper.clone(), message: message.to_owned() };
    // A name with a slash would be a program anywhere.
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')) {
        return Err(failed("this is no name of a helper"));
    }
    let mut child = tokio::process::Command::new(&helper)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(&error.kind().to_string()))?;
    let answered = async {
        if let Some(mut stdin) = child.stdin.take() {
            // One that does not want to hear the question has an answer anyway.
            let _ = stdin.write_all(registry.as_bytes()).await;
        }
        let mut answer = Zeroizing::new(Vec::new());
        if let Some(stdout) = child.stdout.take() {
            stdout.take(limits::DOCKER_CONFIG_BYTES).read_to_end(&mut answer).await?;
        }
        Ok::<_, std::io::Error>((child.wait().await?, answer))
    };
    let (status, answer) = tokio::time::timeout(Duration::from_millis(limits::CREDENTIAL_HELPER_MS), answered)
        .await
        .map_err(|_| failed("it does not answer"))?
        .map_err(|error| failed(&error.kind().to_string()))?;
    if !status.success() {
        let has_none = String::from_utf8_lossy(&answer).contains("credentials not found");
        return if has_none { Ok(None) } else { Err(failed(&status.to_string())) };
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: Hidden,
    }
    let answer: Answer = serde_json::from_slice(&answer).map_err(|_| failed("its answer is not in the known form"))?;
    // The protocol's own mark for a secret that is no password.
    let secret = match answer.username.as_str() {
        "<token>" => Secret::IdentityToken(answer.secret.0),
        _ => Secret::Password(answer.secret.0),
    };
    Ok(Some(Credentials { username: answer.username, secret }))
}
