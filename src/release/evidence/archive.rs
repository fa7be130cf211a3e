//! Archives: a reader in, and out either a summary or every reason not to unpack it. Nothing is ever unpacked.
//!
//! The form is known by content, never by name: tar, tar under gzip or Zstandard, and zip. What two readers could read
//! differently is refused, because one of them may be the reader that unpacks later. Sizes are counted as the bytes
//! come out of the decompressor; what a header says of them can only make the answer a no.
//! Invariant: memory is bounded by [`limits`], whatever the archive says.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use serde::Serialize;

use crate::types::{Code, Reason, limits};

mod tar;
mod tree;
mod walk;
mod zip;

pub use tree::Member;
use tree::Tree;
pub use walk::{Entry, Rights, walk};

/// What the caller allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// What all members together may unpack to, in bytes.
    pub unpacked_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { unpacked_bytes: limits::ARCHIVE_UNPACKED_BYTES }
    }
}

/// The forms that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// POSIX ustar and pax, GNU, and version 7.
    Tar,
    /// The same under gzip.
    TarGzip,
    /// The same under Zstandard.
    TarZstd,
    /// PKWARE's zip, with zip64.
    Zip,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tar => "tar",
            Self::TarGzip => "tar.gz",
            Self::TarZstd => "tar.zst",
            Self::Zip => "zip",
        })
    }
}

/// What a sound archive holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The form it has.
    pub form: Form,
    /// Members of any kind.
    pub members: u64,
    /// Regular files among them; a hard link is one.
    pub files: u64,
    /// Directories that are members.
    pub directories: u64,
    /// Symbolic links.
    pub links: u64,
    /// What the members unpack to, in bytes.
    pub unpacked_bytes: u64,
}

/// Reads a whole archive and says whether it is safe to unpack anywhere.
///
/// # Errors
/// `archive-malformed`, `archive-escape`, `archive-special`, `archive-collision`, `archive-too-large`,
/// `input-too-large` or `input-too-deep` with the member as location; `evidence-unreadable` where the reader failed.
/// Damage ends the reading; otherwise every member is judged and the first reasons are given.
pub fn check<R: Read + Seek>(reader: R, limits: &Limits) -> Result<Summary, Vec<Reason>> {
    let failure = RefCell::new(None);
    let mut source = BufReader::with_capacity(BUFFER_BYTES, Source { inner: reader, failure: &failure });
    let mut checker = Checker::new(*limits);
    let ended = read(&mut source, &mut checker);
    drop(source);
    match (ended, failure.into_inner()) {
        // An archive that could not be read to its end is not known to be damaged.
        (_, Some(error)) => {
            Err(vec![Reason::new(Code::EvidenceUnreadable, format!("the archive cannot be read: {error}"))])
        }
        (Ok(form), None) => checker.finish(form),
        (Err(Stop(reason)), None) => Err(checker.stop(reason)),
    }
}

const BUFFER_BYTES: usize = 128 * 1024;

