//! A tree of files in, its names and the bytes of single files out. A directory is one, and so are a file system in an
//! image and the merged layers of a container.
//! Invariant: nothing is written, no link is followed, and nothing above the root is ever named or opened.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::release::collect::files;
use crate::types::{Code, Reason, limits};

/// A tree of files that can be looked at and nothing else.
pub trait Tree {
    /// Everything in the tree, in order of paths. A directory for which `enter` says no stands in the list, and nothing
    /// below it does.
    ///
    /// # Errors
    /// `subject-unreadable`, `input-too-large` past [`limits::SBOM_TREE_ENTRIES`] or `input-too-deep`.
    fn entries(&self, enter: &dyn Fn(&str) -> bool) -> Result<Vec<Entry>, Reason>;

    /// Opens the regular file at a path that the list has.
    ///
    /// # Errors
    /// `subject-unreadable` where there is none, or where it is a link or a special file by now.
    fn open(&self, path: &str) -> Result<Box<dyn Content + '_>, Reason>;
}

/// The bytes of one file.
pub trait Content: Read + Seek {}

impl<T: Read + Seek> Content for T {}

/// Something in a tree.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The path below the root, `/` between its parts and none before the first.
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
    /// A file's length; nothing is decided by it but whether a file is worth opening.
    pub bytes: u64,
    /// Whether somebody may run the file.
    pub executable: bool,
}

/// What an [`Entry`] is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, with its target as it is written.
    Link(String),
    /// A device, a socket, a pipe.
    Special,
}

impl Entry {
    /// The last part of the path.
    pub fn name(&self) -> &str {
        name_of(&self.path)
    }

    /// The directory that it is in; empty at the root.
    pub fn folder(&self) -> &str {
        folder_of(&self.path)
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.kind == EntryKind::File
    }
}

