//! Files of a directory: names in, open regular files and digests out, or the reason why not.
//! Invariant: no link is followed below the directory, and nothing that is not a regular file is opened.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::release::artifact::{self, Artifact, Hasher, Sink};
use crate::release::evidence::checksums::{self, ChecksumList};
use crate::types::{Code, DigestAlgorithm, Reason, limits};

/// A regular file that was found below a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundFile {
    /// The name relative to the directory, `/` between its components.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Its length when it was found, for progress; nothing is decided by it.
    pub bytes: u64,
}

/// Reads a whole file of evidence of at most `limit` bytes.
///
/// # Errors
/// `evidence-unreadable` or `input-too-large`, naming the file.
pub fn read_evidence(path: &Path, limit: u64) -> Result<Vec<u8>, Reason> {
    artifact::read_bounded(path, limit).map_err(|error| {
        let name = path.display();
        let reason = match error.kind() {
            io::ErrorKind::FileTooLarge => Reason::new(Code::InputTooLarge, format!("{name} is {error}")),
            _ => Reason::new(Code::EvidenceUnreadable, format!("cannot read {name}: {error}")),
        };
        reason.evidence(name.to_string())
    })
}

/// Every regular file below `dir`, in order of names. The directory itself may be a link; what is below may not.
///
/// # Errors
/// `file-unsafe` for each link, special file or name that no list can hold; `input-too-large` past
/// [`limits::RELEASE_FILES`]; `subject-unreadable` where a directory cannot be read.
pub fn list(dir: &Path) -> Result<Vec<FoundFile>, Vec<Reason>> {
    let mut found = Found::default();
    if let Err(reason) = found.walk(dir, "", 0) {
        found.reasons.push(reason);
    }
    if !found.reasons.is_empty() {
        return Err(found.reasons);
    }
    found.files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found.files)
}

/// Finds every listed name below `dir`, without opening any.
pub fn locate(list: &ChecksumList, dir: &Path) -> Vec<Result<FoundFile, Reason>> {
    list.names()
        .map(|name| match regular(dir, name) {
            Ok(metadata) => Ok(FoundFile { name: name.to_owned(), path: dir.join(name), bytes: metadata.len() }),
            Err(NotRegular::Absent) => Err(list.missing(name)),
            Err(NotRegular::Unsafe(reason)) => Err(reason.evidence(list.file_name())),
        })
        .collect()
}

/// The files below `dir` that the list does not name, each as a reason. The list itself and its signatures, where
/// `list_path` says that they are there, need no line.
pub fn unlisted(list: &ChecksumList, list_path: &Path, dir: &Path) -> Vec<Reason> {
    let own_name = name_below(list_path, dir);
    match self::list(dir) {
        Err(reasons) => reasons,
        Ok(files) => files
            .iter()
            .filter(|file| list.of_name(&file.name).is_empty())
            .filter(|file| !own_name.as_deref().is_some_and(|own| checksums::is_list_or_its_signature(own, &file.name)))
            .map(|file| list.unlisted(&file.name))
            .collect(),
    }
}

/// The name that `path` has below `dir`, where it is there.
pub fn name_below(path: &Path, dir: &Path) -> Option<String> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let below = parent.canonicalize().ok()?.strip_prefix(dir.canonicalize().ok()?).ok()?.join(path.file_name()?);
    below.to_str().map(str::to_owned)
}

/// Hashes files on all cores, each streamed once. `algorithms` says by which; `seen` is told of bytes read.
pub fn hash(
    files: &[FoundFile],
    dir: &Path,
    algorithms: impl Fn(&str) -> Vec<DigestAlgorithm> + Sync,
    seen: &(dyn Fn(u64) + Sync),
) -> Vec<Result<Artifact, Reason>> {
    files
        .par_iter()
        .map(|file| {
            let digests = open(dir, &file.name)
                .and_then(|open| {
                    let mut hasher = Hasher::new(&algorithms(&file.name));
                    artifact::stream(open, &mut [&mut hasher, &mut Seen(seen)])?;
                    Ok(hasher.finish())
                })
                .map_err(|error| unreadable(&file.path, &error).subject(&file.name))?;
            Ok(Artifact::new(&file.name, digests))
        })
        .collect()
}

