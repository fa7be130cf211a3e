//! Import: bytes in, once and in order; an image in the store, or nothing at all, out.
//!
//! What arrives lies in a folder below `uploads/` until it is whole: written, hashed and hashed into the tree in one
//! pass, inspected, brought to the disk, signed for. Then the folder gets its final name by one rename. An upload with
//! an `upload.json` may go on after the process died; any other folder is removed when the store is opened.
//! Invariant: a refused image leaves nothing behind.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest;
use jiff::Timestamp;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use sha2::Digest as _;
use uuid::Uuid;

use super::tree::{Form, TreeWriter};
use super::verify::{CHUNK_BYTES, fill};
use super::verity::{self, HASHES};
use super::{
    CONTENT, Expected, ImageFormat, ImageRecord, ImageStore, Imported, RECEIPT, TREE, UploadState, failed, files,
};
use crate::kill::{self, KillPoint};
use crate::release::evidence::{disk, json};
use crate::types::vm::ArtifactKind;
use crate::types::{Code, Digest, DigestAlgorithm, Reason, limits};

/// What was said of an upload, in its folder.
pub(super) const EXPECTED: &str = "upload.json";
/// Runs of zeros of this length are not written: the file has a hole there.
const HOLE_BYTES: usize = 64 * 1024;
static HOLE: [u8; HOLE_BYTES] = [0; HOLE_BYTES];

/// An upload that this process knows of.
pub(super) type Slot = Arc<Mutex<Upload>>;

#[derive(Debug)]
pub(super) struct Upload {
    id: Uuid,
    folder: PathBuf,
    expected: Expected,
    /// Nothing after a restart, until the next piece comes.
    copy: Option<Copy>,
    gone: bool,
}

/// What is being written, with what was hashed of it.
struct Copy {
    content: File,
    tree: TreeWriter,
    sha256: sha2::Sha256,
    /// By the library that signs: it is twice as quick at this one.
    sha512: digest::Context,
    bytes: u64,
    /// Space was set aside for all of it.
    reserved: bool,
}

impl std::fmt::Debug for Copy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Copy({} bytes)", self.bytes)
    }
}

impl ImageStore {
    /// Imports everything that the reader has. `seen` is told the bytes copied so far.
    ///
    /// # Errors
    /// `digest-mismatch`, `input-too-large`, `image-kind`, `store-full`, `store-failed`, `subject-unreadable` where the
    /// reader fails, and what the inspection of a disk image says. Nothing is left behind.
    pub fn import(
        &self,
        mut reader: impl Read,
        expected: Expected,
        now: Timestamp,
        seen: &(dyn Fn(u64) + Sync),
    ) -> Result<Imported, Reason> {
        let mut upload = self.begin(expected, false)?;
        let mut chunk = vec![0; CHUNK_BYTES];
        let copied = loop {
            let piece = match fill(&mut reader, &mut chunk) {
                Ok([]) => break Ok(()),
                Ok(piece) => piece,
                Err(error) => {
                    let message = format!("{} cannot be read: {error}", upload.expected.name);
                    break Err(Reason::new(Code::SubjectUnreadable, message));
                }
            };
            match upload.append(piece) {
                Ok(bytes) => seen(bytes),
                Err(reason) => break Err(reason),
            }
        };
        copied.inspect_err(|_| upload.discard())?;
        self.finish(&mut upload, now)
    }

    /// Begins an upload that comes in pieces, and may go on after either side died. After the node died, one whose
    /// digest was said goes on where it was, and any other begins again: nothing would prove what lies there.
    ///
    /// # Errors
    /// `store-full`, `store-failed`, `input-too-large`.
    pub fn upload_begin(&self, expected: Expected) -> Result<UploadState, Reason> {
        let mut uploads = self.uploads();
        let open = self.upload_folders().map_err(|error| failed("uploads cannot be listed", &error))?;
        if open.len() >= limits::IMAGE_UPLOADS {
            let message = format!("{} uploads are open already", open.len());
            return Err(Reason::new(Code::InputTooLarge, message).hint("finish or abort one of them"));
        }
        let upload = self.begin(expected, true)?;
        let state = upload.state()?;
        uploads.insert(upload.id, Arc::new(Mutex::new(upload)));
        Ok(state)
    }

    /// How far an upload is.
    ///
    /// # Errors
    /// `upload-unknown`.
    pub fn upload_state(&self, id: Uuid) -> Result<UploadState, Reason> {
        let slot = self.slot(id)?;
        let upload = lock(&slot);
        upload.state()
    }

