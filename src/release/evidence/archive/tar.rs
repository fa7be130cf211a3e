//! tar: ustar and pax (POSIX.1-2024, pax utility), GNU tar's dialect, and version 7.
//!
//! Headers are read by our own hand because leniency is what attacks on readers of tar live on: a size that two
//! headers disagree about, a name in three places, data behind the end.

use std::io::Read;
use std::ops::Range;

use super::tree::Member;
use super::walk::Rights;
use super::{Sink, Stop, fill, malformed, words};
use crate::types::{Code, Reason, limits};

const BLOCK_BYTES: usize = 512;
/// Zeros that may follow the end of an archive; tapes were written in blocks of up to this much.
const PADDING_BYTES: u64 = 1024 * 1024;
/// What a size field of eleven octal digits holds at most; a larger size stands in a pax record.
const OCTAL_MAX: u64 = 0o777_7777_7777;

/// Reads an archive to its very last byte.
pub(super) fn read(mut reader: impl Read, sink: &mut impl Sink) -> Result<(), Stop> {
    let mut pending = Pending::default();
    // Before the first header fits, nothing says that this is a tar at all.
    let mut is_first = true;
    loop {
        let mut block = Block([0; BLOCK_BYTES]);
        if !fill(&mut reader, &mut block.0)? {
            return Err(malformed("the archive is cut short"));
        }
        if block.is_zero() {
            if !pending.is_empty() {
                return Err(malformed("a header announces a member that does not come"));
            }
            return end(&mut reader);
        }
        if !block.checksum_fits() {
            return Err(malformed(if is_first {
                "the file is no tar, tar.gz, tar.zst or zip archive"
            } else {
                "a header's checksum does not fit"
            }));
        }
        is_first = false;
        entry(&block, &mut reader, &mut pending, sink)?;
    }
}

/// The second block of zeros, then nothing but more of them.
fn end(reader: &mut impl Read) -> Result<(), Stop> {
    let mut block = [0; BLOCK_BYTES];
    if !fill(reader, &mut block)? {
        return Err(malformed("the archive is cut short"));
    }
    let mut trailing = 0;
    loop {
        if block.iter().any(|byte| *byte != 0) {
            return Err(malformed("data stands behind the end of the archive"));
        }
        let count = match reader.read(&mut block) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(super::damage(error)),
        };
        trailing += count as u64;
        if trailing > PADDING_BYTES {
            let message = format!("more than {PADDING_BYTES} zeros stand behind the end of the archive");
            return Err(Stop(Reason::new(Code::ArchiveTooLarge, message)));
        }
    }
}

