//! Audit records in, leaf hashes and the chain over them out; and the check that finds what was altered.
//!
//! A record's leaf is hashed as transparency logs hash theirs (RFC 6962 section 2.1), so that checkpoints and proofs
//! can be made over records that are there already.

use sha2::Digest as _;

use super::{AuditRecord, AuditRow, StoreError};
use crate::release::evidence::merkle::{Hash, leaf_hash};

/// The end of the log: how many records there are, and the chain up to there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditHead {
    /// Records.
    pub size: u64,
    /// The chain after the last of them.
    pub chain: Hash,
}

impl AuditHead {
    /// The log without records.
    pub const EMPTY: Self = Self { size: 0, chain: [0; 32] };

    /// The row of the next record; the head moves on.
    pub(super) fn append(&mut self, record: &AuditRecord) -> Result<AuditRow, StoreError> {
        let record = serde_json_canonicalizer::to_string(record).map_err(|error| StoreError::Row(error.to_string()))?;
        let leaf = leaf_hash(record.as_bytes());
        let row = AuditRow { seq: self.size, record, leaf: leaf.to_vec(), chain: link(&self.chain, &leaf).to_vec() };
        *self = Self { size: self.size + 1, chain: link(&self.chain, &leaf) };
        Ok(row)
    }
}

/// What is wrong with the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuditFault {
    /// A record is missing.
    #[error("record {0} is missing")]
    Missing(u64),
    /// A record is not the one that was hashed.
    #[error("record {0} was altered after it was written")]
    Altered(u64),
    /// A record was put in another place, or its neighbour was exchanged together with its hash.
    #[error("record {0} does not follow the one before it")]
    Reordered(u64),
}

/// Checks rows that follow on `head`; returns the head after them.
///
/// # Errors
/// The first fault.
pub fn check(mut head: AuditHead, rows: &[AuditRow]) -> Result<AuditHead, AuditFault> {
    for row in rows {
        if row.seq != head.size {
            return Err(AuditFault::Missing(head.size));
        }
        let leaf = leaf_hash(row.record.as_bytes());
        if row.leaf != leaf {
            return Err(AuditFault::Altered(row.seq));
        }
        let chain = link(&head.chain, &leaf);
        if row.chain != chain {
            return Err(AuditFault::Reordered(row.seq));
        }
        head = AuditHead { size: head.size + 1, chain };
    }
    Ok(head)
}

fn link(chain: &Hash, leaf: &Hash) -> Hash {
    sha2::Sha256::new().chain_update(chain).chain_update(leaf).finalize().into()
}
