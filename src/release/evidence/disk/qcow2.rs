//! The header of a qcow2 image, version 2 or 3 (QEMU, docs/interop/qcow2.rst), read as strictly as QEMU reads it.
//! Invariant: the names of backing and data files are never opened, and nothing but their presence counts.

use std::io::{Read, Seek};

use serde::Serialize;

use super::{malformed, read_up_to, unsupported};
use crate::types::{Code, Reason, limits};

pub(super) const MAGIC: &[u8] = b"QFI\xfb";

/// What a qcow2's header says besides its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Qcow2 {
    /// 2 or 3.
    pub version: u32,
    /// The size of a cluster.
    pub cluster_bytes: u64,
    /// Entries of the active L1 table.
    pub l1_entries: u32,
    /// Where that table begins in the image.
    pub l1_offset: u64,
    /// Snapshots that the image keeps inside.
    pub snapshots: u32,
    /// How compressed clusters are compressed, where there are any.
    pub compression: Compression,
    /// Whether clusters are allocated in 32 parts.
    pub extended_l2: bool,
}

/// How compressed clusters are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// Raw deflate.
    Zlib,
    /// Zstandard.
    Zstd,
}

const V2_BYTES: u32 = 72;
const V3_BYTES: u32 = 104;

/// Incompatible features: whoever does not know one must not open the image.
const DIRTY: u64 = 1 << 0;
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;
const COMPRESSION: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;
const KNOWN: u64 = DIRTY | CORRUPT | EXTERNAL_DATA | COMPRESSION | EXTENDED_L2;

/// Header extensions.
const END: u32 = 0;
const DATA_FILE_NAME: u32 = 0x4441_5441;
const ENCRYPTION: u32 = 0x0537_be77;

/// QEMU's own bounds.
const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=21;
const EXTENDED_L2_CLUSTER_BITS_MIN: u32 = 14;
const REFCOUNT_ORDER_MAX: u32 = 6;
const SNAPSHOTS_MAX: u32 = 65_536;

/// Reads the header of an image of `file_bytes` bytes: the disk's size, and the rest.
pub(super) fn inspect<R: Read + Seek>(reader: &mut R, file_bytes: u64) -> Result<(u64, Qcow2), Reason> {
    let header = Header(read_up_to(reader, 0, 1 << CLUSTER_BITS.end())?);
    let version = header.u32(4)?;
    if !matches!(version, 2 | 3) {
        return Err(unsupported(format!("the image is of qcow version {version}; 2 and 3 are read")));
    }
    let length = if version == 2 { V2_BYTES } else { header.u32(100)? };

    // References first: an image that has one is named after it, whatever else is wrong with it.
    if header.u64(8)? != 0 {
        return Err(Reason::new(Code::DiskBackingFile, "the qcow2 header names a backing file").location("header"));
    }
    let features = if version == 2 { 0 } else { header.u64(72)? };
    if features & EXTERNAL_DATA != 0 {
        let message = "the qcow2 header says that the data is in another file";
        return Err(Reason::new(Code::DiskExternalData, message).location("header"));
    }
    let encryption = header.u32(32)?;
    if encryption != 0 {
        let message = format!("the qcow2 header says that the clusters are encrypted (method {encryption})");
        return Err(Reason::new(Code::DiskEncrypted, message).location("header"));
    }
    if features & !KNOWN != 0 {
        let message = format!("the image needs features that nobody knows yet (bits {:#x})", features & !KNOWN);
        return Err(unsupported(message).location("header"));
    }
    if features & (DIRTY | CORRUPT) != 0 {
        let state = if features & CORRUPT != 0 { "is marked as corrupt" } else { "was not closed cleanly" };
        let reason = malformed(format!("the image {state}")).location("header");
        return Err(reason.hint("repair it where it was made: qemu-img check -r all"));
    }

    let cluster_bits = header.u32(20)?;
    if !CLUSTER_BITS.contains(&cluster_bits) {
        return Err(malformed(format!("clusters of 2^{cluster_bits} bytes are outside of 512 bytes to 2 MiB")));
    }
    let cluster_bytes = 1_u64 << cluster_bits;
    if version == 3 && (length < V3_BYTES || !length.is_multiple_of(8) || u64::from(length) > cluster_bytes) {
        return Err(malformed(format!("a header of {length} bytes is none of version 3")));
    }
    if file_bytes < cluster_bytes {
        return Err(malformed("the image is cut short in its first cluster"));
    }
    extensions(&header, length, cluster_bytes)?;
    if version == 3 && header.u32(96)? > REFCOUNT_ORDER_MAX {
        return Err(malformed("reference counts are wider than 64 bits"));
    }
    let extended_l2 = features & EXTENDED_L2 != 0;
    if extended_l2 && cluster_bits < EXTENDED_L2_CLUSTER_BITS_MIN {
        return Err(malformed("extended L2 entries need clusters of 16 KiB or more"));
    }
    let compression = compression(&header, length, features)?;
    let snapshots = header.u32(60)?;
    if snapshots > SNAPSHOTS_MAX {
        return Err(malformed(format!("{snapshots} snapshots are more than {SNAPSHOTS_MAX}")));
    }

    let virtual_bytes = header.u64(24)?;
    let l1_entries = header.u32(36)?;
    let geometry = Geometry { file_bytes, cluster_bytes };
    let l1_offset = header.u64(40)?;
    geometry.table("L1 table", l1_offset, u64::from(l1_entries) * 8, limits::DISK_L1_BYTES)?;
    geometry.covers(virtual_bytes, l1_entries, if extended_l2 { 16 } else { 8 })?;
    let refcount_bytes = u64::from(header.u32(56)?) << cluster_bits;
    if refcount_bytes == 0 {
        return Err(malformed("the image has no reference counts"));
    }
    geometry.table("refcount table", header.u64(48)?, refcount_bytes, limits::DISK_REFCOUNT_TABLE_BYTES)?;
    Ok((virtual_bytes, Qcow2 { version, cluster_bytes, l1_entries, l1_offset, snapshots, compression, extended_l2 }))
}

