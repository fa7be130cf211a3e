//! A `trusted_root.json` in; prepared keys and authority chains out.
//!
//! Source: sigstore protobuf-specs, `trusted_root.proto`. What kinds of evidence a root demands follows from what it
//! names: a root with logs wants log entries, one with CT logs wants certificate timestamps, and GitHub's, which has
//! neither, rests on timestamps alone. So evidence that fits GitHub's root never passes under the public-good one.

use std::sync::OnceLock;

use jiff::Timestamp;
use serde::Deserialize;

use crate::release::evidence::certificate::Certificate;
use crate::release::evidence::json::{self, base64_bytes};
use crate::release::evidence::key::PublicKey;
use crate::types::{Code, Digest, Reason, limits};

/// Which authorities and logs are believed.
#[derive(Debug)]
pub struct TrustRoot {
    /// SHA-256 of the document.
    pub digest: Digest,
    /// Certificate authorities.
    pub authorities: Vec<Authority>,
    /// Timestamp authorities; a chain's first certificate is the signer's own.
    pub timestamp_authorities: Vec<Authority>,
    /// Certificate transparency logs.
    pub ct_logs: Vec<Log>,
    /// Transparency logs of signatures.
    pub logs: Vec<Log>,
    /// Whether the document names any CT log, and so wants certificate timestamps; one that was left out counts.
    pub has_ct_logs: bool,
    /// Whether the document names any log, and so wants log entries; one that was left out counts.
    pub has_logs: bool,
}

/// An authority's chain and the time for which it is believed.
#[derive(Debug)]
pub struct Authority {
    /// Where it is reached; for people.
    pub uri: String,
    /// The chain, the root last; never empty.
    pub chain: Vec<Certificate>,
    /// When it may have acted.
    pub window: Window,
    joined: OnceLock<bool>,
}

/// A log's key and the time for which it is believed.
#[derive(Debug)]
pub struct Log {
    /// The log's id.
    pub id: Vec<u8>,
    /// Its key.
    pub key: PublicKey,
    /// When it may have acted.
    pub window: Window,
    /// Where it is reached; for people.
    pub uri: String,
    /// The host (and port) of its address, which is the log's name on checkpoints.
    pub name: String,
}

/// A span of time; both ends belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The beginning. A window without one covers nothing.
    pub start: Option<Timestamp>,
    /// The end, where it has one.
    pub end: Option<Timestamp>,
}

impl Window {
    /// Whether `time` lies in the window.
    pub fn contains(&self, time: Timestamp) -> bool {
        self.start.is_some_and(|start| start <= time) && self.end.is_none_or(|end| time <= end)
    }
}

impl Authority {
    /// Whether each certificate of the chain was signed by the next one, which may sign. Checked once.
    pub fn is_joined(&self) -> bool {
        *self.joined.get_or_init(|| {
            self.chain.windows(2).all(|pair| match pair {
                [below, above] => {
                    above.is_authority && below.issuer_name == above.subject_name && below.is_signed_by(above)
                }
                _ => false,
            })
        })
    }

    /// Whether every certificate of the chain is valid at `time`.
    pub fn is_valid_at(&self, time: Timestamp) -> bool {
        self.chain.iter().all(|certificate| certificate.is_valid_at(time))
    }
}

impl TrustRoot {
    /// Reads a `trusted_root.json`.
    ///
    /// Logs whose key is of a kind that this version cannot check are left out: what they signed is then from an
    /// unknown log, which is a no.
    ///
    /// # Errors
    /// `trust-root-unreadable`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Reason> {
        read(bytes).map_err(|reason| {
            let mut unreadable =
                Reason::new(Code::TrustRootUnreadable, format!("the trust root cannot be used: {}", reason.message));
            unreadable.location = reason.location;
            unreadable
        })
    }

    /// A root that believes nobody: enough for managed keys, which bring their own trust.
    pub fn empty() -> Self {
        Self {
            digest: Digest::sha256(b""),
            authorities: Vec::new(),
            timestamp_authorities: Vec::new(),
            ct_logs: Vec::new(),
            logs: Vec::new(),
            has_ct_logs: false,
            has_logs: false,
        }
    }

    /// The log with this id; a shortened id finds none.
    pub fn log(&self, id: &[u8]) -> Option<&Log> {
        self.logs.iter().find(|log| log.id == id)
    }
}

fn read(bytes: &[u8]) -> Result<TrustRoot, Reason> {
    let malformed = |place: &str, message: String| Reason::new(Code::TrustRootUnreadable, message).location(place);
    if bytes.len() as u64 > limits::TRUST_ROOT_BYTES {
        return Err(malformed("", format!("it has more than {} bytes", limits::TRUST_ROOT_BYTES)));
    }
    let wire: wire::Root = json::parse(bytes, Code::TrustRootUnreadable)?;
    if !wire.media_type.starts_with("application/vnd.dev.sigstore.trustedroot") {
        return Err(malformed("mediaType", format!("its media type is `{}`", wire.media_type)));
    }
    let counts =
        [wire.tlogs.len(), wire.ctlogs.len(), wire.certificate_authorities.len(), wire.timestamp_authorities.len()];
    if counts.iter().any(|count| *count > limits::TRUST_ROOT_AUTHORITIES) {
        return Err(malformed("", format!("it has more than {} of one kind", limits::TRUST_ROOT_AUTHORITIES)));
    }
    Ok(TrustRoot {
        digest: Digest::sha256(bytes),
        has_ct_logs: !wire.ctlogs.is_empty(),
        has_logs: !wire.tlogs.is_empty(),
        authorities: authorities(wire.certificate_authorities, "certificateAuthorities")?,
        timestamp_authorities: authorities(wire.timestamp_authorities, "timestampAuthorities")?,
        ct_logs: logs(wire.ctlogs, "ctlogs")?,
        logs: logs(wire.tlogs, "tlogs")?,
    })
}

