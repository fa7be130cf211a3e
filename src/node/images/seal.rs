//! Kernels, initrds, firmware and option ROMs: a digest in, memory that nobody can change any more out.
//!
//! What is hashed is what was written into that memory, in the same pass. The store may be overwritten afterwards: the
//! hypervisor reads the memory, by descriptor.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use sha2::Digest as _;

use super::verify::fill;
use super::{CONTENT, ImageStore, changed, failed, files};
use crate::types::{Code, Digest, Reason, limits};

/// An image in sealed memory. Nobody can write, grow or shrink it, its owner included, nor take the seals off.
#[derive(Debug)]
pub struct Sealed {
    digest: Digest,
    bytes: u64,
    fd: OwnedFd,
}

impl Sealed {
    /// SHA-256 of what is in it.
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Its length in bytes.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes the descriptor out, to hand it to a hypervisor.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }
}

impl AsFd for Sealed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Copied and hashed at a time, in bytes: what a core's cache holds.
const CHUNK_BYTES: usize = 256 * 1024;

impl ImageStore {
    /// Copies an image into sealed memory, hashing it on the way.
    ///
    /// # Errors
    /// `image-changed` where the bytes are not those of `digest`, which also quarantines the image; `image-unknown`,
    /// `image-receipt-invalid`, `image-quarantined`, `input-too-large`, `store-failed`.
    pub fn seal(&self, digest: &Digest) -> Result<Sealed, Reason> {
        let _reader = self.read_by_one_more(digest);
        let (folder, record) = self.usable(digest)?;
        if record.bytes > limits::IMAGE_SEALED_BYTES {
            let message = format!(
                "{digest} has {} bytes; at most {} are copied into memory",
                record.bytes,
                limits::IMAGE_SEALED_BYTES
            );
            return Err(Reason::new(Code::InputTooLarge, message));
        }
        let content = files::open(&folder.join(CONTENT)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => changed(digest, "has lost its bytes").evidence(CONTENT),
            _ => failed(&format!("{digest} cannot be opened"), &error),
        });
        let sealed = content.and_then(|content| copy(content, digest, record.bytes));
        if let Err(reason) = &sealed {
            self.distrust(digest, reason);
        }
        sealed
    }
}

/// Reads at most one byte more than there should be: a longer file is a changed one.
fn copy(content: File, digest: &Digest, bytes: u64) -> Result<Sealed, Reason> {
    let unmade = |error: io::Error| failed(&format!("{digest} cannot be copied into memory"), &error);
    let mut memory = File::from(memory().map_err(unmade)?);
    let mut content = io::Read::take(content, bytes.saturating_add(1));
    let mut sha256 = sha2::Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut copied = 0_u64;
    loop {
        let piece = fill(&mut content, &mut chunk).map_err(unmade)?;
        if piece.is_empty() {
            break;
        }
        sha256.update(piece);
        memory.write_all(piece).map_err(unmade)?;
        copied = copied.saturating_add(piece.len() as u64);
    }
    if copied != bytes || sha256.finalize().as_slice() != digest.as_bytes() {
        return Err(changed(digest, "does not have this digest any more").evidence(CONTENT));
    }
    memory.seek(SeekFrom::Start(0)).map_err(unmade)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&memory, seals).map_err(|error| unmade(error.into()))?;
    Ok(Sealed { digest: digest.clone(), bytes, fd: memory.into() })
}

/// Memory that cannot be executed either, where the kernel knows that (Linux 6.3).
fn memory() -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match rustix::fs::memfd_create("debvisor-image", flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => rustix::fs::memfd_create("debvisor-image", flags),
        other => other,
    }
    .map_err(Into::into)
}
