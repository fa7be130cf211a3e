//! Kernels, initrds, firmware and option ROMs: a digest in, memory that nobody can change any more out.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::{ImageStore, unfinished};
use crate::types::{Digest, Reason};

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

impl ImageStore {
    /// Copies an image into sealed memory, hashing it on the way.
    ///
    /// # Errors
    /// `image-changed` where the bytes are not those of `digest`, which also quarantines the image; `image-unknown`,
    /// `image-receipt-invalid`, `image-quarantined`, `input-too-large`, `store-failed`.
    pub fn seal(&self, digest: &Digest) -> Result<Sealed, Reason> {
        Err(unfinished(digest))
    }
}
