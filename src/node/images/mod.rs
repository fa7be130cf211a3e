//! The store of images on a node: bytes go in once, hashed on the way; they come out proved, by descriptor or by block.
//!
//! ```text
//! ROOT/lock                      one process at a time
//! ROOT/uploads/ID/               what has not wholly arrived
//! ROOT/sha256/ab/HEX/content     the bytes, mode 444 and immutable where the file system can
//!                    tree        the hashes of their blocks
//!                    verity      the same for dm-verity, where that proves the reads
//!                    receipt.json    the node's signed statement that these three belong together
//!                    decision.json   what was decided, and upon which evidence/
//!                    quarantined     why nothing may start from it
//! ```
//!
//! A folder gets its final name when all in it is on the disk, by one rename, so that no image is ever half there.
//! Everything blocks: an asynchronous caller brings a thread of its own. No clock is read: callers pass `now`.
//! Invariant: no path of the store reaches a hypervisor. It gets sealed memory, or a socket behind which each block is
//! checked as it is read.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::key::NodeKey;
use crate::kill::{self, KillPoint};
use crate::types::vm::ArtifactKind;
use crate::types::{Code, Digest, DigestAlgorithm, Reason, limits};

mod container;
mod documents;
mod files;
mod import;
mod nbd;
mod record;
mod seal;
mod serve;
mod source;
mod tier;
mod tree;
mod verify;
mod verity;

pub use record::{ImageFormat, ImageRecord};
pub use seal::Sealed;
pub use serve::{Alarm, BlockServer, SocketAt};
pub use tier::TierReport;

/// The store. Clones are the same store.
#[derive(Debug, Clone)]
pub struct ImageStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    key: NodeKey,
    /// What the kernel offers for its files.
    kernel: verity::Kernel,
    /// Held while a folder gets or loses its final name.
    names: Mutex<()>,
    /// How many read from an image now.
    readers: Mutex<HashMap<Digest, usize>>,
    uploads: Mutex<HashMap<Uuid, import::Slot>>,
    /// The lock on the whole store; it goes when the process goes.
    _lock: fs::File,
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
    #[schema(value_type = String, format = "uuid")]
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
    pub digest: Digest,
    /// What is known of it, where its receipt is sound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<ImageRecord>,
    /// Why nothing starts from it: a quarantine, a receipt that is not sound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<Reason>,
    /// Machines that read from it now.
    pub readers: usize,
}

const CONTENT: &str = "content";
const TREE: &str = "tree";
const RECEIPT: &str = "receipt.json";
const MARK: &str = "quarantined";