/// The last part of a path.
pub fn name_of(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// What is above the last part of a path; empty at the root.
pub fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// A path in a folder, where the empty folder is the root.
pub fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// A path in a folder as a manifest writes it, with `.` and `..` resolved; nothing where it leaves the root.
pub fn resolve(folder: &str, relative: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    if relative.starts_with('/') {
        return None;
    }
    for part in relative.split('/') {
        match part {
            "" | "." => {}
            ".." => _ = parts.pop()?,
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Reads a whole file of a tree, of at most `limit` bytes.
///
/// # Errors
/// As [`Tree::open`], and `input-too-large`.
pub fn read(tree: &dyn Tree, path: &str, limit: u64) -> Result<Vec<u8>, Reason> {
    let mut bytes = Vec::new();
    tree.open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| unreadable(path, &error))?;
    if bytes.len() as u64 > limit {
        let message = format!("{path} is larger than {limit} bytes");
        return Err(Reason::new(Code::InputTooLarge, message).evidence(path));
    }
    Ok(bytes)
}

/// The reason why a path of a tree cannot be read.
pub fn unreadable(path: &str, error: &dyn std::fmt::Display) -> Reason {
    Reason::new(Code::SubjectUnreadable, format!("cannot read {path}: {error}")).evidence(path)
}

/// The reason why a tree has too many entries.
pub fn too_many() -> Reason {
    Reason::new(Code::InputTooLarge, format!("there are more than {} files", limits::SBOM_TREE_ENTRIES))
}

/// The position to which a reader of `bytes` bytes at `position` is to move.
///
/// # Errors
/// Where that is before the beginning.
pub(super) fn seek(position: u64, bytes: u64, to: SeekFrom) -> io::Result<u64> {
    let moved = match to {
        SeekFrom::Start(position) => Some(position),
        SeekFrom::End(by) => bytes.checked_add_signed(by),
        SeekFrom::Current(by) => position.checked_add_signed(by),
    };
    moved.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
}

/// A directory on disk. The directory itself may be a link; what is below is never followed.
#[derive(Debug, Clone)]
pub struct Directory {
    root: PathBuf,
}

impl Directory {
    /// The tree below this directory.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn walk(
        &self,
        folder: &str,
        depth: usize,
        enter: &dyn Fn(&str) -> bool,
        found: &mut Vec<Entry>,
    ) -> Result<(), Reason> {
        let shown = if folder.is_empty() { self.root.display().to_string() } else { folder.to_owned() };
        if depth > limits::ARCHIVE_DEPTH {
            return Err(Reason::new(Code::InputTooDeep, format!("{shown} is nested too deep")));
        }
        for entry in fs::read_dir(self.root.join(folder)).map_err(|error| unreadable(&shown, &error))? {
            let entry = entry.map_err(|error| unreadable(&shown, &error))?;
            // A name that is no text is none that anybody looks for, and no document could hold it.
            let Some(path) = entry.file_name().to_str().map(|name| join(folder, name)) else { continue };
            let entry = self::entry(path, &entry)?;
            if found.len() >= limits::SBOM_TREE_ENTRIES {
                return Err(too_many());
            }
            let below = (entry.kind == EntryKind::Directory && enter(&entry.path)).then(|| entry.path.clone());
            found.push(entry);
            if let Some(below) = below {
                self.walk(&below, depth + 1, enter, found)?;
            }
        }
        Ok(())
    }
}

impl Tree for Directory {
    fn entries(&self, enter: &dyn Fn(&str) -> bool) -> Result<Vec<Entry>, Reason> {
        let mut found = Vec::new();
        self.walk("", 0, enter, &mut found)?;
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    fn open(&self, path: &str) -> Result<Box<dyn Content + '_>, Reason> {
        let file = files::open(&self.root, path).map_err(|error| unreadable(path, &error))?;
        Ok(Box::new(file))
    }
}

fn entry(path: String, entry: &fs::DirEntry) -> Result<Entry, Reason> {
    use std::os::unix::fs::PermissionsExt as _;
    let kind = entry.file_type().map_err(|error| unreadable(&path, &error))?;
    let (kind, bytes, executable) = if kind.is_dir() {
        (EntryKind::Directory, 0, false)
    } else if kind.is_symlink() {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        (EntryKind::Link(target.to_string_lossy().into_owned()), 0, false)
    } else if kind.is_file() {
        let metadata = entry.metadata().map_err(|error| unreadable(&path, &error))?;
        (EntryKind::File, metadata.len(), metadata.permissions().mode() & 0o111 != 0)
    } else {
        (EntryKind::Special, 0, false)
    };
    Ok(Entry { path, kind, bytes, executable })
}

/// One file on disk as a tree that holds nothing else.
#[derive(Debug)]
pub struct OneFile {
    path: PathBuf,
    entry: Entry,
}

impl OneFile {
    /// The tree of the file at this path. The path may be a link; it was named by the user.
    ///
    /// # Errors
    /// `subject-unreadable` where it is no regular file.
    pub fn new(path: &Path) -> Result<Self, Reason> {
        use std::os::unix::fs::PermissionsExt as _;
        let shown = path.display().to_string();
        let metadata = path.metadata().map_err(|error| unreadable(&shown, &error))?;
        if !metadata.is_file() {
            return Err(unreadable(&shown, &"not a regular file"));
        }
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let executable = metadata.permissions().mode() & 0o111 != 0;
        let entry = Entry { path: name, kind: EntryKind::File, bytes: metadata.len(), executable };
        Ok(Self { path: path.to_owned(), entry })
    }
}

impl Tree for OneFile {
    fn entries(&self, _: &dyn Fn(&str) -> bool) -> Result<Vec<Entry>, Reason> {
        Ok(vec![self.entry.clone()])
    }

    fn open(&self, path: &str) -> Result<Box<dyn Content + '_>, Reason> {
        if path != self.entry.path {
            return Err(unreadable(path, &io::Error::from(io::ErrorKind::NotFound)));
        }
        Ok(Box::new(File::open(&self.path).map_err(|error| unreadable(path, &error))?))
    }
}

/// Files that are in memory already.
#[derive(Debug, Clone, Default)]
pub struct InMemory {
    files: BTreeMap<String, Vec<u8>>,
}

impl InMemory {
    /// The tree of these files, by their paths. All of them may be run.
    pub const fn new(files: BTreeMap<String, Vec<u8>>) -> Self {
        Self { files }
    }
}

impl Tree for InMemory {
    fn entries(&self, enter: &dyn Fn(&str) -> bool) -> Result<Vec<Entry>, Reason> {
        let is_below_entered = |path: &str| path.match_indices('/').all(|(at, _)| path.get(..at).is_some_and(enter));
        let entry = |(path, bytes): (&String, &Vec<u8>)| Entry {
            path: path.clone(),
            kind: EntryKind::File,
            bytes: bytes.len() as u64,
            executable: true,
        };
        Ok(self.files.iter().filter(|(path, _)| is_below_entered(path)).map(entry).collect())
    }

    fn open(&self, path: &str) -> Result<Box<dyn Content + '_>, Reason> {
        match self.files.get(path) {
            Some(bytes) => Ok(Box::new(io::Cursor::new(bytes.as_slice()))),
            None => Err(unreadable(path, &io::Error::from(io::ErrorKind::NotFound))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_path_is_resolved_and_never_leaves_the_root() {
        assert_eq!(resolve("a/b", "../c").as_deref(), Some("a/c"));
        assert_eq!(resolve("", "./x//y").as_deref(), Some("x/y"));
        assert_eq!(resolve("a", "..").as_deref(), Some(""));
        assert_eq!(resolve("a", "../.."), None);
        assert_eq!(resolve("a", "/etc"), None);
    }

    #[test]
    fn a_link_is_listed_and_not_followed_and_a_skipped_directory_stands_without_what_it_holds() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("b/c")).unwrap();
        fs::write(dir.path().join("b/c/file"), "x").unwrap();
        fs::write(dir.path().join("b-file"), "xy").unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("a")).unwrap();
        let tree = Directory::new(dir.path());
        let paths = |enter: &dyn Fn(&str) -> bool| -> Vec<String> {
            tree.entries(enter).unwrap().into_iter().map(|entry| entry.path).collect()
        };
        assert_eq!(paths(&|_| true), ["a", "b", "b-file", "b/c", "b/c/file"]);
        assert_eq!(paths(&|path| path != "b"), ["a", "b", "b-file"]);
        assert_eq!(tree.entries(&|_| true).unwrap()[0].kind, EntryKind::Link("/".to_owned()));
        assert_eq!(read(&tree, "b-file", 2).unwrap(), b"xy");
        for (path, code) in
            [("b-file", "input-too-large"), ("a", "subject-unreadable"), ("a/etc/passwd", "subject-unreadable")]
        {
            assert_eq!(read(&tree, path, 1).unwrap_err().code.as_str(), code, "{path}");
        }
    }
}