/// One header with its content.
fn entry(block: &Block, reader: &mut impl Read, pending: &mut Pending, sink: &mut impl Sink) -> Result<(), Stop> {
    let dialect = block.dialect()?;
    let header_size = block.number(SIZE)?;
    let kind = block.byte(TYPE);
    if matches!(kind, b'x' | b'g' | b'L' | b'K') {
        if dialect == Dialect::Version7 {
            return Err(malformed("an extension header has no magic: some readers would take it for a file"));
        }
        let content = words(reader, header_size)?;
        pad(reader, header_size)?;
        return pending.take(kind, &content);
    }

    let pending = std::mem::take(pending);
    let size = pending.pax.size_over(header_size)?;
    let header_name = block.name(dialect);
    let name: &[u8] = match (&pending.pax.sparse_name, &pending.pax.path, &pending.long_name) {
        (None, None, None) => &header_name,
        (None, None, Some(long)) => long,
        (None, Some(path), None) => path,
        // GNU tar puts a placeholder into `path` and the real name beside it (tar manual, PAX 1).
        (Some(sparse), _, None) => sparse,
        (_, _, Some(_)) => return Err(malformed("a member is named by GNU and by pax")),
    };
    let header_target = block.text(LINK_NAME);
    let target: &[u8] = match (&pending.pax.link_path, &pending.long_target) {
        (None, None) => header_target,
        (Some(target), None) | (None, Some(target)) => target,
        (Some(_), Some(_)) => return Err(malformed("a link's target is given by GNU and by pax")),
    };
    let member = match kind {
        // Version 7 had no directories: a name that ends in a slash was one.
        0 if name.ends_with(b"/") => Member::Directory,
        0 | b'0' | b'7' | b'S' if name.ends_with(b"/") => {
            return Err(malformed("a regular file's name ends in a slash: some readers would make a directory"));
        }
        0 | b'0' | b'7' | b'S' => Member::File,
        b'1' => Member::HardLink(target),
        b'2' => Member::SymbolicLink(target),
        b'3' => Member::Special("a character device"),
        b'4' => Member::Special("a block device"),
        b'5' => Member::Directory,
        b'6' => Member::Special("a named pipe"),
        other => return Err(malformed(format!("a member is of the unknown type `{}`", [other].escape_ascii()))),
    };
    let id = |pax: Option<u64>, range| pax.unwrap_or_else(|| block.number(range).unwrap_or_default());
    let rights = Rights {
        mode: u16::try_from(block.number(MODE).unwrap_or_default() & 0o7777).unwrap_or_default(),
        user: u32::try_from(id(pending.pax.user, USER)).unwrap_or_default(),
        group: u32::try_from(id(pending.pax.group, GROUP)).unwrap_or_default(),
    };
    sink.member(name, member, rights)?;
    if member != Member::File {
        // Some readers skip this content and some read on in it.
        let has_content = size != 0 || pending.pax.is_sparse;
        return if has_content { Err(malformed("a member that is no file has content")) } else { Ok(()) };
    }

    if kind == b'S' && pending.pax.is_sparse {
        return Err(malformed("a sparse member is described by GNU and by pax"));
    }
    let mut left = size;
    let apparent = if kind == b'S' {
        sparse_header(block, dialect, reader, size)?
    } else if pending.pax.is_sparse {
        let (map_bytes, real) = sparse_map(reader, size, pending.pax.real_size)?;
        left = size.saturating_sub(map_bytes);
        real
    } else {
        pending.pax.real_size.unwrap_or(size)
    };
    let is_sparse = kind == b'S' || pending.pax.is_sparse;
    let length = sink.file(&mut reader.by_ref().take(left), left, apparent, is_sparse)?;
    if length < left {
        return Err(malformed("the archive is cut short"));
    }
    pad(reader, size)
}