    /// Every upload that has not ended.
    ///
    /// # Errors
    /// `store-failed`.
    pub fn upload_list(&self) -> Result<Vec<UploadState>, Reason> {
        let mut ids = self.upload_folders().map_err(|error| failed("uploads cannot be listed", &error))?;
        ids.sort();
        // One that ends meanwhile is left out.
        Ok(ids.into_iter().filter_map(|id| self.upload_state(id).ok()).collect())
    }

    /// Adds the next piece, at most 64 MiB, which must begin where the upload stands.
    ///
    /// # Errors
    /// `upload-unknown`, `upload-offset`, `input-too-large`, `store-full`, `store-failed`. The upload stays.
    pub fn upload_append(&self, id: Uuid, offset: u64, piece: &[u8]) -> Result<UploadState, Reason> {
        if piece.len() > limits::IMAGE_UPLOAD_PIECE_BYTES {
            let message = format!("a piece of {} bytes; at most {}", piece.len(), limits::IMAGE_UPLOAD_PIECE_BYTES);
            return Err(Reason::new(Code::InputTooLarge, message));
        }
        let slot = self.slot(id)?;
        let mut upload = lock(&slot);
        let stands = upload.state()?.received_bytes;
        if offset != stands {
            let message = format!("the piece begins at byte {offset}, and upload {id} stands at {stands}");
            return Err(Reason::new(Code::UploadOffset, message));
        }
        upload.append(piece)?;
        upload.state()
    }

    /// Makes an image of the upload.
    ///
    /// # Errors
    /// `upload-offset` where bytes that were announced have not come, and the upload stays; else as [`Self::import`],
    /// and a refused upload is gone.
    pub fn upload_finish(&self, id: Uuid, now: Timestamp) -> Result<Imported, Reason> {
        let slot = self.slot(id)?;
        let mut upload = lock(&slot);
        let stands = upload.state()?.received_bytes;
        if let Some(bytes) = upload.expected.bytes.filter(|bytes| *bytes != stands) {
            let message = format!("upload {id} stands at byte {stands} of {bytes}");
            return Err(Reason::new(Code::UploadOffset, message));
        }
        upload.wake()?;
        let imported = self.finish(&mut upload, now);
        self.uploads().remove(&id);
        imported
    }

    /// Gives an upload up and removes what is here of it.
    ///
    /// # Errors
    /// `upload-unknown`, `store-failed`.
    pub fn upload_abort(&self, id: Uuid) -> Result<(), Reason> {
        let slot = self.slot(id)?;
        let mut upload = lock(&slot);
        upload.state()?;
        upload.copy = None;
        upload.gone = true;
        files::remove(&upload.folder).map_err(|error| failed(&format!("upload {id} cannot be removed"), &error))?;
        self.uploads().remove(&id);
        Ok(())
    }

    /// Makes the folder, and sets the space aside where the length is known.
    fn begin(&self, expected: Expected, resumable: bool) -> Result<Upload, Reason> {
        let limit = if expected.kind.is_block_device() { limits::IMAGE_BYTES } else { limits::IMAGE_SEALED_BYTES };
        if let Some(bytes) = expected.bytes.filter(|bytes| *bytes > limit) {
            return Err(too_large(&expected, bytes, limit));
        }
        if expected.name.len() > limits::IMAGE_NAME_BYTES {
            let message =
                format!("the image's name has {} bytes; at most {}", expected.name.len(), limits::IMAGE_NAME_BYTES);
            return Err(Reason::new(Code::InputTooLarge, message));
        }
        if let Some(digest) = expected.digest.as_ref().filter(|digest| digest.algorithm() != DigestAlgorithm::Sha256) {
            let message = format!("images are named by SHA-256, and {digest} is none");
            return Err(Reason::new(Code::UnsupportedAlgorithm, message));
        }
        let id = Uuid::now_v7();
        let folder = self.inner.root.join("uploads").join(id.to_string());
        files::folder(&folder).map_err(|error| failed("no upload can be begun", &error))?;
        kill::here(KillPoint::ImportBegun);
        let mut upload = Upload { id, folder, expected, copy: None, gone: false };
        let begun = upload.start(resumable);
        begun.inspect_err(|_| upload.discard())?;
        Ok(upload)
    }

    /// All that stands between the last byte and the final name.
    fn finish(&self, upload: &mut Upload, now: Timestamp) -> Result<Imported, Reason> {
        let finished = self.settle(upload, now);
        upload.gone = true;
        if !matches!(finished, Ok(Imported { existed: false, .. })) {
            upload.discard();
        }
        finished
    }

