//! The audit log as a whole: every record against its hash, the chain and each checkpoint that was signed, page by
//! page; the records that somebody looks for; and proofs about them.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Control, OpError};
use crate::release::evidence::checkpoint::Checkpoint;
use crate::release::evidence::key::PublicKey;
use crate::release::evidence::merkle::tree::{consistency_parts, inclusion_parts};
use crate::release::evidence::merkle::{Hash, ProofError, leaf_hash};
use crate::store::{AuditCheck, AuditHead, AuditRecord, AuditRow, CheckpointRow, TreeHead, tags};
use crate::types::{Code, Reason};

mod notary;

pub use notary::Notary;

/// Records that are checked at a time.
const PAGE: u32 = 10_000;
/// Records that one page of a narrowed list looks through; the next page goes on from there.
const LOOKED_THROUGH: u64 = 20_000;

/// Whether the log is whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditVerdict {
    /// Nothing was altered, left out, put in or put elsewhere, and every checkpoint still holds.
    pub sound: bool,
    /// Records that were looked at.
    pub records: u64,
    /// The root of the tree over them, in hex.
    pub root: String,
    /// The chain over them, in hex.
    pub chain: String,
    /// Checkpoints that they were held against.
    pub checkpoints: usize,
    /// What is wrong first, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// Everything that is wrong, each with its place; at most a hundred.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<serde_json::Value>)]
    pub faults: Vec<Reason>,
}

impl AuditVerdict {
    /// The verdict over this head, held against so many checkpoints, with these faults.
    pub fn new(head: &AuditHead, checkpoints: usize, faults: Vec<Reason>) -> Self {
        Self {
            sound: faults.is_empty(),
            records: head.size,
            root: hex::encode(head.tree.root()),
            chain: hex::encode(head.chain),
            checkpoints,
            fault: faults.first().map(|fault| fault.message.clone()),
            faults,
        }
    }
}

/// A record with its place, its hash and what it is evidence for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditView {
    /// Its place, from 0.
    pub seq: u64,
    /// The RFC 6962 leaf hash of the record, in hex.
    pub leaf: String,
    /// What it says.
    #[serde(flatten)]
    pub record: AuditRecord,
    /// Clauses that it helps to show the keeping of, as `soc2:CC6.1`.
    #[serde(default)]
    pub tags: Vec<String>,
}

/// Which records; what is none narrows nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Who, in full.
    pub actor: Option<String>,
    /// What, by how it begins: `vm.`, `vm.start`.
    pub action: Option<String>,
    /// To what, by how it begins: `vm/0190…`.
    pub object: Option<String>,
    /// `done`, `refused` or `failed`.
    pub outcome: Option<String>,
    /// A tag, or the framework before its colon.
    pub tag: Option<String>,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
}

impl AuditFilter {
    fn lets_through(&self, view: &AuditView) -> bool {
        let record = &view.record;
        let same = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
        let begins =
            |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| found.starts_with(wanted));
        same(&self.actor, &record.actor)
            && begins(&self.action, &record.action)
            && begins(&self.object, &record.object)
            && same(&self.outcome, &record.outcome)
            && self.tag.as_ref().is_none_or(|wanted| view.tags.iter().any(|tag| tags::fits(tag, wanted)))
            && self.since.is_none_or(|since| record.at >= since)
            && self.until.is_none_or(|until| record.at < until)
    }
}

/// A proof that a record is in the log, in the form that `debvisor log inclusion` reads as well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct InclusionProof {
    /// The record's place, from 0.
    pub leaf_idx: u64,
    /// Records that the root covers.
    pub tree_size: u64,
    /// The root over them, in base64.
    pub root: String,
    /// The record's leaf hash, in base64.
    pub leaf_hash: String,
    /// The hashes from the leaf to the root, in base64.
    pub proof: Vec<String>,
    /// The record: the very text that the leaf hash is over.
    pub record: String,
    /// The checkpoint that signs this root, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
}

/// A proof that the log only grew, in the form that `debvisor log consistency` reads as well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConsistencyProof {
    /// Records that the older root covers.
    pub size1: u64,
    /// Records that the newer root covers.
    pub size2: u64,
    /// The older root, in base64.
    pub root1: String,
    /// The newer root, in base64.
    pub root2: String,
    /// The hashes, in base64.
    pub proof: Vec<String>,
    /// The checkpoint that signs the older root, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint1: Option<String>,
    /// The checkpoint that signs the newer root, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint2: Option<String>,
}

