//! What a `trusted_root.json` names, for people to read: bytes in, a list of authorities and logs out.
//! It says what the document says. Whether its keys verify anything is `trust::root`'s to find out.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::release::evidence::json;
use crate::types::{Code, Digest, Reason, limits};

/// Everything that a trust root names, in the document's order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listing {
    /// The document's media type.
    pub media_type: String,
    /// The authorities and logs.
    pub entries: Vec<Entry>,
}

/// What an entry is believed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Issues the certificates that signers sign with.
    CertificateAuthority,
    /// Logs certificates and signs the SCTs in them.
    CertificateLog,
    /// Logs signatures.
    TransparencyLog,
    /// Signs RFC 3161 timestamps.
    TimestampAuthority,
}

impl Role {
    /// The words in a table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CertificateAuthority => "certificate authority",
            Self::CertificateLog => "certificate log",
            Self::TransparencyLog => "transparency log",
            Self::TimestampAuthority => "timestamp authority",
        }
    }
}

/// One authority or log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// What it is believed for.
    pub role: Role,
    /// An authority's common name, or its organization; a log's address.
    pub name: String,
    /// Where it is reached, where the document says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// A log's id in hex; for an authority `sha256:` over its own certificate, the first of its chain.
    pub key_id: String,
    /// The log's kind of key as the document names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_details: Option<String>,
    /// Certificates in an authority's chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificates: Option<usize>,
    /// From when it is believed; without one, never.
    pub valid_from: Option<Timestamp>,
    /// Until when, to the last moment; without one, with no end.
    pub valid_until: Option<Timestamp>,
}

impl Entry {
    /// Whether events at `now` would be believed.
    pub fn is_current(&self, now: Timestamp) -> bool {
        self.valid_from.is_some_and(|from| from <= now) && self.valid_until.is_none_or(|until| now <= until)
    }
}

/// Reads a `trusted_root.json` (sigstore protobuf-specs, `trusted_root.proto`).
///
/// # Errors
/// `trust-root-unreadable`, with the place in the document.
pub fn parse(bytes: &[u8]) -> Result<Listing, Reason> {
    if bytes.len() as u64 > limits::TRUST_ROOT_BYTES {
        return Err(unreadable(format!("it is larger than {} bytes", limits::TRUST_ROOT_BYTES)));
    }
    // A trust root that is no sound JSON is no evidence against anybody: it cannot be read, and nothing is decided.
    let document: Document = json::parse(bytes, Code::TrustRootUnreadable).map_err(|reason| {
        let again = unreadable(reason.message);
        reason.location.into_iter().fold(again, Reason::location)
    })?;
    if !document.media_type.starts_with("application/vnd.dev.sigstore.trustedroot") {
        return Err(unreadable(format!("its media type is `{}`", document.media_type)).location("mediaType"));
    }
    let mut entries = Vec::new();
    add(
        &mut entries,
        "certificateAuthorities",
        document.certificate_authorities,
        Role::CertificateAuthority,
        authority,
    )?;
    add(&mut entries, "ctlogs", document.ctlogs, Role::CertificateLog, log)?;
    add(&mut entries, "tlogs", document.tlogs, Role::TransparencyLog, log)?;
    add(&mut entries, "timestampAuthorities", document.timestamp_authorities, Role::TimestampAuthority, authority)?;
    if entries.is_empty() {
        return Err(unreadable("it names no authority and no log"));
    }
    Ok(Listing { media_type: document.media_type, entries })
}

fn add<T>(
    entries: &mut Vec<Entry>,
    field: &str,
    found: Vec<T>,
    role: Role,
    entry: impl Fn(T, Role) -> Result<Entry, &'static str>,
) -> Result<(), Reason> {
    if found.len() > limits::TRUST_ROOT_AUTHORITIES {
        let message = format!("it names {} of them, at most {} are read", found.len(), limits::TRUST_ROOT_AUTHORITIES);
        return Err(unreadable(message).location(field));
    }
    for (at, item) in found.into_iter().enumerate() {
        entries.push(entry(item, role).map_err(|what| unreadable(what).location(format!("{field}[{at}]")))?);
    }
    Ok(())
}