/// Content is filled up to whole blocks.
fn pad(reader: &mut impl Read, size: u64) -> Result<(), Stop> {
    let over = size % BLOCK_BYTES as u64;
    if over > 0 {
        words(reader, BLOCK_BYTES as u64 - over)?;
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Version7,
    Ustar,
    Gnu,
}

const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const USER: Range<usize> = 108..116;
const GROUP: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const CHECKSUM: Range<usize> = 148..156;
const TYPE: usize = 156;
const LINK_NAME: Range<usize> = 157..257;
const MAGIC: Range<usize> = 257..265;
const PREFIX: Range<usize> = 345..500;
const SPARSE: Range<usize> = 386..482;
const IS_EXTENDED: usize = 482;
const REAL_SIZE: Range<usize> = 483..495;
const STAR_MAGIC: Range<usize> = 508..512;
const EXTENSION_SPARSE: Range<usize> = 0..504;
const EXTENSION_IS_EXTENDED: usize = 504;

/// A header block.
struct Block([u8; BLOCK_BYTES]);

impl Block {
    fn field(&self, range: Range<usize>) -> &[u8] {
        self.0.get(range).unwrap_or_default()
    }

    fn byte(&self, position: usize) -> u8 {
        self.0.get(position).copied().unwrap_or_default()
    }

    /// A field up to its first NUL.
    fn text(&self, range: Range<usize>) -> &[u8] {
        self.field(range).split(|byte| *byte == 0).next().unwrap_or_default()
    }

    fn is_zero(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }

    fn checksum_fits(&self) -> bool {
        let sum = |bytes: &[u8]| bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
        let spaces = CHECKSUM.len() as u64 * u64::from(b' ');
        let actual = sum(&self.0) - sum(self.field(CHECKSUM)) + spaces;
        // Of digits: in base 256 it is a checksum for some readers alone.
        self.byte(CHECKSUM.start).is_ascii() && self.number(CHECKSUM).is_ok_and(|expected| expected == actual)
    }

    fn dialect(&self) -> Result<Dialect, Stop> {
        match self.field(MAGIC) {
            [b'u', b's', b't', b'a', b'r', b' ', b' ', 0] => Ok(Dialect::Gnu),
            [b'u', b's', b't', b'a', b'r', 0, ..] if self.field(STAR_MAGIC) == b"tar\0" => {
                Err(malformed("star's own headers cut names at another place: their readers disagree"))
            }
            [b'u', b's', b't', b'a', b'r', 0, b'0', b'0'] => Ok(Dialect::Ustar),
            // Of another version too: readers take the prefix and the extensions of such a header, or pass them over.
            [b'u', b's', b't', b'a', b'r', ..] => Err(malformed("a header's magic is of no known dialect")),
            _ => Ok(Dialect::Version7),
        }
    }

    fn name(&self, dialect: Dialect) -> Vec<u8> {
        let name = self.text(NAME);
        match self.text(PREFIX) {
            prefix if dialect == Dialect::Ustar && !prefix.is_empty() => [prefix, b"/", name].concat(),
            _ => name.to_vec(),
        }
    }

    fn number(&self, range: Range<usize>) -> Result<u64, Stop> {
        number(self.field(range))
    }
}

/// Octal digits, or GNU's base 256 with the highest bit set. Readers differ on everything else, and on no digits too.
fn number(field: &[u8]) -> Result<u64, Stop> {
    let wrong = || malformed("a header has a number that is none");
    if let [first, rest @ ..] = field
        && first & 0x80 != 0
    {
        // 0xff begins negative numbers.
        let start = u64::from(first & 0x7f);
        return rest
            .iter()
            .try_fold(start, |number, byte| number.checked_mul(256)?.checked_add(u64::from(*byte)))
            .ok_or_else(wrong);
    }
    let text = field.split(|byte| *byte == 0).next().unwrap_or_default();
    let digits = text.trim_ascii();
    if digits.is_empty() || !digits.iter().all(|digit| (b'0'..=b'7').contains(digit)) {
        return Err(wrong());
    }
    digits
        .iter()
        .try_fold(0_u64, |number, digit| number.checked_mul(8)?.checked_add(u64::from(digit - b'0')))
        .ok_or_else(wrong)
}

/// What extension headers say of the next member.
#[derive(Default)]
struct Pending {
    long_name: Option<Vec<u8>>,
    long_target: Option<Vec<u8>>,
    has_pax: bool,
    pax: Pax,
}

impl Pending {
    const fn is_empty(&self) -> bool {
        self.long_name.is_none() && self.long_target.is_none() && !self.has_pax
    }

    fn take(&mut self, kind: u8, content: &[u8]) -> Result<(), Stop> {
        let is_first = match kind {
            // Some readers take what came before for a description of this header, and some keep it.
            b'g' if !self.is_empty() => {
                return Err(malformed("a global header stands between a member and what describes it"));
            }
            b'g' => return Pax::read(content)?.must_be_harmless_everywhere(),
            b'x' => {
                let is_first = !self.has_pax;
                (self.has_pax, self.pax) = (true, Pax::read(content)?);
                is_first
            }
            b'L' => self.long_name.replace(long(content)).is_none(),
            _ => self.long_target.replace(long(content)).is_none(),
        };
        if is_first { Ok(()) } else { Err(malformed("two headers of one kind describe one member")) }
    }
}

/// GNU ends a long name by one NUL; any other NUL stays, and is refused where names are.
fn long(content: &[u8]) -> Vec<u8> {
    content.strip_suffix(&[0]).unwrap_or(content).to_vec()
}

/// The pax records that change what is unpacked.
#[derive(Default)]
struct Pax {
    path: Option<Vec<u8>>,
    link_path: Option<Vec<u8>>,
    size: Option<u64>,
    user: Option<u64>,
    group: Option<u64>,
    is_sparse: bool,
    sparse_name: Option<Vec<u8>>,
    real_size: Option<u64>,
}

impl Pax {
    /// Reads `LENGTH KEY=VALUE\n` records. A key that we read and that stands twice is refused: the last one counts
    /// for POSIX, and not for everybody.
    fn read(mut content: &[u8]) -> Result<Self, Stop> {
        let (whole, mut has_lines) = (content, false);
        let mut pax = Self::default();
        let (mut major, mut minor) = (None, None);
        while !content.is_empty() {
            let (key, value, rest) = record(content).ok_or_else(|| malformed("a pax record is malformed"))?;
            content = rest;
            has_lines |= value.contains(&b'\n');
            let is_new = match key {
                b"path" => pax.path.replace(value.to_vec()).is_none(),
                b"linkpath" => pax.link_path.replace(value.to_vec()).is_none(),
                b"size" => pax.size.replace(decimal(value)?).is_none(),
                // Nothing is decided by these two, so that nothing is refused for them.
                b"uid" => {
                    pax.user = decimal(value).ok();
                    true
                }
                b"gid" => {
                    pax.group = decimal(value).ok();
                    true
                }
                b"GNU.sparse.name" => pax.sparse_name.replace(value.to_vec()).is_none(),
                b"GNU.sparse.major" => major.replace(decimal(value)?).is_none(),
                b"GNU.sparse.minor" => minor.replace(decimal(value)?).is_none(),
                b"GNU.sparse.realsize" | b"SCHILY.realsize" => pax.real_size.replace(decimal(value)?).is_none(),
                key if key.starts_with(b"GNU.sparse.") || key == b"SUN.holesdata" => {
                    return Err(malformed("a sparse member has an obsolete form; only GNU's 1.0 is read"));
                }
                _ => true,
            };
            if !is_new {
                return Err(malformed(format!("the pax record `{}` stands twice", key.escape_ascii())));
            }
        }
        if has_lines && !reads_alike_by_lines(whole) {
            return Err(malformed("a pax record's value has lines that some readers take for records"));
        }
        pax.is_sparse = match (major, minor) {
            (None, None) if pax.sparse_name.is_none() => false,
            (Some(1), Some(0)) if pax.real_size.is_some() => true,
            _ => return Err(malformed("a sparse member has a form other than GNU's 1.0")),
        };
        Ok(pax)
    }

    /// A global header speaks of every member that follows; no writer gives them all one name.
    fn must_be_harmless_everywhere(self) -> Result<(), Stop> {
        let Self {
            path: None, link_path: None, size: None, is_sparse: false, sparse_name: None, real_size: None, ..
        } = self
        else {
            return Err(malformed("a global pax header names or measures every member after it"));
        };
        Ok(())
    }

    /// The member's size, where both headers may say it. Writers leave the older one at zero or at its largest value
    /// when the size does not fit; any other difference is two archives in one.
    fn size_over(&self, header: u64) -> Result<u64, Stop> {
        match self.size {
            None => Ok(header),
            Some(size) if size == header || header == 0 || (header == OCTAL_MAX && size > OCTAL_MAX) => Ok(size),
            Some(_) => Err(malformed("a member has one size in its header and another in its pax record")),
        }
    }
}

/// One pax record: key, value, and what follows it.
fn record(content: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = content.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(content.get(..space)?).ok()?).ok()?;
    let (record, rest) = content.split_at_checked(length)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    let (key, value) = record.split_at_checked(equals)?;
    (!key.is_empty()).then_some((key, value.get(1..)?, rest))
}

