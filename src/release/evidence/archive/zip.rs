//! zip (PKWARE APPNOTE 6.3.10): the central directory, and every local header against it.
//!
//! A zip says everything twice, and readers differ in which they believe. So the two must agree; the members must lie
//! one behind the other from the first byte on, without overlap, gap or bytes that nobody owns; and the content must
//! have the size and CRC-32 that were announced.

use std::io::{BufReader, Read, Seek, SeekFrom};

use super::tree::Member;
use super::{Checker, Stop, damage, malformed, shown, words};
use crate::types::{Code, Reason, limits};

const END_SIGNATURE: [u8; 4] = *b"PK\x05\x06";
const END_BYTES: usize = 22;
const COMMENT_BYTES_MAX: u64 = 0xffff;
const END64_SIGNATURE: u32 = u32::from_le_bytes(*b"PK\x06\x06");
const END64_BYTES: u64 = 56;
const LOCATOR_SIGNATURE: u32 = u32::from_le_bytes(*b"PK\x06\x07");
const LOCATOR_BYTES: u64 = 20;
const CENTRAL_SIGNATURE: u32 = u32::from_le_bytes(*b"PK\x01\x02");
const LOCAL_SIGNATURE: u32 = u32::from_le_bytes(*b"PK\x03\x04");
const DESCRIPTOR_SIGNATURE: u32 = u32::from_le_bytes(*b"PK\x07\x08");

const STORED: u16 = 0;
const DEFLATED: u16 = 8;
const ZSTANDARD: u16 = 93;

/// Encrypted, strongly encrypted, or with masked headers.
const FLAGS_ENCRYPTED: u16 = 1 << 0 | 1 << 6 | 1 << 13;
const FLAG_DESCRIPTOR: u16 = 1 << 3;
const FLAG_PATCHED: u16 = 1 << 5;
/// How hard the compressor tried; nobody decides by it.
const FLAGS_EFFORT: u16 = 1 << 1 | 1 << 2;

const EXTRA_ZIP64: u16 = 0x0001;
const EXTRA_UNICODE_PATH: u16 = 0x7075;

/// Reads an archive of `length` bytes.
pub(super) fn read<R: Read + Seek>(source: &mut BufReader<R>, length: u64, checker: &mut Checker) -> Result<(), Stop> {
    let directory = find_directory(source, length)?;
    let mut entries = read_directory(source, &directory)?;
    entries.sort_by_key(|entry| entry.offset);

    source.rewind().map_err(damage)?;
    let mut position = 0;
    let ends: Vec<u64> = entries.iter().skip(1).map(|entry| entry.offset).chain([directory.offset]).collect();
    for (entry, end) in entries.iter().zip(ends) {
        if entry.offset != position {
            return Err(entry.stop("the member overlaps another, or bytes that belong to no member stand before it"));
        }
        position = read_member(source, entry, end, checker)?;
    }
    if position != directory.offset {
        return Err(malformed("bytes that belong to no member stand before the central directory"));
    }
    Ok(())
}

/// Where the central directory is.
struct Directory {
    offset: u64,
    size: u64,
    entries: u64,
}