fn log(log: Log, role: Role) -> Result<Entry, &'static str> {
    if log.public_key.raw_bytes.is_empty() {
        return Err("the log has no key");
    }
    let (valid_from, valid_until) = log.public_key.valid_for.unwrap_or_default().read()?;
    let key_id = match log.log_id {
        Some(id) => hex::encode(id.key_id),
        None => Digest::sha256(&log.public_key.raw_bytes).to_hex(),
    };
    Ok(Entry {
        role,
        name: log.base_url.clone().unwrap_or_default(),
        uri: log.base_url,
        key_id,
        key_details: log.public_key.key_details,
        certificates: None,
        valid_from,
        valid_until,
    })
}

fn authority(authority: Authority, role: Role) -> Result<Entry, &'static str> {
    let chain = authority.cert_chain.certificates;
    let first = chain.first().ok_or("the authority has no certificate")?;
    let (valid_from, valid_until) = authority.valid_for.unwrap_or_default().read()?;
    let subject = authority.subject.unwrap_or_default();
    Ok(Entry {
        role,
        name: subject.common_name.or(subject.organization).unwrap_or_default(),
        uri: authority.uri,
        key_id: Digest::sha256(&first.raw_bytes).to_string(),
        key_details: None,
        certificates: Some(chain.len()),
        valid_from,
        valid_until,
    })
}

fn unreadable(message: impl Into<String>) -> Reason {
    Reason::new(Code::TrustRootUnreadable, message)
}

// The document's own form. Members that are not named here may come with newer versions, and are left alone.

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    media_type: String,
    #[serde(default)]
    tlogs: Vec<Log>,
    #[serde(default)]
    certificate_authorities: Vec<Authority>,
    #[serde(default)]
    ctlogs: Vec<Log>,
    #[serde(default)]
    timestamp_authorities: Vec<Authority>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Log {
    base_url: Option<String>,
    public_key: LogKey,
    log_id: Option<LogId>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogKey {
    #[serde(deserialize_with = "json::base64_bytes::deserialize")]
    raw_bytes: Vec<u8>,
    key_details: Option<String>,
    valid_for: Option<Window>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogId {
    #[serde(deserialize_with = "json::base64_bytes::deserialize")]
    key_id: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Authority {
    subject: Option<Subject>,
    uri: Option<String>,
    cert_chain: Chain,
    valid_for: Option<Window>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Subject {
    organization: Option<String>,
    common_name: Option<String>,
}

#[derive(Deserialize)]
struct Chain {
    certificates: Vec<Certificate>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Certificate {
    #[serde(deserialize_with = "json::base64_bytes::deserialize")]
    raw_bytes: Vec<u8>,
}

#[derive(Deserialize, Default)]
struct Window {
    start: Option<String>,
    end: Option<String>,
}

impl Window {
    fn read(self) -> Result<(Option<Timestamp>, Option<Timestamp>), &'static str> {
        let read = |text: Option<String>| {
            text.map(|text| text.parse()).transpose().map_err(|_| "a time of its window is none")
        };
        Ok((read(self.start)?, read(self.end)?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_embedded_root_has_all_four_kinds() {
        let listing = parse(super::super::embedded().json).unwrap();
        let now = super::super::embedded().fetched_at;
        for role in [Role::CertificateAuthority, Role::CertificateLog, Role::TransparencyLog, Role::TimestampAuthority]
        {
            assert!(listing.entries.iter().any(|entry| entry.role == role && entry.is_current(now)), "{role:?}");
        }
        let rekor = listing.entries.iter().find(|entry| entry.name == "https://rekor.sigstore.dev").unwrap();
        assert_eq!(rekor.key_id, "c0d23d6ad406973f9559f3ba2d1ca01f84147d8ffc5b8445c224f98b9591801d");
    }

    #[test]
    fn what_is_no_trust_root_is_unreadable() {
        let twice =
            r#"{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1","tlogs":[],"tlogs":[]}"#;
        let empty = r#"{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}"#;
        for text in ["", "{}", "[]", twice, empty, r#"{"mediaType":"application/json","tlogs":[]}"#] {
            let reason = parse(text.as_bytes()).unwrap_err();
            assert_eq!(reason.code.known(), Some(Code::TrustRootUnreadable), "{text}");
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_a_reason_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn a_damaged_root_is_a_reason_or_another_root(at in 0_usize..6787, byte in any::<u8>()) {
            let mut bytes = super::super::embedded().json.to_vec();
            bytes[at] = byte;
            let _ = parse(&bytes);
        }
    }
}