    fn settle(&self, upload: &mut Upload, now: Timestamp) -> Result<Imported, Reason> {
        let unwritten = |error: io::Error| failed("the image cannot be written", &error);
        let mut copy = upload.copy.take().ok_or_else(|| unknown(upload.id))?;
        let record = judge(&mut copy, &upload.expected, now)?;
        kill::here(KillPoint::ImportCopied);

        copy.content.set_permissions(Permissions::from_mode(0o444)).map_err(unwritten)?;
        copy.content.sync_all().map_err(unwritten)?;
        kill::here(KillPoint::ImportSynced);

        let root = copy.tree.finish().map_err(unwritten)?;
        let root = Digest::new(DigestAlgorithm::Sha256, &root)
            .map_err(|error| Reason::new(Code::InternalError, error.to_string()))?;
        let record = ImageRecord { tree_root: root, ..record };
        fs::set_permissions(upload.folder.join(TREE), Permissions::from_mode(0o444)).map_err(unwritten)?;
        kill::here(KillPoint::ImportTreed);

        // The kernel seals no file that somebody may still write to.
        drop(copy.content);
        let record = self.harden(&upload.folder, record)?;
        kill::here(KillPoint::ImportSealed);

        let receipt = record.to_receipt(&self.inner.key)?;
        files::write(&upload.folder, RECEIPT, &receipt).map_err(unwritten)?;
        kill::here(KillPoint::ImportSigned);

        let _names = self.names();
        if self.existing(&record.digest).is_ok() {
            return self.already(&record);
        }
        let folder = self.folder(&record.digest)?;
        let shelf = folder.parent().unwrap_or(&folder);
        files::folder(shelf)
            .and_then(|()| files::sync(&self.inner.root.join("sha256")))
            .and_then(|()| fs::rename(&upload.folder, &folder))
            .and_then(|()| files::sync(shelf))
            .map_err(unwritten)?;
        kill::here(KillPoint::ImportRenamed);

        freeze(&folder);
        kill::here(KillPoint::ImportFrozen);
        Ok(Imported { record, existed: false })
    }

    /// The image is here already. It stays as it is, also where it is damaged or quarantined: an import mends nothing.
    fn already(&self, new: &ImageRecord) -> Result<Imported, Reason> {
        let record = self.record(&new.digest)?;
        if record.kind != new.kind {
            let message = format!("{} is here as {}, not as {}", record.digest, record.kind.name(), new.kind.name());
            return Err(Reason::new(Code::ImageKind, message));
        }
        Ok(Imported { record, existed: true })
    }

    fn upload_folders(&self) -> io::Result<Vec<Uuid>> {
        let entries = fs::read_dir(self.inner.root.join("uploads"))?;
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry?;
            let id = entry.file_name().to_str().and_then(|name| Uuid::parse_str(name).ok());
            found.extend(id.filter(|_| entry.path().join(EXPECTED).is_file()));
        }
        Ok(found)
    }

    /// The upload of this name; one that an earlier process began is found by its folder.
    fn slot(&self, id: Uuid) -> Result<Slot, Reason> {
        let mut uploads = self.uploads();
        if let Some(slot) = uploads.get(&id) {
            return Ok(Arc::clone(slot));
        }
        let folder = self.inner.root.join("uploads").join(id.to_string());
        let said = match files::read(&folder.join(EXPECTED), limits::IMAGE_RECEIPT_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(unknown(id)),
            other => other.map_err(|error| failed(&format!("upload {id} cannot be read"), &error))?,
        };
        let expected = json::parse(&said, Code::StoreFailed)?;
        let slot = Arc::new(Mutex::new(Upload { id, folder, expected, copy: None, gone: false }));
        uploads.insert(id, Arc::clone(&slot));
        Ok(slot)
    }

    fn uploads(&self) -> MutexGuard<'_, std::collections::HashMap<Uuid, Slot>> {
        self.inner.uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the files of an image unchangeable, and takes away what it no longer needs.
pub(super) fn freeze(folder: &Path) {
    let _ = fs::remove_file(folder.join(EXPECTED));
    for name in [CONTENT, TREE, HASHES, RECEIPT] {
        // It is one hurdle more where it works; what is read is proved either way.
        if let Ok(file) = files::open(&folder.join(name)) {
            files::freeze(&file);
        }
    }
}