fn find_directory<R: Read + Seek>(source: &mut BufReader<R>, length: u64) -> Result<Directory, Stop> {
    let tail_offset = length.saturating_sub(END_BYTES as u64 + COMMENT_BYTES_MAX);
    source.seek(SeekFrom::Start(tail_offset)).map_err(damage)?;
    let tail = words(source, length - tail_offset)?;

    // The record ends the file with a comment of the length that it says. Where two records do, readers that search
    // from the front and from the back see two archives.
    let fitting = tail.windows(END_BYTES).enumerate().filter(|(start, record)| {
        let comment = tail.len() - start - END_BYTES;
        record.starts_with(&END_SIGNATURE)
            && matches!(record, [.., low, high] if usize::from(u16::from_le_bytes([*low, *high])) == comment)
    });
    let mut records = fitting.map(|(start, record)| (tail_offset + start as u64, record));
    let (end_offset, record) =
        records.next().ok_or_else(|| malformed("the archive is cut short or has trailing data"))?;
    if records.next().is_some() {
        return Err(malformed("the archive has two ends, one in the other's comment"));
    }

    let mut fields = Fields(record.get(END_SIGNATURE.len()..).unwrap_or_default());
    let (disk, directory_disk) = (fields.u16()?, fields.u16()?);
    let (disk_entries, entries) = (fields.u16()?, fields.u16()?);
    let (size, offset) = (fields.u32()?, fields.u32()?);

    let locator_offset = end_offset.checked_sub(LOCATOR_BYTES);
    let end64_offset = match locator_offset {
        Some(locator_offset) => find_end64(source, locator_offset)?,
        None => None,
    };
    let (directory, directory_end) = match (end64_offset, locator_offset) {
        (Some(end64_offset), Some(locator_offset)) => {
            let directory = read_end64(source, end64_offset, locator_offset)?;
            let agrees = (entries == u16::MAX || u64::from(entries) == directory.entries)
                && (size == u32::MAX || u64::from(size) == directory.size)
                && (offset == u32::MAX || u64::from(offset) == directory.offset);
            if !agrees {
                return Err(malformed("the zip64 end record disagrees with the end record"));
            }
            (directory, end64_offset)
        }
        _ => {
            let directory = Directory { offset: offset.into(), size: size.into(), entries: entries.into() };
            (directory, end_offset)
        }
    };
    let disks = [disk, directory_disk];
    let is_whole = disks.iter().all(|disk| *disk == 0 || (end64_offset.is_some() && *disk == u16::MAX));
    if !is_whole || disk_entries != entries {
        return Err(malformed("the archive is one part of several"));
    }
    if directory.offset.checked_add(directory.size) != Some(directory_end) {
        return Err(malformed("the central directory does not end where the end record begins"));
    }
    if directory.entries > limits::ARCHIVE_MEMBERS as u64 {
        let message = format!("the archive has more than {} members", limits::ARCHIVE_MEMBERS);
        return Err(Stop(Reason::new(Code::InputTooLarge, message)));
    }
    Ok(directory)
}

/// Where the zip64 end record is, if a locator says so.
fn find_end64<R: Read + Seek>(source: &mut BufReader<R>, locator_offset: u64) -> Result<Option<u64>, Stop> {
    source.seek(SeekFrom::Start(locator_offset)).map_err(damage)?;
    let locator = words(source, LOCATOR_BYTES)?;
    let mut fields = Fields(&locator);
    if fields.u32()? != LOCATOR_SIGNATURE {
        return Ok(None);
    }
    let (disk, offset, disks) = (fields.u32()?, fields.u64()?, fields.u32()?);
    if disk != 0 || disks > 1 {
        return Err(malformed("the archive is one part of several"));
    }
    Ok(Some(offset))
}

fn read_end64<R: Read + Seek>(source: &mut BufReader<R>, offset: u64, end: u64) -> Result<Directory, Stop> {
    let wrong = || malformed("the zip64 end record is malformed");
    if offset.checked_add(END64_BYTES).is_none_or(|least| least > end) {
        return Err(wrong());
    }
    source.seek(SeekFrom::Start(offset)).map_err(damage)?;
    let record = words(source, END64_BYTES)?;
    let mut fields = Fields(&record);
    let (signature, size) = (fields.u32()?, fields.u64()?);
    // The size leaves out the signature and itself.
    if signature != END64_SIGNATURE || size.checked_add(12) != Some(end - offset) {
        return Err(wrong());
    }
    let _made_and_needed = fields.u32()?;
    let (disk, directory_disk) = (fields.u32()?, fields.u32()?);
    let (disk_entries, entries) = (fields.u64()?, fields.u64()?);
    if disk != 0 || directory_disk != 0 || disk_entries != entries {
        return Err(malformed("the archive is one part of several"));
    }
    Ok(Directory { entries, size: fields.u64()?, offset: fields.u64()? })
}

