//! Audit records in, leaf hashes, a chain and a Merkle tree over them out; and the check that finds what was altered.
//!
//! A record's leaf is hashed as transparency logs hash theirs (RFC 6962 section 2.1). The chain is kept beside each
//! record and names the place at which somebody wrote; the root of the tree is what checkpoints sign, and names who
//! wrote the whole chain anew.

use std::collections::{HashMap, VecDeque};

use serde::Serialize;
use sha2::Digest as _;

use super::nodes::{AuditNode, STEP};
use super::{AuditPage, AuditRecord, AuditRow, StoreError, tags};
use crate::release::evidence::merkle::tree::Tree;
use crate::release::evidence::merkle::{Hash, leaf_hash};
use crate::types::{Code, Reason};

/// Faults that one check names; it stops at them.
const FAULTS: usize = 100;

/// The end of the log: how many records there are, and the chain and the tree up to there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditHead {
    /// Records.
    pub size: u64,
    /// The chain after the last of them.
    pub chain: Hash,
    /// The tree over all of them.
    pub tree: Tree,
}

/// A record as it is kept, with what it is evidence for.
#[derive(Serialize)]
struct Kept<'a> {
    #[serde(flatten)]
    record: &'a AuditRecord,
    tags: &'static [&'static str],
}

impl AuditHead {
    /// The log without records.
    pub const EMPTY: Self = Self { size: 0, chain: [0; 32], tree: Tree::EMPTY };

    /// The row of the next record, and the hashes that it completes; the head moves on.
    pub(super) fn append(&mut self, record: &AuditRecord) -> Result<(AuditRow, Vec<AuditNode>), StoreError> {
        let kept = Kept { record, tags: tags::of(&record.action) };
        let record = serde_json_canonicalizer::to_string(&kept).map_err(|error| StoreError::Row(error.to_string()))?;
        let leaf = leaf_hash(record.as_bytes());
        let seq = self.size;
        let nodes = self.add(leaf, link(&self.chain, &leaf));
        Ok((AuditRow { seq, record, leaf: leaf.to_vec(), chain: self.chain.to_vec() }, nodes))
    }

    /// The hashes of those that are kept that this leaf completes.
    fn add(&mut self, leaf: Hash, chain: Hash) -> Vec<AuditNode> {
        let place = self.tree.size();
        let mut nodes = Vec::new();
        self.tree.push_noting(leaf, |level, hash| {
            if level % STEP == 0 {
                nodes.push(AuditNode { level, index: place >> level, hash: hash.to_vec() });
            }
        });
        self.size += 1;
        self.chain = chain;
        nodes
    }
}

/// The size and root of the log, as a checkpoint promises it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeHead {
    /// Records.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
}

impl From<&AuditHead> for TreeHead {
    fn from(head: &AuditHead) -> Self {
        Self { size: head.size, root: head.tree.root() }
    }
}

/// What is wrong with the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuditFault {
    /// Records are missing.
    #[error("{} missing", records(*first, *last, "is", "are"))]
    Missing {
        /// The first of them.
        first: u64,
        /// The last of them.
        last: u64,
    },
    /// A record is not the one that was hashed.
    #[error("record {0} was altered after it was written")]
    Altered(u64),
    /// A record was put in another place, put in, or its neighbour was exchanged together with its hash.
    #[error("record {0} does not follow the one before it: one of the two was exchanged, moved or put in")]
    Reordered(u64),
    /// Everything fits together, and is not what was promised.
    #[error("{} not what the checkpoint over the first {} promised: history was written anew", records(*first, *last, "is", "are, or one of them is,"), last + 1)]
    Rewritten {
        /// The first that it can be.
        first: u64,
        /// The last that it can be: the last that the checkpoint covers.
        last: u64,
    },
    /// The records are right, and the hash that is kept over some of them is not.
    #[error("the hash that is kept over records {first} to {last} is not theirs, or is gone")]
    Hash {
        /// The first of them.
        first: u64,
        /// The last of them.
        last: u64,
    },
}

impl AuditFault {
    /// The record at which the fault shows.
    pub const fn seq(&self) -> u64 {
        match self {
            Self::Missing { first, .. } | Self::Rewritten { first, .. } | Self::Hash { first, .. } => *first,
            Self::Altered(seq) | Self::Reordered(seq) => *seq,
        }
    }

