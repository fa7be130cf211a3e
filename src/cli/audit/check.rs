//! A log or a proof in a file in, what is wrong with it out. No server is asked.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::super::UsageError;
use crate::control::audit::{ConsistencyProof, InclusionProof};
use crate::release::collect::files;
use crate::release::evidence::checkpoint::Checkpoint;
use crate::release::evidence::json;
use crate::release::evidence::merkle::{Hash, leaf_hash, proof_file, verify_consistency};
use crate::release::evidence::note::NoteKey;
use crate::store::{AuditCheck, AuditFault, AuditFile, AuditHead, AuditRow, TreeHead};
use crate::types::{Code, Reason, limits};

/// Records that are read at a time.
const PAGE: u32 = 10_000;

/// A checkpoint that the log is held against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    /// Records that it covers.
    pub(super) size: u64,
    /// The root over them.
    pub(super) root: Hash,
    /// How messages call it.
    pub(super) name: String,
}

impl Held {
    fn promise(&self) -> TreeHead {
        TreeHead { size: self.size, root: self.root }
    }
}

/// What came of a look.
#[derive(Debug)]
pub(super) struct Looked {
    /// What was looked at.
    pub(super) name: String,
    /// The root over it, in hex.
    pub(super) root: String,
    /// What else is to be said.
    pub(super) facts: serde_json::Value,
    /// What is wrong.
    pub(super) reasons: Vec<Reason>,
}

/// Reads a checkpoint; where there is a key, it must be signed with it.
///
/// # Errors
/// `checkpoint-malformed` or `checkpoint-invalid`.
pub(super) fn held(note: &str, key: Option<&NoteKey>) -> Result<Held, Reason> {
    let checkpoint = Checkpoint::parse(note)?;
    if let Some(key) = key {
        key.verify(&checkpoint)?;
    }
    let name = format!("the checkpoint over {}", checkpoint.size);
    Ok(Held { size: checkpoint.size, root: checkpoint.root, name })
}

/// Whether the newer tree has the older one at its beginning.
///
/// # Errors
/// `consistency-invalid` or `proof-malformed`.
pub(super) fn grown(older: &Held, newer: &Held, proof: &[String]) -> Result<(), Reason> {
    let malformed = || Reason::new(Code::ProofMalformed, "a hash of the proof is none");
    let hash = |text: &String| STANDARD.decode(text).ok().and_then(|bytes| Hash::try_from(bytes).ok());
    let proof: Vec<Hash> = proof.iter().map(|text| hash(text).ok_or_else(malformed)).collect::<Result<_, _>>()?;
    verify_consistency(older.size, newer.size, &older.root, &newer.root, &proof).map_err(|error| {
        let message = format!(
            "{} is not the beginning of {}: one of the first {} records is another one than was signed ({error})",
            older.name, newer.name, older.size
        );
        Reason::new(Code::ConsistencyInvalid, message)
            .location(format!("records 0 to {}", older.size.saturating_sub(1)))
    })
}

/// One line of an export.
#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Line {
    Record { seq: u64, leaf: String, chain: String, record: String },
    Checkpoint { checkpoint: String },
}

/// Checks an export, line by line.
///
/// # Errors
/// A usage error where the file cannot be read.
pub(super) fn export(path: &Path, kept: &[Held], key: Option<&NoteKey>) -> anyhow::Result<Looked> {
    let name = path.display().to_string();
    let unreadable = |error: &std::io::Error| UsageError::new(format!("cannot read {name}: {error}"), "name an export");
    let mut lines = BufReader::new(File::open(path).map_err(|error| unreadable(&error))?);
    let mut check = AuditCheck::new(AuditHead::EMPTY, promised(kept));
    let mut reasons = Vec::new();
    let mut checkpoints = 0_usize;
    let malformed = |number: usize, what: &str| {
        Reason::new(Code::AuditUnreadable, format!("line {number}: {what}")).location(format!("line {number}"))
    };
    for number in 1.. {
        let mut line = Vec::new();
        let limit = limits::AUDIT_LINE_BYTES + 1;
        lines.by_ref().take(limit).read_until(b'\n', &mut line).map_err(|error| unreadable(&error))?;
        if line.is_empty() || check.is_over() {
            break;
        }
        if line.len() as u64 == limit {
            reasons.push(malformed(number, "it is longer than any record"));
            break;
        }
        match serde_json::from_slice(&line) {
            Ok(Line::Record { seq, leaf, chain, record }) => {
                let bytes = |text: &str| hex::decode(text).unwrap_or_default();
                if seq < check.size() {
                    reasons.push(malformed(number, &format!("record {seq} stands there a second time, or too late")));
                    break;
                }
                check.take(&[AuditRow { seq, record, leaf: bytes(&leaf), chain: bytes(&chain) }]);
            }
            Ok(Line::Checkpoint { checkpoint }) => match held(&checkpoint, key) {
                Ok(held) if held.size < check.size() => {
                    reasons.push(malformed(number, "a checkpoint stands behind records that it does not cover"));
                }
                Ok(held) => {
                    checkpoints += 1;
                    check.hold(held.promise());
                }
                Err(reason) => reasons.push(reason.location(format!("line {number}"))),
            },
            Err(error) => {
                reasons.push(malformed(number, &format!("it is no record and no checkpoint: {error}")));
                break;
            }
        }
    }
    if checkpoints == 0 && reasons.is_empty() {
        reasons.push(Reason::new(Code::AuditUnreadable, "it has no checkpoint: its end was cut off"));
    }
    Ok(looked(name, check, checkpoints, kept, reasons))
}

