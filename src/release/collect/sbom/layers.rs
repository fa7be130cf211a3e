//! The layers of a container, or one tar of a root file system, in; the tree that they make together out.
//!
//! Layers are put on each other as runtimes do it: whiteouts of a layer hide what is below it, and never what is in it;
//! a name that is written through a link of an earlier layer lands where the link leads, inside the root. Their bytes
//! stand in files that have no name and are gone with the process.
//! Invariant: nothing is unpacked, and a layer's own digest is known before anybody relies on the tree.

use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;

use sha2::{Digest as _, Sha256};

use super::links;
use super::tree::{self, Content, Entry, EntryKind, Tree, folder_of, join, name_of, too_many, unreadable};
use crate::release::evidence::archive::{self, Member, Rights};
use crate::types::{Code, Reason, limits};

/// A merged tree.
#[derive(Debug, Default)]
pub(super) struct Layers {
    nodes: BTreeMap<String, Node>,
    /// The uncompressed tar of each layer.
    files: Vec<File>,
    unpacked_bytes: u64,
}

#[derive(Debug, Clone)]
struct Node {
    kind: EntryKind,
    bytes: u64,
    rights: Rights,
    /// In which layer the content stands, and where.
    content: Option<(usize, u64)>,
}

impl Node {
    const fn directory() -> Self {
        let rights = Rights { mode: 0o755, user: 0, group: 0 };
        Self { kind: EntryKind::Directory, bytes: 0, rights, content: None }
    }
}

/// What a layer's bytes turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LayerDigests {
    /// SHA-256 of the bytes as they were stored, in hexadecimal.
    pub(super) stored: String,
    /// SHA-256 of the uncompressed tar: OCI's DiffID.
    pub(super) uncompressed: String,
}

impl Layers {
    /// Puts a layer on top: a tar as it is, under gzip or under Zstandard. Its whiteouts hide what is below.
    ///
    /// # Errors
    /// What [`archive::walk`] has against it, and `subject-unreadable`.
    pub(super) fn add(&mut self, reader: impl Read) -> Result<LayerDigests, Reason> {
        self.put(reader, true)
    }

