//! The verifying block server: an image and the root of its tree in; a socket out, behind which NBD is spoken and each
//! block is checked as it is read.

use std::path::{Path, PathBuf};

use tokio::sync::mpsc;

use super::{ImageRecord, ImageStore, unfinished};
use crate::types::vm::VerifiedReadTier;
use crate::types::{Digest, Reason};

/// Where a block server listens, and who may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketAt {
    /// The socket. A stale one of that name is replaced; its folder must exist.
    pub path: PathBuf,
    /// User and group that own it, where the hypervisor runs under others than the node; mode 600.
    pub owner: Option<(u32, u32)>,
}

/// A block that was asked for and could not be proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// The image.
    pub digest: Digest,
    /// The socket by which it was asked for: one machine's disk.
    pub socket: PathBuf,
    /// The block's number, from 0.
    pub block: u64,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// What is wrong: `image-changed`, or `store-failed` where it cannot be read at all.
    pub reason: Reason,
}

/// A running block server. Dropping it ends its connections and removes the socket.
#[derive(Debug)]
pub struct BlockServer {
    socket: PathBuf,
    record: ImageRecord,
}

impl BlockServer {
    /// The socket, for `nbd+unix:///?socket=`; the export's name is empty.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The image.
    pub const fn record(&self) -> &ImageRecord {
        &self.record
    }

    /// How its reads are proved.
    pub const fn tier(&self) -> VerifiedReadTier {
        VerifiedReadTier::BlockServer
    }
}

impl ImageStore {
    /// Serves an image, read-only, until the answer is dropped. The first bad block that is met quarantines the image;
    /// each bad block is an I/O error to who asked, and an alarm once.
    ///
    /// # Errors
    /// `image-changed` where the tree does not have the root that the permit names; `image-unknown`,
    /// `image-receipt-invalid`, `image-quarantined`, `image-kind`, `store-failed`.
    pub fn serve(
        &self,
        digest: &Digest,
        _tree_root: &Digest,
        _at: &SocketAt,
        _alarms: mpsc::Sender<Alarm>,
    ) -> Result<BlockServer, Reason> {
        Err(unfinished(digest))
    }
}
