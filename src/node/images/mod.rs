//! The store of images on a node: bytes go in once, hashed on the way; they come out proved, by descriptor or by block.
//!
//! ```text
//! ROOT/lock                      one process at a time
//! ROOT/uploads/ID/               what has not wholly arrived
//! ROOT/sha256/ab/HEX/content     the bytes, mode 444 and immutable where the file system can
//!                    tree        the hashes of their blocks
//!                    receipt.json    the node's signed statement that these three belong together
//!                    decision.json   what was decided, and upon which evidence/
//!                    quarantined     why nothing may start from it
//! ```
//!
//! A folder gets its final name when all in it is on the disk, by one rename, so that no image is ever half there.
//! Everything blocks: an asynchronous caller brings a thread of its own. No clock is read: callers pass `now`.
//! Invariant: no path of the store reaches a hypervisor. It gets sealed memory, or a socket behind which each block is
//! checked as it is read.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::key::NodeKey;
use crate::types::vm::ArtifactKind;
use crate::types::{Code, Digest, Reason};

mod import;
mod record;
mod seal;
mod serve;
mod tier;

pub use record::{ImageFormat, ImageRecord};
pub use seal::Sealed;
pub use serve::{Alarm, BlockServer, SocketAt};
pub use tier::{TierReport, TierState};

/// The store. Clones are the same store.
#[derive(Debug, Clone)]
pub struct ImageStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    key: NodeKey,
}

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A folder or file of it cannot be read or made.
    #[error("image store {}: {cause}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What failed.
        cause: io::Error,
    },
    /// Another process has it.
    #[error("image store {}: another process is using it", path.display())]
    Busy {
        /// The store.
        path: PathBuf,
    },
}

/// What whoever brings an image says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// What it is to a machine.
    pub kind: ArtifactKind,
    /// What it is called; at most 255 bytes, nothing is decided by it.
    pub name: String,
    /// The digest that it must have; none takes what comes.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub digest: Option<Digest>,
    /// The length that it must have, in bytes; where it is known, the space is reserved at once.
    #[serde(default)]
    pub bytes: Option<u64>,
}

/// An image that has arrived.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Imported {
    /// The image.
    pub record: ImageRecord,
    /// Whether it was here already; then nothing was changed.
    pub existed: bool,
}

/// How far an upload is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UploadState {
    /// Its name.
    #[schema(value_type = String)]
    pub id: Uuid,
    /// What was said of it.
    pub expected: Expected,
    /// The bytes that are here.
    pub received_bytes: u64,
}

/// An image of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Listed {
    /// Its digest.
    #[schema(value_type = String)]
    pub digest: Digest,
    /// What is known of it, where its receipt is sound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<ImageRecord>,
    /// Why nothing starts from it: a quarantine, a receipt that is not sound.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub refused: Option<Reason>,
    /// Machines that read from it now.
    pub readers: usize,
}

impl ImageStore {
    /// Opens the store below `root`, makes it where it is not there, and tidies up what a dead process left.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn open(root: &Path, key: NodeKey) -> Result<Self, ImageError> {
        Ok(Self { inner: Arc::new(Inner { root: root.to_owned(), key }) })
    }

    /// Where it is; for messages, never for a hypervisor.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// The key under which its receipts are signed.
    pub fn node_key(&self) -> &NodeKey {
        &self.inner.key
    }
}

impl ImageStore {
    /// Every image, by digest; one that is damaged is listed with what is wrong with it.
    ///
    /// # Errors
    /// `store-failed`.
    pub fn list(&self) -> Result<Vec<Listed>, Reason> {
        Ok(Vec::new())
    }

    /// One image.
    ///
    /// # Errors
    /// `image-unknown`, `store-failed`.
    pub fn show(&self, digest: &Digest) -> Result<Listed, Reason> {
        Err(unfinished(digest))
    }

    /// What the receipt of an image says: length, kind and tree, for who asks for a permit. No block is read.
    ///
    /// # Errors
    /// `image-unknown`, `image-receipt-invalid`, `store-failed`.
    pub fn record(&self, digest: &Digest) -> Result<ImageRecord, Reason> {
        Err(unfinished(digest))
    }

    /// Reads all of an image and holds it against its digest, its tree and its receipt. A bad one is quarantined.
    ///
    /// # Errors
    /// `image-changed`, `image-receipt-invalid`, `image-unknown`, `store-failed`.
    pub fn verify(&self, digest: &Digest, _seen: &(dyn Fn(u64) + Sync)) -> Result<ImageRecord, Reason> {
        Err(unfinished(digest))
    }

    /// Marks an image so that nothing starts from it on this node, whatever the database says. Those who read from it
    /// are not cut off: that is the caller's to decide. Marking again replaces the mark.
    ///
    /// # Errors
    /// `image-unknown`, `store-failed`.
    pub fn quarantine(&self, digest: &Digest, _why: &str) -> Result<(), Reason> {
        Err(unfinished(digest))
    }

    /// Takes the mark off; nothing happens where there is none.
    ///
    /// # Errors
    /// `image-unknown`, `store-failed`.
    pub fn release(&self, digest: &Digest) -> Result<(), Reason> {
        Err(unfinished(digest))
    }

    /// Removes an image and everything that is kept beside it.
    ///
    /// # Errors
    /// `image-in-use`, `image-unknown`, `store-failed`.
    pub fn delete(&self, digest: &Digest) -> Result<(), Reason> {
        Err(unfinished(digest))
    }

    /// Keeps what was decided about an image beside it; replaces an earlier one.
    ///
    /// # Errors
    /// `image-unknown`, `input-too-large`, `store-failed`.
    pub fn decision_put(&self, digest: &Digest, _document: &[u8]) -> Result<(), Reason> {
        Err(unfinished(digest))
    }

    /// What was decided, if anything.
    ///
    /// # Errors
    /// `image-unknown`, `store-failed`.
    pub fn decision(&self, digest: &Digest) -> Result<Option<Vec<u8>>, Reason> {
        Err(unfinished(digest))
    }

    /// Keeps a document of evidence beside an image; replaces one of the same name.
    ///
    /// # Errors
    /// `image-unknown`, `input-too-large` (also for the 257th), `file-unsafe` for a name that is not a plain file
    /// name, `store-failed`.
    pub fn evidence_put(&self, digest: &Digest, _name: &str, _document: &[u8]) -> Result<(), Reason> {
        Err(unfinished(digest))
    }

    /// Name and bytes of each document of evidence, by name.
    ///
    /// # Errors
    /// `image-unknown`, `store-failed`.
    pub fn evidence(&self, digest: &Digest) -> Result<Vec<(String, Vec<u8>)>, Reason> {
        Err(unfinished(digest))
    }
}

/// What is not built yet says so, and says no.
fn unfinished(digest: &Digest) -> Reason {
    Reason::new(Code::InternalError, format!("{digest}: the image store is not built yet"))
}
