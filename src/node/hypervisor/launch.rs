//! What a machine is started from: its description, sealed memory for code, block servers for disks.
//! There is no path of an artifact among it. What is named here is still to be put to [`super::gate`].

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::types::Digest;
use crate::types::vm::{ArtifactKind, VmId, VmSpec};

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

/// Bytes in sealed memory, which nobody can change any more.
#[derive(Debug, Clone)]
pub struct SealedArtifact {
    /// Its place: `kernel`, `initrd`, `firmware`, `firmware-vars`, `nic0`.
    pub slot: String,
    /// What it is.
    pub kind: ArtifactKind,
    /// SHA-256 of the bytes, taken while they were copied.
    pub digest: Digest,
    /// How many there are.
    pub bytes: u64,
    /// The memory. It must carry the seals against writing, growing, shrinking and unsealing.
    pub fd: Arc<OwnedFd>,
}

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
    /// Where the server listens.
    pub socket: PathBuf,
    /// The name of its export.
    pub export: String,
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
        self.sealed.iter().find(|artifact| artifact.slot == slot)
    }

    /// The block server for this slot.
    pub fn block(&self, slot: &str) -> Option<&BlockSource> {
        self.blocks.iter().find(|source| source.slot == slot)
    }
}