    /// The fault as a reason, with its place.
    pub fn reason(&self) -> Reason {
        let code = match self {
            Self::Missing { .. } => Code::AuditRecordMissing,
            Self::Altered(_) => Code::AuditRecordAltered,
            Self::Reordered(_) => Code::AuditRecordReordered,
            Self::Rewritten { .. } => Code::AuditRewritten,
            Self::Hash { .. } => Code::AuditHashAltered,
        };
        Reason::new(code, self.to_string()).location(format!("record {}", self.seq()))
    }
}

/// Whether a record is as it was hashed and follows on the one before it, by the chain alone.
pub(super) fn follows(before: Option<&AuditRow>, row: &AuditRow) -> Result<(), AuditFault> {
    let leaf = leaf_hash(row.record.as_bytes());
    if row.leaf != leaf {
        return Err(AuditFault::Altered(row.seq));
    }
    let chain = before.map_or(Ok([0; 32]), |before| Hash::try_from(before.chain.as_slice()));
    match chain {
        Ok(chain) if row.chain == link(&chain, &leaf) => Ok(()),
        _ => Err(AuditFault::Reordered(row.seq)),
    }
}

fn records(first: u64, last: u64, one: &str, many: &str) -> String {
    if first == last { format!("record {first} {one}") } else { format!("records {first} to {last} {many}") }
}

/// A check of the log from its beginning, or from where an earlier one ended: rows go in one after the other, and every
/// fault comes out, each with its place.
#[derive(Debug)]
pub struct AuditCheck {
    head: AuditHead,
    /// What was promised and is still to come, the smallest first.
    promised: VecDeque<TreeHead>,
    /// Up to here the root was as promised.
    proved: u64,
    faults: Vec<AuditFault>,
    /// What is wrong with hashes that are kept; told where nothing is wrong with the records, from which it follows.
    hashes: Vec<AuditFault>,
    /// The neighbour was missing: whether the next one follows cannot be said.
    after_a_gap: bool,
}

impl AuditCheck {
    /// The check from `head` on, against these promises, the smallest first.
    pub fn new(head: AuditHead, promised: Vec<TreeHead>) -> Self {
        let promised = promised.into_iter().filter(|promise| promise.size > head.size).collect();
        let (faults, hashes) = (Vec::new(), Vec::new());
        Self { proved: head.size, head, promised, faults, hashes, after_a_gap: false }
    }

    /// Records that were looked at, and where the next one must stand.
    pub const fn size(&self) -> u64 {
        self.head.size
    }

    /// Whether so much is wrong that no more needs to be looked at.
    pub fn is_over(&self) -> bool {
        self.faults.len() >= FAULTS
    }

    /// Looks at the next rows.
    pub fn take(&mut self, rows: &[AuditRow]) {
        for row in rows {
            if self.is_over() {
                return;
            }
            self.look(row);
        }
    }

    /// Looks at the next rows, and at the hashes that are kept over records and that these completed.
    pub fn take_page(&mut self, page: &AuditPage) {
        let Some(nodes) = &page.nodes else { return self.take(&page.rows) };
        let kept: HashMap<(u32, u64), &[u8]> =
            nodes.iter().map(|node| ((node.level, node.index), node.hash.as_slice())).collect();
        for row in &page.rows {
            if self.is_over() {
                return;
            }
            for node in self.look(row) {
                let is_kept = kept.get(&(node.level, node.index)).is_some_and(|hash| *hash == node.hash);
                if !is_kept && self.hashes.len() < FAULTS {
                    let first = node.index << node.level;
                    self.hashes.push(AuditFault::Hash { first, last: first + ((1 << node.level) - 1) });
                }
            }
        }
    }

    fn look(&mut self, row: &AuditRow) -> Vec<AuditNode> {
        if row.seq > self.head.size {
            self.faults.push(AuditFault::Missing { first: self.head.size, last: row.seq - 1 });
            self.head.size = row.seq;
            self.after_a_gap = true;
        }
        let leaf = leaf_hash(row.record.as_bytes());
        let kept = Hash::try_from(row.leaf.as_slice()).unwrap_or_default();
        let chain = Hash::try_from(row.chain.as_slice()).unwrap_or_default();
        if kept != leaf {
            self.faults.push(AuditFault::Altered(row.seq));
        }
        // By the hash that is kept: a record that was altered is named once, and not its neighbour as well.
        if !self.after_a_gap && link(&self.head.chain, &kept) != chain {
            self.faults.push(AuditFault::Reordered(row.seq));
        }
        self.after_a_gap = false;
        let nodes = self.head.add(leaf, chain);
        // Two of one size are of two logs, or the same.
        while self.promised.front().is_some_and(|promise| promise.size == self.head.size) {
            self.hold_against_promise();
        }
        nodes
    }

