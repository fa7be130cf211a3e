//! One proof in JSON: its bytes in, what was proved out, or the one reason why not.
//!
//! The form is the one of the transparency-dev test vectors: `leafIdx, treeSize, root, leafHash, proof` and
//! `size1, size2, root1, root2, proof`, hashes in base64; `proof` may be null or absent where it has no hashes.

use serde::{Deserialize, Serialize};

use super::{Hash, ProofError, verify_consistency, verify_inclusion};
use crate::release::evidence::json;
use crate::types::{Code, Reason};

/// A leaf that was proved to be in a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inclusion {
    /// The leaf's index, from 0.
    pub index: u64,
    /// The tree's size, in leaves.
    pub size: u64,
    /// The tree's root, in hexadecimal.
    pub root: String,
    /// The leaf's hash, in hexadecimal.
    pub leaf_hash: String,
}

/// Two tree heads of which the first was proved to be a beginning of the second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Consistency {
    /// The older tree's size, in leaves.
    pub size1: u64,
    /// The newer tree's size, in leaves.
    pub size2: u64,
    /// The older tree's root, in hexadecimal.
    pub root1: String,
    /// The newer tree's root, in hexadecimal.
    pub root2: String,
}

/// Proves one inclusion.
///
/// # Errors
/// `proof-malformed` or `inclusion-invalid`; for the JSON itself the codes of [`json::parse`].
pub fn check_inclusion(bytes: &[u8]) -> Result<Inclusion, Reason> {
    let file: InclusionFile = json::parse(bytes, Code::ProofMalformed)?;
    let root = hash("root", &file.root)?;
    let leaf_hash = hash("leafHash", &file.leaf_hash)?;
    let proof = hashes(file.proof)?;
    verify_inclusion(&leaf_hash, file.leaf_index, file.tree_size, &proof, &root)
        .map_err(|error| refused(Code::InclusionInvalid, error))?;
    Ok(Inclusion {
        index: file.leaf_index,
        size: file.tree_size,
        root: hex::encode(root),
        leaf_hash: hex::encode(leaf_hash),
    })
}

/// Proves one consistency.
///
/// # Errors
/// `proof-malformed` or `consistency-invalid`; for the JSON itself the codes of [`json::parse`].
pub fn check_consistency(bytes: &[u8]) -> Result<Consistency, Reason> {
    let file: ConsistencyFile = json::parse(bytes, Code::ProofMalformed)?;
    let proof = hashes(file.proof)?;
    // Equal heads are consistent whatever their log hashes with, so their roots need not be of our size.
    if file.size1 != file.size2 || !proof.is_empty() || file.root1 != file.root2 {
        let root1 = hash("root1", &file.root1)?;
        let root2 = hash("root2", &file.root2)?;
        verify_consistency(file.size1, file.size2, &root1, &root2, &proof)
            .map_err(|error| refused(Code::ConsistencyInvalid, error))?;
    }
    Ok(Consistency {
        size1: file.size1,
        size2: file.size2,
        root1: hex::encode(file.root1),
        root2: hex::encode(file.root2),
    })
}

#[derive(Deserialize)]
struct InclusionFile {
    #[serde(rename = "leafIdx")]
    leaf_index: u64,
    #[serde(rename = "treeSize")]
    tree_size: u64,
    #[serde(with = "json::base64_bytes")]
    root: Vec<u8>,
    #[serde(rename = "leafHash", with = "json::base64_bytes")]
    leaf_hash: Vec<u8>,
    #[serde(default)]
    proof: Option<Vec<Base64>>,
}

#[derive(Deserialize)]
struct ConsistencyFile {
    size1: u64,
    size2: u64,
    #[serde(with = "json::base64_bytes")]
    root1: Vec<u8>,
    #[serde(with = "json::base64_bytes")]
    root2: Vec<u8>,
    #[serde(default)]
    proof: Option<Vec<Base64>>,
}

#[derive(Deserialize)]
struct Base64(#[serde(with = "json::base64_bytes")] Vec<u8>);

fn hash(field: &str, bytes: &[u8]) -> Result<Hash, Reason> {
    bytes.try_into().map_err(|_| {
        let message = format!("a hash has {} bytes, this one has {}", size_of::<Hash>(), bytes.len());
        Reason::new(Code::ProofMalformed, message).location(field)
    })
}

fn hashes(proof: Option<Vec<Base64>>) -> Result<Vec<Hash>, Reason> {
    let proof = proof.unwrap_or_default();
    proof.iter().enumerate().map(|(position, bytes)| hash(&format!("proof[{position}]"), &bytes.0)).collect()
}

/// A number out of range is a fault of the file; hashes that do not lead to the root are a no to its claim.
fn refused(invalid: Code, error: ProofError) -> Reason {
    match error {
        ProofError::Index { .. } => Reason::new(Code::ProofMalformed, error.to_string()).location("leafIdx"),
        ProofError::Sizes { .. } => Reason::new(Code::ProofMalformed, error.to_string()).location("size1"),
        ProofError::Length { .. } | ProofError::Root { .. } => {
            Reason::new(invalid, error.to_string()).location("proof")
        }
    }
}