/// The image's first cluster, or what there is of it.
struct Header(Vec<u8>);

impl Header {
    fn bytes<const N: usize>(&self, at: usize) -> Result<[u8; N], Reason> {
        let bytes = self.0.get(at..).and_then(|rest| rest.first_chunk::<N>());
        bytes.copied().ok_or_else(|| malformed("the image is cut short in its header"))
    }

    fn u32(&self, at: usize) -> Result<u32, Reason> {
        self.bytes(at).map(u32::from_be_bytes)
    }

    fn u64(&self, at: usize) -> Result<u64, Reason> {
        self.bytes(at).map(u64::from_be_bytes)
    }
}

/// Walks the header extensions. Unknown ones may be ignored, as the format says; those that lead elsewhere may not,
/// not even where the feature bit that belongs to them is missing.
fn extensions(header: &Header, length: u32, cluster_bytes: u64) -> Result<(), Reason> {
    let mut at = u64::from(length);
    while at + 8 <= cluster_bytes {
        let position = usize::try_from(at).map_err(|_| malformed("an extension is too far away"))?;
        let (kind, bytes) = (header.u32(position)?, u64::from(header.u32(position + 4)?));
        match kind {
            END => return Ok(()),
            DATA_FILE_NAME => {
                let message = "the qcow2 header names an external data file";
                return Err(Reason::new(Code::DiskExternalData, message).location(format!("extension at byte {at}")));
            }
            ENCRYPTION => {
                let message = "the qcow2 header points to an encryption header";
                return Err(Reason::new(Code::DiskEncrypted, message).location(format!("extension at byte {at}")));
            }
            _ => {}
        }
        at += 8 + bytes.next_multiple_of(8);
        if at > cluster_bytes {
            return Err(malformed("a header extension leaves the first cluster"));
        }
    }
    Ok(())
}

fn compression(header: &Header, length: u32, features: u64) -> Result<Compression, Reason> {
    let kind = if length > V3_BYTES { header.bytes::<1>(V3_BYTES as usize)? } else { [0] };
    match (features & COMPRESSION != 0, kind) {
        (false, [0]) => Ok(Compression::Zlib),
        (true, [1]) => Ok(Compression::Zstd),
        (true, [kind]) if kind > 1 => Err(unsupported(format!("clusters are compressed by method {kind}"))),
        _ => Err(malformed("the compression type and its feature bit contradict each other")),
    }
}

struct Geometry {
    file_bytes: u64,
    cluster_bytes: u64,
}

impl Geometry {
    /// A table must lie behind the header, on the border of a cluster, and inside the file.
    fn table(&self, name: &str, offset: u64, bytes: u64, limit: u64) -> Result<(), Reason> {
        if bytes > limit {
            let message = format!("the {name} has {bytes} bytes; at most {limit} are allowed");
            return Err(Reason::new(Code::DiskOversized, message));
        }
        let is_inside = offset.checked_add(bytes).is_some_and(|end| end <= self.file_bytes);
        if bytes > 0 && (offset < self.cluster_bytes || !offset.is_multiple_of(self.cluster_bytes) || !is_inside) {
            return Err(malformed(format!(
                "the {name} at byte {offset} lies outside of the image or between clusters"
            )));
        }
        Ok(())
    }

    /// The L1 table must have an entry for each part of the disk.
    fn covers(&self, virtual_bytes: u64, l1_entries: u32, l2_entry_bytes: u64) -> Result<(), Reason> {
        let entry_covers = u128::from(self.cluster_bytes / l2_entry_bytes) * u128::from(self.cluster_bytes);
        if u128::from(virtual_bytes) > u128::from(l1_entries) * entry_covers {
            return Err(malformed("the L1 table is too small for the disk"));
        }
        Ok(())
    }
}
