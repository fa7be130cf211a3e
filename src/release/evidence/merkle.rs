//! Merkle trees of transparency logs (RFC 9162 section 2.1, the same as RFC 6962's): hashes and a proof in, a root or
//! the one fault out.
//! Invariant: a proof has exactly the length that index and size demand. Nothing is skipped, padded or tried twice.

use sha2::Digest as _;

pub mod proof_file;
pub mod tree;

/// A SHA-256 node of the tree.
pub type Hash = [u8; 32];

/// The root of the tree without leaves: SHA-256 of nothing.
pub const EMPTY_ROOT: Hash = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41,
    0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

/// Why a proof proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The leaf lies outside the tree; a tree of size 0 has no leaf at all.
    #[error("leaf {index} is not in a tree of {size}")]
    Index {
        /// The leaf's index, from 0.
        index: u64,
        /// The tree's size, in leaves.
        size: u64,
    },
    /// The two sizes cannot be joined: the older tree is the larger one, or has no leaf.
    #[error("a tree of {size1} cannot be proved to be the beginning of a tree of {size2}")]
    Sizes {
        /// The older tree's size, in leaves.
        size1: u64,
        /// The newer tree's size, in leaves.
        size2: u64,
    },
    /// A hash too many or too few.
    #[error("the proof must have {expected} hashes, not {actual}")]
    Length {
        /// What index and size demand.
        expected: usize,
        /// What the proof has.
        actual: usize,
    },
    /// The hashes lead to another root than the one given.
    #[error("the proof leads to root {computed}, not to {expected}", computed = hex::encode(computed), expected = hex::encode(expected))]
    Root {
        /// Where the proof leads.
        computed: Hash,
        /// The root that was given.
        expected: Hash,
    },
}

/// The hash of a leaf: `SHA-256(0x00 || data)`.
pub fn leaf_hash(data: &[u8]) -> Hash {
    sha2::Sha256::new().chain_update([0x00]).chain_update(data).finalize().into()
}

/// The hash of an inner node: `SHA-256(0x01 || left || right)`.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    sha2::Sha256::new().chain_update([0x01]).chain_update(left).chain_update(right).finalize().into()
}

/// Proves that the leaf stands at `index` in the tree of `size` leaves that has this root (RFC 9162 section 2.1.3.2).
///
/// # Errors
/// The first [`ProofError`] met.
pub fn verify_inclusion(
    leaf_hash: &Hash,
    index: u64,
    size: u64,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), ProofError> {
    same(root_from_inclusion(leaf_hash, index, size, proof)?, root)
}

/// The root of the tree of `size` leaves in which the proof puts the leaf at `index`.
///
/// # Errors
/// [`ProofError::Index`] or [`ProofError::Length`].
pub fn root_from_inclusion(leaf_hash: &Hash, index: u64, size: u64, proof: &[Hash]) -> Result<Hash, ProofError> {
    if index >= size {
        return Err(ProofError::Index { index, size });
    }
    let path = Path::of(index, size);
    let (inner, border) = path.split(proof, path.inner)?;
    Ok(up_the_border(up_to_the_border(*leaf_hash, inner, index), border))
}

