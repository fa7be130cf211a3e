//! Transparency logs, Rekor v1 and v2: signatures in, log entries with their proofs out.
//! Each entry stands in a tree of its own whose other leaves are filler, so that a thousand entries cost a thousand
//! signatures and no more. No entry ever leans on an earlier one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::ca::damage;
use super::keys::Key;

/// A log with its name and key.
#[derive(Debug)]
pub(crate) struct Log {
    /// The host, which is also the name in its signature lines.
    pub(crate) host: String,
    /// The first line of its checkpoints.
    pub(crate) origin: String,
    pub(crate) key: Key,
    /// What entries and the trust root call it.
    pub(crate) id: [u8; 32],
    generation: Generation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Generation {
    One,
    Two,
}

/// The kinds of entries, with their versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    HashedRekord001,
    Dsse001,
    Intoto001,
    Intoto002,
    HashedRekord002,
    Dsse002,
}

impl Kind {
    pub(crate) const fn name(self) -> (&'static str, &'static str) {
        match self {
            Self::HashedRekord001 => ("hashedrekord", "0.0.1"),
            Self::Dsse001 => ("dsse", "0.0.1"),
            Self::Intoto001 => ("intoto", "0.0.1"),
            Self::Intoto002 => ("intoto", "0.0.2"),
            Self::HashedRekord002 => ("hashedrekord", "0.0.2"),
            Self::Dsse002 => ("dsse", "0.0.2"),
        }
    }
}

impl Log {
    /// Rekor v1: ECDSA, a sharded origin, and an id that is the hash of the key.
    pub(crate) fn v1(host: &str) -> Self {
        let key = Key::p256();
        let id = key.id();
        Self { host: host.to_owned(), origin: format!("{host} - 4242424242"), key, id, generation: Generation::One }
    }

    /// Rekor v2: Ed25519, and the id of a C2SP signed note.
    pub(crate) fn v2(host: &str) -> Self {
        let key = Key::ed25519();
        let id = note_key_id(host, key.raw());
        Self { host: host.to_owned(), origin: host.to_owned(), key, id, generation: Generation::Two }
    }

    /// The log as the trust root names it.
    pub(crate) fn trusted(&self, since: Timestamp) -> Value {
        json!({
            "baseUrl": format!("https://{}", self.host),
            "hashAlgorithm": "SHA2_256",
            "publicKey": {
                "rawBytes": BASE64.encode(self.key.spki()),
                "keyDetails": self.key.details(),
                "validFor": { "start": since.to_string() },
            },
            "logId": { "keyId": BASE64.encode(self.id) },
        })
    }

    /// The entry for a body, as a bundle carries it.
    pub(crate) fn entry(&self, plan: &EntryPlan<'_>, body: &Value) -> Value {
        let body = serde_json_canonicalizer::to_vec(body).unwrap();
        let (kind, version) = plan.kind.name();
        // Rekor v1 counts over all shards, the proof within one; v2 has one count.
        let global_index = match self.generation {
            Generation::One => 100_000 + plan.index,
            Generation::Two => plan.index,
        };
        let mut entry = json!({
            "logIndex": global_index.to_string(),
            "logId": { "keyId": BASE64.encode(plan.log_id.as_deref().unwrap_or(&self.id)) },
            "kindVersion": { "kind": kind, "version": version },
            "canonicalizedBody": BASE64.encode(&body),
        });
        if let Some(at) = plan.integrated_at {
            entry["integratedTime"] = json!(at.as_second().to_string());
            if plan.promise {
                let promise = json!({
                    "body": BASE64.encode(&body),
                    "integratedTime": at.as_second(),
                    "logID": hex::encode(self.id),
                    "logIndex": global_index,
                });
                let promise = self.key.sign(&serde_json_canonicalizer::to_vec(&promise).unwrap());
                entry["inclusionPromise"] = json!({ "signedEntryTimestamp": BASE64.encode(promise) });
            }
        }
        if plan.proof {
            let (root, hashes) = inclusion(&leaf_hash(&body), plan.index, plan.tree_size);
            entry["inclusionProof"] = json!({
                "logIndex": plan.index.to_string(),
                "rootHash": BASE64.encode(root),
                "treeSize": plan.tree_size.to_string(),
                "hashes": hashes.iter().map(|hash| BASE64.encode(hash)).collect::<Vec<_>>(),
                "checkpoint": { "envelope": self.checkpoint(&plan.checkpoint, plan.tree_size, &root) },
            });
        }
        entry
    }

