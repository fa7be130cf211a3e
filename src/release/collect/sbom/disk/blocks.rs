//! The bytes of a disk as its guest sees them: of a raw image as they are, of a qcow2 through `imago`.
//! Invariant: reads only, and not more of them than a bound allows, whatever the structures on the disk say.

use std::cell::Cell;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt as _;

use imago::qcow2::Qcow2;
use imago::{Mapping, SyncFormatAccess};

use crate::release::collect::sbom::tree;
use crate::release::evidence::disk::{Compression, DiskHeader, Qcow2 as Qcow2Header};
use crate::types::{Code, Reason, limits};

/// A disk.
pub(super) struct Blocks {
    image: Image,
    /// What the guest sees.
    pub(super) bytes: u64,
    left: Cell<u64>,
}

enum Image {
    Raw(File),
    Qcow2(Qcow2Image),
}

impl Blocks {
    /// The disk in an image whose header was found to name no other file.
    pub(super) fn open(file: File, header: &DiskHeader) -> Result<Self, Reason> {
        let image = match header.qcow2 {
            None => Image::Raw(file),
            Some(qcow2) => Image::Qcow2(Qcow2Image::open(file, header.file_bytes, &qcow2)?),
        };
        Ok(Self { image, bytes: header.virtual_bytes, left: Cell::new(limits::DISK_READ_BYTES) })
    }

    /// Exactly these bytes.
    pub(super) fn read_at(&self, at: u64, buffer: &mut [u8]) -> Result<(), Reason> {
        let wanted = buffer.len() as u64;
        if at.checked_add(wanted).is_none_or(|end| end > self.bytes) {
            return Err(Reason::new(Code::DiskMalformed, "a structure on the disk leads behind its end"));
        }
        let Some(left) = self.left.get().checked_sub(wanted) else {
            let message = format!("more than {} bytes of the disk would have to be read", limits::DISK_READ_BYTES);
            return Err(Reason::new(Code::DiskOversized, message));
        };
        self.left.set(left);
        match &self.image {
            Image::Raw(file) => file.read_exact_at(buffer, at).map_err(|error| damaged(&error)),
            Image::Qcow2(image) => image.read_at(at, buffer),
        }
    }
}

/// A qcow2. `imago` says where each part of the disk stands; the parts are read here, so that one that is not in the
/// file is damage and not zeros.
struct Qcow2Image {
    access: SyncFormatAccess<imago::file::File>,
    file: File,
    file_bytes: u64,
    cluster_bytes: u64,
}

impl Qcow2Image {
    fn open(file: File, file_bytes: u64, header: &Qcow2Header) -> Result<Self, Reason> {
        if header.compression == Compression::Zstd || header.extended_l2 {
            let message = "the qcow2 has clusters under Zstandard, or in parts, which are not read";
            return Err(Reason::new(Code::DiskUnsupported, message));
        }
        check_l1(&file, file_bytes, header)?;
        // Of a file without a name no path beside it can be told; and nothing implied is opened here.
        let storage = file.try_clone().and_then(imago::file::File::try_from).map_err(|error| damaged(&error))?;
        let image: Qcow2<imago::file::File> =
            Qcow2::open_image_sync(storage, false).map_err(|error| damaged(&error))?;
        let access = SyncFormatAccess::new(image).map_err(|error| damaged(&error))?;
        Ok(Self { access, file, file_bytes, cluster_bytes: header.cluster_bytes })
    }

    fn read_at(&self, mut at: u64, mut buffer: &mut [u8]) -> Result<(), Reason> {
        while !buffer.is_empty() {
            let (mapping, bytes) =
                self.access.get_mapping_sync(at, buffer.len() as u64).map_err(|error| damaged(&error))?;
            let length = usize::try_from(bytes).unwrap_or(usize::MAX).min(buffer.len());
            let (part, rest) = buffer.split_at_mut(length);
            match mapping {
                _ if part.is_empty() => return Err(Reason::new(Code::DiskMalformed, "the image ends before its disk")),
                Mapping::Raw { offset, .. } => self.stored(offset, part)?,
                Mapping::Zero { .. } => part.fill(0),
                Mapping::Special { .. } => self.access.read(&mut *part, at).map_err(|error| damaged(&error))?,
                _ => return Err(Reason::new(Code::DiskMalformed, "a part of the disk stands nowhere")),
            }
            at += length as u64;
            buffer = rest;
        }
        Ok(())
    }

    /// Reads what stands in the file. The last cluster need not be whole: what is missing of it is zeros.
    fn stored(&self, offset: u64, buffer: &mut [u8]) -> Result<(), Reason> {
        let whole = self.file_bytes.next_multiple_of(self.cluster_bytes);
        if offset.checked_add(buffer.len() as u64).is_none_or(|end| end > whole) {
            return Err(Reason::new(Code::DiskMalformed, "a cluster lies behind the end of the image"));
        }
        let there = usize::try_from(self.file_bytes.saturating_sub(offset)).unwrap_or(usize::MAX).min(buffer.len());
        let (stored, missing) = buffer.split_at_mut(there);
        missing.fill(0);
        self.file.read_exact_at(stored, offset).map_err(|error| damaged(&error))
    }
}

/// Every L2 table must stand in the file: one that does not would be read as "nothing is allocated".
fn check_l1(file: &File, file_bytes: u64, header: &Qcow2Header) -> Result<(), Reason> {
    /// The bits of an entry that are the table's place (QEMU qcow2 format, cluster mapping).
    const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
    let mut table = vec![0; header.l1_entries as usize * 8];
    file.read_exact_at(&mut table, header.l1_offset).map_err(|error| damaged(&error))?;
    for entry in table.as_chunks::<8>().0 {
        let offset = u64::from_be_bytes(*entry) & OFFSET;
        let is_inside = offset.checked_add(header.cluster_bytes).is_some_and(|end| end <= file_bytes);
        if offset != 0 && !(is_inside && offset.is_multiple_of(header.cluster_bytes)) {
            return Err(Reason::new(Code::DiskMalformed, "an L2 table lies outside of the image, or between clusters"));
        }
    }
    Ok(())
}

fn damaged(error: &io::Error) -> Reason {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::Interrupted => {
            Reason::new(Code::SubjectUnreadable, format!("the image cannot be read: {error}"))
        }
        _ => Reason::new(Code::DiskMalformed, format!("the image is damaged: {error}")),
    }
}

/// A reason on its way through somebody else's reader.
#[derive(Debug)]
pub(super) struct Fault(pub(super) Reason);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Fault {}

/// A disk as a reader with a position.
pub(super) struct Cursor<'a> {
    pub(super) blocks: &'a Blocks,
    pub(super) position: u64,
}

impl Read for Cursor<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.blocks.bytes.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        let buffer = buffer.get_mut(..length).unwrap_or_default();
        self.blocks.read_at(self.position, buffer).map_err(|reason| io::Error::other(Fault(reason)))?;
        self.position += length as u64;
        Ok(length)
    }
}

impl Seek for Cursor<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = tree::seek(self.position, self.blocks.bytes, to)?;
        Ok(self.position)
    }
}