/// Reads a whole file below `dir`, of at most `limit` bytes, without following a link to it.
///
/// # Errors
/// `evidence-unreadable` or `input-too-large`.
pub fn read_below(dir: &Path, name: &str, limit: u64) -> Result<Vec<u8>, Reason> {
    let mut bytes = Vec::new();
    open(dir, name)
        .and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut bytes))
        .map_err(|error| Reason::new(Code::EvidenceUnreadable, format!("cannot read {name}: {error}")))?;
    if bytes.len() as u64 > limit {
        return Err(Reason::new(Code::InputTooLarge, format!("{name} is larger than {limit} bytes")));
    }
    Ok(bytes)
}

/// Opens a regular file below `dir` and proves that what was opened is what was looked at.
///
/// # Errors
/// Where it cannot be opened, is no regular file, or was replaced meanwhile.
pub fn open(dir: &Path, name: &str) -> io::Result<File> {
    let looked_at = match regular(dir, name) {
        Ok(metadata) => metadata,
        Err(_) => return Err(io::Error::other("it is no regular file any more")),
    };
    let file = File::open(dir.join(name))?;
    let opened = file.metadata()?;
    if (opened.dev(), opened.ino()) != (looked_at.dev(), looked_at.ino()) || !opened.is_file() {
        return Err(io::Error::other("it was replaced while it was opened"));
    }
    Ok(file)
}

enum NotRegular {
    Absent,
    Unsafe(Reason),
}

/// Looks at every component of a name below `dir`; only directories may lead to it, and only a regular file may be
/// there.
fn regular(dir: &Path, name: &str) -> Result<fs::Metadata, NotRegular> {
    let mut path = dir.to_owned();
    let mut components = name.split('/').peekable();
    while let Some(component) = components.next() {
        path.push(component);
        let metadata = match path.symlink_metadata() {
            Ok(metadata) => metadata,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(NotRegular::Absent);
            }
            Err(error) => return Err(NotRegular::Unsafe(unreadable(&path, &error).subject(name))),
        };
        let is_last = components.peek().is_none();
        if is_last && metadata.is_file() {
            return Ok(metadata);
        }
        if is_last || !metadata.is_dir() {
            return Err(NotRegular::Unsafe(unsafe_file(&path, metadata.file_type()).subject(name)));
        }
    }
    Err(NotRegular::Absent)
}

fn unsafe_file(path: &Path, kind: fs::FileType) -> Reason {
    let kind = if kind.is_symlink() {
        "a symbolic link"
    } else if kind.is_dir() {
        "a directory"
    } else {
        "a device, socket or pipe"
    };
    Reason::new(Code::FileUnsafe, format!("{} is {kind}, not a regular file", path.display()))
}

fn unreadable(path: &Path, error: &io::Error) -> Reason {
    Reason::new(Code::SubjectUnreadable, format!("cannot read {}: {error}", path.display()))
}

struct Seen<'a>(&'a (dyn Fn(u64) + Sync));

impl Sink for Seen<'_> {
    fn update(&mut self, bytes: &[u8]) {
        (self.0)(bytes.len() as u64);
    }
}

#[derive(Default)]
struct Found {
    files: Vec<FoundFile>,
    reasons: Vec<Reason>,
}

impl Found {
    /// Adds what is below `dir`; an error ends the walk, a reason in the list does not.
    fn walk(&mut self, dir: &Path, prefix: &str, depth: usize) -> Result<(), Reason> {
        if depth > limits::ARCHIVE_DEPTH {
            return Err(Reason::new(Code::InputTooDeep, format!("{} is nested too deep", dir.display())));
        }
        for entry in fs::read_dir(dir).map_err(|error| unreadable(dir, &error))? {
            let entry = entry.map_err(|error| unreadable(dir, &error))?;
            let path = entry.path();
            // Of the entry itself: a link is not followed.
            let metadata = entry.metadata().map_err(|error| unreadable(&path, &error))?;
            let file_name = entry.file_name();
            let Some(name) = file_name.to_str().map(|name| format!("{prefix}{name}")) else {
                let message = format!("the name of {} is not UTF-8; no list can hold it", path.display());
                self.reasons.push(Reason::new(Code::FileUnsafe, message));
                continue;
            };
            if metadata.is_dir() {
                self.walk(&path, &format!("{name}/"), depth + 1)?;
            } else if metadata.is_file() {
                self.files.push(FoundFile { name, path, bytes: metadata.len() });
            } else {
                self.reasons.push(unsafe_file(&path, metadata.file_type()).subject(name));
            }
            if self.files.len() + self.reasons.len() > limits::RELEASE_FILES {
                let message = format!("there are more than {} files", limits::RELEASE_FILES);
                return Err(Reason::new(Code::InputTooLarge, message));
            }
        }
        Ok(())
    }
}
