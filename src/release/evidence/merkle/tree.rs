//! A Merkle tree that grows: leaf hashes in, its root and the parts of which proofs are made out.
//!
//! Only the roots of its complete subtrees are kept (a compact range), at most 64 hashes, whatever the tree's size.
//! Which parts a proof consists of is said here as ranges of leaves; who has the leaves computes their hashes.
//! Invariant: no leaf is kept, nothing is read.

use std::ops::Range;

use super::{EMPTY_ROOT, Hash, ProofError, node_hash};

/// A tree, by the roots of its complete subtrees.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    size: u64,
    /// From left to right; their sizes are the bits of `size`, the highest first.
    peaks: Vec<Hash>,
}

impl Tree {
    /// The tree without leaves.
    pub const EMPTY: Self = Self { size: 0, peaks: Vec::new() };

    /// Leaves.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The tree over these complete subtrees, which follow one another from left to right; each has half the leaves of
    /// the one before or fewer. Nothing where there are not as many as a tree of that size has.
    pub fn of_peaks(size: u64, peaks: Vec<Hash>) -> Option<Self> {
        (peaks.len() == size.count_ones() as usize).then_some(Self { size, peaks })
    }

    /// Adds a leaf on the right.
    pub fn push(&mut self, leaf: Hash) {
        self.push_noting(leaf, |_, _| {});
    }

    /// The same; `completed` is told the height and the root of each subtree that the leaf completes, from below.
    pub fn push_noting(&mut self, leaf: Hash, mut completed: impl FnMut(u32, &Hash)) {
        let mut node = leaf;
        // A one at the end of the size is a complete subtree of that height, which the new one completes further.
        for height in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                node = node_hash(&left, &node);
                completed(height + 1, &node);
            }
        }
        self.peaks.push(node);
        self.size += 1;
    }

    /// The root (RFC 9162 section 2.1.1).
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else { return EMPTY_ROOT };
        peaks.fold(*last, |right, left| node_hash(left, &right))
    }
}

/// The ranges of leaves whose roots prove that leaf `index` is in the tree of `size` leaves, in the proof's order
/// (RFC 9162 section 2.1.3.1).
///
/// # Errors
/// [`ProofError::Index`] where there is no such leaf.
pub fn inclusion_parts(index: u64, size: u64) -> Result<Vec<Range<u64>>, ProofError> {
    if index >= size {
        return Err(ProofError::Index { index, size });
    }
    let (mut start, mut end) = (0, size);
    let mut parts = Vec::new();
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            parts.push(middle..end);
            end = middle;
        } else {
            parts.push(start..middle);
            start = middle;
        }
    }
    parts.reverse();
    Ok(parts)
}

/// The ranges of leaves whose roots prove that the tree of `size1` leaves is the beginning of the tree of `size2`, in
/// the proof's order (RFC 9162 section 2.1.4.1).
///
/// # Errors
/// [`ProofError::Sizes`] where nothing can be proved of these two.
pub fn consistency_parts(size1: u64, size2: u64) -> Result<Vec<Range<u64>>, ProofError> {
    if size1 == 0 || size1 > size2 {
        return Err(ProofError::Sizes { size1, size2 });
    }
    let (mut start, mut end) = (0, size2);
    let mut parts = Vec::new();
    // Whether what is left is the older tree itself, whose root the verifier has.
    let mut whole = true;
    while size1 != end {
        let middle = start + split(end - start);
        if size1 <= middle {
            parts.push(middle..end);
            end = middle;
        } else {
            parts.push(start..middle);
            start = middle;
            whole = false;
        }
    }
    if !whole {
        parts.push(start..end);
    }
    parts.reverse();
    Ok(parts)
}

/// The complete subtrees that a range of leaves consists of, from left to right: the height of each, and how many of
/// its kind stand before it.
pub fn subtrees(part: &Range<u64>) -> Vec<(u32, u64)> {
    let mut found = Vec::new();
    let mut at = part.start;
    while at < part.end {
        // The highest that begins here and ends in the range. What a proof is made of begins where they fit.
        let fits = u64::BITS - 1 - (part.end - at).leading_zeros();
        let height = fits.min(at.trailing_zeros());
        found.push((height, at >> height));
        at += 1 << height;
    }
    found
}

