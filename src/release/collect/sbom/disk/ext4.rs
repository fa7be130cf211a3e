//! An ext2, ext3 or ext4 file system as a tree, through `ext4-view`.
//!
//! What the superblock claims is held against the partition first: the reader takes the number of groups for granted.

use std::error::Error;
use std::io::{self, Read, Seek, SeekFrom};
use std::rc::Rc;

use ext4_view::{Ext4Error, Ext4Read, FileType};

use super::blocks::{Blocks, Fault};
use super::partitions::Partition;
use crate::release::collect::sbom::tree::{self, Content, Entry, EntryKind, Tree, join, too_many, unreadable};
use crate::types::{Code, Reason, limits};

/// A file system.
pub(in crate::release::collect::sbom) struct Ext4(ext4_view::Ext4);

const SUPERBLOCK: u64 = 1024;
const SUPERBLOCK_BYTES: usize = 1024;
const MAGIC: u16 = 0xef53;
/// The incompatible feature that says that the journal holds what the file system does not have yet.
const NEEDS_RECOVERY: u32 = 0x4;

/// Whether a partition holds a file system of this family.
pub(super) fn is_ext(blocks: &Blocks, partition: &Partition) -> Result<bool, Reason> {
    if partition.bytes < SUPERBLOCK + SUPERBLOCK_BYTES as u64 {
        return Ok(false);
    }
    let mut magic = [0; 2];
    blocks.read_at(partition.start + SUPERBLOCK + 0x38, &mut magic)?;
    Ok(u16::from_le_bytes(magic) == MAGIC)
}

impl Ext4 {
    /// Opens the file system of a partition.
    ///
    /// # Errors
    /// `disk-malformed`, `disk-unsupported`.
    pub(super) fn open(blocks: &Rc<Blocks>, partition: &Partition) -> Result<Self, Reason> {
        check_superblock(blocks, partition)?;
        let reader = Reader { blocks: Rc::clone(blocks), start: partition.start, bytes: partition.bytes };
        ext4_view::Ext4::load(Box::new(reader)).map(Self).map_err(|error| refused(&partition.to_string(), error))
    }

    /// Whether a path, its links followed, is that of a regular file.
    pub(super) fn leads_to_file(&self, path: &str) -> bool {
        self.0.metadata(absolute(path).as_str()).is_ok_and(|metadata| metadata.file_type().is_regular_file())
    }

    /// Lists one directory, and puts those below it that are to be entered on `ahead`.
    fn list(&self, folder: &str, enter: &dyn Fn(&str) -> bool, listing: &mut Listing) -> Result<(), Reason> {
        if folder.matches('/').count() > limits::ARCHIVE_DEPTH {
            return Err(Reason::new(Code::InputTooDeep, format!("{folder} is nested too deep")));
        }
        let failed = |error| refused(folder, error);
        for entry in self.0.read_dir(absolute(folder).as_str()).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            // A name that is no text is none that anybody looks for, and no document could hold it.
            let Some(name) = entry.file_name().as_str().ok().filter(|name| !matches!(*name, "." | "..")) else {
                continue;
            };
            let path = join(folder, name);
            let failed = |error| refused(&path, error);
            let mut listed = Entry { path: path.clone(), kind: EntryKind::Special, bytes: 0, executable: false };
            match entry.file_type().map_err(failed)? {
                FileType::Directory => listed.kind = EntryKind::Directory,
                FileType::Symlink => {
                    let target = self.0.read_link(absolute(&path).as_str()).map_err(failed)?;
                    listed.kind = EntryKind::Link(String::from_utf8_lossy(target.as_ref()).into_owned());
                }
                FileType::Regular => {
                    let metadata = entry.metadata().map_err(failed)?;
                    listed.kind = EntryKind::File;
                    listed.bytes = metadata.len();
                    listed.executable = metadata.mode() & 0o111 != 0;
                }
                _ => {}
            }
            if listed.kind == EntryKind::Directory && enter(&path) {
                listing.ahead.push(path);
            }
            listing.add(listed)?;
        }
        Ok(())
    }
}

/// What was listed so far. A directory that holds itself is listed until a bound ends it.
#[derive(Default)]
struct Listing {
    found: Vec<Entry>,
    names_bytes: u64,
    ahead: Vec<String>,
}

impl Listing {
    fn add(&mut self, entry: Entry) -> Result<(), Reason> {
        self.names_bytes += entry.path.len() as u64;
        if self.found.len() >= limits::SBOM_TREE_ENTRIES || self.names_bytes > limits::ARCHIVE_NAMES_BYTES {
            return Err(too_many());
        }
        self.found.push(entry);
        Ok(())
    }
}