/// Whether readers that end a record where a line ends find the same names and sizes, as the `tar` crate does: there, an
/// empty line ends the header, and no size counts behind a line that is no record.
fn reads_alike_by_lines(content: &[u8]) -> bool {
    let counts = |key: &[u8]| matches!(key, b"path" | b"linkpath" | b"size") || key.starts_with(b"GNU.sparse.");
    let by_length = std::iter::successors(record(content), |(.., rest)| record(rest));
    let by_length = by_length.map(|(key, value, _)| (key, value)).filter(|(key, _)| counts(key));
    let mut is_broken = false;
    let lines = content.split_inclusive(|byte| *byte == b'\n').take_while(|line| *line != b"\n");
    let by_lines = lines.filter_map(|line| match record(line) {
        Some((key, value, [])) => (counts(key) && !(is_broken && key == b"size")).then_some((key, value)),
        _ => {
            is_broken = true;
            None
        }
    });
    by_lines.eq(by_length)
}

fn decimal(text: &[u8]) -> Result<u64, Stop> {
    let wrong = || malformed("a pax record has a number that is none");
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return Err(wrong());
    }
    str::from_utf8(text).ok().and_then(|digits| digits.parse().ok()).ok_or_else(wrong)
}

/// A sparse file's map: runs of data in order, the holes between them implied.
#[derive(Default)]
struct Runs {
    end: u64,
    stored: u64,
}