    /// The tree of one tar, in which a whiteout's name is a name.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub(super) fn of_tar(reader: impl Read) -> Result<Self, Reason> {
        let mut layers = Self::default();
        layers.put(reader, false)?;
        Ok(layers)
    }

    /// The tree without the one folder at its top, which archives of source trees put around everything.
    pub(super) fn without_top_folder(mut self) -> Self {
        let Some((top, node)) = self.nodes.first_key_value() else { return self };
        let start = format!("{top}/");
        let is_around_all = node.kind == EntryKind::Directory
            && !top.contains('/')
            && self.nodes.keys().skip(1).all(|path| path.starts_with(&start));
        if is_around_all {
            let below = |(path, node): (String, Node)| Some((path.strip_prefix(&start)?.to_owned(), node));
            self.nodes = self.nodes.into_iter().filter_map(below).collect();
        }
        self
    }

    fn put(&mut self, reader: impl Read, has_whiteouts: bool) -> Result<LayerDigests, Reason> {
        let mut stored = BufReader::with_capacity(BUFFER_BYTES, Hashed::new(reader));
        let left = limits::ARCHIVE_UNPACKED_BYTES.saturating_sub(self.unpacked_bytes);
        let Spooled { members, file, bytes, digest: uncompressed } = match magic(&mut stored)? {
            [0x1f, 0x8b, ..] => spool(flate2::bufread::MultiGzDecoder::new(&mut stored), left)?,
            [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => {
                spool(zstd_decoder(&mut stored).map_err(|error| damaged(&error))?, left)?
            }
            [0xfd, b'7', b'z', b'X'] | [b'B', b'Z', b'h', _] => {
                let message = "the tar is under xz or bzip2; it is read as it is, under gzip or under Zstandard";
                return Err(Reason::new(Code::ArchiveMalformed, message));
            }
            _ => spool(&mut stored, left)?,
        };
        // Whatever stands behind the tar belongs to the stored bytes' digest.
        io::copy(&mut stored, &mut io::sink()).map_err(|error| damaged(&error))?;
        self.unpacked_bytes = self.unpacked_bytes.saturating_add(bytes);
        let layer = self.files.len();
        self.files.push(file);
        if has_whiteouts {
            for member in &members {
                self.hide(&member.name);
            }
        }
        for member in members {
            if !(has_whiteouts && name_of(&member.name).starts_with(WHITEOUT)) {
                self.place(member, layer)?;
            }
        }
        Ok(LayerDigests { stored: stored.into_inner().finish(), uncompressed })
    }

    /// Does what a whiteout says. Anything else hides nothing.
    fn hide(&mut self, path: &str) {
        let Some(hidden) = name_of(path).strip_prefix(WHITEOUT) else { return };
        let Some(folder) = self.real(folder_of(path)) else { return };
        if hidden == OPAQUE {
            self.remove_below(&folder);
        } else if !hidden.starts_with(WHITEOUT) && !hidden.is_empty() {
            let path = join(&folder, hidden);
            self.remove_below(&path);
            self.nodes.remove(&path);
        }
    }

    fn place(&mut self, member: Raw, layer: usize) -> Result<(), Reason> {
        let unplaced = |why: &str| Reason::new(Code::ArchiveMalformed, why).location(member.name.clone());
        let Some(folder) = self.real(folder_of(&member.name)) else {
            return Err(unplaced("the member's directory is a loop of links, or too deep"));
        };
        self.make_directories(&folder)?;
        let path = join(&folder, name_of(&member.name));
        let node = match member.kind {
            RawKind::Node(kind, offset) => {
                Node { kind, bytes: member.bytes, rights: member.rights, content: offset.map(|offset| (layer, offset)) }
            }
            RawKind::HardLink(target) => {
                let target = self.real(folder_of(&target)).map(|folder| join(&folder, name_of(&target)));
                match target.and_then(|target| self.nodes.get(&target)) {
                    Some(node) if node.kind != EntryKind::Directory => node.clone(),
                    _ => return Err(unplaced("the member is a hard link to nothing")),
                }
            }
        };
        if node.kind != EntryKind::Directory {
            self.remove_below(&path);
        }
        self.insert(path, node)
    }

    fn make_directories(&mut self, folder: &str) -> Result<(), Reason> {
        let ends = folder.match_indices('/').map(|(end, _)| end).chain([folder.len()]);
        for path in ends.filter_map(|end| folder.get(..end)).filter(|path| !path.is_empty()) {
            let is_directory = self.nodes.get(path).is_some_and(|node| node.kind == EntryKind::Directory);
            if !is_directory {
                self.insert(path.to_owned(), Node::directory())?;
            }
        }
        Ok(())
    }

    fn insert(&mut self, path: String, node: Node) -> Result<(), Reason> {
        let is_full = self.nodes.len() >= limits::SBOM_TREE_ENTRIES;
        match self.nodes.entry(path) {
            Slot::Vacant(_) if is_full => return Err(too_many()),
            Slot::Vacant(slot) => _ = slot.insert(node),
            Slot::Occupied(mut slot) => _ = slot.insert(node),
        }
        Ok(())
    }

    fn remove_below(&mut self, path: &str) {
        let start = if path.is_empty() { String::new() } else { format!("{path}/") };
        let below: Vec<String> = self
            .nodes
            .range(start.clone()..)
            .map(|(path, _)| path)
            .take_while(|path| path.starts_with(&start))
            .cloned()
            .collect();
        for path in below {
            self.nodes.remove(&path);
        }
    }

    /// Who may do what with what stands at a path; nothing where nothing stands there.
    pub(super) fn rights(&self, path: &str) -> Option<Rights> {
        self.nodes.get(path).map(|node| node.rights)
    }

    /// Where a directory's path leads.
    fn real(&self, folder: &str) -> Option<String> {
        let target = |path: &str| match &self.nodes.get(path)?.kind {
            EntryKind::Link(target) => Some(target.clone()),
            _ => None,
        };
        links::follow(folder, true, &target)
    }
}

impl Tree for Layers {
    fn entries(&self, enter: &dyn Fn(&str) -> bool) -> Result<Vec<Entry>, Reason> {
        let mut skipped: BTreeSet<&str> = BTreeSet::new();
        let mut found = Vec::new();
        // A directory stands before everything in it.
        for (path, node) in &self.nodes {
            let is_skipped = skipped.contains(folder_of(path));
            if node.kind == EntryKind::Directory && (is_skipped || !enter(path)) {
                skipped.insert(path);
            }
            if !is_skipped {
                let Node { kind, bytes, rights, .. } = node.clone();
                let executable = rights.mode & 0o111 != 0;
                found.push(Entry { path: path.clone(), kind, bytes, executable });
            }
        }
        Ok(found)
    }

    fn open(&self, path: &str) -> Result<Box<dyn Content + '_>, Reason> {
        let node = self.nodes.get(path).filter(|node| node.kind == EntryKind::File);
        let node = node.ok_or_else(|| unreadable(path, &io::Error::from(io::ErrorKind::NotFound)))?;
        let place = node.content.and_then(|(layer, start)| Some((self.files.get(layer)?, start)));
        let (file, start) = place.ok_or_else(|| unreadable(path, &"it is stored with holes"))?;
        Ok(Box::new(Section { file, start, bytes: node.bytes, position: 0 }))
    }
}

