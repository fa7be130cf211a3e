//! Partition tables: a GUID partition table (UEFI specification, chapter 5), the older one in the boot sector with its
//! chain of logical partitions, or none at all.

use std::fmt;
use std::io::Seek as _;

use gpt::disk::LogicalBlockSize;
use gpt::mbr::PartRecord;

use super::blocks::{Blocks, Cursor};
use crate::types::{Code, Reason, limits};

/// A part of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Partition {
    /// As the table counts, from 1; nothing for a disk without a table.
    number: Option<u32>,
    /// Where it begins, in bytes.
    pub(super) start: u64,
    /// How long it is.
    pub(super) bytes: u64,
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            Some(number) => write!(f, "partition {number}"),
            None => f.write_str("the whole disk"),
        }
    }
}

/// The partitions of a disk, in the order of their numbers. A disk without a table is one partition.
///
/// # Errors
/// `disk-malformed` where a table is damaged or a partition lies outside of the disk; `disk-oversized`.
pub(super) fn list(blocks: &Blocks) -> Result<Vec<Partition>, Reason> {
    for size in [LogicalBlockSize::Lb512, LogicalBlockSize::Lb4096] {
        if has(blocks, size.as_u64(), b"EFI PART")? {
            return guid_table(blocks, size);
        }
    }
    if has(blocks, 510, &[0x55, 0xaa])? {
        let partitions = boot_sector(blocks)?;
        if !partitions.is_empty() {
            return Ok(partitions);
        }
    }
    Ok(vec![Partition { number: None, start: 0, bytes: blocks.bytes }])
}

fn has(blocks: &Blocks, at: u64, signature: &[u8]) -> Result<bool, Reason> {
    if at + signature.len() as u64 > blocks.bytes {
        return Ok(false);
    }
    let mut bytes = vec![0; signature.len()];
    blocks.read_at(at, &mut bytes)?;
    Ok(bytes == signature)
}

fn malformed(message: impl Into<String>) -> Reason {
    Reason::new(Code::DiskMalformed, message)
}

/// The only size of an entry that anybody writes.
const GUID_ENTRY_BYTES: u32 = 128;

fn guid_table(blocks: &Blocks, size: LogicalBlockSize) -> Result<Vec<Partition>, Reason> {
    let mut cursor = Cursor { blocks, position: 0 };
    // Whoever trusts the copy at the end when the first is damaged may read another table than others do.
    let header = gpt::header::read_header_from_arbitrary_device(&mut cursor, size)
        .map_err(|error| malformed(format!("the partition table's header is damaged: {error}")))?;
    if header.part_size != GUID_ENTRY_BYTES || header.num_parts > limits::DISK_PARTITIONS {
        return Err(malformed("the partition table has more entries than any, or entries of an unknown size"));
    }
    cursor.rewind().map_err(|error| malformed(error.to_string()))?;
    let entries = gpt::partition::file_read_partitions(&mut cursor, &header, size)
        .map_err(|error| malformed(format!("the partition table is damaged: {error}")))?;
    entries
        .iter()
        .filter(|(_, entry)| entry.is_used())
        .map(|(number, entry)| {
            let range = entry.bytes_start(size).and_then(|start| Ok((start, entry.bytes_len(size)?)));
            let (start, bytes) = range.map_err(|error| malformed(format!("partition {number}: {error}")))?;
            partition(blocks, *number, start, bytes)
        })
        .collect()
}

fn partition(blocks: &Blocks, number: u32, start: u64, bytes: u64) -> Result<Partition, Reason> {
    if bytes == 0 || start.checked_add(bytes).is_none_or(|end| end > blocks.bytes) {
        return Err(malformed(format!("partition {number} lies outside of the disk")));
    }
    Ok(Partition { number: Some(number), start, bytes })
}

const SECTOR_BYTES: u64 = 512;
const RECORDS: u64 = 446;
const RECORD_BYTES: usize = 16;
/// Extended partitions, which hold logical ones.
const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];

fn records(blocks: &Blocks, sector: u64) -> Result<[PartRecord; 4], Reason> {
    let mut bytes = [0; 4 * RECORD_BYTES];
    let at = sector.checked_mul(SECTOR_BYTES).and_then(|at| at.checked_add(RECORDS));
    blocks.read_at(at.ok_or_else(|| malformed("a partition table lies behind every disk"))?, &mut bytes)?;
    let mut records = [PartRecord::zero(); 4];
    for (record, bytes) in records.iter_mut().zip(bytes.as_chunks::<RECORD_BYTES>().0) {
        *record = PartRecord::from_bytes(bytes).map_err(|error| malformed(error.to_string()))?;
    }
    Ok(records)
}

fn boot_sector(blocks: &Blocks) -> Result<Vec<Partition>, Reason> {
    let records = records(blocks, 0)?;
    // A boot sector of a file system has code where a table would be.
    if records.iter().any(|record| !matches!(record.boot_indicator, 0 | 0x80)) {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for (number, record) in (1..).zip(&records).filter(|(_, record)| record.os_type != 0 && record.lb_size != 0) {
        let (start, bytes) = (u64::from(record.lb_start), u64::from(record.lb_size));
        if EXTENDED.contains(&record.os_type) {
            logical(blocks, start, &mut found)?;
        } else {
            found.push(partition(blocks, number, start * SECTOR_BYTES, bytes * SECTOR_BYTES)?);
        }
    }
    Ok(found)
}

/// Follows the chain of logical partitions: each link has the partition, relative to itself, and the next link,
/// relative to the extended partition.
fn logical(blocks: &Blocks, extended: u64, found: &mut Vec<Partition>) -> Result<(), Reason> {
    let mut link = extended;
    for number in 5..5 + limits::DISK_PARTITIONS {
        let [own, next, ..] = records(blocks, link)?;
        if own.os_type != 0 && own.lb_size != 0 {
            let start = (link + u64::from(own.lb_start)) * SECTOR_BYTES;
            found.push(partition(blocks, number, start, u64::from(own.lb_size) * SECTOR_BYTES)?);
        }
        if next.lb_start == 0 || !EXTENDED.contains(&next.os_type) {
            return Ok(());
        }
        link = extended + u64::from(next.lb_start);
    }
    Err(malformed("the chain of logical partitions has no end"))
}