    fn checkpoint(&self, plan: &CheckpointPlan<'_>, tree_size: u64, root: &[u8; 32]) -> String {
        let origin = plan.origin.as_deref().unwrap_or(&self.origin);
        let note = format!("{origin}\n{tree_size}\n{}\n", BASE64.encode(root));
        let mut signature = plan.key.unwrap_or(&self.key).sign(note.as_bytes());
        if plan.forged {
            damage(&mut signature);
        }
        let hint = plan.hint.unwrap_or_else(|| self.id[..4].try_into().unwrap());
        let name = plan.name.as_deref().unwrap_or(&self.host);
        let own = line(name, hint, &signature);
        let witness = |name: &String| {
            // A witness of C2SP's kind: eight bytes of time, then Ed25519; nobody here knows its key.
            let key = Key::ed25519();
            let time = 1_762_838_100_u64.to_be_bytes();
            let signature = [time.as_slice(), &key.sign(note.as_bytes())].concat();
            line(name, note_key_id(name, key.raw())[..4].try_into().unwrap(), &signature)
        };
        let before: String = plan.witnesses_before.iter().map(witness).collect();
        let after: String = plan.witnesses_after.iter().map(witness).collect();
        let own = if plan.unsigned { String::new() } else { own };
        format!("{note}\n{before}{own}{after}")
    }
}

/// What one log entry will be.
#[derive(Debug, Clone)]
pub(crate) struct EntryPlan<'w> {
    pub(crate) log: &'w Log,
    pub(crate) kind: Kind,
    pub(crate) integrated_at: Option<Timestamp>,
    /// Whether the log promised inclusion under its signature.
    pub(crate) promise: bool,
    pub(crate) proof: bool,
    pub(crate) index: u64,
    pub(crate) tree_size: u64,
    /// The id that the entry claims, where it is not the log's own.
    pub(crate) log_id: Option<Vec<u8>>,
    pub(crate) checkpoint: CheckpointPlan<'w>,
    /// A change of the body before it is logged: the log then proves something else.
    pub(crate) change_body: Option<fn(&mut Value)>,
}

impl<'w> EntryPlan<'w> {
    pub(crate) fn v1(log: &'w Log, kind: Kind, integrated_at: Timestamp) -> Self {
        Self {
            log,
            kind,
            integrated_at: Some(integrated_at),
            promise: true,
            proof: true,
            index: 5,
            tree_size: 13,
            log_id: None,
            checkpoint: CheckpointPlan::default(),
            change_body: None,
        }
    }

    pub(crate) fn v2(log: &'w Log, kind: Kind) -> Self {
        Self { integrated_at: None, promise: false, ..Self::v1(log, kind, Timestamp::UNIX_EPOCH) }
    }
}

/// What differs from an honest checkpoint.
#[derive(Debug, Clone, Default)]
pub(crate) struct CheckpointPlan<'w> {
    pub(crate) origin: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) hint: Option<[u8; 4]>,
    pub(crate) key: Option<&'w Key>,
    pub(crate) forged: bool,
    /// No line by the log itself.
    pub(crate) unsigned: bool,
    pub(crate) witnesses_before: Vec<String>,
    pub(crate) witnesses_after: Vec<String>,
}

/// What was signed, by whose key, as a log writes it down.
#[derive(Debug)]
pub(crate) struct Logged<'a> {
    pub(crate) signature: &'a [u8],
    pub(crate) verifier: Verifier<'a>,
    pub(crate) details: &'static str,
    /// `SHA2_256` or `SHA2_384`, as the key signs.
    pub(crate) digest: (&'static str, &'a [u8]),
    /// The whole envelope, where there is one.
    pub(crate) envelope: Option<&'a Value>,
}

/// The signer as a log writes it down.
#[derive(Debug)]
pub(crate) enum Verifier<'a> {
    Certificate(&'a [u8]),
    Key(&'a [u8]),
}

impl Verifier<'_> {
    fn pem(&self) -> String {
        let (label, der) = match self {
            Self::Certificate(der) => ("CERTIFICATE", der),
            Self::Key(der) => ("PUBLIC KEY", der),
        };
        BASE64.encode(pem_rfc7468::encode_string(label, pem_rfc7468::LineEnding::LF, der).unwrap())
    }

    fn raw(&self, details: &str) -> Value {
        match self {
            Self::Certificate(der) => {
                json!({ "keyDetails": details, "x509Certificate": { "rawBytes": BASE64.encode(der) } })
            }
            Self::Key(der) => json!({ "keyDetails": details, "publicKey": { "rawBytes": BASE64.encode(der) } }),
        }
    }
}