impl Tree for Ext4 {
    fn entries(&self, enter: &dyn Fn(&str) -> bool) -> Result<Vec<Entry>, Reason> {
        let mut listing = Listing { ahead: vec![String::new()], ..Listing::default() };
        while let Some(folder) = listing.ahead.pop() {
            self.list(&folder, enter, &mut listing)?;
        }
        listing.found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(listing.found)
    }

    fn open(&self, path: &str) -> Result<Box<dyn Content + '_>, Reason> {
        let failed = |error| refused(path, error);
        let metadata = self.0.symlink_metadata(absolute(path).as_str()).map_err(failed)?;
        if !metadata.file_type().is_regular_file() {
            return Err(unreadable(path, &"not a regular file"));
        }
        Ok(Box::new(OpenFile(self.0.open(absolute(path).as_str()).map_err(failed)?)))
    }
}

fn absolute(path: &str) -> String {
    format!("/{path}")
}

/// Holds what the superblock claims against the partition and our bounds.
fn check_superblock(blocks: &Blocks, partition: &Partition) -> Result<(), Reason> {
    let mut bytes = [0; SUPERBLOCK_BYTES];
    blocks.read_at(partition.start + SUPERBLOCK, &mut bytes)?;
    let number = |at: usize| bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b));
    let malformed = |why: &str| Reason::new(Code::DiskMalformed, format!("the file system of {partition} {why}"));
    let features = number(0x60);
    let is_64_bit = features & 0x80 != 0;
    let blocks_high = if is_64_bit { number(0x150) } else { 0 };
    let block_count = u64::from(blocks_high) << 32 | u64::from(number(4));
    let block_bytes = 1024_u64.checked_shl(number(0x18)).filter(|bytes| (1024..=65_536).contains(bytes));
    let block_bytes = block_bytes.ok_or_else(|| malformed("has blocks of an unknown size"))?;
    if block_count.checked_mul(block_bytes).is_none_or(|bytes| bytes > partition.bytes) {
        return Err(malformed("is larger than its place"));
    }
    let groups = block_count.checked_div(u64::from(number(0x20))).unwrap_or(u64::MAX);
    if groups > limits::DISK_EXT4_GROUPS {
        return Err(malformed("has more groups than any"));
    }
    if features & NEEDS_RECOVERY != 0 {
        let reason = Reason::new(Code::DiskUnsupported, format!("the file system of {partition} was not unmounted"));
        return Err(reason.hint("its journal holds what the disk does not have yet: e2fsck -fy, or shut down cleanly"));
    }
    Ok(())
}

/// A partition as the reader wants it.
struct Reader {
    blocks: Rc<Blocks>,
    start: u64,
    bytes: u64,
}

impl Ext4Read for Reader {
    fn read(&mut self, at: u64, buffer: &mut [u8]) -> Result<(), Box<dyn Error + Send + Sync + 'static>> {
        let is_inside = at.checked_add(buffer.len() as u64).is_some_and(|end| end <= self.bytes);
        if !is_inside {
            return Err(Box::new(Fault(Reason::new(Code::DiskMalformed, "a structure leads behind its partition"))));
        }
        self.blocks.read_at(self.start + at, buffer).map_err(|reason| Box::new(Fault(reason)).into())
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the form that map_err wants")]
fn refused(path: &str, error: Ext4Error) -> Reason {
    match &error {
        Ext4Error::Io(inner) => match inner.downcast_ref::<Fault>() {
            Some(Fault(reason)) => reason.clone(),
            None => unreadable(path, inner),
        },
        Ext4Error::Corrupt(_) | Ext4Error::TooManySymlinks | Ext4Error::PathTooLong => {
            Reason::new(Code::DiskMalformed, format!("the file system is damaged at {path}: {error}"))
        }
        Ext4Error::Incompatible(_) => {
            Reason::new(Code::DiskUnsupported, format!("the file system needs a feature that is not read: {error}"))
        }
        Ext4Error::Encrypted => Reason::new(Code::DiskEncrypted, format!("{path} is encrypted")),
        _ => unreadable(path, &error),
    }
}

struct OpenFile(ext4_view::File);

impl Read for OpenFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_bytes(buffer).map_err(|error| io::Error::other(Fault(refused("the file", error))))
    }
}

impl Seek for OpenFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = tree::seek(self.0.position(), self.0.metadata().len(), to)?;
        self.0.seek_to(position).map_err(|error| io::Error::other(Fault(refused("the file", error))))?;
        Ok(position)
    }
}