/// Proves that the tree of `size1` leaves is the beginning of the tree of `size2` (RFC 9162 section 2.1.4.2).
///
/// A tree head is consistent with itself by an empty proof. A tree without leaves is the beginning of every tree, so a
/// proof from it says nothing and is refused.
///
/// # Errors
/// The first [`ProofError`] met.
pub fn verify_consistency(
    size1: u64,
    size2: u64,
    root1: &Hash,
    root2: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    if size1 == size2 {
        if !proof.is_empty() {
            return Err(ProofError::Length { expected: 0, actual: proof.len() });
        }
        return same(*root1, root2);
    }
    if size1 > size2 || size1 == 0 {
        return Err(ProofError::Sizes { size1, size2 });
    }

    // The proof is the upper part of the inclusion proof of the older tree's last leaf in the newer tree. It starts at
    // the largest complete subtree that ends there, of height `level`. That subtree's hash comes first, except where
    // it is the whole older tree, whose root the caller has.
    let path = Path::of(size1 - 1, size2);
    let level = size1.trailing_zeros();
    // size1 < size2 puts the split between the two above the subtree's top, so nothing is lost here.
    let inner_length = path.inner.saturating_sub(level);
    let (seed, rest) = if size1.is_power_of_two() {
        (root1, proof)
    } else {
        let expected = path.length(inner_length) + 1;
        proof.split_first().ok_or(ProofError::Length { expected, actual: 0 })?
    };
    let (inner, border) = path.split(rest, inner_length).map_err(|error| match error {
        // Speak of the proof as the caller sees it, with its first hash.
        ProofError::Length { expected, .. } => {
            ProofError::Length { expected: expected + (proof.len() - rest.len()), actual: proof.len() }
        }
        other => other,
    })?;
    let index = (size1 - 1).checked_shr(level).unwrap_or(0);
    same(up_the_border(left_of_the_border(*seed, inner, index), border), root1)?;
    same(up_the_border(up_to_the_border(*seed, inner, index), border), root2)
}

/// How a leaf's path to the root divides: below, where it may have siblings on both sides; then along the right border
/// of the tree, where only left siblings exist.
struct Path {
    /// Steps up to the node where the paths of this leaf and of the last leaf meet.
    inner: u32,
    /// Left siblings above it.
    border: u32,
}

impl Path {
    /// The path of leaf `index` in a tree of `size` leaves; `index < size`.
    fn of(index: u64, size: u64) -> Self {
        let inner = u64::BITS - (index ^ size.saturating_sub(1)).leading_zeros();
        Self { inner, border: index.checked_shr(inner).unwrap_or(0).count_ones() }
    }

    fn length(&self, inner: u32) -> usize {
        (inner + self.border) as usize
    }

    /// Divides a proof of exactly the right length.
    fn split<'a>(&self, proof: &'a [Hash], inner: u32) -> Result<(&'a [Hash], &'a [Hash]), ProofError> {
        let wrong = ProofError::Length { expected: self.length(inner), actual: proof.len() };
        if proof.len() != self.length(inner) {
            return Err(wrong);
        }
        proof.split_at_checked(inner as usize).ok_or(wrong)
    }
}

/// From a node up to the border, with siblings on both sides; bit `n` of `index` says on which at height `n`.
fn up_to_the_border(seed: Hash, siblings: &[Hash], index: u64) -> Hash {
    siblings.iter().zip(bits(index)).fold(seed, |node, (sibling, is_right)| {
        if is_right { node_hash(sibling, &node) } else { node_hash(&node, sibling) }
    })
}

/// The same path in the older tree, which had no siblings on the right.
fn left_of_the_border(seed: Hash, siblings: &[Hash], index: u64) -> Hash {
    let on_the_left = siblings.iter().zip(bits(index)).filter(|(_, is_right)| *is_right);
    on_the_left.fold(seed, |node, (sibling, _)| node_hash(sibling, &node))
}

fn up_the_border(seed: Hash, siblings: &[Hash]) -> Hash {
    siblings.iter().fold(seed, |node, sibling| node_hash(sibling, &node))
}

/// The bits of `index`, the lowest first, then zeros without end.
fn bits(index: u64) -> impl Iterator<Item = bool> {
    (0..).map(move |height| index.checked_shr(height).unwrap_or(0) & 1 == 1)
}