impl Logged<'_> {
    /// The body of an entry of this kind.
    pub(crate) fn body(&self, kind: Kind) -> Value {
        let signature = BASE64.encode(self.signature);
        let (digest_name, digest) = self.digest;
        let hex_sha256 = |bytes: &[u8]| json!({ "algorithm": "sha256", "value": hex::encode(Sha256::digest(bytes)) });
        let payload = || BASE64.decode(self.envelope.unwrap()["payload"].as_str().unwrap()).unwrap();
        let envelope = || serde_json::to_vec(self.envelope.unwrap()).unwrap();
        let spec = match kind {
            Kind::HashedRekord001 => json!({
                "data": { "hash": {
                    "algorithm": digest_name.to_lowercase().replace("sha2_", "sha"),
                    "value": hex::encode(digest),
                } },
                "signature": { "content": signature, "publicKey": { "content": self.verifier.pem() } },
            }),
            Kind::HashedRekord002 => json!({ "hashedRekordV002": {
                "data": { "algorithm": digest_name, "digest": BASE64.encode(digest) },
                "signature": { "content": signature, "verifier": self.verifier.raw(self.details) },
            } }),
            Kind::Dsse001 => json!({
                "envelopeHash": hex_sha256(&envelope()),
                "payloadHash": hex_sha256(&payload()),
                "signatures": [{ "signature": signature, "verifier": self.verifier.pem() }],
            }),
            Kind::Dsse002 => json!({ "dsseV002": {
                "payloadHash": { "algorithm": "SHA2_256", "digest": BASE64.encode(Sha256::digest(payload())) },
                "signatures": [{ "content": signature, "verifier": self.verifier.raw(self.details) }],
            } }),
            Kind::Intoto001 => json!({
                "content": { "hash": hex_sha256(&envelope()), "payloadHash": hex_sha256(&payload()) },
                "publicKey": self.verifier.pem(),
            }),
            Kind::Intoto002 => json!({ "content": {
                "envelope": {
                    "payloadType": self.envelope.unwrap()["payloadType"],
                    // Rekor encodes this one twice.
                    "signatures": [{ "publicKey": self.verifier.pem(), "sig": BASE64.encode(&signature) }],
                },
                "hash": hex_sha256(&envelope()),
                "payloadHash": hex_sha256(&payload()),
            } }),
        };
        let (kind, version) = kind.name();
        json!({ "apiVersion": version, "kind": kind, "spec": spec })
    }
}

/// C2SP signed-note: SHA-256(name || 0x0A || 0x01 || key) for Ed25519.
fn note_key_id(name: &str, key: &[u8]) -> [u8; 32] {
    Sha256::digest([name.as_bytes(), b"\n\x01", key].concat()).into()
}

fn line(name: &str, hint: [u8; 4], signature: &[u8]) -> String {
    format!("\u{2014} {name} {}\n", BASE64.encode([hint.as_slice(), signature].concat()))
}

/// RFC 6962 section 2.1: the hash of a leaf.
pub(crate) fn leaf_hash(body: &[u8]) -> [u8; 32] {
    Sha256::digest([&[0], body].concat()).into()
}

fn node_hash(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    Sha256::digest([&[1], left.as_slice(), right].concat()).into()
}

/// Root and path for one leaf in a tree of fillers.
fn inclusion(leaf: &[u8; 32], index: u64, tree_size: u64) -> ([u8; 32], Vec<[u8; 32]>) {
    let leaves: Vec<[u8; 32]> = (0..tree_size)
        .map(|position| if position == index { *leaf } else { leaf_hash(&position.to_be_bytes()) })
        .collect();
    let mut path = Vec::new();
    let root = subtree(&leaves, usize::try_from(index).ok(), &mut path);
    (root, path)
}

/// The root of these leaves; what stands beside the way to `index` is appended to the path, leaf end first.
fn subtree(leaves: &[[u8; 32]], index: Option<usize>, path: &mut Vec<[u8; 32]>) -> [u8; 32] {
    if leaves.len() == 1 {
        return leaves[0];
    }
    let split = leaves.len().next_power_of_two() / 2;
    let (left, right) = leaves.split_at(split);
    match index {
        Some(index) if index < split => {
            let inner = subtree(left, Some(index), path);
            let sibling = subtree(right, None, path);
            path.push(sibling);
            node_hash(&inner, &sibling)
        }
        Some(index) => {
            let inner = subtree(right, Some(index - split), path);
            let sibling = subtree(left, None, path);
            path.push(sibling);
            node_hash(&sibling, &inner)
        }
        None => node_hash(&subtree(left, None, path), &subtree(right, None, path)),
    }
}
