//! Rekor, both versions: a proposed entry in, the log's own entry out, as ProtoJSON has it in a bundle.
//!
//! Source: rekor's OpenAPI v1 (`createLogEntry`); rekor-tiles' API v2 (`CreateEntry`).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
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
    /// The log at this address.
    ///
    /// # Errors
    /// Where no HTTP client can be made.
    pub fn new(url: Url) -> reqwest::Result<Self> {
        Ok(Self { url, client: super::http()? })
    }

    /// Adds an entry to a log of version 1. `kind` and `version` are the proposed entry's own.
    ///
    /// # Errors
    /// [`ServiceError`].
    pub async fn add_v1(&self, proposed: &Value) -> Result<Value, ServiceError> {
        let service = format!("the log {}", self.url);
        let malformed = |message: String| ServiceError::malformed(&service, message);
        let url = super::below(&self.url, "api/v1/log/entries");
        let answer = fetch(&service, self.client.post(url).json(proposed)).await?;
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
        serde_json::from_slice(&answer).map_err(|error| ServiceError::malformed(&service, error.to_string()))
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
