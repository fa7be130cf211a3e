//! TUF repositories made in code: a plan in, the files of a signed repository out.
//! A plan starts out honest; a test changes one field, and everything else is signed around that one flaw.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sigstore_tuf::canonical_json::to_canonical_bytes;

/// The files of a repository by their names relative to its base.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// A signing key; the same seed is the same key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Key(pub(super) u8);

impl Key {
    fn pair(self) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[self.0; 32]).unwrap()
    }

    fn public(self) -> Value {
        let public = hex(self.pair().public_key().as_ref());
        json!({"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": public}})
    }

    fn id(self) -> String {
        hex(&Sha256::digest(to_canonical_bytes(&self.public()).unwrap()))
    }

    fn sign(self, signed: &Value) -> Value {
        json!({"keyid": self.id(), "sig": hex(self.pair().sign(&to_canonical_bytes(signed).unwrap()).as_ref())})
    }
}

/// One version of the root role.
#[derive(Clone)]
pub(super) struct RootPlan {
    pub(super) keys: Vec<Key>,
    pub(super) threshold: usize,
    /// Who signs besides `keys`: the keys of the version before.
    pub(super) also_signed_by: Vec<Key>,
    /// Who of `keys` signs; all of them where it is none.
    pub(super) signed_by: Option<Vec<Key>>,
    pub(super) expires: Timestamp,
}

/// A repository with one target.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) roots: Vec<RootPlan>,
    /// The key of timestamp, snapshot and targets.
    pub(super) online: Key,
    /// Who signs the three in fact.
    pub(super) online_signer: Key,
    pub(super) consistent_snapshot: bool,
    /// Of timestamp, snapshot and targets.
    pub(super) versions: [u64; 3],
    pub(super) expires: [Timestamp; 3],
    pub(super) target: Vec<u8>,
    /// What is served in the target's place.
    pub(super) served: Option<Vec<u8>>,
}

/// Days from now, which is what the binary under test goes by.
pub(super) fn in_days(days: i64) -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "the binary under test reads the real clock")]
    let now = Timestamp::now();
    // Canonical JSON and other clients know whole seconds only.
    let whole = Timestamp::from_second(now.as_second()).unwrap();
    whole + SignedDuration::from_hours(24 * days)
}

impl Plan {
    /// An honest repository that publishes `target` as its `trusted_root.json`.
    pub(super) fn honest(target: &[u8]) -> Self {
        let root = RootPlan {
            keys: vec![Key(1), Key(2), Key(3)],
            threshold: 2,
            also_signed_by: Vec::new(),
            signed_by: None,
            expires: in_days(300),
        };
        Self {
            roots: vec![root],
            online: Key(9),
            online_signer: Key(9),
            consistent_snapshot: true,
            versions: [5, 4, 3],
            expires: [in_days(7), in_days(30), in_days(90)],
            target: target.to_vec(),
            served: None,
        }
    }

    /// Adds a root of `keys` that the version before and the new keys sign.
    pub(super) fn rotate(&mut self, keys: Vec<Key>) -> &mut RootPlan {
        let before = self.roots.last().unwrap().clone();
        let also_signed_by = before.keys.iter().copied().filter(|key| !keys.contains(key)).collect();
        self.roots.push(RootPlan { keys, also_signed_by, ..before });
        self.roots.last_mut().unwrap()
    }

    /// The signed form of a root by its version, from 1.
    pub(super) fn root(&self, version: usize) -> Value {
        let plan = &self.roots[version - 1];
        let mut keys = serde_json::Map::new();
        for key in plan.keys.iter().chain([&self.online]) {
            keys.insert(key.id(), key.public());
        }
        let online = json!({"keyids": [self.online.id()], "threshold": 1});
        let signed = json!({
            "_type": "root", "spec_version": "1.0.31", "version": version, "expires": plan.expires,
            "consistent_snapshot": self.consistent_snapshot, "keys": keys,
            "roles": {
                "root": {"keyids": plan.keys.iter().map(|key| key.id()).collect::<Vec<_>>(), "threshold": plan.threshold},
                "timestamp": online, "snapshot": online, "targets": online,
            },
        });
        let signers = plan.signed_by.as_ref().unwrap_or(&plan.keys).iter().chain(&plan.also_signed_by);
        let signatures: Vec<Value> = signers.map(|key| key.sign(&signed)).collect();
        json!({"signed": signed, "signatures": signatures})
    }

    /// The root to start from.
    pub(super) fn bootstrap(&self) -> Vec<u8> {
        self.root(1).to_string().into_bytes()
    }

    /// All files. Those of older versions are not kept, as a mirror need not.
    pub(super) fn build(&self) -> Files {
        let mut files = Files::new();
        for version in 1..=self.roots.len() {
            files.insert(format!("{version}.root.json"), self.root(version).to_string().into_bytes());
        }
        let [timestamp, snapshot, targets] = self.versions;
        let hash = hex(&Sha256::digest(&self.target));
        let prefix = |version: u64| if self.consistent_snapshot { format!("{version}.") } else { String::new() };

        let bytes = self.online(&json!({
            "_type": "targets", "spec_version": "1.0.31", "version": targets, "expires": self.expires[2],
            "targets": {"trusted_root.json": {"length": self.target.len(), "hashes": {"sha256": hash}}},
        }));
        let meta = json!({"targets.json": pin(targets, &bytes)});
        files.insert(format!("{}targets.json", prefix(targets)), bytes);
        let bytes = self.online(&json!({
            "_type": "snapshot", "spec_version": "1.0.31", "version": snapshot, "expires": self.expires[1], "meta": meta,
        }));
        let meta = json!({"snapshot.json": pin(snapshot, &bytes)});
        files.insert(format!("{}snapshot.json", prefix(snapshot)), bytes);
        let bytes = self.online(&json!({
            "_type": "timestamp", "spec_version": "1.0.31", "version": timestamp, "expires": self.expires[0], "meta": meta,
        }));
        files.insert("timestamp.json".to_owned(), bytes);

        let name =
            if self.consistent_snapshot { format!("{hash}.trusted_root.json") } else { "trusted_root.json".to_owned() };
        files.insert(format!("targets/{name}"), self.served.clone().unwrap_or_else(|| self.target.clone()));
        files
    }

    fn online(&self, signed: &Value) -> Vec<u8> {
        let mut signature = self.online_signer.sign(signed);
        signature["keyid"] = self.online.id().into();
        json!({"signed": signed, "signatures": [signature]}).to_string().into_bytes()
    }
}

fn pin(version: u64, bytes: &[u8]) -> Value {
    json!({"version": version, "length": bytes.len(), "hashes": {"sha256": hex(&Sha256::digest(bytes))}})
}

/// Writes a repository below `dir`.
pub(super) fn write(files: &Files, dir: &Path) {
    for (name, bytes) in files {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

fn hex(bytes: &[u8]) -> String {
    hex::encode(bytes)
}

/// Signs a document anew, each signature under the id that the test chose for it.
pub(super) fn resign(signed: &Value, signers: &[(&str, Key)]) -> Value {
    let signatures: Vec<Value> = signers
        .iter()
        .map(|(id, key)| {
            let mut signature = key.sign(signed);
            signature["keyid"] = (*id).into();
            signature
        })
        .collect();
    json!({"signed": signed, "signatures": signatures})
}