/// Checks the log of a database.
///
/// # Errors
/// A usage error where it cannot be read.
pub(super) fn database(path: &Path, kept: &[Held], key: Option<&NoteKey>) -> anyhow::Result<Looked> {
    let name = path.display().to_string();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let file = AuditFile::open(path).await?;
        let rows = file.checkpoints().await?;
        let mut reasons = Vec::new();
        let mut all = kept.to_vec();
        for row in &rows {
            match held(&row.note, key) {
                Ok(held) if row.head() == Some(held.promise()) => all.push(held),
                Ok(_) => reasons.push(
                    Reason::new(
                        Code::CheckpointInvalid,
                        "the checkpoint is kept under another size or root than it signs",
                    )
                    .location(format!("checkpoint over {} records", row.size)),
                ),
                Err(reason) => reasons.push(reason.location(format!("checkpoint over {} records", row.size))),
            }
        }
        let mut check = AuditCheck::new(AuditHead::EMPTY, promised(&all));
        while !check.is_over() {
            let page = file.audit_page(check.size(), PAGE).await?;
            if page.rows.is_empty() {
                break;
            }
            check.take_page(&page);
        }
        Ok::<_, crate::store::StoreError>((check, rows.len(), reasons))
    });
    let (check, checkpoints, reasons) = outcome.map_err(|error| {
        UsageError::new(
            format!("cannot read {name}: {}", anyhow::Error::from(error).root_cause()),
            "name the state.db of a server of this version",
        )
    })?;
    Ok(looked(name, check, checkpoints, kept, reasons))
}

/// Checks a proof by itself.
pub(super) fn proof(path: &Path, kept: &[Held], key: Option<&NoteKey>) -> Looked {
    let name = path.display().to_string();
    let mut looked = Looked { name, root: String::new(), facts: serde_json::Value::Null, reasons: Vec::new() };
    if let Err(reason) = proved(path, kept, key, &mut looked) {
        looked.reasons.push(reason);
    }
    looked
}

fn proved(path: &Path, kept: &[Held], key: Option<&NoteKey>, looked: &mut Looked) -> Result<(), Reason> {
    let bytes = files::read_evidence(path, limits::BUNDLE_BYTES)?;
    let fields: serde_json::Value = json::parse(&bytes, Code::ProofMalformed)?;
    if fields.get("size1").is_some() {
        let found = proof_file::check_consistency(&bytes)?;
        let file: ConsistencyProof = json::parse(&bytes, Code::ProofMalformed)?;
        looked.root.clone_from(&found.root2);
        looked.facts = serde_json::json!({ "consistency": found });
        let sides = [side(found.size1, &found.root1)?, side(found.size2, &found.root2)?];
        for (side, note) in sides.iter().zip([&file.checkpoint1, &file.checkpoint2]) {
            signed(side, note.as_deref(), kept, key)?;
        }
        let stranger = kept.iter().find(|held| sides.iter().all(|side| side != &held.promise()));
        return stranger.map_or(Ok(()), |held| {
            let message = format!("the proof does not speak of the root of {}", held.name);
            Err(Reason::new(Code::ConsistencyInvalid, message))
        });
    }
    let found = proof_file::check_inclusion(&bytes)?;
    let file: InclusionProof = json::parse(&bytes, Code::ProofMalformed)?;
    looked.root.clone_from(&found.root);
    if hex::encode(leaf_hash(file.record.as_bytes())) != found.leaf_hash {
        let message = format!("the record is not the one that is proved to be at place {}", found.index);
        return Err(Reason::new(Code::AuditRecordAltered, message).location("record"));
    }
    let root = side(found.size, &found.root)?;
    let record: serde_json::Value = serde_json::from_str(&file.record).unwrap_or_default();
    looked.facts = serde_json::json!({ "inclusion": found, "record": record });
    signed(&root, file.checkpoint.as_deref(), kept, key)
}

/// Whether this root was signed: by a checkpoint that was kept, or by the one that the proof brings along.
fn signed(root: &TreeHead, note: Option<&str>, kept: &[Held], key: Option<&NoteKey>) -> Result<(), Reason> {
    if kept.iter().any(|held| held.promise() == *root) {
        return Ok(());
    }
    let missing = || {
        let message = format!("nobody signed the root over {} records", root.size);
        Reason::new(Code::CheckpointInvalid, message).hint("give the checkpoint of this size: --checkpoint FILE")
    };
    let brought = held(note.ok_or_else(missing)?, key)?;
    if brought.promise() != *root {
        let message = format!("{} is for another root than the proof", brought.name);
        return Err(Reason::new(Code::CheckpointInvalid, message));
    }
    Ok(())
}

fn side(size: u64, root: &str) -> Result<TreeHead, Reason> {
    let mut hash: Hash = [0; 32];
    hex::decode_to_slice(root, &mut hash)
        .map_err(|_| Reason::new(Code::ProofMalformed, "a root has 32 bytes").location("root"))?;
    Ok(TreeHead { size, root: hash })
}

fn promised(held: &[Held]) -> Vec<TreeHead> {
    let mut promised: Vec<TreeHead> = held.iter().map(Held::promise).collect();
    promised.sort_by_key(|promise| promise.size);
    promised
}

fn looked(name: String, check: AuditCheck, checkpoints: usize, kept: &[Held], more: Vec<Reason>) -> Looked {
    let (head, faults) = check.end();
    let mut reasons: Vec<Reason> = faults.iter().map(AuditFault::reason).collect();
    reasons.extend(more);
    let facts = serde_json::json!({
        "records": head.size,
        "chain": hex::encode(head.chain),
        "checkpoints": checkpoints,
        "held_against": kept.iter().map(|held| held.size).collect::<Vec<_>>(),
    });
    Looked { name, root: hex::encode(head.tree.root()), facts, reasons }
}