fn read<R: Read + Seek>(source: &mut BufReader<R>, checker: &mut Checker) -> Result<Form, Stop> {
    let mut magic = [0; 4];
    let length = source.seek(SeekFrom::End(0)).map_err(damage)?;
    source.rewind().map_err(damage)?;
    if length < magic.len() as u64 {
        return Err(malformed("the file is too short to be an archive"));
    }
    source.read_exact(&mut magic).map_err(damage)?;
    source.rewind().map_err(damage)?;
    match magic {
        [0x1f, 0x8b, ..] => {
            tar::read(flate2::bufread::MultiGzDecoder::new(source), checker)?;
            Ok(Form::TarGzip)
        }
        // The second is a skippable frame, with which Zstandard files may begin (RFC 8878 section 3.1.2).
        [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => {
            let mut decoder = zstd::Decoder::with_buffer(source).map_err(damage)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(damage)?;
            tar::read(decoder, checker)?;
            Ok(Form::TarZstd)
        }
        [b'P', b'K', 3, 4] | [b'P', b'K', 5, 6] => {
            zip::read(source, length, checker)?;
            Ok(Form::Zip)
        }
        [0xfd, b'7', b'z', b'X'] => Err(malformed("xz archives are not read: their peers gzip and Zstandard are")),
        [b'B', b'Z', b'h', _] => Err(malformed("bzip2 archives are not read: their peers gzip and Zstandard are")),
        [b'7', b'z', 0xbc, 0xaf] => Err(malformed("7z archives are not read")),
        _ => {
            tar::read(source, checker)?;
            Ok(Form::Tar)
        }
    }
}

/// 128 MiB: what `zstd -d` allows without being asked. It bounds the decoder's memory.
const ZSTD_WINDOW_LOG: u32 = 27;

/// The end of the reading, before the archive's own.
struct Stop(Reason);

fn malformed(message: impl Into<String>) -> Stop {
    Stop(Reason::new(Code::ArchiveMalformed, message))
}

/// A decompressor's or our own complaint about the bytes. A failure of the disk is told apart in [`check`].
#[expect(clippy::needless_pass_by_value, reason = "the form that map_err wants")]
fn damage(error: io::Error) -> Stop {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => malformed("the archive is cut short"),
        _ => malformed(format!("the archive is damaged: {error}")),
    }
}

/// Tells failures of the reader itself from those of what it reads.
struct Source<'a, R> {
    inner: R,
    failure: &'a RefCell<Option<io::Error>>,
}

impl<R> Source<'_, R> {
    fn note<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| {
            let kind = error.kind();
            if kind != io::ErrorKind::Interrupted {
                *self.failure.borrow_mut() = Some(error);
            }
            kind.into()
        })
    }
}

impl<R: Read> Read for Source<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = self.inner.read(buffer);
        self.note(result)
    }
}

impl<R: Seek> Seek for Source<'_, R> {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        let result = self.inner.seek(position);
        self.note(result)
    }
}

/// What is done with the members that a reader meets.
trait Sink {
    /// A member of any kind, with who may do what with it.
    fn member(&mut self, name: &[u8], member: Member<'_>, rights: Rights) -> Result<(), Stop>;

    /// The content of the file that was met last: `stored` bytes in the archive, `apparent` ones where holes are
    /// filled. Returns how many bytes came.
    fn file(&mut self, reader: &mut dyn Read, stored: u64, apparent: u64, is_sparse: bool) -> Result<u64, Stop>;
}

impl Sink for Checker {
    fn member(&mut self, name: &[u8], member: Member<'_>, _: Rights) -> Result<(), Stop> {
        Self::member(self, name, member)
    }

    fn file(&mut self, mut reader: &mut dyn Read, stored: u64, apparent: u64, _: bool) -> Result<u64, Stop> {
        // Holes cost nothing here and everything where a copy fills them.
        self.unpacked(apparent.saturating_sub(stored))?;
        self.content(&mut reader, |_| ())
    }
}

/// Collects what the readers meet: members, bytes and reasons.
struct Checker {
    limits: Limits,
    tree: Tree,
    summary: Summary,
    reasons: Vec<Reason>,
    more_reasons: u64,
}

impl Checker {
    fn new(limits: Limits) -> Self {
        let summary = Summary { form: Form::Tar, members: 0, files: 0, directories: 0, links: 0, unpacked_bytes: 0 };
        Self { limits, tree: Tree::default(), summary, reasons: Vec::new(), more_reasons: 0 }
    }

    /// Counts a member and puts it into the tree; a bad name is a reason and the reading goes on.
    fn member(&mut self, name: &[u8], member: Member<'_>) -> Result<(), Stop> {
        self.summary.members += 1;
        match member {
            Member::File | Member::HardLink(_) => self.summary.files += 1,
            Member::Directory => self.summary.directories += 1,
            Member::SymbolicLink(_) => self.summary.links += 1,
            Member::Special(_) => {}
        }
        if self.summary.members > limits::ARCHIVE_MEMBERS as u64 {
            let message = format!("the archive has more than {} members", limits::ARCHIVE_MEMBERS);
            return Err(Stop(Reason::new(Code::InputTooLarge, message)));
        }
        match self.tree.add(name, member) {
            Ok(()) => Ok(()),
            Err(tree::Fault::Member(reason)) => {
                self.reason(reason.location(shown(name)));
                Ok(())
            }
            Err(tree::Fault::Whole(reason)) => Err(Stop(reason)),
        }
    }