/// What the central directory says of a member.
struct Entry {
    name: Vec<u8>,
    flags: u16,
    method: u16,
    crc: u32,
    compressed: u64,
    uncompressed: u64,
    offset: u64,
    /// The upper half of the external attributes: a Unix mode where a Unix wrote it.
    mode: u32,
}

impl Entry {
    fn stop(&self, message: impl Into<String>) -> Stop {
        let Stop(reason) = malformed(message);
        Stop(reason.location(shown(&self.name)))
    }

    fn has(&self, flags: u16) -> bool {
        self.flags & flags != 0
    }
}

fn read_directory<R: Read + Seek>(source: &mut BufReader<R>, directory: &Directory) -> Result<Vec<Entry>, Stop> {
    source.seek(SeekFrom::Start(directory.offset)).map_err(damage)?;
    let mut source = source.take(directory.size);
    let mut entries = Vec::new();
    let mut names_bytes = 0_u64;
    for _ in 0..directory.entries {
        let entry = read_central(&mut source)?;
        names_bytes += entry.name.len() as u64;
        if names_bytes > limits::ARCHIVE_NAMES_BYTES {
            let message = format!("the names have more than {} bytes together", limits::ARCHIVE_NAMES_BYTES);
            return Err(Stop(Reason::new(Code::InputTooLarge, message)));
        }
        entries.push(entry);
    }
    if source.limit() != 0 {
        return Err(malformed("the central directory holds more than the end record says"));
    }
    Ok(entries)
}

fn read_central(source: &mut impl Read) -> Result<Entry, Stop> {
    let header = words(source, 46)?;
    let mut fields = Fields(&header);
    if fields.u32()? != CENTRAL_SIGNATURE {
        return Err(malformed("the central directory is damaged"));
    }
    let _made_and_needed = fields.u32()?;
    let (flags, method) = (fields.u16()?, fields.u16()?);
    let _modified = fields.u32()?;
    let crc = fields.u32()?;
    let (compressed, uncompressed) = (fields.u32()?, fields.u32()?);
    let (name_length, extra_length, comment_length) = (fields.u16()?, fields.u16()?, fields.u16()?);
    let disk = fields.u16()?;
    let _internal_attributes = fields.u16()?;
    let (attributes, offset) = (fields.u32()?, fields.u32()?);

    let name = words(source, name_length.into())?;
    let extra = words(source, extra_length.into())?;
    words(source, comment_length.into())?;
    let extra = Extra::read(&extra, &name)?;
    let mut zip64 = Fields(extra.zip64.unwrap_or_default());
    // Only the fields that did not fit stand in the extra, in this order.
    let mut widen = |field: u32| if field == u32::MAX { zip64.u64() } else { Ok(field.into()) };
    let (uncompressed, compressed, offset) = (widen(uncompressed)?, widen(compressed)?, widen(offset)?);
    let disk = if disk == u16::MAX { zip64.u32()? } else { disk.into() };
    if disk != 0 {
        return Err(malformed("the archive is one part of several"));
    }
    Ok(Entry { name, flags, method, crc, compressed, uncompressed, offset, mode: attributes >> 16 })
}