/// The largest power of two smaller than `leaves`, of which there are two or more.
const fn split(leaves: u64) -> u64 {
    1 << (u64::BITS - 1 - leaves.saturating_sub(1).leading_zeros())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::evidence::merkle::{leaf_hash, verify_consistency, verify_inclusion};

    fn at(place: u64) -> usize {
        usize::try_from(place).unwrap()
    }

    fn leaves(count: u64) -> Vec<Hash> {
        (0..count).map(|n| leaf_hash(&n.to_be_bytes())).collect()
    }

    fn root(leaves: &[Hash]) -> Hash {
        let mut tree = Tree::EMPTY;
        leaves.iter().for_each(|leaf| tree.push(*leaf));
        tree.root()
    }

    fn hashes(parts: &[Range<u64>], leaves: &[Hash]) -> Vec<Hash> {
        parts.iter().map(|part| root(&leaves[at(part.start)..at(part.end)])).collect()
    }

    #[test]
    fn every_proof_made_of_a_growing_tree_is_one_that_the_verifier_accepts() {
        let all = leaves(70);
        for size in 1..=70_u64 {
            let leaves = &all[..at(size)];
            let now = root(leaves);
            for index in 0..size {
                let proof = hashes(&inclusion_parts(index, size).unwrap(), leaves);
                assert_eq!(verify_inclusion(&leaves[at(index)], index, size, &proof, &now), Ok(()));
            }
            for before in 1..=size {
                let proof = hashes(&consistency_parts(before, size).unwrap(), leaves);
                let then = root(&leaves[..at(before)]);
                assert_eq!(verify_consistency(before, size, &then, &now, &proof), Ok(()), "{before} to {size}");
            }
        }
    }

    #[test]
    fn a_tree_keeps_a_hash_for_each_bit_of_its_size_and_no_more() {
        let mut tree = Tree::EMPTY;
        assert_eq!(tree.root(), EMPTY_ROOT);
        for leaf in leaves(1000) {
            tree.push(leaf);
            assert_eq!(tree.peaks.len(), tree.size().count_ones() as usize);
        }
    }

    #[test]
    fn the_complete_subtrees_of_every_part_of_a_proof_lead_to_its_root() {
        let all = leaves(130);
        let mut noted = std::collections::BTreeMap::new();
        let mut tree = Tree::EMPTY;
        for (index, leaf) in (0_u64..).zip(&all) {
            noted.insert((0, index), *leaf);
            tree.push_noting(*leaf, |height, hash| {
                assert_eq!(noted.insert((height, index >> height), *hash), None);
            });
        }
        for size in 1..=130 {
            let parts = (0..size).flat_map(|index| inclusion_parts(index, size).unwrap());
            let older = (1..=size).flat_map(|older| consistency_parts(older, size).unwrap());
            for part in parts.chain(older).chain(std::iter::once(0..size)) {
                let peaks: Vec<Hash> = subtrees(&part).iter().map(|subtree| noted[subtree]).collect();
                let made = Tree::of_peaks(part.end - part.start, peaks).unwrap();
                assert_eq!(made.root(), root(&all[at(part.start)..at(part.end)]), "{part:?} of {size}");
            }
        }
        assert_eq!(Tree::of_peaks(3, vec![all[0]]), None);
        assert_eq!(subtrees(&(0..u64::MAX)).len(), 64);
        assert_eq!(subtrees(&(7..7)), []);
    }

    #[test]
    fn there_is_no_proof_of_what_is_not_there() {
        assert_eq!(inclusion_parts(3, 3), Err(ProofError::Index { index: 3, size: 3 }));
        assert_eq!(consistency_parts(0, 3), Err(ProofError::Sizes { size1: 0, size2: 3 }));
        assert_eq!(consistency_parts(4, 3), Err(ProofError::Sizes { size1: 4, size2: 3 }));
        assert_eq!(inclusion_parts(u64::MAX - 1, u64::MAX).unwrap().len(), 63);
    }
}
