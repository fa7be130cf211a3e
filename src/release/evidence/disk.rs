//! Disk images: the first bytes in, and out the format with its sizes, or the one reason not to open the image.
//!
//! A qcow2 may name other files of the host that it is made of. Whoever opens such an image opens them too, so both
//! kinds of reference are refused here, before anything that could follow them sees the image. What looks like a format
//! that is not read is refused as well, and not taken for a raw disk: another program may guess otherwise.
//! Invariant: nothing behind the header, its tables' bounds and the signatures of formats is read.

use std::io::{self, Read, Seek, SeekFrom};

use serde::Serialize;

use crate::types::{Code, Reason, limits};

mod qcow2;

pub use qcow2::{Compression, Qcow2};

/// What the caller allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// What the disk may hold, as its guest sees it, in bytes.
    pub virtual_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { virtual_bytes: limits::DISK_VIRTUAL_BYTES }
    }
}

/// The formats that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// The disk's bytes and nothing else.
    Raw,
    /// QEMU's copy-on-write format, version 2 or 3.
    Qcow2,
    /// An ISO 9660 volume; it may be a disk with partitions at the same time.
    Iso9660,
}

impl Format {
    /// QEMU's name of the driver that must be asked for, so that it does not guess.
    pub const fn driver(self) -> &'static str {
        match self {
            Self::Raw | Self::Iso9660 => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

/// What an image that may be opened says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DiskHeader {
    /// The format, known by content.
    pub format: Format,
    /// The image's own length.
    pub file_bytes: u64,
    /// What its guest sees.
    pub virtual_bytes: u64,
    /// What a qcow2 says besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qcow2: Option<Qcow2>,
}

/// Says what an image is, and refuses what must not be opened. The reader's position is changed.
///
/// # Errors
/// `disk-backing-file`, `disk-external-data`, `disk-encrypted`, `disk-oversized`, `disk-unsupported` or
/// `disk-malformed`; `subject-unreadable` where the reader failed.
pub fn inspect<R: Read + Seek>(reader: &mut R, limits: &Limits) -> Result<DiskHeader, Reason> {
    let file_bytes = reader.seek(SeekFrom::End(0)).map_err(|error| unreadable(&error))?;
    if file_bytes == 0 {
        return Err(malformed("the image is empty"));
    }
    let start = read_up_to(reader, 0, START_BYTES)?;
    if start.starts_with(qcow2::MAGIC) {
        let (virtual_bytes, header) = qcow2::inspect(reader, file_bytes)?;
        within(virtual_bytes, limits)?;
        return Ok(DiskHeader { format: Format::Qcow2, file_bytes, virtual_bytes, qcow2: Some(header) });
    }
    if start.starts_with(LUKS) {
        return Err(Reason::new(Code::DiskEncrypted, "the image is a LUKS volume"));
    }
    if let Some((.., name)) = OTHERS.iter().find(|(at, magic, _)| is_at(&start, *at, magic)) {
        return Err(unsupported(format!("the image is in the format {name}")));
    }
    if is_vmdk_descriptor(&start) {
        return Err(unsupported("the image is a VMDK descriptor, which names other files"));
    }
    within(file_bytes, limits)?;
    let volume = read_up_to(reader, ISO_DESCRIPTOR, ISO_MAGIC.len() as u64)?;
    let format = if volume == ISO_MAGIC { Format::Iso9660 } else { Format::Raw };
    Ok(DiskHeader { format, file_bytes, virtual_bytes: file_bytes, qcow2: None })
}

/// The signatures of formats stand in here.
const START_BYTES: u64 = 2048;
const LUKS: &[u8] = b"LUKS\xba\xbe";

/// Where a format's signature stands, the signature, and the format's name.
const OTHERS: &[(usize, &[u8], &str)] = &[
    (0, b"KDMV", "VMDK"),
    (0, b"COWD", "VMDK"),
    (0, b"vhdxfile", "VHDX"),
    (0, b"conectix", "VHD"),
    (0x40, &[0x7f, 0x10, 0xda, 0xbe], "VDI"),
    (0, b"QED\0", "QED"),
    (0, b"WithoutFreeSpace", "Parallels"),
    (0, b"WithouFreSpacExt", "Parallels"),
    (0, b"Bochs Virtual HD Image", "Bochs"),
    (0, b"#!/bin/sh\n#V2.0 Format", "cloop"),
];

/// The first volume descriptor (ECMA-119 section 8.1): the standard identifier stands behind its type.
const ISO_DESCRIPTOR: u64 = 16 * 2048 + 1;
const ISO_MAGIC: &[u8] = b"CD001";

/// QEMU takes a text for a descriptor whose first line that is neither empty nor a comment names a version.
fn is_vmdk_descriptor(start: &[u8]) -> bool {
    start
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .find(|line| !line.is_empty() && !line.starts_with(b"#"))
        .is_some_and(|line| line.to_ascii_lowercase().starts_with(b"version="))
}

fn is_at(bytes: &[u8], at: usize, magic: &[u8]) -> bool {
    bytes.get(at..).is_some_and(|rest| rest.starts_with(magic))
}

fn within(virtual_bytes: u64, limits: &Limits) -> Result<(), Reason> {
    if virtual_bytes > limits.virtual_bytes {
        let message = format!("the disk holds {virtual_bytes} bytes; at most {} are allowed", limits.virtual_bytes);
        return Err(Reason::new(Code::DiskOversized, message));
    }
    Ok(())
}

fn malformed(message: impl Into<String>) -> Reason {
    Reason::new(Code::DiskMalformed, message)
}

fn unsupported(message: impl Into<String>) -> Reason {
    Reason::new(Code::DiskUnsupported, message)
}

fn unreadable(error: &io::Error) -> Reason {
    Reason::new(Code::SubjectUnreadable, format!("the image cannot be read: {error}"))
}

/// Reads `bytes` bytes, or what there is of them.
fn read_up_to<R: Read + Seek>(reader: &mut R, at: u64, bytes: u64) -> Result<Vec<u8>, Reason> {
    reader.seek(SeekFrom::Start(at)).map_err(|error| unreadable(&error))?;
    let mut read = Vec::new();
    reader.take(bytes).read_to_end(&mut read).map_err(|error| unreadable(&error))?;
    Ok(read)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn judge(bytes: &[u8]) -> Result<DiskHeader, Code> {
        inspect(&mut Cursor::new(bytes), &Limits { virtual_bytes: 1 << 20 })
            .map_err(|reason| reason.code.known().unwrap())
    }

    #[test]
    fn what_has_no_signature_is_raw_and_an_iso_is_known_by_its_descriptor() {
        let mut disk = vec![0; 40_000];
        assert_eq!(judge(&disk).unwrap().format, Format::Raw);
        disk[32_769..32_774].copy_from_slice(b"CD001");
        let header = judge(&disk).unwrap();
        assert_eq!((header.format, header.format.driver(), header.virtual_bytes), (Format::Iso9660, "raw", 40_000));
    }

    #[test]
    fn nothing_and_too_much_are_refused() {
        assert_eq!(judge(b""), Err(Code::DiskMalformed));
        assert_eq!(judge(&vec![0; (1 << 20) + 1]), Err(Code::DiskOversized));
    }

    #[test]
    fn another_programs_format_is_not_taken_for_a_raw_disk() {
        for (at, magic, _) in OTHERS {
            let mut disk = vec![0; 4096];
            disk[*at..*at + magic.len()].copy_from_slice(magic);
            assert_eq!(judge(&disk), Err(Code::DiskUnsupported));
        }
        let descriptor = b"# Disk DescriptorFile\n\nVersion=1\nCID=fffffffe\nRW 1 FLAT \"/etc/shadow\" 0\n";
        assert_eq!(judge(descriptor), Err(Code::DiskUnsupported));
        assert_eq!(judge(b"LUKS\xba\xbe\0\x02"), Err(Code::DiskEncrypted));
        assert_eq!(judge(b"# a shell script is no disk, and no descriptor\n").unwrap().format, Format::Raw);
    }
}