impl Upload {
    fn state(&self) -> Result<UploadState, Reason> {
        if self.gone {
            return Err(unknown(self.id));
        }
        let received_bytes = match &self.copy {
            Some(copy) => copy.bytes,
            None if self.expected.digest.is_some() => {
                fs::metadata(self.folder.join(CONTENT)).map_or(0, |found| found.len())
            }
            None => 0,
        };
        Ok(UploadState { id: self.id, expected: self.expected.clone(), received_bytes })
    }

    fn start(&mut self, resumable: bool) -> Result<(), Reason> {
        let unmade = |error: io::Error| failed("no upload can be begun", &error);
        let content = files::create(&self.folder.join(CONTENT)).map_err(unmade)?;
        let reserved = match self.expected.bytes.filter(|bytes| *bytes > 0) {
            Some(bytes) => reserve(&content, bytes).map_err(unmade)?,
            None => false,
        };
        kill::here(KillPoint::ImportReserved);
        if resumable {
            let said = serde_json::to_vec(&self.expected)
                .map_err(|error| Reason::new(Code::InternalError, error.to_string()))?;
            files::write(&self.folder, EXPECTED, &said).map_err(unmade)?;
        }
        let tree = files::create(&self.folder.join(TREE))
            .and_then(|file| TreeWriter::new(file, Form::CURRENT))
            .map_err(unmade)?;
        self.copy = Some(Copy {
            content,
            tree,
            sha256: sha2::Sha256::new(),
            sha512: digest::Context::new(&digest::SHA512),
            bytes: 0,
            reserved,
        });
        Ok(())
    }

    /// Goes on with what an earlier process left: hashes it again, where its digest will be compared in the end.
    fn wake(&mut self) -> Result<&mut Copy, Reason> {
        if self.copy.is_none() {
            let id = self.id;
            let woken = wake(&self.folder, self.expected.digest.is_some());
            self.copy = Some(woken.map_err(|error| failed(&format!("upload {id} cannot be taken up again"), &error))?);
        }
        self.copy.as_mut().ok_or_else(|| unknown(self.id))
    }

    /// Writes and hashes the next bytes. Returns how many there are now.
    fn append(&mut self, piece: &[u8]) -> Result<u64, Reason> {
        let kind_limit =
            if self.expected.kind.is_block_device() { limits::IMAGE_BYTES } else { limits::IMAGE_SEALED_BYTES };
        let limit = self.expected.bytes.unwrap_or(kind_limit);
        let expected = self.expected.clone();
        let copy = self.wake()?;
        let bytes = copy.bytes.saturating_add(piece.len() as u64);
        if bytes > limit {
            return Err(too_large(&expected, bytes, limit));
        }
        let (content, reserved, at) = (&copy.content, copy.reserved, copy.bytes);
        let (tree, sha256, sha512) = (&mut copy.tree, &mut copy.sha256, &mut copy.sha512);
        let (written, (treed, ())) = rayon::join(
            || write(content, at, piece, reserved),
            || rayon::join(|| tree.update(piece), || rayon::join(|| sha256.update(piece), || sha512.update(piece)).0),
        );
        copy.bytes = bytes;
        if let Err(error) = written.and(treed) {
            // What was hashed is no longer what is there; the next piece begins by reading it.
            self.copy = None;
            return Err(failed(&format!("{} cannot be written", expected.name), &error));
        }
        kill::here(KillPoint::ImportCopying);
        Ok(bytes)
    }

    /// Removes everything. Where that fails, the folder is removed when the store is next opened.
    fn discard(&mut self) {
        self.copy = None;
        self.gone = true;
        let _ = fs::remove_file(self.folder.join(EXPECTED));
        let _ = files::remove(&self.folder);
    }
}