fn same(computed: Hash, expected: &Hash) -> Result<(), ProofError> {
    if computed == *expected { Ok(()) } else { Err(ProofError::Root { computed, expected: *expected }) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definitions of RFC 9162 section 2.1, word for word and without any cleverness.
    mod reference {
        use super::super::{EMPTY_ROOT, Hash, node_hash};

        /// The largest power of two smaller than `n`.
        fn split(n: usize) -> usize {
            n.next_power_of_two() / 2
        }

        pub(super) fn root(leaves: &[Hash]) -> Hash {
            match leaves {
                [] => EMPTY_ROOT,
                [leaf] => *leaf,
                _ => {
                    let (left, right) = leaves.split_at(split(leaves.len()));
                    node_hash(&root(left), &root(right))
                }
            }
        }

        pub(super) fn inclusion(index: usize, leaves: &[Hash]) -> Vec<Hash> {
            if leaves.len() <= 1 {
                return Vec::new();
            }
            let k = split(leaves.len());
            let (left, right) = leaves.split_at(k);
            let (mut proof, sibling) =
                if index < k { (inclusion(index, left), right) } else { (inclusion(index - k, right), left) };
            proof.push(root(sibling));
            proof
        }

        pub(super) fn consistency(size1: usize, leaves: &[Hash]) -> Vec<Hash> {
            subproof(size1, leaves, true)
        }

        fn subproof(m: usize, leaves: &[Hash], complete: bool) -> Vec<Hash> {
            if m == leaves.len() {
                return if complete { Vec::new() } else { vec![root(leaves)] };
            }
            let k = split(leaves.len());
            let (left, right) = leaves.split_at(k);
            if m <= k {
                let mut proof = subproof(m, left, complete);
                proof.push(root(right));
                proof
            } else {
                let mut proof = subproof(m - k, right, false);
                proof.push(root(left));
                proof
            }
        }
    }

    fn leaves(count: usize) -> Vec<Hash> {
        (0..count).map(|n| leaf_hash(&n.to_be_bytes())).collect()
    }

    #[test]
    fn the_empty_root_is_the_hash_of_nothing() {
        assert_eq!(EMPTY_ROOT, <Hash>::from(sha2::Sha256::digest(b"")));
    }

    #[test]
    fn every_inclusion_proof_of_small_trees_verifies() {
        for size in 1..=70 {
            let leaves = leaves(size);
            let root = reference::root(&leaves);
            for (index, leaf) in leaves.iter().enumerate() {
                let proof = reference::inclusion(index, &leaves);
                assert_eq!(verify_inclusion(leaf, index as u64, size as u64, &proof, &root), Ok(()), "{index}/{size}");
            }
        }
    }

    #[test]
    fn every_consistency_proof_of_small_trees_verifies() {
        for size2 in 1..=70 {
            let leaves = leaves(size2);
            let root2 = reference::root(&leaves);
            for size1 in 1..=size2 {
                let root1 = reference::root(&leaves[..size1]);
                let proof = reference::consistency(size1, &leaves);
                let verdict = verify_consistency(size1 as u64, size2 as u64, &root1, &root2, &proof);
                assert_eq!(verdict, Ok(()), "{size1} to {size2}");
            }
        }
    }

    #[test]
    fn a_proof_with_a_hash_too_many_or_too_few_is_refused() {
        let leaves = leaves(7);
        let root = reference::root(&leaves);
        let proof = reference::inclusion(5, &leaves);
        let mut longer = proof.clone();
        longer.push(root);
        for wrong in [&proof[1..], &proof[..proof.len() - 1], &longer[..], &[]] {
            let expected = ProofError::Length { expected: 3, actual: wrong.len() };
            assert_eq!(verify_inclusion(&leaves[5], 5, 7, wrong, &root), Err(expected));
        }
        let root1 = reference::root(&leaves[..5]);
        let proof = reference::consistency(5, &leaves);
        let mut longer = proof.clone();
        longer.insert(0, root1);
        for wrong in [&proof[1..], &longer[..], &[]] {
            let expected = ProofError::Length { expected: proof.len(), actual: wrong.len() };
            assert_eq!(verify_consistency(5, 7, &root1, &root, wrong), Err(expected));
        }
    }

    #[test]
    fn an_index_at_or_past_the_size_and_a_tree_of_size_0_are_refused() {
        let leaf = leaf_hash(b"");
        assert_eq!(verify_inclusion(&leaf, 0, 1, &[], &leaf), Ok(()));
        for (index, size) in [(1, 1), (2, 1), (0, 0), (u64::MAX, u64::MAX), (u64::MAX, 0)] {
            assert_eq!(verify_inclusion(&leaf, index, size, &[], &leaf), Err(ProofError::Index { index, size }));
        }
        assert_eq!(
            verify_consistency(0, 1, &EMPTY_ROOT, &leaf, &[]),
            Err(ProofError::Sizes { size1: 0, size2: 1 }),
            "a proof from the empty tree says nothing"
        );
        assert_eq!(verify_consistency(2, 1, &leaf, &leaf, &[]), Err(ProofError::Sizes { size1: 2, size2: 1 }));
    }

    #[test]
    fn the_largest_sizes_do_not_overflow() {
        let hash = leaf_hash(b"");
        let proof = [hash; 64];
        assert!(root_from_inclusion(&hash, u64::MAX - 1, u64::MAX, &proof).is_err());
        assert!(root_from_inclusion(&hash, 0, u64::MAX, &proof).is_ok());
        assert!(root_from_inclusion(&hash, 1 << 63, u64::MAX, &proof).is_ok());
        assert!(verify_consistency(1 << 63, u64::MAX, &hash, &hash, &proof).is_err());
        assert!(verify_consistency(u64::MAX - 1, u64::MAX, &hash, &hash, &proof).is_err());
    }

    proptest! {
        #[test]
        fn any_flipped_bit_of_an_inclusion_proof_is_noticed(
            size in 1_usize..300, index in any::<prop::sample::Index>(),
            hash in any::<prop::sample::Index>(), bit in 0_usize..256,
        ) {
            let leaves = leaves(size);
            let index = index.index(size);
            let root = reference::root(&leaves);
            // The leaf, the proof and the root in one row; one bit of it is flipped.
            let mut row = vec![leaves[index], root];
            row.extend(reference::inclusion(index, &leaves));
            prop_assert_eq!(verify_inclusion(&row[0], index as u64, size as u64, &row[2..], &row[1]), Ok(()));
            let hash = hash.index(row.len());
            row[hash][bit / 8] ^= 1 << (bit % 8);
            let verdict = verify_inclusion(&row[0], index as u64, size as u64, &row[2..], &row[1]);
            prop_assert!(matches!(verdict, Err(ProofError::Root { .. })), "{verdict:?}");
        }

        #[test]
        fn any_flipped_bit_of_a_consistency_proof_is_noticed(
            size1 in 1_usize..200, more in 1_usize..200,
            hash in any::<prop::sample::Index>(), bit in 0_usize..256,
        ) {
            let leaves = leaves(size1 + more);
            let mut row = vec![reference::root(&leaves[..size1]), reference::root(&leaves)];
            row.extend(reference::consistency(size1, &leaves));
            let (size1, size2) = (size1 as u64, (size1 + more) as u64);
            prop_assert_eq!(verify_consistency(size1, size2, &row[0], &row[1], &row[2..]), Ok(()));
            let hash = hash.index(row.len());
            row[hash][bit / 8] ^= 1 << (bit % 8);
            let verdict = verify_consistency(size1, size2, &row[0], &row[1], &row[2..]);
            prop_assert!(matches!(verdict, Err(ProofError::Root { .. })), "{verdict:?}");
        }

        #[test]
        fn no_size_index_or_length_panics(
            a in any::<u64>(), b in any::<u64>(), proof in prop::collection::vec(any::<Hash>(), 0..66),
            root1 in any::<Hash>(), root2 in any::<Hash>(),
        ) {
            for (a, b) in [(a, b), (a >> 40, b >> 40), (a >> 60, b >> 60)] {
                let _ = verify_inclusion(&root1, a, b, &proof, &root2);
                let _ = verify_consistency(a, b, &root1, &root2, &proof);
            }
        }
    }
}