impl Runs {
    fn add(&mut self, offset: u64, length: u64) -> Result<(), Stop> {
        if offset < self.end {
            return Err(malformed("a sparse member's runs overlap"));
        }
        // For some readers every run begins in a block of its own, for others behind the one before.
        if length != 0 && !self.stored.is_multiple_of(BLOCK_BYTES as u64) {
            return Err(malformed("a sparse member's runs share a block"));
        }
        let too_large = || malformed("a sparse member is larger than any file");
        self.end = offset.checked_add(length).ok_or_else(too_large)?;
        self.stored = self.stored.checked_add(length).ok_or_else(too_large)?;
        Ok(())
    }

    /// The file's length, where map, stored bytes and announced length agree.
    fn finish(self, stored: u64, real: u64) -> Result<u64, Stop> {
        if self.stored != stored || self.end > real {
            return Err(malformed("a sparse member's map does not fit its size"));
        }
        Ok(real)
    }
}

/// GNU's old form: runs in the header and in blocks behind it. Returns the file's length.
fn sparse_header(block: &Block, dialect: Dialect, reader: &mut impl Read, size: u64) -> Result<u64, Stop> {
    if dialect != Dialect::Gnu {
        return Err(malformed("a sparse member's header is not GNU's"));
    }
    let mut runs = Runs::default();
    header_runs(block.field(SPARSE), &mut runs)?;
    let mut is_extended = is_extended_by(block.byte(IS_EXTENDED))?;
    let mut blocks = 0_u64;
    while is_extended {
        blocks += 1;
        let mut extension = Block([0; BLOCK_BYTES]);
        if blocks > limits::ARCHIVE_METADATA_BYTES / BLOCK_BYTES as u64 || !fill(reader, &mut extension.0)? {
            return Err(malformed("a sparse member's map has no end"));
        }
        header_runs(extension.field(EXTENSION_SPARSE), &mut runs)?;
        is_extended = is_extended_by(extension.byte(EXTENSION_IS_EXTENDED))?;
    }
    let (end, real) = (runs.end, block.number(REAL_SIZE)?);
    // GNU tar ends every map where the file ends, with an empty run behind a last hole. Some readers insist on it.
    if end != real {
        return Err(malformed("a sparse member's map does not end where the file does"));
    }
    runs.finish(size, real)
}

/// Whether a map goes on in one more block. Readers disagree about every other value.
fn is_extended_by(flag: u8) -> Result<bool, Stop> {
    match flag {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(malformed("a sparse member's map goes on for some readers alone")),
    }
}

fn header_runs(fields: &[u8], runs: &mut Runs) -> Result<(), Stop> {
    let (numbers, _) = fields.as_chunks::<12>();
    let (pairs, _) = numbers.as_chunks::<2>();
    for [offset, length] in pairs {
        // An unused pair is all NUL.
        if offset.iter().any(|byte| *byte != 0) {
            runs.add(number(offset)?, number(length)?)?;
        }
    }
    Ok(())
}

/// GNU's 1.0: decimal lines in front of the data, filled up to whole blocks. Returns the map's bytes and the file's
/// length.
fn sparse_map(reader: &mut impl Read, size: u64, real: Option<u64>) -> Result<(u64, u64), Stop> {
    let wrong = || malformed("a sparse member's map is malformed");
    let mut map = Vec::new();
    let mut next = 0;
    // Reads one more decimal line, and more blocks where the map so far has none.
    let mut line = |reader: &mut _| -> Result<u64, Stop> {
        loop {
            let unread: &[u8] = map.get(next..).unwrap_or_default();
            if let Some(length) = unread.iter().position(|byte| *byte == b'\n') {
                let number = decimal(unread.get(..length).unwrap_or_default())?;
                next += length + 1;
                return Ok(number);
            }
            let read = map.len() as u64;
            // A line of more than a block is no number.
            if read >= size || read >= limits::ARCHIVE_METADATA_BYTES || unread.len() > BLOCK_BYTES {
                return Err(wrong());
            }
            map.extend(words(reader, (size - read).min(BLOCK_BYTES as u64))?);
        }
    };
    let count = line(reader)?;
    let mut runs = Runs::default();
    for _ in 0..count {
        let offset = line(reader)?;
        runs.add(offset, line(reader)?)?;
    }
    let map_bytes = map.len() as u64;
    let real = runs.finish(size - map_bytes, real.ok_or_else(wrong)?)?;
    Ok((map_bytes, real))
}