    fn hold_against_promise(&mut self) {
        let Some(promise) = self.promised.pop_front() else { return };
        if self.faults.is_empty() && promise.root != self.head.tree.root() {
            self.faults.push(AuditFault::Rewritten { first: self.proved, last: promise.size - 1 });
        }
        self.proved = promise.size;
    }

    /// One promise more, which came to light only now: that of a checkpoint that stands behind what it covers.
    pub fn hold(&mut self, promise: TreeHead) {
        if promise.size == self.head.size {
            self.promised.push_front(promise);
            self.hold_against_promise();
        } else if promise.size > self.head.size {
            self.promised.push_back(promise);
            self.promised.make_contiguous().sort_by_key(|promise| promise.size);
        }
    }

    /// What came of it: the head, and what is wrong.
    pub fn end(mut self) -> (AuditHead, Vec<AuditFault>) {
        let longest = self.promised.back().map_or(0, |promise| promise.size);
        if longest > self.head.size && !self.is_over() {
            self.faults.push(AuditFault::Missing { first: self.head.size, last: longest - 1 });
        }
        (self.head, if self.faults.is_empty() { self.hashes } else { self.faults })
    }
}

/// Checks rows that follow on `head`; returns the head after them.
///
/// # Errors
/// The first fault.
pub fn check(head: AuditHead, rows: &[AuditRow]) -> Result<AuditHead, AuditFault> {
    let mut check = AuditCheck::new(head, Vec::new());
    check.take(rows);
    let (head, faults) = check.end();
    faults.into_iter().next().map_or(Ok(head), Err)
}