/// Reads one member from its local header to `end`; returns the position behind it.
fn read_member<R: Read>(
    source: &mut BufReader<R>,
    entry: &Entry,
    end: u64,
    checker: &mut Checker,
) -> Result<u64, Stop> {
    let header_bytes = read_local(source, entry)?;
    let data_end = [entry.offset, header_bytes, entry.compressed]
        .into_iter()
        .try_fold(0_u64, u64::checked_add)
        .filter(|data_end| *data_end <= end)
        .ok_or_else(|| entry.stop("the member overlaps another"))?;

    let kind = if entry.has(FLAGS_ENCRYPTED) {
        checker.reason(entry.stop("the member is encrypted: nobody can say what it unpacks to").0);
        None
    } else if entry.has(FLAG_PATCHED) || !matches!(entry.method, STORED | DEFLATED | ZSTANDARD) {
        let message = format!("the member is compressed by method {}, which is not read", entry.method);
        checker.reason(entry.stop(message).0);
        None
    } else {
        Some(Kind::of(entry)?)
    };
    let mut data = source.take(entry.compressed);
    let Some(kind) = kind else {
        // Its name counts all the same.
        checker.member(&entry.name, Member::File)?;
        std::io::copy(&mut data, &mut std::io::sink()).map_err(damage)?;
        descriptor(source, entry, end - data_end)?;
        return Ok(end);
    };

    let mut crc = flate2::Crc::new();
    let mut target = Vec::new();
    let length = {
        let seen = |chunk: &[u8]| {
            crc.update(chunk);
            if kind == Kind::SymbolicLink && target.len() <= limits::ARCHIVE_NAME_BYTES {
                target.extend_from_slice(chunk);
            }
        };
        match entry.method {
            STORED => checker.content(&mut data, seen)?,
            DEFLATED => checker.content(&mut flate2::bufread::DeflateDecoder::new(&mut data), seen)?,
            _ => {
                let mut decoder = zstd::Decoder::with_buffer(&mut data).map_err(damage)?;
                decoder.window_log_max(super::ZSTD_WINDOW_LOG).map_err(damage)?;
                checker.content(&mut decoder, seen)?
            }
        }
    };
    if data.limit() != 0 {
        return Err(entry.stop("the member's data go on behind their own end, or are cut short"));
    }
    if length != entry.uncompressed || crc.sum() != entry.crc {
        return Err(entry.stop("the member does not unpack to the size and CRC-32 that it announces"));
    }
    let member = match kind {
        Kind::File => Member::File,
        Kind::Directory if length > 0 => return Err(entry.stop("a directory has content")),
        Kind::Directory => Member::Directory,
        Kind::SymbolicLink => Member::SymbolicLink(&target),
        Kind::Special(what) => Member::Special(what),
    };
    checker.member(&entry.name, member)?;
    descriptor(source, entry, end - data_end)?;
    Ok(end)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Directory,
    SymbolicLink,
    Special(&'static str),
}

impl Kind {
    /// By the Unix mode, whatever system says that it wrote it: unpackers differ in when they believe it.
    fn of(entry: &Entry) -> Result<Self, Stop> {
        let kind = match entry.mode & 0o17_0000 {
            0o12_0000 => Self::SymbolicLink,
            0o02_0000 => Self::Special("a character device"),
            0o06_0000 => Self::Special("a block device"),
            0o01_0000 => Self::Special("a named pipe"),
            0o14_0000 => Self::Special("a socket"),
            0o04_0000 => Self::Directory,
            _ if entry.name.ends_with(b"/") => Self::Directory,
            _ => Self::File,
        };
        if entry.name.ends_with(b"/") != (kind == Self::Directory) {
            return Err(entry.stop("the member is a directory by its name or by its mode, but not by both"));
        }
        Ok(kind)
    }
}

/// Compares the local header with the central one; returns its length in bytes.
fn read_local(source: &mut impl Read, entry: &Entry) -> Result<u64, Stop> {
    let header = words(source, 30)?;
    let mut fields = Fields(&header);
    if fields.u32()? != LOCAL_SIGNATURE {
        return Err(entry.stop("the member has no local header where the central directory says"));
    }
    let _needed = fields.u16()?;
    let (flags, method) = (fields.u16()?, fields.u16()?);
    let _modified = fields.u32()?;
    let (crc, compressed, uncompressed) = (fields.u32()?, fields.u32()?, fields.u32()?);
    let (name_length, extra_length) = (fields.u16()?, fields.u16()?);
    let name = words(source, name_length.into())?;
    let extra_bytes = words(source, extra_length.into())?;
    let extra = Extra::read(&extra_bytes, &name)?;
    let mut zip64 = Fields(extra.zip64.unwrap_or_default());
    let mut widen = |field: u32| if field == u32::MAX { zip64.u64() } else { Ok(u64::from(field)) };
    let (uncompressed, compressed) = (widen(uncompressed)?, widen(compressed)?);

    let measures_agree = (crc, compressed, uncompressed) == (entry.crc, entry.compressed, entry.uncompressed)
        // A writer that could not go back wrote zeros here and the measures behind the data.
        || (entry.has(FLAG_DESCRIPTOR) && (crc, compressed, uncompressed) == (0, 0, 0));
    if name != entry.name || (flags ^ entry.flags) & !FLAGS_EFFORT != 0 || method != entry.method || !measures_agree {
        return Err(entry.stop("the member's local header disagrees with the central directory"));
    }
    Ok(header.len() as u64 + u64::from(name_length) + u64::from(extra_length))
}

/// Reads what stands between a member's data and the next member: a data descriptor where the flags say so, and
/// nothing otherwise.
fn descriptor(source: &mut impl Read, entry: &Entry, length: u64) -> Result<(), Stop> {
    let wrong = || entry.stop("bytes that belong to no member stand behind this one");
    if !entry.has(FLAG_DESCRIPTOR) {
        return if length == 0 { Ok(()) } else { Err(wrong()) };
    }
    if !matches!(length, 12 | 16 | 20 | 24) {
        return Err(wrong());
    }
    let bytes = words(source, length)?;
    let mut fields = Fields(&bytes);
    // The signature and the wide sizes are both optional, so the length tells the four forms apart.
    if matches!(length, 16 | 24) && fields.u32()? != DESCRIPTOR_SIGNATURE {
        return Err(wrong());
    }
    let crc = fields.u32()?;
    let (compressed, uncompressed) =
        if length >= 20 { (fields.u64()?, fields.u64()?) } else { (fields.u32()?.into(), fields.u32()?.into()) };
    if (crc, compressed, uncompressed) == (entry.crc, entry.compressed, entry.uncompressed) {
        Ok(())
    } else {
        Err(entry.stop("the member's data descriptor disagrees with the central directory"))
    }
}

/// The extra fields that change what is unpacked.
struct Extra<'a> {
    zip64: Option<&'a [u8]>,
}

