//! Rekor, both versions: a proposed entry in, the log's own entry out, as ProtoJSON has it in a bundle.
//!
//! Source: rekor's OpenAPI v1 (`createLogEntry`); rekor-tiles' API v2 (`CreateEntry`).

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::answer::{ServiceError, fetch};

/// A log.
#[derive(Debug, Clone)]
pub struct Rekor {
    url: Url,
    client: reqwest::Client,
}

impl Rekor {
    /// The log at this address, and how long an exchange with it may take.
    ///
    /// # Errors
    /// Where no HTTP client can be made.
    pub fn new(url: Url, timeout: Duration) -> reqwest::Result<Self> {
        Ok(Self { url, client: super::service(timeout)? })
    }

    /// Adds an entry to a log of version 1, or finds it where the log has it already: keys whose signatures are always
    /// the same (RSA, Ed25519) come to that by signing a file again.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn add_v1(&self, proposed: &Value) -> Result<Value, ServiceError> {
        let service = format!("the log {}", self.url);
        let malformed = |message: String| ServiceError::malformed(&service, message);
        let url = super::below(&self.url, "api/v1/log/entries");
        let answer = match fetch(&service, self.client.post(url).json(proposed)).await {
            Err(ServiceError::Refused { status: StatusCode::CONFLICT, location: Some(location), .. }) => {
                let there =
                    location.rsplit('/').next().filter(|name| name.bytes().all(|byte| byte.is_ascii_hexdigit()));
                let name = there.ok_or_else(|| malformed("it does not name the entry that it has".to_owned()))?;
                let url = super::below(&self.url, &format!("api/v1/log/entries/{name}"));
                fetch(&service, self.client.get(url)).await?
            }
            answer => answer?,
        };
        let entries: BTreeMap<String, EntryV1> =
            serde_json::from_slice(&answer).map_err(|error| malformed(error.to_string()))?;
        let mut entries = entries.into_values();
        let (Some(entry), None) = (entries.next(), entries.next()) else {
            return Err(malformed("it holds not exactly one entry".to_owned()));
        };
        let hex_to_base64 = |text: &str| {
            hex::decode(text).map(|bytes| STANDARD.encode(bytes)).map_err(|error| malformed(error.to_string()))
        };
        let body: Value = STANDARD
            .decode(&entry.body)
            .ok()
            .and_then(|body| serde_json::from_slice(&body).ok())
            .ok_or_else(|| malformed("the entry's body is no JSON in base64".to_owned()))?;
        let verification = entry.verification;
        let proof =
            verification.inclusion_proof.ok_or_else(|| malformed("the entry has no inclusion proof".to_owned()))?;
        let hashes = proof.hashes.iter().map(|hash| hex_to_base64(hash)).collect::<Result<Vec<_>, _>>()?;
        Ok(json!({
            "logIndex": entry.log_index.to_string(),
            "logId": {"keyId": hex_to_base64(&entry.log_id)?},
            "kindVersion": {"kind": body.get("kind"), "version": body.get("apiVersion")},
            "integratedTime": entry.integrated_time.to_string(),
            "inclusionPromise": {"signedEntryTimestamp": verification.signed_entry_timestamp},
            "inclusionProof": {
                "logIndex": proof.log_index.to_string(),
                "rootHash": hex_to_base64(&proof.root_hash)?,
                "treeSize": proof.tree_size.to_string(),
                "hashes": hashes,
                "checkpoint": {"envelope": proof.checkpoint},
            },
            "canonicalizedBody": entry.body,
        }))
    }

    /// Adds an entry to a log of version 2, which answers in the form that bundles carry.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn add_v2(&self, request: &Value) -> Result<Value, ServiceError> {
        let service = format!("the log {}", self.url);
        let url = super::below(&self.url, "api/v2/log/entries");
        let answer = fetch(&service, self.client.post(url).json(request)).await?;
        let entry: EntryV2 =
            serde_json::from_slice(&answer).map_err(|error| ServiceError::malformed(&service, error.to_string()))?;
        let proof = entry.inclusion_proof;
        // Only what the interface promises goes on; the time and the promise are always empty in this version.
        Ok(json!({
            "logIndex": entry.log_index.text(),
            "logId": {"keyId": entry.log_id.key_id},
            "kindVersion": {"kind": entry.kind_version.kind, "version": entry.kind_version.version},
            "inclusionProof": {
                "logIndex": proof.log_index.text(),
                "rootHash": proof.root_hash,
                "treeSize": proof.tree_size.text(),
                "hashes": proof.hashes,
                "checkpoint": {"envelope": proof.checkpoint.envelope},
            },
            "canonicalizedBody": entry.canonicalized_body,
        }))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EntryV2 {
    #[serde(default)]
    log_index: Int64,
    log_id: LogIdV2,
    kind_version: KindVersion,
    inclusion_proof: ProofV2,
    canonicalized_body: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogIdV2 {
    key_id: String,
}

#[derive(Deserialize)]
struct KindVersion {
    kind: String,
    version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProofV2 {
    #[serde(default)]
    log_index: Int64,
    root_hash: String,
    tree_size: Int64,
    #[serde(default)]
    hashes: Vec<String>,
    checkpoint: Checkpoint,
}

#[derive(Deserialize)]
struct Checkpoint {
    envelope: String,
}

/// ProtoJSON writes 64-bit integers as text, takes numbers too, and leaves out a zero.
#[derive(Deserialize)]
#[serde(untagged)]
enum Int64 {
    Text(String),
    Number(u64),
}

impl Default for Int64 {
    fn default() -> Self {
        Self::Number(0)
    }
}

impl Int64 {
    fn text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EntryV1 {
    body: String,
    integrated_time: i64,
    #[serde(rename = "logID")]
    log_id: String,
    log_index: u64,
    verification: VerificationV1,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VerificationV1 {
    #[serde(default)]
    inclusion_proof: Option<ProofV1>,
    signed_entry_timestamp: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProofV1 {
    checkpoint: String,
    hashes: Vec<String>,
    log_index: u64,
    root_hash: String,
    tree_size: u64,
}