fn link(chain: &Hash, leaf: &Hash) -> Hash {
    sha2::Sha256::new().chain_update(chain).chain_update(leaf).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u64) -> AuditRecord {
        AuditRecord {
            at: "2026-01-01T00:00:00Z".parse().unwrap(),
            actor: "uid:0".to_owned(),
            origin: "socket".to_owned(),
            action: "vm.start".to_owned(),
            object: format!("vm/{number}"),
            outcome: "done".to_owned(),
            why: Vec::new(),
            data: serde_json::Value::Null,
        }
    }

    /// A log of so many records, and what was promised of it on the way.
    fn log(count: u64, promises: &[u64]) -> (Vec<AuditRow>, Vec<TreeHead>) {
        let mut head = AuditHead::EMPTY;
        let mut rows = Vec::new();
        let mut promised = Vec::new();
        for number in 0..count {
            rows.push(head.append(&record(number)).unwrap().0);
            if promises.contains(&head.size) {
                promised.push(TreeHead::from(&head));
            }
        }
        (rows, promised)
    }

    fn faults(rows: &[AuditRow], promised: &[TreeHead]) -> Vec<AuditFault> {
        let mut check = AuditCheck::new(AuditHead::EMPTY, promised.to_vec());
        check.take(rows);
        check.end().1
    }

    /// The rows as somebody would write them who knows how: places, hashes and chain fit together.
    fn written_anew(rows: &[AuditRow]) -> Vec<AuditRow> {
        let mut head = AuditHead::EMPTY;
        let mut anew = Vec::new();
        for row in rows {
            let leaf = leaf_hash(row.record.as_bytes());
            let chain = link(&head.chain, &leaf);
            anew.push(AuditRow { seq: head.size, record: row.record.clone(), leaf: leaf.into(), chain: chain.into() });
            head.add(leaf, chain);
        }
        anew
    }

    #[test]
    fn a_whole_log_has_no_fault_whatever_was_promised_of_it() {
        let (rows, promised) = log(20, &[1, 7, 20]);
        assert_eq!(faults(&rows, &promised), []);
    }

    #[test]
    fn whatever_is_done_by_hand_to_one_record_is_named_by_its_place() {
        let (rows, promised) = log(20, &[7, 20]);
        let mut altered = rows.clone();
        altered[11].record = altered[11].record.replace("vm/11", "vm/12");
        assert_eq!(faults(&altered, &promised), [AuditFault::Altered(11)]);
        // With its hash.
        altered[11].leaf = leaf_hash(altered[11].record.as_bytes()).into();
        assert_eq!(faults(&altered, &promised), [AuditFault::Reordered(11)]);
        let mut deleted = rows.clone();
        deleted.remove(11);
        assert_eq!(faults(&deleted, &promised), [AuditFault::Missing { first: 11, last: 11 }]);
        let mut exchanged = rows.clone();
        exchanged.swap(11, 12);
        (exchanged[11].seq, exchanged[12].seq) = (11, 12);
        assert_eq!(faults(&exchanged, &promised)[0], AuditFault::Reordered(11));
        let mut put_in = rows.clone();
        put_in.insert(11, AuditRow { seq: 11, ..rows[3].clone() });
        put_in[12..].iter_mut().for_each(|row| row.seq += 1);
        assert_eq!(faults(&put_in, &promised)[0], AuditFault::Reordered(11));
        assert_eq!(faults(&rows[..15], &promised), [AuditFault::Missing { first: 15, last: 19 }]);
        let mut two = rows;
        two[3].record.push(' ');
        two[17].record.push(' ');
        assert_eq!(faults(&two, &promised), [AuditFault::Altered(3), AuditFault::Altered(17)]);
    }

    #[test]
    fn who_writes_the_whole_chain_anew_is_found_by_the_checkpoints() {
        let (rows, promised) = log(20, &[7, 12, 20]);
        let mut altered = rows.clone();
        altered[9].record = altered[9].record.replace("vm/9", "vm/8");
        let mut deleted = rows.clone();
        deleted.remove(9);
        deleted.push(rows[3].clone());
        let mut exchanged = rows.clone();
        exchanged.swap(9, 10);
        let mut put_in = rows.clone();
        put_in.insert(9, rows[3].clone());
        for changed in [altered, deleted, exchanged, put_in] {
            let anew = written_anew(&changed);
            assert_eq!(faults(&anew, &[]), [], "without a promise it is as good as any");
            assert_eq!(faults(&anew, &promised), [AuditFault::Rewritten { first: 7, last: 11 }]);
        }
        let (longer, _) = log(25, &[]);
        assert_eq!(faults(&written_anew(&longer), &promised), [], "what came later is no fault");
    }

    #[test]
    fn a_hash_that_is_kept_over_records_and_is_not_theirs_is_named_where_the_records_are_right() {
        let mut head = AuditHead::EMPTY;
        let (mut rows, mut nodes) = (Vec::new(), Vec::new());
        for number in 0..600 {
            let (row, completed) = head.append(&record(number)).unwrap();
            rows.push(row);
            nodes.extend(completed);
        }
        assert_eq!(nodes.len(), 600 / 16 + 600 / 256);
        let promised = vec![TreeHead::from(&head)];
        let faults = |rows: &[AuditRow], nodes: &[AuditNode]| {
            let mut check = AuditCheck::new(AuditHead::EMPTY, promised.clone());
            check.take_page(&AuditPage { rows: rows.to_vec(), nodes: Some(nodes.to_vec()) });
            check.end().1
        };
        assert_eq!(faults(&rows, &nodes), []);
        for at in 0..nodes.len() {
            let first = nodes[at].index << nodes[at].level;
            let fault = [AuditFault::Hash { first, last: first + (1 << nodes[at].level) - 1 }];
            let mut altered = nodes.clone();
            altered[at].hash[7] ^= 1;
            assert_eq!(faults(&rows, &altered), fault);
            altered.remove(at);
            assert_eq!(faults(&rows, &altered), fault);
        }
        // What is wrong with a record is told once, and not with every hash above it.
        let mut altered = rows.clone();
        altered[100].record.push(' ');
        assert_eq!(faults(&altered, &nodes), [AuditFault::Altered(100)]);
        let anew = written_anew(&altered);
        assert_eq!(faults(&anew, &nodes), [AuditFault::Rewritten { first: 0, last: 599 }]);
    }

    #[test]
    fn a_log_in_which_nothing_is_right_is_not_told_of_without_end() {
        let (mut rows, promised) = log(5000, &[]);
        rows.iter_mut().for_each(|row| row.record.push(' '));
        assert_eq!(faults(&rows, &promised).len(), FAULTS);
    }
}
