//! A tar of a root file system in, its members one by one out: for whoever looks into an image's layers.
//!
//! Devices, absolute links and a name that comes twice are at home there, so that none of them is refused; a name that
//! leaves the root is, and so is everything by which two readers could read two archives.
//! Invariant: the bytes of a member are handed on as they come, and never kept.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use super::tree::Member;
use super::{Sink, Stop, damage, shown, tar};
use crate::types::{Code, Reason, limits};

/// Who may do what with a member; zeros where a header says nothing that makes sense.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rights {
    /// The mode's lowest twelve bits.
    pub mode: u16,
    /// The number of the user that it belongs to.
    pub user: u32,
    /// The number of the group.
    pub group: u32,
}

/// A member of a tar.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The name as it is written; `./`, `/` and a slash at the end may be there.
    pub name: &'a [u8],
    /// What it is.
    pub member: Member<'a>,
    /// Who may do what with it.
    pub rights: Rights,
    /// A file's length.
    pub bytes: u64,
    /// Where the file's content begins in the tar; nothing for what has none in one piece.
    pub offset: Option<u64>,
}

/// Reads an uncompressed tar to its very last byte and shows each member.
///
/// # Errors
/// `archive-malformed`, `archive-escape` for a name with `..`, `archive-too-large` past `unpacked_bytes`,
/// `input-too-large`, and what `visit` has against a member.
pub fn walk(
    reader: impl Read,
    unpacked_bytes: u64,
    visit: &mut dyn FnMut(&Entry<'_>) -> Result<(), Reason>,
) -> Result<(), Reason> {
    let position = Rc::new(Cell::new(0));
    let mut walker =
        Walker { position: Rc::clone(&position), left: unpacked_bytes, members: 0, names: 0, file: None, visit };
    tar::read(Counted { inner: reader, position }, &mut walker).map_err(|Stop(reason)| reason)
}

/// Knows how far the reading is.
struct Counted<R> {
    inner: R,
    position: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.position.set(self.position.get() + count as u64);
        Ok(count)
    }
}

struct Walker<'a> {
    position: Rc<Cell<u64>>,
    left: u64,
    members: usize,
    names: u64,
    /// The name and rights of a file whose content comes next.
    file: Option<(Vec<u8>, Rights)>,
    visit: &'a mut dyn FnMut(&Entry<'_>) -> Result<(), Reason>,
}

impl Sink for Walker<'_> {
    fn member(&mut self, name: &[u8], member: Member<'_>, rights: Rights) -> Result<(), Stop> {
        let too_large = |message: String| Err(Stop(Reason::new(Code::InputTooLarge, message)));
        self.members += 1;
        if self.members > limits::ARCHIVE_MEMBERS {
            return too_large(format!("the archive has more than {} members", limits::ARCHIVE_MEMBERS));
        }
        if name.len() > limits::ARCHIVE_NAME_BYTES {
            return too_large(format!("a name has more than {} bytes", limits::ARCHIVE_NAME_BYTES));
        }
        let target = match member {
            Member::HardLink(target) | Member::SymbolicLink(target) => target.len(),
            _ => 0,
        };
        self.names += (name.len() + target) as u64;
        if self.names > limits::ARCHIVE_NAMES_BYTES {
            return too_large(format!("the names have more than {} bytes together", limits::ARCHIVE_NAMES_BYTES));
        }
        if name.split(|byte| *byte == b'/').any(|part| part == b"..") || name.contains(&0) {
            let reason = Reason::new(Code::ArchiveEscape, "the member's name leaves the root");
            return Err(Stop(reason.location(shown(name))));
        }
        if member == Member::File {
            self.file = Some((name.to_vec(), rights));
            return Ok(());
        }
        (self.visit)(&Entry { name, member, rights, bytes: 0, offset: None }).map_err(Stop)
    }

    fn file(&mut self, reader: &mut dyn Read, stored: u64, apparent: u64, is_sparse: bool) -> Result<u64, Stop> {
        // Only what comes out counts: the holes of a sparse file are never filled here.
        let Some(left) = self.left.checked_sub(stored) else {
            return Err(Stop(Reason::new(Code::ArchiveTooLarge, "the archive unpacks to more than the limit")));
        };
        self.left = left;
        if let Some((name, rights)) = self.file.take() {
            let offset = (!is_sparse).then(|| self.position.get());
            let entry = Entry { name: &name, member: Member::File, rights, bytes: apparent, offset };
            (self.visit)(&entry).map_err(Stop)?;
        }
        io::copy(reader, &mut io::sink()).map_err(damage)
    }
}