impl ImageStore {
    /// Opens the store below `root`, makes it where it is not there, and tidies up what a dead process left.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn open(root: &Path, key: NodeKey) -> Result<Self, ImageError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |cause| ImageError::Io { path, cause }
        };
        fs::create_dir_all(root.parent().unwrap_or(root)).map_err(at(root))?;
        files::folder(root).map_err(at(root))?;
        let lock_path = root.join("lock");
        let lock = fs::OpenOptions::new().create(true).append(true).open(&lock_path).map_err(at(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(ImageError::Busy { path: root.to_owned() }),
            Err(fs::TryLockError::Error(cause)) => return Err(at(&lock_path)(cause)),
        }
        for folder in ["uploads", "sha256"] {
            files::folder(&root.join(folder)).map_err(at(root))?;
        }
        let kernel = verity::Kernel::look(&root.join("uploads"), &key.public().fingerprint());
        let store = Self {
            inner: Arc::new(Inner {
                root: root.to_owned(),
                key,
                kernel,
                names: Mutex::default(),
                readers: Mutex::default(),
                uploads: Mutex::default(),
                _lock: lock,
            }),
        };
        store.tidy().map_err(at(root))?;
        Ok(store)
    }

    /// Where it is; for messages, never for a hypervisor.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// The key under which its receipts are signed.
    pub fn node_key(&self) -> &NodeKey {
        &self.inner.key
    }

    /// Every image, by digest; one that is damaged is listed with what is wrong with it.
    ///
    /// # Errors
    /// `store-failed`.
    pub fn list(&self) -> Result<Vec<Listed>, Reason> {
        let mut digests = self.digests().map_err(|error| failed("the image store cannot be listed", &error))?;
        digests.sort();
        Ok(digests.into_iter().map(|digest| self.listed(digest)).collect())
    }

    /// One image.
    ///
    /// # Errors
    /// `image-unknown`, `store-failed`.
    pub fn show(&self, digest: &Digest) -> Result<Listed, Reason> {
        self.existing(digest)?;
        Ok(self.listed(digest.clone()))
    }

    fn listed(&self, digest: Digest) -> Listed {
        let record = self.record(&digest);
        let refused = record.as_ref().err().cloned().or_else(|| self.mark(&digest).err());
        let readers = self.readers().get(&digest).copied().unwrap_or(0);
        Listed { digest, record: record.ok(), refused, readers }
    }

    /// What the receipt of an image says: length, kind and tree, for who asks for a permit. No block is read.
    ///
    /// # Errors
    /// `image-unknown`, `image-receipt-invalid`, `store-failed`.
    pub fn record(&self, digest: &Digest) -> Result<ImageRecord, Reason> {
        let folder = self.existing(digest)?;
        let receipt = match files::read(&folder.join(RECEIPT), limits::IMAGE_RECEIPT_BYTES) {
            Ok(receipt) => receipt,
            Err(error) => {
                let message = format!("the receipt of {digest} cannot be read: {error}");
                return Err(Reason::new(Code::ImageReceiptInvalid, message).evidence(RECEIPT));
            }
        };
        ImageRecord::from_receipt(&receipt, &self.inner.key, digest)
    }

    /// The images that have this digest, by whatever algorithm it is.
    ///
    /// # Errors
    /// `store-failed`.
    pub fn having(&self, digest: &Digest) -> Result<Vec<Digest>, Reason> {
        if digest.algorithm() == DigestAlgorithm::Sha256 {
            return Ok(vec![digest.clone()]);
        }
        let records = self.list()?.into_iter().filter_map(|listed| listed.record);
        Ok(records.filter(|record| record.digests().any(|own| own == digest)).map(|record| record.digest).collect())
    }

    /// The record of an image from which something may start: the receipt is sound, and there is no quarantine.
    fn usable(&self, digest: &Digest) -> Result<(PathBuf, ImageRecord), Reason> {
        let record = self.record(digest)?;
        self.mark(digest)?;
        Ok((self.folder(digest)?, record))
    }

    /// Marks an image so that nothing starts from it on this node, whatever the database says. Those who read from it
    /// are not cut off: that is the caller's to decide. Marking again replaces the mark.
    ///
    /// # Errors
    /// `image-unknown`, `store-failed`.
    pub fn quarantine(&self, digest: &Digest, why: &str) -> Result<(), Reason> {
        let folder = self.existing(digest)?;
        let why: String = why.chars().take(limits::POLICY_MESSAGE_CHARS).collect();
        files::write(&folder, MARK, why.as_bytes())
            .map_err(|error| failed(&format!("{digest} cannot be marked as quarantined"), &error))
    }

    /// Takes the mark off; nothing happens where there is none.
    ///
    /// # Errors
    /// `image-unknown`, `store-failed`.
    pub fn release(&self, digest: &Digest) -> Result<(), Reason> {
        let folder = self.existing(digest)?;
        let released = match fs::remove_file(folder.join(MARK)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.and_then(|()| files::sync(&folder)),
        };
        released.map_err(|error| failed(&format!("{digest} cannot be released"), &error))
    }

    /// Refuses an image that is marked. A mark that cannot be read is a mark.
    fn mark(&self, digest: &Digest) -> Result<(), Reason> {
        let limit = limits::POLICY_MESSAGE_CHARS.saturating_mul(4) as u64;
        match files::read(&self.folder(digest)?.join(MARK), limit) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Reason::new(Code::ImageQuarantined, format!("{digest} is quarantined: {error}"))),
            Ok(why) => {
                let message = format!("{digest} is quarantined: {}", String::from_utf8_lossy(&why));
                Err(Reason::new(Code::ImageQuarantined, message))
            }
        }
    }

    /// Removes an image and everything that is kept beside it.
    ///
    /// # Errors
    /// `image-in-use`, `image-unknown`, `store-failed`.
    pub fn delete(&self, digest: &Digest) -> Result<(), Reason> {
        let _names = self.names();
        let folder = self.existing(digest)?;
        // Held until the name is gone, so that nobody begins to read in between.
        let readers = self.readers();
        if let Some(count) = readers.get(digest) {
            return Err(Reason::new(Code::ImageInUse, format!("{digest} is read by {count} machines' disks")));
        }
        let unnamed = self.inner.root.join("uploads").join(format!("deleted-{}", digest.to_hex()));
        let deleted = files::remove(&unnamed)
            .and_then(|()| fs::rename(&folder, &unnamed))
            .and_then(|()| files::sync(folder.parent().unwrap_or(&folder)));
        drop(readers);
        kill::here(KillPoint::ImageDeleteUnnamed);
        deleted
            .and_then(|()| files::remove(&unnamed))
            .map_err(|error| failed(&format!("{digest} cannot be deleted"), &error))
    }

    /// Removes what a dead process left half done, and finishes what only lacks its last step.
    fn tidy(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.inner.root.join("uploads"))? {
            let path = entry?.path();
            if path.join(import::EXPECTED).is_file() {
                files::remove_temporary(&path)?;
            } else {
                files::remove(&path)?;
            }
        }
        for digest in self.digests()? {
            let Ok(folder) = self.folder(&digest) else { continue };
            files::remove_temporary(&folder)?;
            documents::tidy(&folder)?;
            import::freeze(&folder);
        }
        Ok(())
    }

    /// The digests that have a folder.
    fn digests(&self) -> io::Result<Vec<Digest>> {
        let mut found = Vec::new();
        for shelf in fs::read_dir(self.inner.root.join("sha256"))? {
            let shelf = shelf?;
            if !shelf.file_type()?.is_dir() {
                continue;
            }
            for entry in fs::read_dir(shelf.path())? {
                let name = entry?.file_name();
                let digest = Digest::from_hex(DigestAlgorithm::Sha256, &name.to_string_lossy()).ok();
                found.extend(digest.filter(|digest| name.to_str() == Some(&digest.to_hex())));
            }
        }
        Ok(found)
    }

    /// Where an image is or would be.
    fn folder(&self, digest: &Digest) -> Result<PathBuf, Reason> {
        if digest.algorithm() != DigestAlgorithm::Sha256 {
            let message = format!("images are named by SHA-256, and {digest} is none");
            return Err(Reason::new(Code::ImageUnknown, message));
        }
        let hex = digest.to_hex();
        let shelf = hex.get(..2).unwrap_or_default();
        Ok(self.inner.root.join("sha256").join(shelf).join(&hex))
    }

    /// The folder of an image that is there.
    fn existing(&self, digest: &Digest) -> Result<PathBuf, Reason> {
        let folder = self.folder(digest)?;
        match fs::symlink_metadata(&folder) {
            Ok(found) if found.is_dir() => Ok(folder),
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed(&format!("{digest} cannot be looked up"), &error))
            }
            _ => Err(Reason::new(Code::ImageUnknown, format!("there is no image {digest} on this node"))),
        }
    }

    fn names(&self) -> MutexGuard<'_, ()> {
        self.inner.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn readers(&self) -> MutexGuard<'_, HashMap<Digest, usize>> {
        self.inner.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a reader in, until what is returned is dropped.
    fn read_by_one_more(&self, digest: &Digest) -> Reader {
        let mut readers = self.readers();
        let count = readers.entry(digest.clone()).or_default();
        *count = count.saturating_add(1);
        Reader { store: self.clone(), digest: digest.clone() }
    }

    /// What was found to be changed is quarantined at once, without waiting for anybody's decision. Where even that
    /// fails, the next check finds the same again.
    fn distrust(&self, digest: &Digest, reason: &Reason) {
        if reason.code.known() == Some(Code::ImageChanged) && self.mark(digest).is_ok() {
            let _ = self.quarantine(digest, &reason.to_string());
        }
    }
}

/// Somebody who reads from an image, so that it is not deleted.
#[derive(Debug)]
struct Reader {
    store: ImageStore,
    digest: Digest,
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut readers = self.store.readers();
        if let Some(count) = readers.get_mut(&self.digest) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                readers.remove(&self.digest);
            }
        }
    }
}

/// The reason for an input or output error of the store itself.
fn failed(what: &str, error: &io::Error) -> Reason {
    let full =
        matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge);
    let code = if full { Code::StoreFull } else { Code::StoreFailed };
    Reason::new(code, format!("{what}: {error}"))
}

fn changed(digest: &Digest, what: &str) -> Reason {
    Reason::new(Code::ImageChanged, format!("{digest} {what}"))
}
