//! `[keys]` and `[[oidc]]` of the configuration: how long API keys last, and who else vouches for people.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, de};
use url::Url;

use crate::types::grant::is_label;
use crate::types::limits;

/// How long API keys last.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct KeysConfig {
    /// Days at most.
    #[serde(deserialize_with = "days")]
    pub longest_days: i64,
}

impl Default for KeysConfig {
    fn default() -> Self {
        Self { longest_days: limits::KEY_DAYS }
    }
}

/// An OpenID provider by which people log in.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct OidcConfig {
    /// What it is called here: lower-case letters, digits and hyphens.
    #[serde(deserialize_with = "label")]
    pub name: String,
    /// Its issuer, byte by byte as the provider says it.
    #[serde(deserialize_with = "private")]
    pub issuer: String,
    /// What it knows us by.
    pub client_id: String,
    /// A file with the secret that goes with it; a public client has none.
    #[serde(default)]
    pub client_secret_file: Option<PathBuf>,
    /// Our callback as browsers reach it: `https://HOST/v1/oidc/NAME/callback`.
    #[serde(deserialize_with = "private")]
    pub redirect_url: String,
    /// What is asked for besides `openid`.
    #[serde(default = "scopes")]
    pub scopes: Vec<String>,
    /// The claim by which a new user is named.
    #[serde(default = "user_claim")]
    pub user_claim: String,
    /// The claim whose values give roles; where it is named, it alone says which built-in role somebody has.
    #[serde(default)]
    pub role_claim: Option<String>,
    /// The roles by the values of that claim: built-in ones, and those that somebody made.
    #[serde(default, deserialize_with = "roles")]
    pub roles: BTreeMap<String, String>,
    /// Domains of verified e-mail addresses that are let in; all of them where none is named.
    #[serde(default)]
    pub domains: Vec<String>,
    /// Whether who is not known yet becomes a user.
    #[serde(default)]
    pub auto_create: bool,
}

fn scopes() -> Vec<String> {
    vec!["profile".to_owned(), "email".to_owned()]
}

fn user_claim() -> String {
    "preferred_username".to_owned()
}

fn days<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let days = i64::deserialize(deserializer)?;
    if (1..=limits::KEY_DAYS).contains(&days) {
        return Ok(days);
    }
    Err(de::Error::custom(format!("a key lasts at least 1 and at most {} days", limits::KEY_DAYS)))
}

fn label<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let name = String::deserialize(deserializer)?;
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if (1..=63).contains(&name.len()) && name.bytes().all(plain) {
        return Ok(name);
    }
    Err(de::Error::custom(format!("{name:?} is no name: write lower-case letters, digits and hyphens")))
}

/// Whether there is such a role, only the database knows, and that is another one tomorrow.
fn roles<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let roles = BTreeMap::<String, String>::deserialize(deserializer)?;
    match roles.values().find(|role| !is_label(role)) {
        None => Ok(roles),
        Some(role) => Err(de::Error::custom(format!(
            "{role:?} is no name for a role: write admin, operator, developer, viewer, or the name of one that was made"
        ))),
    }
}

/// An address whose traffic nobody else reads: by TLS, or on this very machine.
fn private<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let url = Url::parse(&text).map_err(|error| de::Error::custom(format!("{text:?} is no URL: {error}")))?;
    let loopback = match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    };
    if url.scheme() == "https" || (url.scheme() == "http" && loopback) {
        return Ok(text);
    }
    Err(de::Error::custom(format!("{text:?} is not https")))
}