fn authorities(wire: Vec<wire::Authority>, kind: &str) -> Result<Vec<Authority>, Reason> {
    let read = |(position, authority): (usize, wire::Authority)| {
        let place = format!("{kind}[{position}].certChain");
        let chain: Vec<Certificate> = authority
            .cert_chain
            .certificates
            .iter()
            .map(|certificate| Certificate::parse(&certificate.raw_bytes).map_err(|reason| reason.location(&*place)))
            .collect::<Result<_, _>>()?;
        if chain.is_empty() || chain.len() > limits::CERTIFICATES {
            return Err(Reason::new(Code::TrustRootUnreadable, "an authority needs a chain of 1 to 8 certificates")
                .location(place));
        }
        let window = authority.valid_for.map(|window| window.read()).transpose()?.unwrap_or(NEVER);
        Ok(Authority { uri: authority.uri, chain, window, joined: OnceLock::new() })
    };
    wire.into_iter().enumerate().map(read).collect()
}

const NEVER: Window = Window { start: None, end: None };

fn logs(wire: Vec<wire::Log>, kind: &str) -> Result<Vec<Log>, Reason> {
    let mut logs = Vec::new();
    for (position, log) in wire.into_iter().enumerate() {
        if log.log_id.key_id.is_empty() {
            return Err(
                Reason::new(Code::TrustRootUnreadable, "a log has no id").location(format!("{kind}[{position}].logId"))
            );
        }
        let bytes = log.public_key.raw_bytes;
        let Ok(key) = PublicKey::from_spki(&bytes).or_else(|_| PublicKey::from_pkcs1(&bytes)) else {
            tracing::warn!("{kind}[{position}] of the trust root has a key of unknown kind and is left out");
            continue;
        };
        let window = log.public_key.valid_for.map(|window| window.read()).transpose()?.unwrap_or(NEVER);
        let name = host(&log.base_url).to_owned();
        logs.push(Log { id: log.log_id.key_id, key, window, uri: log.base_url, name });
    }
    Ok(logs)
}

/// What stands between the scheme and the path of an address.
fn host(address: &str) -> &str {
    let bare = address.split_once("://").map_or(address, |(_, rest)| rest);
    bare.split_once('/').map_or(bare, |(host, _)| host)
}

mod wire {
    use super::{Code, Deserialize, Reason, Timestamp, Window, base64_bytes};

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Root {
        #[serde(default, alias = "media_type")]
        pub(super) media_type: String,
        #[serde(default)]
        pub(super) tlogs: Vec<Log>,
        #[serde(default, alias = "certificate_authorities")]
        pub(super) certificate_authorities: Vec<Authority>,
        #[serde(default)]
        pub(super) ctlogs: Vec<Log>,
        #[serde(default, alias = "timestamp_authorities")]
        pub(super) timestamp_authorities: Vec<Authority>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Log {
        #[serde(default, alias = "base_url")]
        pub(super) base_url: String,
        #[serde(alias = "public_key")]
        pub(super) public_key: PublicKey,
        #[serde(alias = "log_id")]
        pub(super) log_id: LogId,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct LogId {
        #[serde(alias = "key_id", deserialize_with = "base64_bytes::deserialize")]
        pub(super) key_id: Vec<u8>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct PublicKey {
        #[serde(alias = "raw_bytes", deserialize_with = "base64_bytes::deserialize")]
        pub(super) raw_bytes: Vec<u8>,
        #[serde(default, alias = "valid_for")]
        pub(super) valid_for: Option<TimeRange>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Authority {
        #[serde(default)]
        pub(super) uri: String,
        #[serde(alias = "cert_chain")]
        pub(super) cert_chain: Chain,
        #[serde(default, alias = "valid_for")]
        pub(super) valid_for: Option<TimeRange>,
    }

    #[derive(Deserialize)]
    pub(super) struct Chain {
        #[serde(default)]
        pub(super) certificates: Vec<Certificate>,
    }

    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    pub(super) struct Certificate {
        #[serde(alias = "raw_bytes", deserialize_with = "base64_bytes::deserialize")]
        pub(super) raw_bytes: Vec<u8>,
    }

    #[derive(Deserialize)]
    pub(super) struct TimeRange {
        #[serde(default)]
        start: Option<String>,
        #[serde(default)]
        end: Option<String>,
    }

    impl TimeRange {
        pub(super) fn read(&self) -> Result<Window, Reason> {
            let time = |text: &Option<String>| {
                text.as_deref()
                    .map(|text| {
                        text.parse::<Timestamp>().map_err(|error| {
                            Reason::new(Code::TrustRootUnreadable, format!("`{text}` is no time: {error}"))
                        })
                    })
                    .transpose()
            };
            Ok(Window { start: time(&self.start)?, end: time(&self.end)? })
        }
    }
}
