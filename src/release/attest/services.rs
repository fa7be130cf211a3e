//! Which services a signature goes through: a `signing_config.json` and flags in, addresses out.
//!
//! Source: sigstore protobuf-specs, `sigstore_trustroot.proto`, `SigningConfig` v0.2. Never fetched here.

use jiff::Timestamp;
use serde::Deserialize;
use url::Url;

use crate::release::evidence::json;
use crate::types::{Code, Reason};

/// The services that a signature goes through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Services {
    /// The certificate authority, for keyless signing.
    pub authority: Option<Url>,
    /// The logs, with their interface's major version.
    pub logs: Vec<(Url, u32)>,
    /// The timestamp authorities.
    pub timestamp_authorities: Vec<Url>,
}

/// The newest interface of each service that we speak.
const AUTHORITY_VERSION: u32 = 1;
const LOG_VERSION: u32 = 2;
const TIMESTAMP_VERSION: u32 = 1;

impl Services {
    /// The public-good instance's services, for a run that is told of none: rekor's first version, whose signed time
    /// needs no timestamp authority.
    pub fn public_good() -> Self {
        let url = |text: &str| Url::parse(text).ok();
        Self {
            authority: url("https://fulcio.sigstore.dev"),
            logs: url("https://rekor.sigstore.dev").map(|url| (url, 1)).into_iter().collect(),
            timestamp_authorities: Vec::new(),
        }
    }

    /// Reads a signing configuration and selects from it, at `now`, what its selectors ask for.
    ///
    /// # Errors
    /// `malformed-json` or what strict JSON refuses; also where it names no service that we can speak to.
    pub fn from_config(bytes: &[u8], now: Timestamp) -> Result<Self, Reason> {
        let config: Config = json::parse(bytes, Code::MalformedJson)?;
        let refuse = |message: &str| Reason::new(Code::MalformedJson, message.to_owned());
        if config.media_type != "application/vnd.dev.sigstore.signingconfig.v0.2+json" {
            return Err(refuse("the signing configuration is not of version 0.2").location("mediaType"));
        }
        let authority = select(&config.ca_urls, AUTHORITY_VERSION, &Selector::default(), now);
        let logs = select(&config.rekor_tlog_urls, LOG_VERSION, &config.rekor_tlog_config, now);
        let timestamps = select(&config.tsa_urls, TIMESTAMP_VERSION, &config.tsa_config, now);
        if logs.is_empty() && timestamps.is_empty() {
            return Err(refuse("the signing configuration names no log and no timestamp authority that serve now"));
        }
        Ok(Self {
            authority: authority.into_iter().next().map(|(url, _)| url),
            logs,
            timestamp_authorities: timestamps.into_iter().map(|(url, _)| url).collect(),
        })
    }
}

/// The services that serve now, of the highest version that we speak, as many as the selector asks for; one of each
/// operator at most.
fn select(all: &[Service], newest: u32, selector: &Selector, now: Timestamp) -> Vec<(Url, u32)> {
    let serving: Vec<&Service> =
        all.iter().filter(|service| service.major_api_version <= newest && service.serves_at(now)).collect();
    let Some(version) = serving.iter().map(|service| service.major_api_version).max() else { return Vec::new() };
    let mut operators = Vec::new();
    let mut selected: Vec<(Url, u32)> = Vec::new();
    for service in serving.into_iter().filter(|service| service.major_api_version == version) {
        if operators.contains(&service.operator.as_str()) {
            continue;
        }
        operators.push(service.operator.as_str());
        selected.push((service.url.clone(), version));
    }
    let count = match selector.selector.as_deref() {
        Some("ALL") => selected.len(),
        Some("EXACT") => selector.count,
        _ => 1,
    };
    selected.truncate(count);
    selected
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    media_type: String,
    #[serde(default)]
    ca_urls: Vec<Service>,
    #[serde(default)]
    rekor_tlog_urls: Vec<Service>,
    #[serde(default)]
    rekor_tlog_config: Selector,
    #[serde(default)]
    tsa_urls: Vec<Service>,
    #[serde(default)]
    tsa_config: Selector,
}

#[derive(Default, Deserialize)]
struct Selector {
    #[serde(default)]
    selector: Option<String>,
    #[serde(default)]
    count: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Service {
    #[serde(deserialize_with = "address")]
    url: Url,
    major_api_version: u32,
    #[serde(default)]
    valid_for: Option<TimeRange>,
    #[serde(default)]
    operator: String,
}

fn address<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Url, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

#[derive(Deserialize)]
struct TimeRange {
    #[serde(default)]
    start: Option<Timestamp>,
    #[serde(default)]
    end: Option<Timestamp>,
}

impl Service {
    fn serves_at(&self, now: Timestamp) -> bool {
        self.valid_for.as_ref().is_some_and(|window| {
            window.start.is_some_and(|start| start <= now) && window.end.is_none_or(|end| now <= end)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn the_highest_version_that_serves_now_is_selected() {
        let config = br#"{"mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            "caUrls": [{"url": "https://ca.example", "majorApiVersion": 1, "validFor": {"start": "2025-01-01T00:00:00Z"}, "operator": "a"}],
            "rekorTlogUrls": [
                {"url": "https://v3.example", "majorApiVersion": 3, "validFor": {"start": "2025-01-01T00:00:00Z"}, "operator": "a"},
                {"url": "https://v2.example", "majorApiVersion": 2, "validFor": {"start": "2025-01-01T00:00:00Z"}, "operator": "a"},
                {"url": "https://old.example", "majorApiVersion": 2, "validFor": {"start": "2024-01-01T00:00:00Z", "end": "2025-01-01T00:00:00Z"}, "operator": "b"},
                {"url": "https://v1.example", "majorApiVersion": 1, "validFor": {"start": "2025-01-01T00:00:00Z"}, "operator": "a"}],
            "rekorTlogConfig": {"selector": "ALL"},
            "tsaUrls": [
                {"url": "https://one.example", "majorApiVersion": 1, "validFor": {"start": "2025-01-01T00:00:00Z"}, "operator": "a"},
                {"url": "https://two.example", "majorApiVersion": 1, "validFor": {"start": "2025-01-01T00:00:00Z"}, "operator": "b"}],
            "tsaConfig": {"selector": "EXACT", "count": 2}}"#;
        let services = Services::from_config(config, now()).unwrap();
        let url = |text: &str| Url::parse(text).unwrap();
        assert_eq!(services.authority, Some(url("https://ca.example")));
        assert_eq!(services.logs, [(url("https://v2.example"), 2)]);
        assert_eq!(services.timestamp_authorities, [url("https://one.example"), url("https://two.example")]);
    }

    #[test]
    fn a_configuration_without_a_service_that_serves_is_refused() {
        let config = br#"{"mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json", "caUrls": []}"#;
        assert!(Services::from_config(config, now()).is_err());
        assert!(Services::from_config(br#"{"mediaType": "x"}"#, now()).is_err());
    }
}