    fn reason(&mut self, reason: Reason) {
        if self.reasons.len() < limits::REASONS_PER_FILE {
            self.reasons.push(reason);
        } else {
            self.more_reasons += 1;
        }
    }

    /// Counts bytes of content, as they come out or as something says that they would.
    fn unpacked(&mut self, bytes: u64) -> Result<(), Stop> {
        self.summary.unpacked_bytes = self.summary.unpacked_bytes.saturating_add(bytes);
        if self.summary.unpacked_bytes > self.limits.unpacked_bytes {
            let message = format!("the archive unpacks to more than {} bytes", self.limits.unpacked_bytes);
            return Err(Stop(Reason::new(Code::ArchiveTooLarge, message)));
        }
        Ok(())
    }

    /// Reads content to its end and counts it. Each chunk is shown to `seen`.
    fn content(&mut self, reader: &mut impl Read, mut seen: impl FnMut(&[u8])) -> Result<u64, Stop> {
        let mut chunk = [0; 32 * 1024];
        let mut length = 0;
        loop {
            match reader.read(&mut chunk) {
                Ok(0) => return Ok(length),
                Ok(count) => {
                    self.unpacked(count as u64)?;
                    length += count as u64;
                    seen(chunk.get(..count).unwrap_or_default());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(damage(error)),
            }
        }
    }

    fn finish(mut self, form: Form) -> Result<Summary, Vec<Reason>> {
        for (link, reason) in self.tree.links_that_leave() {
            self.reason(reason.location(link));
        }
        if self.reasons.is_empty() {
            return Ok(Summary { form, ..self.summary });
        }
        Err(self.all_reasons())
    }

    /// The reason that ended the reading stands after those that were met before it.
    fn stop(mut self, reason: Reason) -> Vec<Reason> {
        let mut reasons = self.all_reasons();
        reasons.push(reason);
        reasons
    }

    fn all_reasons(&mut self) -> Vec<Reason> {
        let mut reasons = std::mem::take(&mut self.reasons);
        if self.more_reasons > 0
            && let Some(last) = reasons.last_mut()
        {
            last.message.push_str(&format!(" (and {} more reasons)", self.more_reasons));
        }
        reasons
    }
}

/// A name for people: what it holds besides text is escaped, and it is cut where it is long.
fn shown(name: &[u8]) -> String {
    const SHOWN: usize = 200;
    match name.get(..SHOWN) {
        Some(start) => format!("{}…", start.escape_ascii()),
        None => str::from_utf8(name)
            .ok()
            .filter(|text| !text.chars().any(char::is_control))
            .map_or_else(|| name.escape_ascii().to_string(), str::to_owned),
    }
}

/// Fills the buffer, or says that the reader was at its end. Half a buffer is an archive that is cut short.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> Result<bool, Stop> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(malformed("the archive is cut short")),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(damage(error)),
        }
    }
    Ok(true)
}

/// Reads `length` bytes of an archive's own words into memory.
fn words(reader: &mut impl Read, length: u64) -> Result<Vec<u8>, Stop> {
    if length > limits::ARCHIVE_METADATA_BYTES {
        let message = format!("one member's metadata has more than {} bytes", limits::ARCHIVE_METADATA_BYTES);
        return Err(Stop(Reason::new(Code::InputTooLarge, message)));
    }
    let mut bytes = Vec::new();
    reader.take(length).read_to_end(&mut bytes).map_err(damage)?;
    if (bytes.len() as u64) < length {
        return Err(malformed("the archive is cut short"));
    }
    Ok(bytes)
}