impl Control {
    /// Checks every record and every checkpoint. What is found is remembered: nothing is signed over it.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub async fn audit_verify(&self) -> Result<AuditVerdict, OpError> {
        let kept = self.store().checkpoints_all().await?;
        let (promised, mut faults) = promises(&kept, self.inner.settings.audit.signer().verifier().key());
        let mut check = AuditCheck::new(AuditHead::EMPTY, promised);
        while !check.is_over() {
            let page = self.store().audit_page(check.size(), PAGE).await?;
            if page.rows.is_empty() {
                break;
            }
            check.take_page(&page);
        }
        let (head, found) = check.end();
        faults.extend(found.iter().map(crate::store::AuditFault::reason));
        let verdict = AuditVerdict::new(&head, kept.len(), faults);
        self.audit_found(&verdict.faults).await?;
        Ok(verdict)
    }

    /// Records after this place that the filter lets through, and where the next page begins.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub async fn audit_list(
        &self,
        from: u64,
        limit: u32,
        filter: &AuditFilter,
    ) -> Result<(Vec<AuditView>, Option<u64>), OpError> {
        let mut found = Vec::new();
        let mut at = from;
        loop {
            let rows = self.store().audit_from(at, limit).await?;
            for row in &rows {
                at = row.seq + 1;
                // A record that cannot be read is left out here, and named by the check.
                found.extend(view(row).filter(|view| filter.lets_through(view)));
                if found.len() >= limit as usize {
                    return Ok((found, Some(row.seq)));
                }
            }
            if rows.len() < limit as usize {
                return Ok((found, None));
            }
            if at - from >= LOOKED_THROUGH {
                return Ok((found, Some(at - 1)));
            }
        }
    }

    /// Proves that a record is among the first `size`; without a size, among those of a signed checkpoint, which is made
    /// where there is none yet.
    ///
    /// # Errors
    /// [`OpError::NotFound`] where there is no such record; [`OpError::Refused`] where it is not what was written.
    pub async fn audit_inclusion(&self, seq: u64, size: Option<u64>) -> Result<InclusionProof, OpError> {
        let size = match size {
            Some(size) => size,
            None => match self.store().checkpoint_latest().await?.filter(|latest| latest.size > seq) {
                Some(latest) => latest.size,
                None => self.checkpoint().await?.size,
            },
        };
        self.has_records(size)?;
        let parts = inclusion_parts(seq, size).map_err(|error| not_there(&error))?;
        let row = self.store().audit_from(seq, 1).await?.into_iter().find(|row| row.seq == seq);
        let row = row.ok_or_else(|| OpError::NotFound(format!("there is no audit record {seq}")))?;
        let leaf = leaf_hash(row.record.as_bytes());
        if row.leaf != leaf {
            return Err(OpError::Refused(vec![crate::store::AuditFault::Altered(seq).reason()]));
        }
        let (root, checkpoint) = self.root_of(size).await?;
        Ok(InclusionProof {
            leaf_idx: seq,
            tree_size: size,
            root: STANDARD.encode(root),
            leaf_hash: STANDARD.encode(leaf),
            proof: self.proof(&parts).await?,
            record: row.record,
            checkpoint,
        })
    }

    /// Proves that the first `from` records are the beginning of the first `to`.
    ///
    /// # Errors
    /// [`OpError::NotFound`] where there are not so many.
    pub async fn audit_consistency(&self, from: u64, to: u64) -> Result<ConsistencyProof, OpError> {
        self.has_records(to)?;
        let parts = consistency_parts(from, to).map_err(|error| not_there(&error))?;
        let (root1, checkpoint1) = self.root_of(from).await?;
        let (root2, checkpoint2) = self.root_of(to).await?;
        Ok(ConsistencyProof {
            size1: from,
            size2: to,
            root1: STANDARD.encode(root1),
            root2: STANDARD.encode(root2),
            proof: self.proof(&parts).await?,
            checkpoint1,
            checkpoint2,
        })
    }

    /// By which others check what this server signs.
    pub fn audit_key(&self) -> String {
        self.inner.settings.audit.signer().verifier().to_string()
    }

    fn has_records(&self, size: u64) -> Result<(), OpError> {
        let head = self.store().audit_head();
        if size > head.size {
            return Err(OpError::NotFound(format!("the audit log has {} records, not {size}", head.size)));
        }
        Ok(())
    }

    /// The root over so many records as it was signed, else as it is by what is kept.
    async fn root_of(&self, size: u64) -> Result<(Hash, Option<String>), OpError> {
        let signed = self.store().checkpoint_at(size).await?;
        if let Some((head, note)) = signed.and_then(|row| Some((row.head()?, row.note))) {
            return Ok((head.root, Some(note)));
        }
        Ok((self.store().audit_root(&(0..size)).await?, None))
    }

    async fn proof(&self, parts: &[Range<u64>]) -> Result<Vec<String>, OpError> {
        Ok(self.store().audit_roots(parts).await?.iter().map(|hash| STANDARD.encode(hash)).collect())
    }
}

/// What checkpoints promise, where this key signed them; and what is wrong with those that it did not.
pub fn promises(kept: &[CheckpointRow], key: &PublicKey) -> (Vec<TreeHead>, Vec<Reason>) {
    let mut promised = Vec::new();
    let mut faults = Vec::new();
    for row in kept {
        match promise(row, key) {
            Ok(head) => promised.push(head),
            Err(reason) => faults.push(reason.location(format!("checkpoint over {} records", row.size))),
        }
    }
    (promised, faults)
}

fn promise(row: &CheckpointRow, key: &PublicKey) -> Result<TreeHead, Reason> {
    let note = Checkpoint::parse(&row.note)?;
    let refused = |what: &str| Reason::new(Code::CheckpointInvalid, format!("the checkpoint {what}"));
    // By the key alone: the server may have been renamed since.
    if !note.signatures.iter().any(|line| key.verify(note.signed_text.as_bytes(), &line.signature).is_ok()) {
        return Err(refused("is not signed with this server's key"));
    }
    let head = TreeHead { size: note.size, root: note.root };
    if row.head().as_ref() != Some(&head) {
        return Err(refused("is kept under another size or root than it signs"));
    }
    Ok(head)
}

fn view(row: &AuditRow) -> Option<AuditView> {
    /// What the store adds to a record.
    #[derive(Deserialize)]
    struct Tagged {
        #[serde(flatten)]
        record: AuditRecord,
        #[serde(default)]
        tags: Vec<String>,
    }
    let Tagged { record, tags } = serde_json::from_str(&row.record).ok()?;
    Some(AuditView { seq: row.seq, leaf: hex::encode(&row.leaf), record, tags })
}

fn not_there(error: &ProofError) -> OpError {
    OpError::NotFound(error.to_string())
}