impl<'a> Extra<'a> {
    fn read(mut bytes: &'a [u8], name: &[u8]) -> Result<Self, Stop> {
        let wrong = || malformed("a member's extra fields are malformed");
        let mut zip64 = None;
        // Android's zipalign fills up with fewer bytes than a field has at least.
        while bytes.len() >= 4 {
            let mut fields = Fields(bytes);
            let (kind, length) = (fields.u16()?, fields.u16()?);
            let (field, rest) = fields.0.split_at_checked(length.into()).ok_or_else(wrong)?;
            match kind {
                EXTRA_ZIP64 if zip64.replace(field).is_some() => return Err(wrong()),
                // Version, CRC-32 of the other name, then the name.
                EXTRA_UNICODE_PATH if field.get(5..) != Some(name) => {
                    return Err(malformed("a member has one name in its header and another in an extra field"));
                }
                _ => {}
            }
            bytes = rest;
        }
        Ok(Self { zip64 })
    }
}

/// Little-endian numbers, one behind the other.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or_else(|| malformed("a header is cut short"))?;
        self.0 = rest;
        Ok(*bytes)
    }

    fn u16(&mut self) -> Result<u16, Stop> {
        self.bytes().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, Stop> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Stop> {
        self.bytes().map(u64::from_le_bytes)
    }
}
