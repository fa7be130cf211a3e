//! What a machine is started from: its description, sealed memory for code, block servers for disks.
//! There is no path of an artifact among it. What is named here is still to be put to [`super::gate`].

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::node::images::Sealed;
use crate::types::vm::{ArtifactKind, VmId, VmSpec};
use crate::types::{Digest, DigestAlgorithm};

/// Everything that one start needs.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The machine.
    pub vm: VmId,
    /// Its description.
    pub spec: VmSpec,
    /// Kernel, initrd, firmware and option ROMs.
    pub sealed: Vec<SealedArtifact>,
    /// Disks and ISO images.
    pub blocks: Vec<BlockSource>,
    /// Whether its processors stay halted until it is resumed.
    pub paused: bool,
}

/// Bytes in sealed memory, which nobody can change any more, and where they go. The digest is never a caller's word:
/// it was taken by whoever copied the bytes in.
#[derive(Debug, Clone)]
pub struct SealedArtifact {
    slot: String,
    kind: ArtifactKind,
    digest: Digest,
    fd: Arc<OwnedFd>,
}

impl SealedArtifact {
    /// Copies `source` into sealed memory and hashes it on the way.
    ///
    /// # Errors
    /// What reading or the kernel says; also where there are more than `limit` bytes.
    pub fn copy(slot: impl Into<String>, kind: ArtifactKind, mut source: impl Read, limit: u64) -> io::Result<Self> {
        let fd = memfd_create("debvisor", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mut file = File::from(fd);
        let mut hasher = Sha256::new();
        let mut block = vec![0; 256 * 1024];
        let mut bytes = 0_u64;
        loop {
            let count = source.read(&mut block)?;
            let Some(read) = block.get(..count).filter(|read| !read.is_empty()) else { break };
            bytes = bytes.saturating_add(count as u64);
            if bytes > limit {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {limit} bytes")));
            }
            hasher.update(read);
            file.write_all(read)?;
        }
        fcntl_add_seals(&file, SEALS)?;
        let digest = Digest::new(DigestAlgorithm::Sha256, &hasher.finalize()).map_err(io::Error::other)?;
        Ok(Self { slot: slot.into(), kind, digest, fd: Arc::new(file.into()) })
    }

    /// What the image store sealed, and where it goes.
    pub fn from_store(slot: impl Into<String>, kind: ArtifactKind, sealed: Sealed) -> Self {
        let digest = sealed.digest().clone();
        Self { slot: slot.into(), kind, digest, fd: Arc::new(sealed.into_fd()) }
    }

    /// Its place: `kernel`, `initrd`, `firmware`, `firmware-vars`, `nic0`.
    pub fn slot(&self) -> &str {
        &self.slot
    }

    /// What it is.
    pub const fn kind(&self) -> ArtifactKind {
        self.kind
    }

    /// SHA-256 of the bytes.
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The memory.
    pub const fn fd(&self) -> &Arc<OwnedFd> {
        &self.fd
    }

    /// Whether it really carries all seals: asked of the kernel.
    pub fn is_sealed(&self) -> bool {
        fcntl_get_seals(&self.fd).is_ok_and(|seals| seals.contains(SEALS))
    }
}

/// Nobody writes, grows or shrinks it, nor takes the seals off.
const SEALS: SealFlags = SealFlags::WRITE.union(SealFlags::GROW).union(SealFlags::SHRINK).union(SealFlags::SEAL);

/// A block server that checks what it serves, on a Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockSource {
    /// Its place: `disk0`, `iso0`.
    pub slot: String,
    /// Disk or ISO image.
    pub kind: ArtifactKind,
    /// SHA-256 of the whole image.
    pub digest: Digest,
    /// Root of the Merkle tree that the server checks blocks against.
    pub tree_root: Option<Digest>,
    /// Length of the image file in bytes.
    pub bytes: u64,
    /// Size of the disk in bytes as a machine sees it: another one than `bytes` where the format is qcow2.
    pub virtual_bytes: u64,
    /// What is inside.
    pub format: ImageFormat,
    /// Where the server listens; its export has no name. Best in [`super::Hypervisor::socket_dir`], and at the same
    /// place again after the agent was restarted: a machine that runs waits for it there.
    pub socket: PathBuf,
}

/// The form of a disk image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageFormat {
    /// The disk's bytes as they are.
    Raw,
    /// QEMU's format; without a backing file or external data, which import refuses.
    Qcow2,
}

impl Launch {
    /// The sealed artifact in this slot.
    pub fn sealed(&self, slot: &str) -> Option<&SealedArtifact> {
        self.sealed.iter().find(|artifact| artifact.slot() == slot)
    }

    /// The block server for this slot.
    pub fn block(&self, slot: &str) -> Option<&BlockSource> {
        self.blocks.iter().find(|source| source.slot == slot)
    }
}
