//! An image's bytes as they are read: whole blocks out, each of them proved, by the kernel or by the image's own tree.
//!
//! Invariant: no block leaves that neither of the two has proved; a read that the kernel refuses is never tried another
//! way.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use super::ImageRecord;
use super::tree::{Fault, Tree};
use super::verity::Mapping;
use crate::types::vm::VerifiedReadTier;

/// An image that is open for reading.
#[derive(Debug)]
pub(super) struct Source {
    /// The file, or the device that is mapped over it; it is let go of before the mapping is.
    pub(super) content: File,
    pub(super) proof: Proof,
    /// Why no better tier is used.
    pub(super) absent: Option<String>,
}

/// What is told of each run of proved blocks: the first one's number, and their bytes.
pub(super) type Seeing<'a> = dyn FnMut(u64, &[u8]) -> Result<(), Fault> + 'a;

/// Who proves what is read.
#[derive(Debug)]
pub(super) enum Proof {
    /// We do.
    Tree(Tree),
    /// The kernel does, before it gives a page out.
    Kernel(VerifiedReadTier, #[expect(dead_code, reason = "held while the device is read")] Option<Mapping>),
}

impl Source {
    /// How reads are proved.
    pub(super) const fn tier(&self) -> VerifiedReadTier {
        match &self.proof {
            Proof::Tree(_) => VerifiedReadTier::BlockServer,
            Proof::Kernel(tier, _) => *tier,
        }
    }

    /// Fills this with whole blocks from the first on, the image's last one excepted.
    pub(super) fn read(&self, first: u64, blocks: &mut [u8], block_bytes: u64) -> Result<(), Fault> {
        let read = self.content.read_exact_at(blocks, first.saturating_mul(block_bytes));
        match (&self.proof, read) {
            (Proof::Tree(tree), Ok(())) => tree.prove(first, blocks),
            (Proof::Kernel(..), Ok(())) => Ok(()),
            (Proof::Kernel(tier, _), Err(error)) if is_refused(&error) => {
                Err(Fault::Kernel(self.bad(first, blocks, block_bytes), *tier))
            }
            (_, Err(error)) => Err(Fault::Io(first, error)),
        }
    }

    /// The first of these blocks that the kernel refuses.
    fn bad(&self, first: u64, blocks: &mut [u8], block_bytes: u64) -> u64 {
        let length = usize::try_from(block_bytes).unwrap_or(usize::MAX);
        let refused = |block: u64, chunk: &mut [u8]| {
            self.content.read_exact_at(chunk, block.saturating_mul(block_bytes)).is_err_and(|error| is_refused(&error))
        };
        let found =
            (first..).zip(blocks.chunks_mut(length)).find_map(|(block, chunk)| refused(block, chunk).then_some(block));
        found.unwrap_or(first)
    }

    /// Goes through all of the image, by this many bytes at most.
    pub(super) fn read_all(
        &self,
        record: &ImageRecord,
        chunk_bytes: usize,
        seen: &mut Seeing<'_>,
    ) -> Result<(), Fault> {
        let block_bytes = u64::from(record.block_bytes);
        let mut chunk = vec![0; chunk_bytes];
        let mut at = 0;
        while at < record.bytes {
            let left = usize::try_from(record.bytes.saturating_sub(at)).unwrap_or(usize::MAX);
            let Some(blocks) = chunk.get_mut(..left.min(chunk_bytes)) else { break };
            let first = at / block_bytes;
            self.read(first, blocks, block_bytes)?;
            seen(first, blocks)?;
            at = at.saturating_add(blocks.len() as u64);
        }
        Ok(())
    }
}

/// EIO: what both of the kernel's tiers say of a page that does not fit.
pub(super) fn is_refused(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}
