//! All of an image, read once more: its bytes and its receipt in, and whether they still belong together out.

use std::fs::File;
use std::io;
use std::path::Path;

use sha2::Digest as _;

use super::source::is_refused;
use super::tree::{Fault, Form, Tree, TreeError};
use super::{CONTENT, ImageRecord, ImageStore, RECEIPT, TREE, changed, failed, files};
use crate::types::vm::VerifiedReadTier::FsVerity;
use crate::types::{Code, Digest, Reason};

/// How much is read and hashed at a time, in bytes: whole blocks, and enough for every core.
pub(super) const CHUNK_BYTES: usize = 4 * 1024 * 1024;

impl ImageStore {
    /// Reads all of an image and holds it against its digest, its tree and its receipt. A changed one is quarantined.
    /// `seen` is told the bytes read so far.
    ///
    /// # Errors
    /// `image-changed`, `image-receipt-invalid`, `image-unknown`, `store-failed`.
    pub fn verify(&self, digest: &Digest, seen: &(dyn Fn(u64) + Sync)) -> Result<ImageRecord, Reason> {
        let record = self.record(digest)?;
        let _reader = self.read_by_one_more(digest);
        let verdict = self.verify_all(&record, seen);
        if let Err(reason) = &verdict {
            self.distrust(digest, reason);
        }
        verdict.map(|()| record)
    }

    fn verify_all(&self, record: &ImageRecord, seen: &(dyn Fn(u64) + Sync)) -> Result<(), Reason> {
        let digest = &record.digest;
        let folder = self.folder(digest)?;
        let (mut content, tree) = (self.content(&folder, record)?, self.tree(&folder, record)?);
        let mut sha256 = sha2::Sha256::new();
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut position = 0_u64;
        let mut fault = Ok(());
        loop {
            let bytes = fill(&mut content, &mut chunk).map_err(|error| {
                // What the kernel proves itself it does not even give out.
                if record.fs_verity.is_some() && is_refused(&error) {
                    return reason_of(record, &Fault::Kernel(position / u64::from(record.block_bytes), FsVerity));
                }
                failed(&format!("{digest} cannot be read"), &error)
            })?;
            if bytes.is_empty() {
                break;
            }
            let first = position / u64::from(record.block_bytes);
            let ((), proved) = rayon::join(|| sha256.update(bytes), || tree.prove(first, bytes));
            fault = fault.and(proved);
            position = position.saturating_add(bytes.len() as u64);
            seen(position);
        }
        // The tree says where, the digest says whether.
        fault.map_err(|fault| reason_of(record, &fault))?;
        if sha256.finalize().as_slice() != digest.as_bytes() {
            return Err(changed(digest, "does not have this digest any more").evidence(CONTENT));
        }
        Ok(())
    }

    /// Opens an image's bytes, as many as the receipt says.
    pub(super) fn content(&self, folder: &Path, record: &ImageRecord) -> Result<File, Reason> {
        let digest = &record.digest;
        let content = open(folder, CONTENT, digest)?;
        let length = content.metadata().map_err(|error| failed(&format!("{digest} cannot be opened"), &error))?.len();
        if length != record.bytes {
            let what = format!("has {length} bytes; it had {} at import", record.bytes);
            return Err(changed(digest, &what).evidence(CONTENT));
        }
        Ok(content)
    }

    /// Opens an image's tree, of the form that the receipt says.
    pub(super) fn tree(&self, folder: &Path, record: &ImageRecord) -> Result<Tree, Reason> {
        let digest = &record.digest;
        let form = Form::of(record.block_bytes).ok_or_else(|| {
            let what =
                format!("says that blocks have {} bytes, which no version of this program wrote", record.block_bytes);
            Reason::new(Code::ImageReceiptInvalid, format!("the receipt of {digest} {what}")).evidence(RECEIPT)
        })?;
        let file = open(folder, TREE, digest)?;
        Tree::open(file, form, record.bytes, record.tree_root.as_bytes()).map_err(|error| match error {
            TreeError::Changed(what) => {
                changed(digest, &format!("is not proved by its tree, which {what}")).evidence(TREE)
            }
            TreeError::Io(error) => failed(&format!("the tree of {digest} cannot be read"), &error),
        })
    }

    /// Goes through all of an image once, in order; each byte that `seen` gets was proved.
    ///
    /// # Errors
    /// `image-changed`, and the image is quarantined; `image-receipt-invalid`, `image-unknown`, `store-failed`.
    pub fn read_through(&self, record: &ImageRecord, seen: &mut dyn FnMut(&[u8])) -> Result<(), Reason> {
        let digest = &record.digest;
        let _reader = self.read_by_one_more(digest);
        let folder = self.existing(digest)?;
        let read = self.source(&folder, record).and_then(|source| {
            let mut tell = |_, bytes: &[u8]| {
                seen(bytes);
                Ok(())
            };
            source.read_all(record, CHUNK_BYTES, &mut tell).map_err(|fault| reason_of(record, &fault))
        });
        read.inspect_err(|reason| self.distrust(digest, reason))
    }
}

/// Opens a file of an image; one that is gone was taken away by somebody.
fn open(folder: &Path, name: &str, digest: &Digest) -> Result<File, Reason> {
    files::open(&folder.join(name)).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => changed(digest, "has lost a file").evidence(name),
        _ => failed(&format!("{digest} cannot be opened"), &error).evidence(name),
    })
}

/// Fills the buffer as far as the reader goes, and returns what is filled.
pub(super) fn fill<'a>(reader: &mut impl io::Read, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(count) => filled = filled.saturating_add(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(buffer.get(..filled).unwrap_or_default())
}

/// A block that is not proved, as a reason.
pub(super) fn reason_of(record: &ImageRecord, fault: &Fault) -> Reason {
    let digest = &record.digest;
    let offset = fault.block().saturating_mul(u64::from(record.block_bytes));
    let place = format!("block {} at byte {offset}", fault.block());
    match fault {
        Fault::Block(_) => changed(digest, "was changed in the store").evidence(CONTENT).location(place),
        Fault::Tree(_) => changed(digest, "has a tree that was changed in the store").evidence(TREE).location(place),
        Fault::Kernel(_, tier) => {
            let by = if *tier == FsVerity { "fs-verity" } else { "dm-verity" };
            let what = format!("was changed in the store, or its disk fails: the kernel refuses to read it ({by})");
            changed(digest, &what).evidence(CONTENT).location(place)
        }
        Fault::Io(_, error) => failed(&format!("{digest} cannot be read"), error).location(place),
    }
}