fn wake(folder: &Path, keep: bool) -> io::Result<Copy> {
    let path = folder.join(CONTENT);
    unseal(&path)?;
    match fs::remove_file(folder.join(HASHES)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    let mut content = OpenOptions::new().read(true).write(true).open(&path)?;
    if !keep {
        content.set_len(0)?;
    }
    let tree_path = folder.join(TREE);
    match fs::remove_file(&tree_path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut tree = files::create(&tree_path).and_then(|file| TreeWriter::new(file, Form::CURRENT))?;
    let (mut sha256, mut sha512) = (sha2::Sha256::new(), digest::Context::new(&digest::SHA512));
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut bytes = 0_u64;
    loop {
        let piece = fill(&mut content, &mut chunk)?;
        if piece.is_empty() {
            break;
        }
        let hash = || rayon::join(|| sha256.update(piece), || sha512.update(piece)).0;
        let (treed, ()) = rayon::join(|| tree.update(piece), hash);
        treed?;
        bytes = bytes.saturating_add(piece.len() as u64);
    }
    Ok(Copy { content, tree, sha256, sha512, bytes, reserved: false })
}

/// A process may die between the seal and the receipt. What is sealed is never written again, so it is copied.
fn unseal(path: &Path) -> io::Result<()> {
    let mut sealed = files::open(path)?;
    if !verity::is_sealed(&sealed) {
        return Ok(());
    }
    let beside = path.with_extension("unsealed");
    let mut copy = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    io::copy(&mut sealed, &mut copy)?;
    fs::rename(&beside, path)
}

/// What the bytes are, once all are here; the root of their tree is not known yet.
fn judge(copy: &mut Copy, expected: &Expected, now: Timestamp) -> Result<ImageRecord, Reason> {
    let name = &expected.name;
    if let Some(bytes) = expected.bytes.filter(|bytes| *bytes != copy.bytes) {
        let message = format!("{name} has {} bytes; {bytes} were announced", copy.bytes);
        return Err(Reason::new(Code::DigestMismatch, message));
    }
    let digest = Digest::new(DigestAlgorithm::Sha256, &std::mem::take(&mut copy.sha256).finalize())
        .map_err(|error| Reason::new(Code::InternalError, error.to_string()))?;
    let sha512 = Digest::new(DigestAlgorithm::Sha512, copy.sha512.clone().finish().as_ref())
        .map_err(|error| Reason::new(Code::InternalError, error.to_string()))?;
    if let Some(other) = expected.digest.as_ref().filter(|other| **other != digest) {
        return Err(Reason::new(Code::DigestMismatch, format!("{name} is {digest}; {other} was announced")));
    }
    let is_not = |what: &str| Reason::new(Code::ImageKind, format!("{name} is {what}")).evidence(name.clone());
    let (format, virtual_bytes) = match expected.kind {
        ArtifactKind::Disk | ArtifactKind::Iso => {
            let header = disk::inspect(&mut copy.content, &disk::Limits::default())
                .map_err(|reason| reason.evidence(name.clone()))?;
            match (expected.kind, header.format) {
                (ArtifactKind::Iso, disk::Format::Raw | disk::Format::Qcow2) => {
                    return Err(is_not("no ISO 9660 image"));
                }
                (_, disk::Format::Qcow2) => (ImageFormat::Qcow2, header.virtual_bytes),
                (_, disk::Format::Raw | disk::Format::Iso9660) => (ImageFormat::Raw, header.virtual_bytes),
            }
        }
        _ if copy.bytes == 0 => return Err(is_not("empty")),
        _ => (ImageFormat::Raw, copy.bytes),
    };
    Ok(ImageRecord {
        tree_root: digest.clone(),
        digest,
        sha512: Some(sha512),
        kind: expected.kind,
        format,
        bytes: copy.bytes,
        virtual_bytes,
        block_bytes: Form::CURRENT.block(),
        fs_verity: None,
        dm_verity: None,
        name: name.clone(),
        imported_at: now,
    })
}

/// Sets space aside, so that a full disk is found out before anything is copied. Not every file system can.
fn reserve(file: &File, bytes: u64) -> io::Result<bool> {
    match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, 0, bytes) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Writes a piece without its long runs of zeros, whose space is given back where it was set aside.
fn write(file: &File, at: u64, piece: &[u8], reserved: bool) -> io::Result<()> {
    let mut position = at;
    for part in piece.chunks(HOLE_BYTES) {
        if part != HOLE {
            file.write_all_at(part, position)?;
        } else if reserved {
            let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            // Behind the end of a file nothing is punched, so the end goes first. A file system that cannot do that
            // keeps the space; it reads as zeros all the same.
            file.set_len(position.saturating_add(HOLE_BYTES as u64))?;
            let _ = rustix::fs::fallocate(file, flags, position, HOLE_BYTES as u64);
        }
        position = position.saturating_add(part.len() as u64);
    }
    if file.metadata()?.len() < position {
        file.set_len(position)?;
    }
    Ok(())
}

fn too_large(expected: &Expected, bytes: u64, limit: u64) -> Reason {
    Reason::new(Code::InputTooLarge, format!("{} has {bytes} bytes or more; at most {limit} may come", expected.name))
}

fn unknown(id: Uuid) -> Reason {
    Reason::new(Code::UploadUnknown, format!("there is no upload {id}"))
}

fn lock(slot: &Slot) -> MutexGuard<'_, Upload> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}