/// How gzip and Zstandard begin: RFC 1952 section 2.3.1, RFC 8878 section 3.1.1.
pub(super) const GZIP: [u8; 2] = [0x1f, 0x8b];
pub(super) const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// A decoder of Zstandard whose memory is bounded.
pub(super) fn zstd_decoder<R: BufRead>(reader: R) -> io::Result<zstd::Decoder<'static, R>> {
    let mut decoder = zstd::Decoder::with_buffer(reader)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG)?;
    Ok(decoder)
}

const BUFFER_BYTES: usize = 128 * 1024;
/// As `zstd -d` allows without being asked; it bounds the decoder's memory.
const ZSTD_WINDOW_LOG: u32 = 27;
/// OCI image specification, layer filesystem changeset, whiteouts.
const WHITEOUT: &str = ".wh.";
/// What stands behind the prefix of a whiteout that hides everything below a directory.
const OPAQUE: &str = ".wh..opq";

/// A member of a layer as the tar has it, its name without `./` and `/` around it.
struct Raw {
    name: String,
    kind: RawKind,
    bytes: u64,
    rights: Rights,
}

enum RawKind {
    Node(EntryKind, Option<u64>),
    HardLink(String),
}

/// A tar that was read to its end.
struct Spooled {
    members: Vec<Raw>,
    /// A copy of its bytes.
    file: File,
    bytes: u64,
    /// Their SHA-256, in hexadecimal.
    digest: String,
}

/// Reads a tar to its end.
fn spool(reader: impl Read, unpacked_bytes: u64) -> Result<Spooled, Reason> {
    let file = tempfile::tempfile().map_err(|error| unreadable("a temporary file", &error))?;
    let copy = file.try_clone().map_err(|error| unreadable("a temporary file", &error))?;
    let copy = BufWriter::with_capacity(BUFFER_BYTES, copy);
    let mut tee = Tee { hashed: Hashed::new(reader), copy, bytes: 0, limit: unpacked_bytes };
    let mut members = Vec::new();
    let walked = archive::walk(&mut tee, unpacked_bytes, &mut |entry| {
        members.extend(raw(entry));
        Ok(())
    });
    if tee.bytes > tee.limit {
        let message = format!("the layers unpack to more than {} bytes", limits::ARCHIVE_UNPACKED_BYTES);
        return Err(Reason::new(Code::ArchiveTooLarge, message));
    }
    walked?;
    tee.copy.flush().map_err(|error| unreadable("a temporary file", &error))?;
    let bytes = tee.bytes;
    Ok(Spooled { members, file, bytes, digest: tee.hashed.finish() })
}

/// A member in our own words; nothing for a name that is no text, and for the root itself.
fn raw(entry: &archive::Entry<'_>) -> Option<Raw> {
    let name = plain(entry.name)?;
    let kind = match entry.member {
        Member::File => RawKind::Node(EntryKind::File, entry.offset),
        Member::Directory => RawKind::Node(EntryKind::Directory, None),
        Member::SymbolicLink(target) => {
            RawKind::Node(EntryKind::Link(String::from_utf8_lossy(target).into_owned()), None)
        }
        Member::HardLink(target) => RawKind::HardLink(plain(target)?),
        Member::Special(_) => RawKind::Node(EntryKind::Special, None),
    };
    Some(Raw { name, kind, bytes: entry.bytes, rights: entry.rights })
}

fn plain(name: &[u8]) -> Option<String> {
    let parts: Vec<&str> = str::from_utf8(name).ok()?.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    (!parts.is_empty()).then(|| parts.join("/"))
}

fn magic(reader: &mut impl BufRead) -> Result<[u8; 4], Reason> {
    let start = reader.fill_buf().map_err(|error| damaged(&error))?;
    start.first_chunk().copied().ok_or_else(|| Reason::new(Code::ArchiveMalformed, "the tar is cut short"))
}

fn damaged(error: &io::Error) -> Reason {
    Reason::new(Code::ArchiveMalformed, format!("the tar is damaged: {error}"))
}

/// Hashes what is read.
struct Hashed<R> {
    inner: R,
    hasher: Sha256,
}

impl<R: Read> Hashed<R> {
    fn new(inner: R) -> Self {
        Self { inner, hasher: Sha256::new() }
    }

    fn finish(self) -> String {
        hex::encode(self.hasher.finalize())
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

/// Keeps a copy of what is read.
struct Tee<R> {
    hashed: Hashed<R>,
    copy: BufWriter<File>,
    bytes: u64,
    /// Headers count as well as content: the copy has both.
    limit: u64,
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.hashed.read(buffer)?;
        self.bytes += count as u64;
        if self.bytes > self.limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.copy.write_all(buffer.get(..count).unwrap_or_default())?;
        Ok(count)
    }
}

/// A part of a file.
struct Section<'a> {
    file: &'a File,
    start: u64,
    bytes: u64,
    position: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.bytes.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        let count = self.file.read_at(buffer.get_mut(..length).unwrap_or_default(), self.start + self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for Section<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = tree::seek(self.position, self.bytes, to)?;
        Ok(self.position)
    }
}
